//! The state of a session within a request, and its buffered changes. Nothing here calls the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use steadfast_core::{
    ClientState, Counters, EndReason, Found, Keyring, Lifetime, Op, PRE_AUTH, Patch, Principal,
    Proof, RawJson, Record, RecordId, Rehash, RouteLabel, Timestamp, Token, Version, Writes,
};
use time::UtcDateTime;

use super::Status;
use super::login::Terms;
use crate::end_watcher::{EndStatus, LoadedSession};
use crate::error::Error;
use crate::layer_state::LayerState;

/// The state of a request's session: what the store said, and what is buffered on top of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) record_state: RecordState,
    /// The result of looking up the request's token. Later changes of the session do not change it.
    pub(super) origin: Status,
    /// Buffered writes.
    pub(super) pending: Writes,
    pub(super) intent: Option<Intent>,
    pub(super) token_action: TokenAction,
    /// The hints for the client from the store's last answer to a change.
    pub(super) client_state: ClientState,
    pub(super) touched: bool,
    /// Pre-auth keys that this request committed after its sign-in.
    pub(super) kept: Vec<Box<str>>,
    /// True once the response head is final, so that nothing more can be buffered for it.
    pub(super) sent: bool,
}

/// A value as a request sees it.
pub(super) enum Value<'s> {
    /// Written by this request, and not sent to the store yet.
    Own(&'s [u8]),
    /// Loaded from this record of the store, possibly sealed.
    Stored(RecordId, &'s [u8]),
}

/// The state of the record, to the knowledge of this handle.
#[derive(Debug)]
pub(super) enum RecordState {
    /// Not loaded yet.
    Unread,
    /// The record was live at the last answer of the store.
    Live(LoadedRecord),
    /// There is no session: a write starts one.
    Absent,
    /// This request ended the session: a write starts another.
    Ended,
    /// Another request replaced the secret that this one presented: its writes are dropped.
    Superseded,
    /// The record was live and ended without this request: this one's writes are dropped.
    Gone(EndReason),
    /// A load failed, so it is unknown whether there is a session, and nothing is written.
    Poisoned,
}

/// A record that this request proved its right to.
#[derive(Debug)]
pub(super) struct LoadedRecord {
    pub(super) id: RecordId,
    /// As it was loaded, or changed by a rotation of this request.
    pub(super) record: Arc<Record>,
    /// The changes that this request committed since.
    written: Writes,
    idle_deadline: Timestamp,
    /// Shows the secret as this request knows it, for replacing it.
    pub(super) proof: Proof,
    /// The hints for the client from the load.
    client_state: ClientState,
}

/// The reason for which the secret is replaced. A later one takes the place of an earlier, weaker one.
#[derive(Clone, Debug)]
pub(super) enum Intent {
    Cycle,
    Elevate,
    Reauthenticate,
    Login(Principal, Box<Terms>),
}

/// The effect of the response on the client's token.
#[derive(Debug, Default)]
pub(crate) enum TokenAction {
    /// Leaves it as it is.
    #[default]
    Keep,
    /// Hands out a token.
    Set(Token, Validity),
    /// Removes it.
    Remove,
}

/// The time for which a client keeps a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) until: Timestamp,
    /// True if the client also keeps it when its browser closes; `None` if the sign-in does not say.
    pub(crate) is_persistent: Option<bool>,
}

impl Validity {
    pub(super) fn of(record: &Record) -> Self {
        Self { until: record.absolute_deadline, is_persistent: record.facts.is_persistent() }
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            record_state: RecordState::Unread,
            origin: Status::New,
            pending: Writes::default(),
            intent: None,
            token_action: TokenAction::Keep,
            client_state: ClientState::default(),
            touched: false,
            kept: Vec::new(),
            sent: false,
        }
    }

    /// The value under a key as this request sees it: its own writes over what the store has.
    pub(super) fn value(&self, key: &str) -> Option<Value<'_>> {
        match written(&self.pending, key) {
            Some(own) => own.map(Value::Own),
            None => self.live().and_then(|live| Some(Value::Stored(live.id, live.value(key)?))),
        }
    }

    /// Every key with a value, as this request sees them, sorted.
    pub(super) fn keys(&self) -> BTreeSet<&str> {
        let stored = self.live().into_iter().flat_map(LoadedRecord::keys);
        let buffered = self.pending.ops().map(|(key, _)| key);
        stored.chain(buffered).filter(|key| self.value(key).is_some()).collect()
    }

    /// The store's value under a key as it is stored, or that it has none, unless this request's own is over it.
    pub(super) fn stored(&self, key: &str) -> Option<Option<RawJson>> {
        let live = self.live().filter(|_| written(&self.pending, key).is_none())?;
        Some(live.value(key).map(RawJson::copied))
    }

    pub(super) fn live(&self) -> Option<&LoadedRecord> {
        match &self.record_state {
            RecordState::Live(live) => Some(live),
            _ => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut LoadedRecord> {
        match &mut self.record_state {
            RecordState::Live(live) => Some(live),
            _ => None,
        }
    }

    /// Returns the user of the session, including one whom this request signs in.
    pub(super) fn principal(&self) -> Option<&Principal> {
        match &self.intent {
            Some(Intent::Login(principal, _)) => Some(principal),
            _ => self.live()?.record.principal.as_ref(),
        }
    }

    /// The session and when it was authenticated, if the store lists it among those of a principal.
    pub(super) fn listed_under(
        &self,
        principal: &Principal,
    ) -> Option<(RecordId, Option<UtcDateTime>)> {
        let live = self.live()?;
        let is_listed = live.record.principal.as_ref() == Some(principal);
        is_listed.then(|| (live.id, live.record.authenticated.map(Into::into)))
    }

    /// The nodes that hold the session, from the store's last answer; empty if the store places no sessions.
    pub(super) fn routes(&self) -> &[RouteLabel] {
        match self.client_state.routes.as_slice() {
            [] => self.live().map_or(&[], |live| &live.client_state.routes),
            routes => routes,
        }
    }

    /// The version to tell a client that carries this one: after a change, and where the authority
    /// has fallen behind it, so that its copies need not be doubted for ever.
    pub(super) fn version(&self, carried: Option<Version>) -> Option<Version> {
        let loaded = self.live().and_then(|live| live.client_state.version);
        let fallen_back = loaded.filter(|version| Some(*version) < carried);
        self.client_state.version.or(fallen_back).filter(|version| Some(*version) != carried)
    }

    /// Returns an error if nothing can be buffered any more.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match self.record_state {
            RecordState::Poisoned => Err(Error::Poisoned),
            _ if self.sent => Err(Error::TooLate),
            _ => Ok(()),
        }
    }

    /// Returns an error if this handle may no longer change the session: a load failed, or another request
    /// rotated or ended the session.
    pub(super) fn check_current(&self) -> Result<(), Error> {
        match self.record_state {
            RecordState::Poisoned => Err(Error::Poisoned),
            RecordState::Superseded => Err(Error::Superseded),
            RecordState::Gone(_) => Err(Error::Ended),
            _ => Ok(()),
        }
    }

    /// The session whose end to wait for, or the reason why it already ended.
    pub(super) fn end_status(&self) -> Result<EndStatus, Error> {
        match &self.record_state {
            RecordState::Live(live) => Ok(EndStatus::Live(live.loaded())),
            RecordState::Ended => Ok(EndStatus::Ended(EndReason::Logout)),
            RecordState::Gone(reason) => Ok(EndStatus::Ended(*reason)),
            RecordState::Superseded => Ok(EndStatus::Ended(EndReason::Superseded)),
            RecordState::Absent if self.origin == Status::Expired => {
                Ok(EndStatus::Ended(EndReason::Expired))
            }
            RecordState::Absent | RecordState::Unread => Err(Error::NoSession),
            RecordState::Poisoned => Err(Error::Poisoned),
        }
    }

    pub(super) fn intend(&mut self, intent: Intent) {
        let is_stronger = self.intent.as_ref().is_none_or(|known| known.rank() <= intent.rank());
        if is_stronger {
            self.intent = Some(intent);
        }
    }

    /// Drops the values that a login must not carry over: pre-auth ones, and those of another user.
    pub(super) fn prepare_login(&mut self, principal: &Principal) {
        if self.principal().is_some_and(|known| known != principal) {
            self.pending.clear();
        }
        let stored = self.live().into_iter().flat_map(LoadedRecord::pre_auth_keys);
        let buffered = pre_auth_keys(&self.pending);
        for key in stored.chain(buffered).map(str::to_owned).collect::<Vec<_>>() {
            self.pending.remove(&key).expect("the key was accepted before");
        }
    }

    /// Takes note of what a patch wrote that the sign-in of this request must not remove.
    pub(super) fn keep_pre_auth(&mut self, patch: &Patch) {
        if matches!(self.intent, Some(Intent::Login(..))) {
            let keys = patch.ops().map(|(key, _)| key).filter(|key| key.starts_with(PRE_AUTH));
            self.kept.extend(keys.map(Box::from));
        }
    }

    /// Has the patch of a sign-in put the pre-auth values again that this request wrote after it.
    pub(super) fn put_kept(&mut self, patch: &mut Patch, layer: &LayerState) -> Result<(), Error> {
        for key in std::mem::take(&mut self.kept) {
            let own = self.live().and_then(|live| Some((live.id, live.value(&key)?)));
            if let (Some((id, own)), None) = (own, patch.op(&key)) {
                patch.put(&key, RawJson::copied(&layer.opened(id, &key, own)?))?;
            }
        }
        Ok(())
    }

    pub(super) fn discard(&mut self) {
        self.pending = Writes::default();
        self.intent = None;
    }
}

impl LoadedRecord {
    pub(super) fn new(id: RecordId, record: Arc<Record>, proof: Proof) -> Self {
        let idle_deadline = record.idle_deadline;
        Self {
            id,
            record,
            written: Writes::default(),
            idle_deadline,
            proof,
            client_state: ClientState::default(),
        }
    }

    /// A record that was found, with what the store said of it.
    pub(super) fn found(found: Found, proof: Proof) -> Self {
        Self { client_state: found.client_state, ..Self::new(found.id, found.record, proof) }
    }

    /// Replaces the record by a newly loaded one. Returns `false` if it is in another sign-in, which this request
    /// must not see.
    pub(super) fn reloaded(&mut self, record: Arc<Record>) -> bool {
        let is_same = record.sign_in == self.record.sign_in;
        if is_same {
            self.idle_deadline = record.idle_deadline;
            self.written = Writes::default();
            self.record = record;
        }
        is_same
    }

    /// The data that a wait for the end needs.
    fn loaded(&self) -> LoadedSession {
        let deadline = self.idle_deadline.min(self.record.absolute_deadline);
        let Record { sign_in, version, .. } = *self.record;
        LoadedSession { id: self.id, sign_in, version, deadline }
    }

    /// The move of the secret to the keyring's current key, if it is hashed under an older one.
    pub(super) fn rehash(&self, keyring: &Keyring) -> Option<Rehash> {
        keyring.rehash(&self.proof).filter(|rehash| rehash.of(&self.record.secret).is_some())
    }

    pub(super) fn idle_deadline(&self) -> Timestamp {
        self.idle_deadline
    }

    /// The deadline to move to at this time, if that is due under the lifetime of its layer.
    pub(super) fn due_touch(&self, layer: &Lifetime, now: Timestamp) -> Option<Timestamp> {
        let lifetime = self.record.facts.lifetime_within(layer);
        let deadline = lifetime.idle_deadline(now).min(self.record.absolute_deadline);
        let is_due = deadline.since(self.idle_deadline) >= lifetime.touch_interval();
        (is_due && deadline > self.idle_deadline).then_some(deadline)
    }

    /// Follows a patch that the store applied.
    pub(super) fn apply(&mut self, patch: Patch, counters: &Counters) {
        if let Some(hash) = patch.rehashing().and_then(|rehash| rehash.of(&self.record.secret)) {
            Arc::make_mut(&mut self.record).secret = hash;
        }
        if let Some(rotation) = patch.rotation() {
            let record = Arc::make_mut(&mut self.record);
            record.secret = rotation.hash;
            self.proof = rotation.hash.into();
            if let Some(authentication) = &rotation.authentication {
                record.authenticated = Some(authentication.at);
                record.absolute_deadline = authentication.absolute_deadline;
                if let Some(facts) = &authentication.facts {
                    let idle = facts.idle().map(|idle| authentication.at + idle);
                    self.idle_deadline =
                        idle.map_or(self.idle_deadline, |at| at.min(self.idle_deadline));
                    record.facts = facts.clone();
                }
                let is_other = authentication.principal.is_some()
                    && authentication.principal != record.principal;
                if is_other {
                    record.principal = authentication.principal.clone();
                    record.sign_in += 1;
                }
            }
        }
        let idle =
            patch.idle_deadline().map_or(self.idle_deadline, |at| at.max(self.idle_deadline));
        self.idle_deadline = idle.min(self.record.absolute_deadline);
        self.written.then(patch.into_writes(), counters);
    }

    /// The stored value under a key, to the knowledge of this request.
    fn value(&self, key: &str) -> Option<&[u8]> {
        written(&self.written, key).unwrap_or_else(|| self.record.values.get(key))
    }

    fn pre_auth_keys(&self) -> impl Iterator<Item = &str> {
        self.record.values.pre_auth_keys().chain(pre_auth_keys(&self.written))
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let written = self.written.ops().map(|(key, _)| key);
        self.record.values.iter().map(|(key, _)| key).chain(written)
    }
}

fn pre_auth_keys(writes: &Writes) -> impl Iterator<Item = &str> {
    writes.ops().map(|(key, _)| key).filter(|key| key.starts_with(PRE_AUTH))
}

/// The value of a key after writes of known values; `None` if they do not change it.
fn written<'w>(writes: &'w Writes, key: &str) -> Option<Option<&'w [u8]>> {
    match writes.op(key) {
        Some(Op::Put(value)) => Some(Some(value.as_bytes())),
        Some(Op::Remove | Op::Add(_)) => Some(None),
        None => writes.is_clear().then_some(None),
    }
}

impl Intent {
    fn rank(&self) -> u8 {
        match self {
            Self::Cycle => 0,
            Self::Elevate => 1,
            Self::Reauthenticate => 2,
            Self::Login(..) => 3,
        }
    }
}
