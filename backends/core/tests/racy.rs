//! The kit fails stores with the flaws that session stores have.
//!
//! Each flawed store is the straightforward one with a single call done wrongly. Where the flaw is
//! a race, the store yields in the middle of it, and the runtime has one thread: the outcome is the
//! same in every run.

#[macro_use]
#[path = "common/caught.rs"]
mod caught;
mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use caught::{assert_caught, block_on};
use common::{SimpleStore, applied};
use steadfast_core::conformance::checks::{
    cancellation, creation, deadlines, endings, patches, principals, secrets,
};
use steadfast_core::conformance::{Subject, model_check};
use steadfast_core::{
    Absence, Deleted, Deletion, EndReason, Env, Limits, LoginPolicy, Lookup, Op, Operate, Outcome,
    Patch, Principal, Proof, Record, RecordId, Rejection, RequestHint, Revocation, SessionInfo,
    SessionStore, Store, StoreError, Verdict,
};
use tokio::task::yield_now;

#[test]
fn saving_the_whole_record_is_caught() {
    caught!(
        Flaw::SavesTheWholeRecord,
        patches::patches_to_different_keys_all_survive => "patches to different keys all survive",
        patches::a_slow_patch_takes_nothing_back => "patches to different keys all survive",
        patches::guarded_updates_of_one_key_lose_nothing => "loses none before it",
        patches::of_updates_with_one_expectation_one_is_applied => "an expectation holds once",
        patches::concurrent_additions_are_exact => "the value that it made",
        deadlines::of_several_touches_the_latest_counts => "the latest counts",
        deadlines::touches_and_patches_keep_each_other => "undoes no",
        secrets::a_rotation_under_way_loses_no_write => "a rotation loses no update",
        secrets::one_of_two_concurrent_rotations_is_superseded => "compare-and-set",
    );
}

#[test]
fn an_update_that_revives_is_caught() {
    caught!(
        Flaw::SavesWhatWasDeleted,
        endings::no_update_under_way_revives_a_deleted_record => "never lives again",
        endings::a_delete_wins_among_many_updates => "never lives again",
    );
}

#[test]
fn an_update_that_creates_is_caught() {
    caught!(
        Flaw::Upserts,
        creation::an_update_never_creates => "an update of what is not there is gone",
        endings::after_a_delete_no_node_finds_the_record => "an update never revives",
    );
}

#[test]
fn a_create_that_overwrites_is_caught() {
    caught!(
        Flaw::CreatesInTwoSteps,
        creation::one_of_several_concurrent_creates_is_applied => "create never overwrites",
    );
    caught!(
        Flaw::CreatesOverOthers,
        creation::a_create_under_a_taken_id_is_refused => "has this id",
        creation::a_create_sent_twice_overwrites_nothing => "overwrites nothing",
    );
    caught_by_the_model(Flaw::CreatesOverOthers);
}

#[test]
fn a_proof_checked_separately_is_caught() {
    caught!(
        Flaw::ProvesBeforeTheStep,
        secrets::one_of_two_concurrent_rotations_is_superseded => "compare-and-set",
    );
}

#[test]
fn a_proof_that_is_not_checked_is_caught() {
    caught!(
        Flaw::TouchesWithoutProof,
        secrets::a_wrong_proof_changes_nothing_and_learns_nothing => "finds no record",
    );
    caught_by_the_model(Flaw::TouchesWithoutProof);
}

#[test]
fn a_replaced_secret_that_opens_is_caught() {
    caught!(
        Flaw::OpensForTheReplacedSecret,
        secrets::a_replaced_secret_is_superseded_for_a_minute => "a replaced secret is superseded",
    );
    caught_by_the_model(Flaw::OpensForTheReplacedSecret);
}

#[test]
fn a_cap_enforced_separately_is_caught() {
    caught!(
        Flaw::CapsBeforeTheStep,
        principals::the_cap_holds_under_parallel_logins => "the cap",
    );
}

#[test]
fn a_minimum_epoch_checked_separately_is_caught() {
    caught!(
        Flaw::ChecksTheFloorBeforeTheStep,
        principals::a_floor_holds_against_logins_under_way => "no other",
    );
    caught!(
        Flaw::IgnoresTheFloor,
        principals::a_floor_rejects_logins_below_it => "a floor rejects logins",
        principals::a_floor_lasts_for_a_day => "a floor rejects logins",
    );
    caught_by_the_model(Flaw::IgnoresTheFloor);
}

#[test]
fn an_index_that_loses_logins_is_caught() {
    caught!(
        Flaw::PrunesLoginsUnderWay,
        principals::a_delete_all_ends_or_precedes_concurrent_logins => "no other",
    );
}

#[test]
fn a_patch_applied_in_parts_is_caught() {
    caught!(
        Flaw::AppliesInParts,
        cancellation::a_dropped_patch_is_whole_or_nothing => "a patch is whole or nothing",
        patches::a_patch_over_a_limit_is_rejected_whole => "a patch is rejected whole",
        patches::an_addition_that_cannot_be_is_rejected_whole => "a patch is rejected whole",
    );
    caught_by_the_model(Flaw::AppliesInParts);
}

#[test]
fn a_touch_that_is_no_maximum_is_caught() {
    caught!(
        Flaw::TouchesToTheLast,
        deadlines::of_several_touches_the_latest_counts => "the latest counts",
        deadlines::a_touch_never_passes_the_absolute_deadline => "stops at the absolute",
    );
    caught_by_the_model(Flaw::TouchesToTheLast);
}

#[test]
fn expiry_that_waits_for_a_sweeper_is_caught() {
    caught!(
        Flaw::ExpiresWhenCollected,
        endings::a_record_is_gone_at_its_idle_deadline => "never lives again",
        endings::a_record_is_gone_at_its_absolute_deadline => "never lives again",
    );
    caught_by_the_model(Flaw::ExpiresWhenCollected);
}

#[test]
fn rewritten_values_are_caught() {
    caught!(
        Flaw::WritesValuesAnew,
        patches::values_are_kept_byte_for_byte => "keeps bytes as they are",
    );
}

#[test]
fn the_same_checks_pass_without_a_flaw() {
    block_on(async {
        let store = Flawed(Flaw::None);
        patches::patches_to_different_keys_all_survive(&store).await;
        patches::concurrent_additions_are_exact(&store).await;
        secrets::one_of_two_concurrent_rotations_is_superseded(&store).await;
        endings::no_update_under_way_revives_a_deleted_record(&store).await;
        principals::the_cap_holds_under_parallel_logins(&store).await;
        principals::a_delete_all_ends_or_precedes_concurrent_logins(&store).await;
        cancellation::a_dropped_patch_is_whole_or_nothing(&store).await;
    });
    model_check(&Flawed(Flaw::None), 256);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    SavesTheWholeRecord,
    SavesWhatWasDeleted,
    Upserts,
    CreatesInTwoSteps,
    CreatesOverOthers,
    ProvesBeforeTheStep,
    TouchesWithoutProof,
    OpensForTheReplacedSecret,
    CapsBeforeTheStep,
    ChecksTheFloorBeforeTheStep,
    IgnoresTheFloor,
    PrunesLoginsUnderWay,
    AppliesInParts,
    TouchesToTheLast,
    ExpiresWhenCollected,
    WritesValuesAnew,
}

struct Flawed(Flaw);

impl Flawed {
    fn with(flaw: Flaw) -> Self {
        Self(flaw)
    }
}

#[async_trait]
impl Subject for Flawed {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let (flaw, inner) = (self.0, SimpleStore::new(env));
        let indexed = Mutex::default();
        vec![Arc::new(FlawedStore { flaw, inner, indexed })]
    }
}

#[derive(Debug)]
struct FlawedStore {
    flaw: Flaw,
    inner: SimpleStore,
    /// A separate index, for a flaw of the index.
    indexed: Mutex<HashSet<RecordId>>,
}

impl FlawedStore {
    fn indexed(&self) -> MutexGuard<'_, HashSet<RecordId>> {
        self.indexed.lock().expect("no call panics while it holds the lock")
    }

    /// Adds a login to the index, where it may be pruned before the login is applied.
    async fn index_before(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        if login(patch).is_some() {
            self.indexed().insert(id);
            yield_now().await;
        }
        self.inner.try_update(id, patch)
    }

    /// Reads the record, changes it and writes it back, in three steps.
    async fn save_whole(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let Some(record) = self.inner.shelf().read(id)? else {
            return Ok(Outcome::Gone);
        };
        yield_now().await;
        let patched = match record.apply(patch, self.env().now(), self.limits()) {
            Ok(patched) => patched,
            Err(refusal) => return refusal.answer(),
        };
        let mut shelf = self.inner.shelf();
        if self.flaw == Flaw::SavesWhatWasDeleted || shelf.records.contains_key(&id) {
            shelf.keep(id, patched.record.clone());
        }
        let mut outcome = applied(&patched.record, Vec::new());
        if let Outcome::Applied(applied) = &mut outcome {
            applied.counters = patched.counters;
        }
        Ok(outcome)
    }

    fn upsert(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let missing = !self.inner.shelf().records.contains_key(&id);
        if let (true, Some(rotation)) = (missing, patch.rotation()) {
            let (now, until) = (self.env().now(), self.env().now() + HOUR);
            self.inner.shelf().keep(id, Record::new(rotation.hash, now, until, until));
        }
        self.inner.try_update(id, patch)
    }

    /// Checks the proof first, then rotates without checking again.
    async fn prove_before(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        if let (Some(proof), Some(_)) = (patch.proof(), patch.rotation()) {
            let lookup = self.inner.look_up(id, Some(proof))?;
            yield_now().await;
            let record = self.inner.shelf().read(id)?;
            if let (Lookup::Found(_), Some(record)) = (lookup, record) {
                let mut forged = patch.clone();
                let rotation = patch.rotation().cloned().expect("it rotates");
                forged.rotate(record.secret.into(), rotation);
                return self.inner.try_update(id, &forged);
            }
        }
        self.inner.try_update(id, patch)
    }

    /// Makes room under the cap first, then admits all that passed.
    async fn cap_before(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let Some((principal, policy)) = login(patch) else {
            return self.inner.try_update(id, patch);
        };
        let mut live = self.inner.shelf().live_of(&principal, self.env().now());
        live.sort_by_key(|info| info.authenticated);
        live.truncate((live.len() + 1).saturating_sub(policy.cap));
        yield_now().await;
        for info in live {
            self.inner.end(info.id, &Deletion::for_reason(EndReason::Cap))?;
        }
        self.inner.try_update(id, &admitted(patch, LoginPolicy { cap: usize::MAX, ..policy }))
    }

    /// Checks the minimum epoch first, then admits all that passed.
    async fn floor_before(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let Some((principal, policy)) = login(patch) else {
            return self.inner.try_update(id, patch);
        };
        let ignores = self.flaw == Flaw::IgnoresTheFloor;
        if !ignores && self.inner.shelf().is_below_floor(&principal, policy) {
            return Ok(Outcome::Rejected(Rejection::StaleEpoch));
        }
        yield_now().await;
        let above = LoginPolicy { epoch: Some(u64::MAX), ..policy };
        self.inner.try_update(id, &admitted(patch, above))
    }

    /// Applies a patch one operation at a time.
    async fn apply_parts(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let mut outcome = None;
        for (key, op) in patch.ops().filter(|_| patch.rotation().is_none()) {
            let mut part = Patch::new();
            match op {
                Op::Put(value) => part.put(key, value.clone()).expect("a key of a patch"),
                Op::Remove => part.remove(key).expect("a key of a patch"),
                Op::Add(by) => part.add(key, *by).expect("an addition of a patch"),
            }
            let done = self.inner.try_update(id, &part)?;
            if !matches!(done, Outcome::Applied(_)) {
                return Ok(done);
            }
            outcome = Some(done);
            yield_now().await;
        }
        outcome.map_or_else(|| self.inner.try_update(id, patch), Ok)
    }

    /// Sets the idle deadline to the last one requested.
    fn touch_to_last(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let outcome = self.inner.try_update(id, patch)?;
        let record = self.inner.shelf().read(id)?;
        if let (Outcome::Applied(_), Some(mut record), Some(deadline)) =
            (&outcome, record, patch.idle_deadline())
        {
            record.idle_deadline = deadline;
            self.inner.shelf().keep(id, record);
        }
        Ok(outcome)
    }

    /// Moves deadlines without a proof.
    fn touch_for_all(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        match patch.idle_deadline() {
            Some(deadline) if patch.is_touch() => {
                self.inner.try_update(id, &Patch::touch(deadline))
            }
            _ => self.inner.try_update(id, patch),
        }
    }

    /// Parses the values and writes them in its own form.
    fn write_anew(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let outcome = self.inner.try_update(id, patch)?;
        let record = self.inner.shelf().read(id)?;
        if let Some(mut record) = record {
            let anew = |(key, value): (&str, &[u8])| {
                let parsed: Option<serde_json::Value> = serde_json::from_slice(value).ok();
                let anew = parsed.map_or_else(|| value.to_vec(), |json| json.to_string().into());
                (key.to_owned(), anew)
            };
            let values: Vec<_> = record.values.iter().map(anew).collect();
            record.values = values.iter().map(|(key, value)| (key, &value[..])).collect();
            self.inner.shelf().keep(id, record);
        }
        Ok(outcome)
    }
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
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        self.indexed().insert(id);
        match self.flaw {
            Flaw::CreatesInTwoSteps => {
                let taken = self.inner.shelf().records.contains_key(&id);
                yield_now().await;
                if taken {
                    return self.inner.create(id, record, policy).await;
                }
            }
            Flaw::CreatesOverOthers => {}
            _ => return self.inner.create(id, record, policy).await,
        }
        self.inner.shelf().records.remove(&id);
        self.inner.create(id, record, policy).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let now = self.env().now();
        let unproven = || self.inner.look_up(id, None);
        let record = self.inner.shelf().read(id)?;
        match (self.flaw, record, proof) {
            (Flaw::OpensForTheReplacedSecret, Some(record), Some(proof))
                if record.verify(proof, now) == Verdict::Superseded =>
            {
                unproven()
            }
            (Flaw::ExpiresWhenCollected, Some(record), None) => {
                Ok(Lookup::Found(common::found(id, Arc::new(record))))
            }
            (Flaw::ExpiresWhenCollected, None, _) => Ok(Lookup::Absent(Absence::Unknown)),
            _ => self.inner.look_up(id, proof),
        }
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        match self.flaw {
            Flaw::SavesTheWholeRecord | Flaw::SavesWhatWasDeleted => {
                self.save_whole(id, patch).await
            }
            Flaw::Upserts => self.upsert(id, patch),
            Flaw::ProvesBeforeTheStep => self.prove_before(id, patch).await,
            Flaw::CapsBeforeTheStep => self.cap_before(id, patch).await,
            Flaw::ChecksTheFloorBeforeTheStep | Flaw::IgnoresTheFloor => {
                self.floor_before(id, patch).await
            }
            Flaw::PrunesLoginsUnderWay => self.index_before(id, patch).await,
            Flaw::AppliesInParts => self.apply_parts(id, patch).await,
            Flaw::TouchesToTheLast => self.touch_to_last(id, patch),
            Flaw::TouchesWithoutProof => self.touch_for_all(id, patch),
            Flaw::WritesValuesAnew => self.write_anew(id, patch),
            _ => self.inner.try_update(id, patch),
        }
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.inner.delete(id, deletion).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let mut listed = self.inner.list(principal).await?;
        if self.flaw == Flaw::PrunesLoginsUnderWay {
            listed.retain(|info| self.indexed().contains(&info.id));
        }
        Ok(listed)
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        if self.flaw != Flaw::PrunesLoginsUnderWay {
            return self.inner.delete_all(principal, revocation).await;
        }
        let live = self.list(principal).await?;
        self.indexed().retain(|id| live.iter().any(|info| info.id == *id));
        let mut ended = 0;
        for info in live.iter().filter(|info| Some(info.id) != revocation.except) {
            let deletion = Deletion::for_reason(revocation.reason);
            ended += u64::from(self.inner.end(info.id, &deletion)? == Deleted::Ended);
        }
        Ok(ended)
    }
}

#[async_trait]
impl Operate for FlawedStore {
    async fn collect(&self) -> Result<u64, StoreError> {
        self.inner.collect().await
    }
}

fn login(patch: &Patch) -> Option<(Principal, LoginPolicy)> {
    let authentication = patch.rotation()?.authentication.as_ref()?;
    Some((authentication.principal.clone()?, authentication.policy))
}

/// Returns the same login with other conditions.
fn admitted(patch: &Patch, policy: LoginPolicy) -> Patch {
    let mut other = patch.clone();
    let mut rotation = patch.rotation().cloned().expect("a login rotates");
    if let Some(authentication) = &mut rotation.authentication {
        authentication.policy = policy;
    }
    other.rotate(patch.proof().cloned().expect("a rotation has a proof"), rotation);
    other
}

fn caught_by_the_model(flaw: Flaw) {
    let words = "the store disagrees with the model";
    assert_caught(|flaw| model_check(&Flawed(flaw), 256), flaw, "the model", words);
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(60 * 60);
