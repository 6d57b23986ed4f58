//! Exclusive access of one call to the session's state and its store.
//!
//! The calls of one request run one after the other, so the store sees them in program order. A call that is
//! dropped at an await leaves the state as it was: the state changes only after an answer.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::lock::MutexGuard;
use steadfast_core::{
    Absence, Applied, Authentication, ClientState, Deleted, Deletion, EndReason, Event, Facts,
    LimitError, LoginPolicy, Lookup, Op, Outcome, Patch, Principal, RawJson, Record, RecordId,
    Rejection, RequestHint, Rotation, StoreError, Timestamp, Token, Values, Writes,
};
use tokio::time::Instant;

use super::state::{Intent, LoadedRecord, RecordState, State, TokenAction, Validity, Value};
use super::{Inner, PresentedToken, Status};
use crate::end_watcher::end_reason;
use crate::error::Error;
use crate::events::Actor;
use crate::store_client::Purpose;

pub(super) struct SessionGuard<'a> {
    pub(super) inner: &'a Inner,
    pub(super) state: MutexGuard<'a, State>,
    /// The purpose of the loads.
    pub(super) purpose: Purpose,
}

/// The result of sending a patch.
pub(super) enum Sent {
    Applied(Applied),
    /// There was nothing to keep: no record was created for it.
    Nothing,
    /// An expected value was another.
    Conflict,
}

impl<'a> SessionGuard<'a> {
    pub(super) fn new(inner: &'a Inner, state: MutexGuard<'a, State>) -> Self {
        Self { inner, state, purpose: Purpose::Use }
    }

    /// Loads the session that the request's token opens, unless it is already loaded.
    pub(super) async fn read(&mut self) -> Result<(), Error> {
        match self.state.record_state {
            RecordState::Unread => {}
            RecordState::Poisoned => return Err(Error::Poisoned),
            _ => return Ok(()),
        }
        let answer = self.look_up().await;
        (self.state.record_state, self.state.origin) = self.or_poison(answer)?;
        Ok(())
    }

    /// Sends a patch that holds everything buffered, and records the answer.
    pub(super) async fn send(&mut self, patch: &mut Patch) -> Result<Sent, Error> {
        if matches!(self.state.record_state, RecordState::Unread) {
            match self.inner.tokens() {
                [] => self.state.record_state = RecordState::Absent,
                [presented] => {
                    if let Some(applied) = self.send_blind(presented, patch).await? {
                        return Ok(Sent::Applied(applied));
                    }
                }
                _ => self.read().await?,
            }
        }
        self.check_in_time().await?;
        match self.state.live().map(|live| live.id) {
            Some(id) => self.send_to(id, patch).await,
            // Boxed, because most commits create nothing, and its room would be part of every one.
            None => Box::pin(self.create(patch, None)).await,
        }
    }

    /// Replaces the secret together with a patch that holds everything buffered.
    pub(super) async fn rotate(&mut self, intent: Intent, patch: &mut Patch) -> Result<(), Error> {
        match self.check_in_time().await {
            // A login starts another session then.
            Ok(()) | Err(Error::Ended | Error::Superseded) => {}
            Err(error) => return Err(error),
        }
        let Some(live) = self.state.live() else {
            return Box::pin(self.rotate_nothing(intent, std::mem::take(patch))).await;
        };
        let (id, proof, sign_in) = (live.id, live.proof.clone(), live.record.sign_in);
        let user_before = live.record.principal.clone();
        let token = Token::generate(id, self.inner.env())?;
        let (hash, now) = (self.inner.layer.hash(&token), self.inner.env().now());
        let authentication = self.authentication(&intent, now);
        if matches!(intent, Intent::Login(..)) {
            self.state.put_kept(patch, &self.inner.layer)?;
        }
        self.mark(id, authentication.as_ref()).await?;
        patch.rotate(proof, Rotation { hash, authentication });
        patch.within(sign_in);
        let facts = self.facts_after(&intent);
        let lifetime = facts.lifetime_within(&self.inner.layer.lifetime());
        patch.keep_until(lifetime.idle_deadline(now));
        let sealed = self.inner.layer.sealed(id, patch)?;
        let sent = sealed.as_deref().unwrap_or(patch);
        match self.inner.client().update(id, sent, &self.hint()).await? {
            Outcome::Applied(applied) => {
                Event::Rotated.emit(Some(id));
                let sent = sealed.map_or_else(|| std::mem::take(patch), |sealed| *sealed);
                self.on_patch_applied(sent, &applied);
                self.report_rotated(id, &intent, user_before, &applied);
                let validity = self.state.live().map(|live| Validity::of(&live.record));
                self.state.token_action =
                    validity.map_or(TokenAction::Keep, |until| TokenAction::Set(token, until));
                Ok(())
            }
            Outcome::Superseded => {
                let patch = std::mem::take(patch);
                Box::pin(self.rotation_lost(intent, patch, RecordState::Superseded)).await
            }
            Outcome::Gone => {
                let gone = self.gone(id).await;
                Box::pin(self.rotation_lost(intent, std::mem::take(patch), gone)).await
            }
            outcome => Err(refused(outcome, patch)),
        }
    }

    /// Changes the value under a key, as often as it takes: `f` sees what it replaces.
    pub(super) async fn update<E: From<Error>>(
        &mut self,
        key: &str,
        mut f: impl FnMut(Option<&[u8]>) -> Result<RawJson, E>,
    ) -> Result<(), E> {
        let change = |guard: &Self| {
            let new = f(guard.value(key)?.as_deref())?;
            let mut patch = Patch::from(guard.state.pending.clone());
            expect_as_seen(&guard.state, key, &mut patch)?;
            patch.put(key, new).map_err(Error::from)?;
            Ok(Some(patch))
        };
        self.change(key, change).await
    }

    /// Adds to a counter that is sealed, and that the store cannot add to therefore.
    pub(super) async fn add_sealed(&mut self, key: &str, by: i64) -> Result<i64, Error> {
        let mut sum = 0;
        let add = |old: Option<&[u8]>| {
            let start = old.map_or(Some(0), |json| serde_json::from_slice(json).ok());
            let start = start.ok_or_else(|| Rejection::not_an_integer(key))?;
            sum = i64::checked_add(start, by).ok_or_else(|| Rejection::overflow(key))?;
            Ok::<_, Error>(sum.into())
        };
        self.update(key, add).await?;
        Ok(sum)
    }

    /// The value under a key as this request sees it, opened.
    pub(super) fn value(&self, key: &str) -> Result<Option<Cow<'_, [u8]>>, Error> {
        match self.state.value(key) {
            None => Ok(None),
            Some(Value::Own(own)) => Ok(Some(Cow::Borrowed(own))),
            Some(Value::Stored(id, stored)) => self.inner.layer.opened(id, key, stored).map(Some),
        }
    }

    /// Removes the values under some of the keys, and returns what was there, sorted by key. Of several
    /// requests that do it at the same time, one has each value.
    pub(super) async fn take(
        &mut self,
        what: &str,
        is_wanted: impl Fn(&str) -> bool,
        mut accept: impl FnMut(&[RawJson]) -> Result<(), Error>,
    ) -> Result<Vec<RawJson>, Error> {
        let mut taken = Vec::new();
        let change = |guard: &Self| {
            taken.clear();
            let mut patch = Patch::from(guard.state.pending.clone());
            for key in guard.state.keys().into_iter().filter(|key| is_wanted(key)) {
                taken.extend(guard.value(key)?.as_deref().map(RawJson::copied));
                expect_as_seen(&guard.state, key, &mut patch)?;
                patch.remove(key)?;
            }
            accept(&taken)?;
            Ok::<_, Error>((!taken.is_empty()).then_some(patch))
        };
        self.change(what, change).await?;
        Ok(taken)
    }

    /// Sends the patch that `compose` makes of what this request sees, as often as it takes; `None`
    /// leaves everything as it is.
    async fn change<E: From<Error>>(
        &mut self,
        what: &str,
        mut compose: impl FnMut(&Self) -> Result<Option<Patch>, E>,
    ) -> Result<(), E> {
        let deadline = Instant::now() + self.inner.client().timeouts.normal;
        loop {
            self.read().await?;
            self.state.check_current()?;
            let Some(mut patch) = compose(self)? else { return Ok(()) };
            match self.send(&mut patch).await? {
                Sent::Conflict if Instant::now() >= deadline => {
                    return Err(Error::Contended { key: what.to_owned() }.into());
                }
                Sent::Conflict => self.reload_after_a_while().await?,
                Sent::Applied(_) | Sent::Nothing => return Ok(()),
            }
        }
    }

    /// Ends every session whose secret the request showed.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        match self.read().await {
            // Only a newer node can read it, and its user may end it on any.
            Err(Error::Store(StoreError::NewerFormat { .. })) => return self.end_unread().await,
            read => read?,
        }
        if matches!(self.state.record_state, RecordState::Superseded) {
            return Err(Error::Superseded);
        }
        self.state.discard();
        self.end_others_shown().await?;
        self.end_own().await.map(drop)
    }

    /// Ends the sessions whose secrets the request showed, using only those secrets.
    async fn end_unread(&mut self) -> Result<(), Error> {
        self.state.discard();
        for presented in self.inner.tokens() {
            let logout = Deletion { proof: Some(&presented.proof), ..Deletion::LOGOUT };
            let answer = self.inner.client().delete(presented.id, &logout).await;
            match self.or_poison(answer)? {
                Deleted::Superseded => {
                    self.state.record_state = RecordState::Superseded;
                    return Err(Error::Superseded);
                }
                deleted => self.ended(presented.id, deleted.is_ended()),
            }
        }
        Ok(())
    }

    /// Ends the session's record, and returns true if it was live.
    pub(super) async fn end_own(&mut self) -> Result<bool, Error> {
        self.state.discard();
        let Some(live) = self.state.live() else { return Ok(false) };
        let (id, sign_in) = (live.id, Some(live.record.sign_in));
        let logout = Deletion { sign_in, ..Deletion::LOGOUT };
        let answer = self.inner.client().delete(id, &logout).await;
        match self.or_poison(answer)? {
            Deleted::Superseded => {
                self.state.record_state = RecordState::Superseded;
                Err(Error::Superseded)
            }
            deleted => {
                self.ended(id, deleted.is_ended());
                Ok(deleted.is_ended())
            }
        }
    }

    /// Ends the other sessions that the request showed tokens of: the handle uses at most one of them.
    async fn end_others_shown(&mut self) -> Result<(), Error> {
        let own = self.state.live().map(|live| live.id);
        let tokens = self.inner.tokens().iter();
        for presented in
            tokens.filter(|presented| self.inner.tokens().len() > 1 && Some(presented.id) != own)
        {
            let logout = Deletion { proof: Some(&presented.proof), ..Deletion::LOGOUT };
            let answer = self.inner.client().delete(presented.id, &logout).await;
            if self.or_poison(answer)?.is_ended() && own.is_none() {
                self.ended(presented.id, true);
            }
        }
        Ok(())
    }

    /// Records that the session of this handle has ended.
    pub(super) fn ended(&mut self, id: RecordId, by_this_request: bool) {
        if by_this_request {
            let own = self.state.live().filter(|live| live.id == id);
            let user = own.and_then(|live| live.record.principal.as_ref());
            self.inner.layer.ended(id, user, EndReason::Logout, &Actor::Session(id));
        }
        let was_presented = self.inner.tokens().iter().any(|presented| presented.id == id);
        self.state.discard();
        self.state.client_state = ClientState::default();
        self.state.record_state = RecordState::Ended;
        self.state.token_action = match by_this_request && was_presented {
            true => TokenAction::Remove,
            false => TokenAction::Keep,
        };
    }

    /// The user who is signed in. Loads the session again if this handle loaded it earlier, because another
    /// user may have signed in since.
    pub(super) async fn signed_in(&mut self) -> Result<Principal, Error> {
        self.refresh().await?;
        self.state.check_current()?;
        self.state.principal().cloned().ok_or(Error::NotSignedIn)
    }

    /// Loads the session, or loads it again.
    pub(super) async fn refresh(&mut self) -> Result<(), Error> {
        match self.state.live().map(|live| live.id) {
            Some(id) => self.reload(id).await,
            None => self.read().await,
        }
    }

    /// Checks that the handle may still use its session, and that the session is not over by the present
    /// lifetimes: the store may have longer ones.
    pub(super) async fn check_in_time(&mut self) -> Result<(), Error> {
        self.state.check_current()?;
        match self.state.live().filter(|live| self.is_over(&live.record)).map(|live| live.id) {
            // Another request may have authenticated it again since it was loaded.
            Some(id) => Box::pin(self.reload(id)).await,
            None => Ok(()),
        }
    }

    /// Moves the idle deadline now, if that is due.
    pub(super) async fn touch_now(&mut self) -> Result<(), Error> {
        self.check_in_time().await?;
        if self.state.live().is_none() {
            return Err(Error::NoSession);
        }
        let Some((id, touch)) = self.touch() else { return Ok(()) };
        match self.inner.client().update(id, &touch, &RequestHint::default()).await? {
            Outcome::Applied(_) => {
                Event::Renewed.emit(Some(id));
                if let Some(live) = self.state.live_mut() {
                    live.apply(touch, &Vec::new());
                }
                Ok(())
            }
            Outcome::Superseded => {
                self.state.record_state = RecordState::Superseded;
                Err(Error::Superseded)
            }
            _ => {
                self.state.record_state = self.gone(id).await;
                Err(Error::Ended)
            }
        }
    }

    /// Poisons the handle if a call failed that decides whether there is a session.
    pub(super) fn or_poison<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, Error> {
        answer.map_err(|error| {
            self.state.record_state = RecordState::Poisoned;
            Error::from(error)
        })
    }

    /// The patch that only moves the idle deadline, if that is due.
    pub(super) fn touch(&self) -> Option<(RecordId, Patch)> {
        let live = self.state.live().filter(|live| !self.is_over(&live.record))?;
        let deadline = live.due_touch(&self.inner.layer.lifetime(), self.inner.env().now())?;
        let mut touch = Patch::touch(deadline);
        touch.within(live.record.sign_in);
        self.add_rehash(&mut touch);
        Some((live.id, touch))
    }

    async fn look_up(&self) -> Result<(RecordState, Status), StoreError> {
        let tokens = self.inner.tokens();
        if !tokens.is_empty() && self.inner.layer.is_cutoff_due() {
            // Boxed, because few layers have it, and its room would be part of every load.
            Box::pin(self.inner.layer.read_cutoff()).await?;
        }
        let answers = match tokens {
            [] => return Ok((RecordState::Absent, Status::New)),
            [presented] => return Ok(self.classify(presented, self.load(presented).await?)),
            _ => try_join_all(tokens.iter().map(|presented| self.load(presented))).await?,
        };
        let seen =
            tokens.iter().zip(answers).map(|(presented, answer)| self.classify(presented, answer));
        Ok(seen.reduce(Self::only_one).expect("there are several tokens"))
    }

    async fn load(&self, presented: &PresentedToken) -> Result<Lookup, StoreError> {
        let hint = self.inner.hint();
        let client = self.inner.client();
        let answer = client.load(presented.id, Some(&presented.proof), hint, self.purpose).await?;
        match &answer {
            Lookup::Found(found) if found.id != presented.id => {
                Err(StoreError::corrupt("the store answered with another session's record"))
            }
            _ => Ok(answer),
        }
    }

    fn classify(&self, presented: &PresentedToken, answer: Lookup) -> (RecordState, Status) {
        match answer {
            Lookup::Found(found) if self.is_over(&found.record) => {
                Event::ExpiredId.emit(Some(presented.id));
                (RecordState::Absent, Status::Expired)
            }
            Lookup::Found(found) => (
                RecordState::Live(LoadedRecord::found(found, presented.proof.clone())),
                Status::Existing,
            ),
            Lookup::Superseded => {
                Event::Superseded.emit(Some(presented.id));
                (RecordState::Superseded, Status::Superseded)
            }
            Lookup::Absent(Absence::Lost) => {
                Event::Lost.emit(Some(presented.id));
                (RecordState::Absent, Status::Lost)
            }
            Lookup::Absent(Absence::Expired) => {
                Event::ExpiredId.emit(Some(presented.id));
                (RecordState::Absent, Status::Expired)
            }
            Lookup::Absent(Absence::Unknown) => {
                Event::UnknownId.emit(Some(presented.id));
                (RecordState::Absent, Status::Unknown)
            }
        }
    }

    /// Returns true if a record is over by the present lifetimes.
    fn is_over(&self, record: &Record) -> bool {
        self.inner.env().now() >= self.inner.layer.bounds.absolute_deadline(record)
    }

    /// Accepts exactly one live session among several tokens. Of two live sessions neither is accepted, because
    /// an attacker may have planted one.
    fn only_one(one: (RecordState, Status), other: (RecordState, Status)) -> (RecordState, Status) {
        match (&one.0, &other.0) {
            (RecordState::Live(_), RecordState::Live(_)) => {
                (RecordState::Absent, Status::Ambiguous)
            }
            (_, RecordState::Live(_)) if one.1 == Status::Ambiguous => one,
            (_, RecordState::Live(_)) => other,
            (RecordState::Live(_), _) => one,
            (_, RecordState::Superseded) if one.1 != Status::Ambiguous => other,
            _ => one,
        }
    }

    /// Sends a patch before anything was loaded. `None` if there is no such session: the patch is to
    /// start one, or to be dropped.
    async fn send_blind(
        &mut self,
        presented: &PresentedToken,
        patch: &mut Patch,
    ) -> Result<Option<Applied>, Error> {
        patch.prove(presented.proof.clone());
        if let Some(rehash) = self.inner.layer.keyring().rehash(&presented.proof) {
            patch.rehash(rehash);
        }
        patch.keep_until(self.idle_deadline());
        let sealed = self.inner.layer.sealed(presented.id, patch)?;
        let sent = sealed.as_deref().unwrap_or(patch);
        let outcome = match self.inner.client().update(presented.id, sent, self.inner.hint()).await
        {
            // A record that cannot be read counts as absent, and is left as it is.
            Err(StoreError::Corrupt(_)) => Outcome::Gone,
            outcome => outcome?,
        };
        (self.state.record_state, self.state.origin) = match outcome {
            Outcome::Applied(applied) => {
                self.on_applied(&applied);
                return Ok(Some(applied));
            }
            Outcome::Gone => {
                self.classify(presented, Lookup::Absent(self.absence(presented).await))
            }
            Outcome::Superseded => self.classify(presented, Lookup::Superseded),
            outcome => return Err(refused(outcome, patch)),
        };
        *patch = std::mem::take(patch).unproven();
        Ok(None)
    }

    /// Asks why a record is gone: an expired session must not be reported as an unknown token.
    async fn absence(&self, presented: &PresentedToken) -> Absence {
        // Boxed, because it is rare, and its room would be part of every commit.
        match Box::pin(self.load(presented)).await {
            Ok(Lookup::Absent(absence)) => absence,
            _ => Absence::Unknown,
        }
    }

    async fn send_to(&mut self, id: RecordId, patch: &mut Patch) -> Result<Sent, Error> {
        patch.keep_until(self.idle_deadline());
        if let Some(live) = self.state.live() {
            patch.within(live.record.sign_in);
        }
        self.add_rehash(patch);
        let hint = self.hint().into_owned();
        let sealed = self.inner.layer.sealed(id, patch)?;
        let sent = sealed.as_deref().unwrap_or(patch);
        let outcome = self.inner.client().update(id, sent, &hint).await?;
        match outcome {
            Outcome::Applied(applied) => {
                self.on_patch_applied(
                    sealed.map_or_else(|| std::mem::take(patch), |sealed| *sealed),
                    &applied,
                );
                Ok(Sent::Applied(applied))
            }
            Outcome::Conflict => Ok(Sent::Conflict),
            Outcome::Gone => {
                self.state.record_state = self.gone(id).await;
                Err(Error::Ended)
            }
            Outcome::Superseded => {
                self.state.record_state = RecordState::Superseded;
                Err(Error::Superseded)
            }
            outcome => Err(refused(outcome, patch)),
        }
    }

    /// The view of a record that was live and has ended. Asks the store why, since an update does not say.
    async fn gone(&self, id: RecordId) -> RecordState {
        let hint = self.hint();
        // Boxed as in `absence`.
        match Box::pin(self.inner.client().load(id, None, &hint, self.purpose)).await {
            Ok(Lookup::Absent(absence)) => RecordState::Gone(end_reason(absence)),
            _ => RecordState::Gone(EndReason::Logout),
        }
    }

    /// Adds to a patch the move of the secret's hash to the keyring's current key, if it is due.
    fn add_rehash(&self, patch: &mut Patch) {
        let rehash = self.state.live().and_then(|live| live.rehash(&self.inner.layer.keyring()));
        if let Some(rehash) = rehash {
            patch.rehash(rehash);
        }
    }

    /// Starts a fresh record under a fresh token with what is buffered.
    async fn create(
        &mut self,
        patch: &Patch,
        authentication: Option<Authentication>,
    ) -> Result<Sent, Error> {
        let (values, counters) = patch.merge(&Values::new())?;
        if values.is_empty() && authentication.is_none() {
            self.state.pending = Writes::default();
            return Ok(Sent::Nothing);
        }
        if self.state.sent {
            return Err(Error::TooLate);
        }
        let client = self.inner.client();
        client.store.limits().check_total(&values).map_err(|limit| over_limit(limit, patch))?;
        let id = client.store.mint()?;
        let values = match self.inner.layer.sealed(id, patch)? {
            Some(sealed) => sealed.merge(&Values::new())?.0,
            None => values,
        };
        let token = Token::generate(id, self.inner.env())?;
        let hash = self.inner.layer.hash(&token);
        let policy = authentication.as_ref().map_or_else(LoginPolicy::default, |a| a.policy);
        self.mark(id, authentication.as_ref()).await?;
        let record = Arc::new(self.inner.layer.new_record(hash, values, authentication));
        match client.create(id, Record::clone(&record), policy).await? {
            Outcome::Applied(applied) => {
                let layer = &self.inner.layer;
                layer.created(id, record.principal.as_ref());
                if let Some(user) = &record.principal {
                    layer.signed_in(id, user, &record.facts, &applied);
                }
                self.on_applied(&applied);
                self.state.token_action = TokenAction::Set(token, Validity::of(&record));
                self.state.record_state =
                    RecordState::Live(LoadedRecord::new(id, record, hash.into()));
                Ok(Sent::Applied(Applied { counters, ..applied }))
            }
            outcome => Err(refused(outcome, patch)),
        }
    }

    /// A rotation where there is no record: a login starts one, the rest is an ordinary write.
    async fn rotate_nothing(&mut self, intent: Intent, mut patch: Patch) -> Result<(), Error> {
        match intent {
            Intent::Login(..) => {
                let authentication = self.authentication(&intent, self.inner.env().now());
                self.create(&patch, authentication).await.map(drop)
            }
            Intent::Elevate | Intent::Reauthenticate => {
                self.state.check_current()?;
                Err(Error::NotSignedIn)
            }
            Intent::Cycle => self.send(&mut patch).await.map(drop),
        }
    }

    /// Handles a rotation that another request won: that request's response sets the token. A login still
    /// happens, as a separate session. Writes that depend only on the record are still sent to it.
    async fn rotation_lost(
        &mut self,
        intent: Intent,
        patch: Patch,
        seen: RecordState,
    ) -> Result<(), Error> {
        let mut patch = patch.unproven();
        match intent {
            Intent::Cycle if patch.writes() => self.send(&mut patch).await.map(drop),
            Intent::Cycle => Ok(()),
            Intent::Login(..) | Intent::Elevate | Intent::Reauthenticate => {
                self.state.record_state = seen;
                self.rotate_nothing(intent, patch).await
            }
        }
    }

    /// Stores the index entries of the labels that the session is about to get.
    async fn mark(&self, id: RecordId, login: Option<&Authentication>) -> Result<(), Error> {
        let (layer, Some(login)) = (&self.inner.layer, login) else { return Ok(()) };
        if layer.indexed.is_empty() {
            return Ok(());
        }
        let facts = login.facts.as_ref().unwrap_or_else(|| self.facts());
        // Boxed, because few layers have it, and its room would be part of every commit.
        Box::pin(layer.mark(id, facts, login.absolute_deadline)).await
    }

    fn authentication(&self, intent: &Intent, now: Timestamp) -> Option<Authentication> {
        let (principal, policy) = match intent {
            Intent::Cycle | Intent::Elevate => return None,
            Intent::Reauthenticate => (None, LoginPolicy::default()),
            Intent::Login(principal, terms) => (Some(principal.clone()), terms.policy),
        };
        let facts = self.facts_after(intent);
        let lifetime = facts.lifetime_within(&self.inner.layer.lifetime());
        Some(Authentication {
            at: now,
            absolute_deadline: lifetime.absolute_deadline(now),
            principal,
            facts: (facts != self.facts()).then(|| facts.clone()),
            policy,
        })
    }

    /// The session's facts, to the knowledge of this handle.
    fn facts(&self) -> &Facts {
        static NONE: LazyLock<Facts> = LazyLock::new(Facts::default);
        self.state.live().map_or(&NONE, |live| &live.record.facts)
    }

    /// The session's facts after a rotation with this intent.
    fn facts_after<'t>(&'t self, intent: &'t Intent) -> &'t Facts {
        match intent {
            Intent::Login(_, terms) => &terms.facts,
            Intent::Cycle | Intent::Elevate | Intent::Reauthenticate => self.facts(),
        }
    }

    async fn reload_after_a_while(&mut self) -> Result<(), Error> {
        let mut jitter = [0];
        self.inner.env().fill(&mut jitter)?;
        tokio::time::sleep(Duration::from_micros(u64::from(jitter[0]) * 40)).await;
        let Some(id) = self.state.live().map(|live| live.id) else { return Ok(()) };
        self.reload(id).await
    }

    /// Loads the record as the store has it now.
    async fn reload(&mut self, id: RecordId) -> Result<(), Error> {
        let answer = self.load_again(id).await;
        let lookup = self.or_poison(answer)?;
        self.on_lookup(lookup)
    }

    /// Loads the record again for a stream that follows it, and returns true if it changed. While the store is
    /// away, the loaded record stays.
    pub(super) async fn reload_for_stream(&mut self) -> bool {
        let Some(live) = self.state.live() else { return true };
        let (id, version) = (live.id, live.record.version);
        match self.load_again(id).await.map(|lookup| self.on_lookup(lookup)) {
            Ok(Ok(())) => self.state.live().is_none_or(|live| live.record.version != version),
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    async fn load_again(&self, id: RecordId) -> Result<Lookup, StoreError> {
        let hint = self.hint();
        self.inner.client().load(id, None, &hint, self.purpose).await
    }

    fn on_lookup(&mut self, lookup: Lookup) -> Result<(), Error> {
        let (view, error) = match lookup {
            Lookup::Found(found) if !self.is_over(&found.record) => {
                let live = self.state.live_mut();
                if live.is_some_and(|live| live.reloaded(found.record)) {
                    return Ok(());
                }
                (RecordState::Superseded, Error::Superseded)
            }
            Lookup::Found(_) => (RecordState::Gone(EndReason::Expired), Error::Ended),
            Lookup::Absent(absence) => (RecordState::Gone(end_reason(absence)), Error::Ended),
            Lookup::Superseded => (RecordState::Gone(EndReason::Logout), Error::Ended),
        };
        self.state.record_state = view;
        Err(error)
    }

    /// Records a patch that the store applied to this handle's record.
    fn on_patch_applied(&mut self, patch: Patch, applied: &Applied) {
        self.state.keep_pre_auth(&patch);
        if let Some(live) = self.state.live_mut() {
            live.apply(patch, &applied.counters);
        }
        self.on_applied(applied);
    }

    /// Records the store's answer: nothing is buffered any more.
    fn on_applied(&mut self, applied: &Applied) {
        self.state.pending = Writes::default();
        self.state.client_state = applied.client_state.clone();
    }

    fn report_rotated(
        &self,
        id: RecordId,
        intent: &Intent,
        user_before: Option<Principal>,
        applied: &Applied,
    ) {
        let layer = &self.inner.layer;
        match intent {
            Intent::Login(user, terms) => {
                if let Some(before) = user_before.filter(|before| before != user) {
                    layer.superseded(id, &before, applied.version);
                }
                layer.signed_in(id, user, &terms.facts, applied);
            }
            _ => layer.rotated(id, user_before.as_ref(), applied.version),
        }
    }

    /// The hints for the store: those of the request, and the version from later answers.
    fn hint(&self) -> Cow<'_, RequestHint> {
        let brought = self.inner.hint();
        match self.state.client_state.version {
            None => Cow::Borrowed(brought),
            seen => Cow::Owned(RequestHint { min_version: seen, ..brought.clone() }),
        }
    }

    fn idle_deadline(&self) -> Timestamp {
        let lifetime = self.facts().lifetime_within(&self.inner.layer.lifetime());
        lifetime.idle_deadline(self.inner.env().now())
    }
}

/// Makes a patch apply only while a key is as this request sees it, unless the request wrote the key itself.
fn expect_as_seen(state: &State, key: &str, patch: &mut Patch) -> Result<(), Error> {
    match state.stored(key) {
        Some(stored) => Ok(patch.expect(key, stored)?),
        None => Ok(()),
    }
}

/// The error for an outcome that changed nothing.
fn refused(outcome: Outcome, patch: &Patch) -> Error {
    match outcome {
        Outcome::Rejected(Rejection::Limit(limit)) => over_limit(limit, patch),
        Outcome::Rejected(rejection) => rejection.into(),
        Outcome::Gone => Error::Ended,
        Outcome::Superseded => Error::Superseded,
        Outcome::Exists | Outcome::Conflict | Outcome::Applied(_) => {
            Error::Store(StoreError::unavailable("the store's answer does not fit the call"))
        }
    }
}

/// Returns the error for a patch that does not fit into its record. It names the largest written value, which
/// is the likeliest cause.
fn over_limit(source: LimitError, patch: &Patch) -> Error {
    if !matches!(source, LimitError::Keys { .. } | LimitError::Record { .. }) {
        return source.into();
    }
    let written = patch.ops().map(|(key, op)| match op {
        Op::Put(value) => (key, value.as_bytes().len()),
        Op::Add(_) | Op::Remove => (key, 0),
    });
    let (key, bytes) = written.max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
    Error::TooLarge { key: key.to_owned(), bytes, source }
}
