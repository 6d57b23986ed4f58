//! One call's turn with the session: whoever holds it has the state and the store to themselves.
//!
//! The calls of one request take turns, so the store sees them in program order. A turn that is
//! dropped at an await leaves the state as it was: it changes only after an answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use steadfast_core::{
    Absence, Admission, Applied, Authentication, Event, Found, Lookup, Outcome, Patch, RawJson,
    Record, RecordId, Rotation, SecretHash, StoreError, Token, Values,
};
use time::UtcDateTime;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::state::{Intent, Issue, Live, State, View};
use super::{Claim, Inner, Status};
use crate::error::Error;

pub(super) struct Turn<'a> {
    pub(super) inner: &'a Inner,
    pub(super) state: MutexGuard<'a, State>,
}

/// What sending a patch came to.
pub(super) enum Sent {
    Applied(Applied),
    /// There was nothing to keep: no record was created for it.
    Nothing,
    /// An expected value was another.
    Conflict,
}

impl Turn<'_> {
    /// Finds out what the request's token opens, unless that is known.
    pub(super) async fn read(&mut self) -> Result<(), Error> {
        match self.state.view {
            View::Unread => {}
            View::Poisoned => return Err(Error::Poisoned),
            _ => return Ok(()),
        }
        if self.state.sent {
            return Err(Error::TooLate);
        }
        let answer = self.look_up().await;
        (self.state.view, self.state.origin) = self.or_poison(answer)?;
        Ok(())
    }

    /// Sends a patch that holds all that is buffered, and keeps account of the answer.
    pub(super) async fn send(&mut self, patch: Patch) -> Result<Sent, Error> {
        if matches!(self.state.view, View::Unread) {
            match self.inner.claims() {
                [] => self.state.view = View::Absent,
                [claim] => {
                    if let Some(sent) = self.send_blind(claim, &patch).await? {
                        return Ok(sent);
                    }
                }
                _ => self.read().await?,
            }
        }
        self.state.check_current()?;
        match &self.state.view {
            View::Live(live) => self.send_to(live.clone(), patch).await,
            View::Poisoned => Err(Error::Poisoned),
            _ => self.create(&patch, None).await,
        }
    }

    /// Replaces the secret together with a patch that holds all that is buffered.
    pub(super) async fn rotate(&mut self, intent: Intent, patch: Patch) -> Result<(), Error> {
        let Some(mut live) = self.state.live().cloned() else {
            return self.rotate_nothing(intent, patch).await;
        };
        let (token, rotation) = self.rotation(&intent, &live)?;
        let mut rotating = patch.clone();
        rotating.rotate(live.proof.clone(), rotation);
        rotating.keep_until(self.idle_deadline());
        match self.inner.calls().update(live.id, &rotating).await? {
            Outcome::Applied(applied) => {
                Event::Rotated.emit(Some(live.id));
                live.follow(&rotating, &applied.counters);
                report_ended(&applied);
                let until = live.record.absolute_deadline;
                self.accept(live, Issue::Set(token, until));
                Ok(())
            }
            outcome @ (Outcome::Superseded | Outcome::Gone) => {
                self.rotation_lost(intent, patch, matches!(outcome, Outcome::Gone)).await
            }
            outcome => Err(refused(outcome)),
        }
    }

    /// Changes the value under a key, as often as it takes: `f` sees what it replaces.
    pub(super) async fn update(
        &mut self,
        key: &str,
        mut f: impl FnMut(Option<&[u8]>) -> Result<RawJson, Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + self.inner.calls().deadlines.usual;
        loop {
            self.read().await?;
            let new = f(self.state.value(key))?;
            let mut patch = self.state.pending.clone();
            if let Some(stored) = self.state.stored(key) {
                patch.expect(key, stored)?;
            }
            patch.put(key, new)?;
            match self.send(patch).await? {
                Sent::Conflict if Instant::now() >= deadline => {
                    return Err(Error::Contended { key: key.to_owned() });
                }
                Sent::Conflict => self.reload_after_a_while().await?,
                Sent::Applied(_) | Sent::Nothing => return Ok(()),
            }
        }
    }

    /// Ends the session's record.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        self.read().await?;
        if matches!(self.state.view, View::Superseded) {
            return Err(Error::Superseded);
        }
        self.state.discard();
        let Some(id) = self.state.live().map(|live| live.id) else {
            return Ok(());
        };
        let answer = self.inner.calls().delete(id).await;
        let was_live = self.or_poison(answer)?;
        self.ended(id, was_live);
        Ok(())
    }

    /// Takes note that the record of this handle is dead.
    pub(super) fn ended(&mut self, id: RecordId, by_this_request: bool) {
        if by_this_request {
            Event::Logout.emit(Some(id));
        }
        let was_presented = self.inner.claims().iter().any(|claim| claim.id == id);
        self.state.discard();
        self.state.view = View::Ended;
        self.state.issue = match by_this_request && was_presented {
            true => Issue::Remove,
            false => Issue::Keep,
        };
    }

    /// After a call that decides whether there is a session failed, the handle says nothing more.
    pub(super) fn or_poison<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, Error> {
        answer.map_err(|error| {
            self.state.view = View::Poisoned;
            Error::from(error)
        })
    }

    /// The patch that only moves the idle deadline, if that is due.
    pub(super) fn touch(&self) -> Option<(RecordId, Patch)> {
        let live = self.state.live()?;
        let deadline = self.idle_deadline().min(live.record.absolute_deadline);
        let lag = deadline - live.record.idle_deadline;
        let is_due = !lag.is_zero() && lag >= self.inner.shared.lifetime.touch_interval();
        is_due.then(|| (live.id, Patch::touch(deadline)))
    }

    async fn look_up(&self) -> Result<(View, Status), StoreError> {
        let claims = self.inner.claims();
        let answers = match claims {
            [] => return Ok((View::Absent, Status::New)),
            [claim] => return Ok(self.seen(claim, self.load(claim).await?)),
            _ => try_join_all(claims.iter().map(|claim| self.load(claim))).await?,
        };
        let seen = claims.iter().zip(answers).map(|(claim, answer)| self.seen(claim, answer));
        Ok(seen.reduce(Self::only_one).expect("there are several claims"))
    }

    async fn load(&self, claim: &Claim) -> Result<Lookup, StoreError> {
        let answer = self.inner.calls().load(claim.id, Some(&claim.proof)).await?;
        match &answer {
            Lookup::Found(found) if found.id != claim.id => {
                Err(StoreError::corrupt("the store answered with another session's record"))
            }
            _ => Ok(answer),
        }
    }

    fn seen(&self, claim: &Claim, answer: Lookup) -> (View, Status) {
        match answer {
            Lookup::Found(Found { id, record, .. }) => {
                let live = Live { id, record, proof: claim.proof.clone() };
                (View::Live(live), Status::Existing)
            }
            Lookup::Superseded => {
                Event::Superseded.emit(Some(claim.id));
                (View::Superseded, Status::Superseded)
            }
            Lookup::Absent(absence) => {
                Event::UnknownId.emit(Some(claim.id));
                let is_lost = absence == Absence::Lost;
                (View::Absent, if is_lost { Status::Lost } else { Status::Unknown })
            }
        }
    }

    /// Of several tokens, exactly one live one counts; two live ones count as none, because nobody
    /// can tell which of them somebody planted.
    fn only_one(one: (View, Status), other: (View, Status)) -> (View, Status) {
        match (&one.0, &other.0) {
            (View::Live(_), View::Live(_)) => (View::Absent, Status::Ambiguous),
            (_, View::Live(_)) if one.1 == Status::Ambiguous => one,
            (_, View::Live(_)) => other,
            (View::Live(_), _) => one,
            (_, View::Superseded) if one.1 != Status::Ambiguous => other,
            _ => one,
        }
    }

    /// Sends a patch before anything was loaded. `None` when there is no such session, so that the
    /// patch has to start one.
    async fn send_blind(&mut self, claim: &Claim, patch: &Patch) -> Result<Option<Sent>, Error> {
        let mut blind = patch.clone();
        blind.prove(claim.proof.clone());
        blind.keep_until(self.idle_deadline());
        let outcome = match self.inner.calls().update(claim.id, &blind).await {
            // What cannot be read is absent, and left as it is.
            Err(StoreError::Corrupt(_)) => Outcome::Gone,
            outcome => outcome?,
        };
        match outcome {
            Outcome::Applied(applied) => {
                self.state.pending = Patch::new();
                Ok(Some(Sent::Applied(applied)))
            }
            Outcome::Gone => {
                Event::UnknownId.emit(Some(claim.id));
                (self.state.view, self.state.origin) = (View::Absent, Status::Unknown);
                Ok(None)
            }
            Outcome::Superseded => {
                Event::Superseded.emit(Some(claim.id));
                (self.state.view, self.state.origin) = (View::Superseded, Status::Superseded);
                Ok(None)
            }
            outcome => Err(refused(outcome)),
        }
    }

    async fn send_to(&mut self, mut live: Live, mut patch: Patch) -> Result<Sent, Error> {
        patch.keep_until(self.idle_deadline());
        if let Some(rotation) = live.rehash(&self.inner.shared.keyring) {
            let mut rehashing = patch.clone();
            rehashing.rotate(live.proof.clone(), rotation);
            if let Outcome::Applied(applied) =
                self.inner.calls().update(live.id, &rehashing).await?
            {
                live.follow(&rehashing, &applied.counters);
                self.accept(live, Issue::Keep);
                return Ok(Sent::Applied(applied));
            }
        }
        match self.inner.calls().update(live.id, &patch).await? {
            Outcome::Applied(applied) => {
                live.follow(&patch, &applied.counters);
                self.accept(live, Issue::Keep);
                Ok(Sent::Applied(applied))
            }
            Outcome::Conflict => Ok(Sent::Conflict),
            Outcome::Gone => {
                self.state.view = View::Gone;
                Err(Error::Ended)
            }
            outcome => Err(refused(outcome)),
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
            self.state.pending = Patch::new();
            return Ok(Sent::Nothing);
        }
        if self.state.sent {
            return Err(Error::TooLate);
        }
        let shared = &self.inner.shared;
        shared.calls.store.limits().check_total(&values)?;
        let id = shared.calls.store.mint()?;
        let token = Token::generate(id, self.inner.env())?;
        let hash = shared.keyring.hash(&shared.realm, token.secret());
        let admission = authentication.as_ref().map_or_else(Admission::default, |a| a.admission);
        let record = self.fresh_record(hash, values, authentication);
        match shared.calls.create(id, record.clone(), admission).await? {
            Outcome::Applied(applied) => {
                Event::Created.emit(Some(id));
                report_ended(&applied);
                let until = record.absolute_deadline;
                let live = Live { id, record: Arc::new(record), proof: hash.into() };
                self.accept(live, Issue::Set(token, until));
                Ok(Sent::Applied(Applied { counters, ..applied }))
            }
            outcome => Err(refused(outcome)),
        }
    }

    fn fresh_record(
        &self,
        hash: SecretHash,
        values: Values,
        authentication: Option<Authentication>,
    ) -> Record {
        let (now, lifetime) = (self.inner.env().now(), &self.inner.shared.lifetime);
        let absolute = lifetime.absolute_deadline(now);
        let record = Record::new(hash, now, lifetime.idle_deadline(now), absolute);
        let authenticated = authentication.as_ref().map(|authentication| authentication.at);
        let principal = authentication.and_then(|authentication| authentication.principal);
        Record { values, authenticated, principal, ..record }
    }

    /// A rotation where there is no record: a login starts one, the rest is an ordinary write.
    async fn rotate_nothing(&mut self, intent: Intent, patch: Patch) -> Result<(), Error> {
        match intent {
            Intent::Login(..) => {
                let authentication = self.authentication(&intent);
                self.create(&patch, authentication).await.map(drop)
            }
            Intent::Elevate | Intent::Reauthenticate => {
                self.state.check_current()?;
                Err(Error::NotSignedIn)
            }
            Intent::Cycle => self.send(patch).await.map(drop),
        }
    }

    /// Another request was first, and its response has the say over the token. A login still holds,
    /// as a session of its own; what depends on nothing but the record still reaches it.
    async fn rotation_lost(
        &mut self,
        intent: Intent,
        patch: Patch,
        is_gone: bool,
    ) -> Result<(), Error> {
        match intent {
            Intent::Login(..) => {
                self.state.view = View::Absent;
                let authentication = self.authentication(&intent);
                self.create(&patch, authentication).await.map(drop)
            }
            Intent::Cycle if patch.writes() => self.send(patch).await.map(drop),
            Intent::Cycle => Ok(()),
            Intent::Elevate | Intent::Reauthenticate => {
                self.state.view = if is_gone { View::Gone } else { View::Superseded };
                self.state.check_current()
            }
        }
    }

    fn rotation(&self, intent: &Intent, live: &Live) -> Result<(Token, Rotation), Error> {
        let shared = &self.inner.shared;
        let token = Token::generate(live.id, self.inner.env())?;
        let hash = shared.keyring.hash(&shared.realm, token.secret());
        Ok((token, Rotation { hash, authentication: self.authentication(intent) }))
    }

    fn authentication(&self, intent: &Intent) -> Option<Authentication> {
        let (principal, epoch) = match intent {
            Intent::Cycle | Intent::Elevate => return None,
            Intent::Reauthenticate => (None, None),
            Intent::Login(principal, login) => (Some(principal.clone()), login.epoch),
        };
        let (now, shared) = (self.inner.env().now(), &self.inner.shared);
        Some(Authentication {
            at: now,
            absolute_deadline: shared.lifetime.absolute_deadline(now),
            principal,
            admission: Admission { cap: shared.max_per_principal, epoch },
        })
    }

    async fn reload_after_a_while(&mut self) -> Result<(), Error> {
        let mut jitter = [0];
        self.inner.env().fill(&mut jitter)?;
        tokio::time::sleep(Duration::from_micros(u64::from(jitter[0]) * 40)).await;
        let Some(live) = self.state.live().cloned() else {
            return Ok(());
        };
        let answer = self.inner.calls().load(live.id, None).await;
        match self.or_poison(answer)? {
            Lookup::Found(found) => {
                self.state.view = View::Live(Live { record: found.record, ..live });
                Ok(())
            }
            Lookup::Superseded | Lookup::Absent(_) => {
                self.state.view = View::Gone;
                Err(Error::Ended)
            }
        }
    }

    fn accept(&mut self, live: Live, issue: Issue) {
        self.state.view = View::Live(live);
        self.state.pending = Patch::new();
        if !matches!(issue, Issue::Keep) {
            self.state.issue = issue;
        }
    }

    fn idle_deadline(&self) -> UtcDateTime {
        self.inner.shared.lifetime.idle_deadline(self.inner.env().now())
    }
}

/// Counts the sessions that a principal's cap ended.
fn report_ended(applied: &Applied) {
    for id in &applied.ended {
        Event::Capacity.emit(Some(*id));
    }
}

/// The error for an outcome that changed nothing.
fn refused(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Rejected(rejection) => rejection.into(),
        Outcome::Gone => Error::Ended,
        Outcome::Superseded => Error::Superseded,
        Outcome::Exists | Outcome::Conflict | Outcome::Applied(_) => {
            Error::Store(StoreError::unavailable("the store's answer does not fit the call"))
        }
    }
}
