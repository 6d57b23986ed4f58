//! The kit fails stores with the flaws that sign-ins, hash keys and formats invite.
//!
//! Each flawed store is the straightforward one with a single thing done wrongly. Where the flaw is
//! a race, the store yields in the middle of it, and the runtime has one thread: the outcome is the
//! same in every run.

#[macro_use]
#[path = "common/caught.rs"]
mod caught;
mod common;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};

use async_trait::async_trait;
use caught::{assert_caught, block_on};
use common::{SimpleStore, found};
use futures_core::Stream;
use steadfast_core::conformance::checks::{
    deadlines, endings, formats, keys, operation, principals, sign_ins,
};
use steadfast_core::conformance::{Subject, model_check};
use steadfast_core::{
    Absence, AtCap, Change, ChangeStream, Deleted, Deletion, EndReason, Env, Facts, KeyId, Limits,
    LoginPolicy, Lookup, Operate, Outcome, PRE_AUTH, Patch, Principal, Proof, Record, RecordId,
    RequestHint, Revocation, Rotation, SecretHash, SessionInfo, SessionStore, Store, StoreError,
    Values, Verdict,
};
use tokio::task::yield_now;

#[test]
fn an_unchecked_sign_in_is_caught() {
    caught!(
        Flaw::IgnoresTheSignIn,
        sign_ins::what_saw_another_sign_in_changes_nothing => "another sign-in is superseded",
        sign_ins::a_write_is_before_the_login_or_superseded => "an applied write",
        sign_ins::a_deletion_is_before_the_login_or_superseded => "before the login or superseded",
        sign_ins::no_overtaken_pre_auth_write_survives_a_login => "survives a login",
    );
    caught_by_the_model(Flaw::IgnoresTheSignIn);
    caught!(
        Flaw::DeletesAcrossSignIns,
        sign_ins::what_saw_another_sign_in_changes_nothing => "ends nothing",
        sign_ins::a_deletion_is_before_the_login_or_superseded => "before the login or superseded",
    );
    caught_by_the_model(Flaw::DeletesAcrossSignIns);
}

#[test]
fn a_sign_in_checked_separately_is_caught() {
    caught!(
        Flaw::ComparesTheSignInBeforeTheStep,
        sign_ins::a_write_is_before_the_login_or_superseded => "an applied write",
        sign_ins::a_deletion_is_before_the_login_or_superseded => "before the login or superseded",
        sign_ins::no_overtaken_pre_auth_write_survives_a_login => "survives a login",
    );
}

#[test]
fn a_sign_in_checked_too_early_is_caught() {
    caught!(
        Flaw::JudgesTheSignInFirst,
        sign_ins::a_wrong_proof_learns_nothing_of_sign_ins => "a wrong proof finds",
        sign_ins::a_login_sent_again_counts_once => "was applied before",
    );
    caught_by_the_model(Flaw::JudgesTheSignInFirst);
}

#[test]
fn a_miscounted_sign_in_is_caught() {
    caught!(
        Flaw::CountsEveryRotation,
        sign_ins::another_principals_login_raises_the_sign_in => "is a sign-in",
    );
    caught_by_the_model(Flaw::CountsEveryRotation);
    caught!(
        Flaw::CountsEveryLogin,
        sign_ins::another_principals_login_raises_the_sign_in => "is a sign-in",
    );
    caught_by_the_model(Flaw::CountsEveryLogin);
    caught!(
        Flaw::CountsNoLogin,
        sign_ins::another_principals_login_raises_the_sign_in => "is a sign-in",
    );
    caught!(
        Flaw::CountsInDoubles,
        sign_ins::a_sign_in_continues_the_created_records_number => "is kept as created",
    );
}

#[test]
fn a_rehash_that_is_a_rotation_is_caught() {
    caught!(
        Flaw::RehashesByRotation,
        keys::of_rehashes_at_once_every_patch_is_applied => "each addition is counted",
        keys::a_rehash_replaces_no_secret => "changes only the hash",
        keys::a_touch_moves_the_hash_too => "replaces no secret",
    );
    caught_by_the_model(Flaw::RehashesByRotation);
}

#[test]
fn a_rehash_that_is_misapplied_is_caught() {
    caught!(
        Flaw::RehashesEveryHash,
        keys::a_rehash_of_another_hash_applies_the_rest => "the other hash stays",
    );
    caught_by_the_model(Flaw::RehashesEveryHash);
    caught!(
        Flaw::RefusesOtherHashes,
        keys::a_rehash_of_another_hash_applies_the_rest => "is applied",
        keys::of_rehashes_at_once_every_patch_is_applied => "is applied",
    );
    caught_by_the_model(Flaw::RefusesOtherHashes);
    caught!(
        Flaw::RehashesNoTouches,
        keys::a_touch_moves_the_hash_too => "a hash is a change",
    );
    caught_by_the_model(Flaw::RehashesNoTouches);
    caught!(
        Flaw::RehashesWhatIsRefused,
        keys::a_refused_patch_moves_no_hash => "a refused patch changes nothing",
    );
    caught_by_the_model(Flaw::RehashesWhatIsRefused);
}

#[test]
fn a_key_that_loses_its_name_is_caught() {
    caught!(
        Flaw::ForgetsTheNamesOfKeys,
        keys::a_hash_keeps_the_name_of_its_key => "the new one",
        keys::hashes_under_an_unknown_key_are_errors => "names the key that is missing",
    );
}

#[test]
fn an_unknown_key_that_is_absent_is_caught() {
    caught!(
        Flaw::UnknownKeysAreWrong,
        keys::hashes_under_an_unknown_key_are_errors => "is an error",
        keys::a_replaced_hash_needs_a_known_key => "is an error",
    );
    caught_by_the_model(Flaw::UnknownKeysAreWrong);
    caught!(
        Flaw::UnknownReplacedKeysAreWrong,
        keys::a_replaced_hash_needs_a_known_key => "is an error",
    );
    caught_by_the_model(Flaw::UnknownReplacedKeysAreWrong);
}

#[test]
fn a_login_with_pre_auth_leftovers_is_caught() {
    caught!(
        Flaw::ClearsPreAuthAsSeen,
        sign_ins::no_early_pre_auth_write_survives_a_login => "survives a login",
    );
    caught!(
        Flaw::KeepsPreAuth,
        sign_ins::a_login_removes_even_unseen_pre_auth_values => "removes pre-auth values",
        sign_ins::a_login_keeps_pre_auth_values_it_writes => "keeps what it writes itself",
        sign_ins::no_copy_outlives_a_login => "no copy keeps pre-auth values",
    );
    caught_by_the_model(Flaw::KeepsPreAuth);
}

#[test]
fn a_login_that_removes_too_much_is_caught() {
    caught!(
        Flaw::ClearsPreAuthLast,
        sign_ins::a_login_keeps_pre_auth_values_it_writes => "keeps what it writes itself",
    );
    caught_by_the_model(Flaw::ClearsPreAuthLast);
    caught!(
        Flaw::ClearsPreAuthWithEveryRotation,
        sign_ins::only_a_login_removes_pre_auth_values => "stay until a login",
    );
    caught_by_the_model(Flaw::ClearsPreAuthWithEveryRotation);
    caught!(
        Flaw::CountsWhatALoginRemoves,
        sign_ins::a_login_frees_pre_auth_values_at_limits => "is applied",
    );
}

#[test]
fn a_cap_that_never_refuses_is_caught() {
    caught!(
        Flaw::NeverRefuses,
        principals::a_login_at_a_refusing_cap_is_refused => "at the cap is refused",
    );
    caught_by_the_model(Flaw::NeverRefuses);
}

#[test]
fn an_idle_life_that_is_outlasted_is_caught() {
    caught!(
        Flaw::OutlastsItsIdleLife,
        deadlines::no_patch_outlasts_the_records_idle_lifetime => "bounds every patch",
        deadlines::a_login_shortens_the_idle_life => "may shorten the idle life",
    );
    caught_by_the_model(Flaw::OutlastsItsIdleLife);
}

#[test]
fn facts_that_are_not_kept_are_caught() {
    caught!(
        Flaw::FactsAreText,
        formats::facts_are_kept_byte_for_byte => "as they were created",
    );
    caught_by_the_model(Flaw::FactsAreText);
    caught!(
        Flaw::FactsNeverChange,
        formats::facts_change_with_an_authentication_only => "replace them",
    );
    caught_by_the_model(Flaw::FactsNeverChange);
    caught!(
        Flaw::RotatesFactsAway,
        formats::facts_are_kept_byte_for_byte => "no such patch changes facts",
        formats::facts_change_with_an_authentication_only => "replace them",
    );
    caught_by_the_model(Flaw::RotatesFactsAway);
}

#[test]
fn an_ignored_format_is_caught() {
    caught!(
        Flaw::NewerIsAbsent,
        formats::records_of_a_newer_format_stay_unchanged => "of a newer format is an error",
    );
    caught!(
        Flaw::NewerIsPatched,
        formats::records_of_a_newer_format_stay_unchanged => "of a newer format is an error",
    );
    caught!(
        Flaw::NewerIsCollected,
        formats::records_of_a_newer_format_stay_unchanged => "it is still there",
    );
    caught!(
        Flaw::NewerIsLocked,
        formats::records_of_a_newer_format_stay_unchanged => "can be deleted",
    );
}

#[test]
fn a_deletion_that_says_too_little_is_caught() {
    caught!(
        Flaw::SupersededIsGone,
        sign_ins::a_deletion_with_the_replaced_secret_is_superseded => "ends nothing",
        sign_ins::what_saw_another_sign_in_changes_nothing => "ends nothing",
    );
    caught_by_the_model(Flaw::SupersededIsGone);
}

#[test]
fn a_feed_that_says_too_little_is_caught() {
    caught!(
        Flaw::TellsOfPatchesOnly,
        operation::changes_tell_of_sign_ins => "tells of a login",
    );
    caught!(
        Flaw::TellsOfLogoutsOnly,
        operation::changes_tell_why_a_session_ended => "why a session ended",
        operation::changes_tell_why_a_principals_sessions_ended => "why a session ended",
    );
}

#[test]
fn a_cap_that_is_not_exact_is_caught() {
    caught!(
        Flaw::CapsByCreation,
        principals::a_full_cap_is_exact => "the oldest, and no other",
        principals::the_cap_ends_the_oldest_by_authentication => "the oldest by authentication",
        principals::the_cap_counts_elevations => "an elevation is an authentication",
    );
    caught!(
        Flaw::CapsInBatches,
        principals::a_full_cap_is_exact => "the oldest, and no other",
    );
}

#[test]
fn a_copy_from_before_a_login_is_caught() {
    caught!(
        Flaw::ServesOldCopies,
        sign_ins::no_copy_outlives_a_login => "no copy opens for the replaced secret",
        endings::no_load_under_way_brings_a_record_back => "no copy",
    );
}

#[test]
fn the_same_checks_pass_without_a_flaw() {
    block_on(async {
        let store = Flawed::with(Flaw::None);
        sign_ins::a_write_is_before_the_login_or_superseded(&store).await;
        sign_ins::a_deletion_is_before_the_login_or_superseded(&store).await;
        sign_ins::no_overtaken_pre_auth_write_survives_a_login(&store).await;
        sign_ins::no_copy_outlives_a_login(&store).await;
        keys::of_rehashes_at_once_every_patch_is_applied(&store).await;
        formats::records_of_a_newer_format_stay_unchanged(&Flawed::with(Flaw::None)).await;
        principals::a_full_cap_is_exact(&store).await;
    });
    model_check(&Flawed::with(Flaw::None), CASES);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    IgnoresTheSignIn,
    DeletesAcrossSignIns,
    ComparesTheSignInBeforeTheStep,
    JudgesTheSignInFirst,
    CountsEveryRotation,
    CountsEveryLogin,
    CountsNoLogin,
    CountsInDoubles,
    RehashesByRotation,
    RehashesEveryHash,
    RefusesOtherHashes,
    RehashesNoTouches,
    RehashesWhatIsRefused,
    ForgetsTheNamesOfKeys,
    UnknownKeysAreWrong,
    UnknownReplacedKeysAreWrong,
    ClearsPreAuthAsSeen,
    KeepsPreAuth,
    ClearsPreAuthLast,
    ClearsPreAuthWithEveryRotation,
    CountsWhatALoginRemoves,
    FactsAreText,
    FactsNeverChange,
    RotatesFactsAway,
    NewerIsAbsent,
    NewerIsPatched,
    NewerIsCollected,
    NewerIsLocked,
    SupersededIsGone,
    TellsOfPatchesOnly,
    TellsOfLogoutsOnly,
    CapsByCreation,
    CapsInBatches,
    NeverRefuses,
    OutlastsItsIdleLife,
    ServesOldCopies,
}

struct Flawed {
    flaw: Flaw,
    opened: OnceLock<Arc<FlawedStore>>,
}

impl Flawed {
    fn with(flaw: Flaw) -> Self {
        Self { flaw, opened: OnceLock::new() }
    }
}

#[async_trait]
impl Subject for Flawed {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let inner = SimpleStore::new(env);
        let store = FlawedStore { flaw: self.flaw, inner, copies: Mutex::default() };
        let store = Arc::new(store);
        let _ = self.opened.set(Arc::clone(&store));
        vec![store]
    }

    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        let store = self.opened.get().expect("a service was opened");
        store.inner.shelf().set_format(id, format)
    }
}

#[derive(Debug)]
struct FlawedStore {
    flaw: Flaw,
    inner: SimpleStore,
    copies: Mutex<HashMap<RecordId, Arc<Record>>>,
}

impl FlawedStore {
    fn copies(&self) -> MutexGuard<'_, HashMap<RecordId, Arc<Record>>> {
        self.copies.lock().expect("no call panics while it holds the lock")
    }

    /// Returns the record, in any format.
    fn record(&self, id: RecordId) -> Option<Record> {
        self.inner.shelf().records.get(&id).cloned().flatten()
    }

    /// Applies a patch, then changes the record as the flaw does.
    fn amended(
        &self,
        id: RecordId,
        patch: &Patch,
        amend: impl FnOnce(&Record, &mut Record),
    ) -> Result<Outcome, StoreError> {
        let before = self.record(id);
        let outcome = self.inner.try_update(id, patch)?;
        let after = self.record(id);
        if let (Outcome::Applied(_), Some(before), Some(mut after)) = (&outcome, before, after) {
            amend(&before, &mut after);
            self.inner.shelf().records.insert(id, Some(after));
        }
        Ok(outcome)
    }

    /// Applies the patch in any sign-in.
    fn in_any_sign_in(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let mut forged = patch.clone();
        if let (Some(_), Some(record)) = (patch.sign_in(), self.record(id)) {
            forged.within(record.sign_in);
        }
        self.inner.try_update(id, &forged)
    }

    fn is_in_another_sign_in(&self, id: RecordId, seen: Option<u64>) -> bool {
        let record = self.record(id);
        let sign_in = record.map(|record| record.sign_in);
        seen.is_some_and(|seen| sign_in.is_some_and(|sign_in| sign_in != seen))
    }

    /// Replaces the secret by its own hash under the newer key.
    fn rehash_by_rotation(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let mut forged = patch.clone();
        if let (Some(rehash), Some(record), None) =
            (patch.rehashing(), self.record(id), patch.rotation())
        {
            let shown = patch.proof().cloned().unwrap_or_else(|| record.secret.into());
            forged.rotate(shown, Rotation { hash: rehash.to, authentication: None });
        }
        self.inner.try_update(id, &forged)
    }

    /// Removes only the pre-auth values that existed when the call began.
    async fn clear_as_seen(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let seen = self.record(id).map(|record| record.values).unwrap_or_default();
        yield_now().await;
        self.amended(id, patch, |before, after| {
            let unseen = before.values.iter().filter(|(key, _)| seen.get(key).is_none());
            after.values = with(&after.values, unseen);
        })
    }

    fn count_removed(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let before = self.record(id).map(|record| record.values.len()).unwrap_or_default();
        match patch.clears_pre_auth() && before + patch.ops().count() > self.limits().keys {
            true => Ok(Outcome::Gone),
            false => self.inner.try_update(id, patch),
        }
    }

    /// Ends sessions above a cap in the wrong order or number.
    fn cap(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let login = patch.rotation().and_then(|rotation| rotation.authentication.clone());
        let Some(login) = login else {
            return self.inner.try_update(id, patch);
        };
        let forged = admitted(patch, |policy| policy.cap = usize::MAX);
        let mut outcome = self.inner.try_update(id, &forged)?;
        if let (Outcome::Applied(applied), Some(who)) = (&mut outcome, &login.principal) {
            applied.ended = self.end_over(who, login.policy.cap);
        }
        Ok(outcome)
    }

    fn end_over(&self, who: &Principal, cap: usize) -> Vec<RecordId> {
        let mut shelf = self.inner.shelf();
        let mut live = shelf.live_of(who, self.env().now());
        let over = live.len().saturating_sub(cap);
        match self.flaw {
            Flaw::CapsByCreation => {
                let created = |id| shelf.records[&id].as_ref().map(|record| record.version);
                live.sort_by_key(|info| (info.created, std::cmp::Reverse(created(info.id))));
                live.truncate(over);
            }
            _ => {
                live.sort_by_key(|info| info.authenticated);
                live.truncate(if over > 0 { over + cap / 100 } else { 0 });
            }
        }
        for info in &live {
            shelf.remove(info.id, EndReason::Cap);
        }
        live.iter().map(|info| info.id).collect()
    }

    /// Returns the answer that the flaw gives instead of an error.
    fn blur<T>(&self, id: RecordId, error: StoreError, nothing: T) -> Result<T, StoreError> {
        let is_wrong = match (self.flaw, &error) {
            (Flaw::UnknownKeysAreWrong, StoreError::UnknownKey(_))
            | (Flaw::NewerIsAbsent, StoreError::NewerFormat { .. }) => true,
            (Flaw::UnknownReplacedKeysAreWrong, StoreError::UnknownKey(key)) => {
                self.record(id).is_some_and(|record| record.secret.key() != *key)
            }
            _ => false,
        };
        if is_wrong { Ok(nothing) } else { Err(error) }
    }

    async fn patched(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let rotates = patch.rotation().is_some();
        match self.flaw {
            Flaw::IgnoresTheSignIn => self.in_any_sign_in(id, patch),
            Flaw::ComparesTheSignInBeforeTheStep | Flaw::JudgesTheSignInFirst => {
                if self.is_in_another_sign_in(id, patch.sign_in()) {
                    return Ok(Outcome::Superseded);
                }
                yield_now().await;
                self.in_any_sign_in(id, patch)
            }
            Flaw::CountsEveryRotation => self.amended(id, patch, |before, after| {
                after.sign_in = before.sign_in + u64::from(rotates);
            }),
            Flaw::CountsEveryLogin => self.amended(id, patch, |before, after| {
                after.sign_in = before.sign_in + u64::from(patch.clears_pre_auth());
            }),
            Flaw::CountsNoLogin => {
                self.amended(id, patch, |before, after| after.sign_in = before.sign_in)
            }
            Flaw::RehashesByRotation => self.rehash_by_rotation(id, patch),
            Flaw::RehashesEveryHash => self.amended(id, patch, |_, after| {
                after.secret = patch.rehashing().map_or(after.secret, |rehash| rehash.to);
            }),
            Flaw::RefusesOtherHashes => match (patch.rehashing(), self.record(id)) {
                (Some(rehash), Some(record)) if rehash.of(&record.secret).is_none() => {
                    Ok(Outcome::Gone)
                }
                _ => self.inner.try_update(id, patch),
            },
            Flaw::RehashesNoTouches => self.amended(id, patch, |before, after| {
                if patch.is_touch() {
                    (after.secret, after.version) = (before.secret, before.version);
                }
            }),
            Flaw::RehashesWhatIsRefused => self.rehash_first(id, patch),
            Flaw::ForgetsTheNamesOfKeys => self.amended(id, patch, |_, after| {
                after.secret = nameless(after.secret);
            }),
            Flaw::ClearsPreAuthAsSeen => self.clear_as_seen(id, patch).await,
            Flaw::KeepsPreAuth => self.amended(id, patch, |before, after| {
                let kept = before.values.iter().filter(|(key, _)| patch.op(key).is_none());
                if patch.clears_pre_auth() {
                    after.values = with(&after.values, kept.filter(|(key, _)| is_pre_auth(key)));
                }
            }),
            Flaw::ClearsPreAuthLast => self.amended(id, patch, |_, after| {
                if patch.clears_pre_auth() {
                    after.values = without_pre_auth(&after.values);
                }
            }),
            Flaw::ClearsPreAuthWithEveryRotation => self.amended(id, patch, |_, after| {
                if rotates && !patch.clears_pre_auth() {
                    after.values = without_pre_auth(&after.values);
                }
            }),
            Flaw::CountsWhatALoginRemoves => self.count_removed(id, patch),
            Flaw::FactsNeverChange => {
                self.amended(id, patch, |before, after| after.facts = before.facts.clone())
            }
            Flaw::RotatesFactsAway => self.amended(id, patch, |_, after| {
                if rotates {
                    after.facts = Facts::default();
                }
            }),
            Flaw::NewerIsPatched => {
                self.inner.shelf().set_format(id, Record::FORMAT);
                self.inner.try_update(id, patch)
            }
            Flaw::CapsByCreation | Flaw::CapsInBatches => self.cap(id, patch),
            Flaw::NeverRefuses => self.inner.try_update(
                id,
                &admitted(patch, |policy| {
                    policy.at_cap = AtCap::EndOldest;
                }),
            ),
            Flaw::OutlastsItsIdleLife => self.amended(id, patch, |before, after| {
                let asked = patch.idle_deadline().unwrap_or(before.idle_deadline);
                let until = before.idle_deadline.max(asked);
                after.idle_deadline = until.min(after.absolute_deadline);
            }),
            _ => self.inner.try_update(id, patch),
        }
    }

    /// Moves the hash before checking whether the patch applies.
    fn rehash_first(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let outcome = self.inner.try_update(id, patch)?;
        if let (Outcome::Conflict | Outcome::Rejected(_), Some(rehash), Some(mut record)) =
            (&outcome, patch.rehashing(), self.record(id))
        {
            record.secret = rehash.of(&record.secret).unwrap_or(record.secret);
            self.inner.shelf().records.insert(id, Some(record));
        }
        Ok(outcome)
    }
}

/// A patch whose login, if it is one, is on other terms.
fn admitted(patch: &Patch, change: impl FnOnce(&mut LoginPolicy)) -> Patch {
    let (mut forged, mut rotation) = (patch.clone(), patch.rotation().cloned());
    let authentication = rotation.as_mut().and_then(|r| r.authentication.as_mut());
    if let Some(authentication) = authentication {
        change(&mut authentication.policy);
        let proof = patch.proof().cloned().expect("a rotation has a proof");
        forged.rotate(proof, rotation.expect("it rotates"));
    }
    forged
}

#[async_trait]
impl SessionStore for FlawedStore {
    fn env(&self) -> &Env {
        self.inner.env()
    }

    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    async fn create(
        &self,
        id: RecordId,
        mut record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        match self.flaw {
            Flaw::FactsAreText => {
                let text = String::from_utf8_lossy(record.facts.as_bytes()).into_owned();
                record.facts = Facts::new(text.into_bytes()).unwrap_or_default();
            }
            Flaw::CountsInDoubles => record.sign_in = record.sign_in as f64 as u64,
            Flaw::ForgetsTheNamesOfKeys => record.secret = nameless(record.secret),
            _ => {}
        }
        self.inner.create(id, record, policy).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        if self.flaw != Flaw::ServesOldCopies {
            let lookup = self.inner.look_up(id, proof);
            return lookup.or_else(|e| self.blur(id, e, Lookup::Absent(Absence::Unknown)));
        }
        let copy = self.copies().get(&id).cloned();
        let opens = |record: &Arc<Record>| {
            let now = self.env().now();
            proof.is_some_and(|proof| record.verify(proof, now) == Verdict::Right)
        };
        if let Some(copy) = copy.filter(opens) {
            return Ok(Lookup::Found(found(id, copy)));
        }
        let lookup = self.inner.look_up(id, proof)?;
        yield_now().await;
        if let Lookup::Found(found) = &lookup {
            self.copies().insert(id, Arc::clone(&found.record));
        }
        Ok(lookup)
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let outcome = self.patched(id, patch).await;
        self.copies().remove(&id);
        outcome.or_else(|error| self.blur(id, error, Outcome::Gone))
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let mut deletion = *deletion;
        match self.flaw {
            Flaw::IgnoresTheSignIn | Flaw::DeletesAcrossSignIns => deletion.sign_in = None,
            Flaw::ComparesTheSignInBeforeTheStep | Flaw::JudgesTheSignInFirst => {
                if self.is_in_another_sign_in(id, deletion.sign_in) {
                    return Ok(Deleted::Superseded);
                }
                yield_now().await;
                deletion.sign_in = None;
            }
            Flaw::NewerIsLocked => drop(self.inner.shelf().read(id)?),
            _ => {}
        }
        self.copies().remove(&id);
        let deleted = self.inner.delete(id, &deletion).await;
        match deleted.or_else(|error| self.blur(id, error, Deleted::Gone))? {
            Deleted::Superseded if self.flaw == Flaw::SupersededIsGone => Ok(Deleted::Gone),
            deleted => Ok(deleted),
        }
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        self.inner.list(principal).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        self.inner.delete_all(principal, revocation).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        let changes = self.inner.changes()?;
        Some(ChangeStream::new(Told { flaw: self.flaw, changes }))
    }
}

#[async_trait]
impl Operate for FlawedStore {
    async fn collect(&self) -> Result<u64, StoreError> {
        if self.flaw == Flaw::NewerIsCollected {
            let mut shelf = self.inner.shelf();
            let newer: Vec<_> = shelf.newer.keys().copied().collect();
            newer.into_iter().for_each(|id| shelf.remove(id, EndReason::Expired));
        }
        self.inner.collect().await
    }
}

/// A change feed that reports sign-ins as patches, or every end as a logout.
struct Told {
    flaw: Flaw,
    changes: ChangeStream,
}

impl Stream for Told {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        let flaw = self.flaw;
        Pin::new(&mut self.changes).poll_next(context).map(|change| {
            change.map(|change| match (flaw, change) {
                (Flaw::TellsOfPatchesOnly, Change::SignedIn(id, version)) => {
                    Change::Patched(id, version)
                }
                (Flaw::TellsOfLogoutsOnly, Change::Ended(id, _)) => {
                    Change::Ended(id, EndReason::Logout)
                }
                _ => change,
            })
        })
    }
}

fn is_pre_auth(key: &str) -> bool {
    key.starts_with(PRE_AUTH)
}

fn without_pre_auth(values: &Values) -> Values {
    values.iter().filter(|(key, _)| !is_pre_auth(key)).collect()
}

fn with<'v>(values: &'v Values, more: impl Iterator<Item = (&'v str, &'v [u8])>) -> Values {
    values.iter().chain(more).collect()
}

fn nameless(hash: SecretHash) -> SecretHash {
    let key = KeyId::from_parts(hash.key().print(), "").expect("no name is a name");
    SecretHash::from_parts(key, *hash.digest())
}

fn caught_by_the_model(flaw: Flaw) {
    let words = "the store disagrees with the model";
    let check = |flaw| model_check(&Flawed::with(flaw), CASES);
    assert_caught(check, flaw, "the model", words);
}

const CASES: u32 = 256;
