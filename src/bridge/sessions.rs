//! The four calls of tower-sessions, the same for all versions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use steadfast_core::{
    Authentication, Deletion, LoginPolicy, Lookup, Outcome, Patch, Proof, Record, RecordId,
    RequestHint, Rotation, SecretHash, StoreError, Timestamp, Token, Version,
};
use tracing::Instrument;

use super::Bridge;
use super::id::Id;
use super::loaded::{self, Data, Loaded, Origin};
use crate::error::Error;
use crate::store_client::Purpose;

impl Bridge {
    /// The record stored under an id, and when it ends; `None` if there is no such session.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub(super) async fn load_session(&self, id: Id) -> Result<Option<(Data, Timestamp)>, Error> {
        if id.is_marked() {
            return Ok(None);
        }
        let token = id.token();
        let proof = self.prove(&token);
        match self.look_up(token.id(), Some(&proof)).await? {
            Lookup::Found(found) => self.unpack(found.id, &found.record),
            // Absent would make the response remove the cookie that another one has just set.
            Lookup::Superseded => Ok(Some((Loaded::superseded(token.id()), self.now()))),
            Lookup::Absent(_) => Ok(None),
        }
    }

    /// Stores a session under a new id, whether the session begins or its id is being replaced. Returns
    /// the id, and leaves a note in the data for later saves.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the session is stored, or another request ended it.
    pub(super) async fn create_session(
        &self,
        data: &mut Data,
        expiry: Timestamp,
    ) -> Result<Id, Error> {
        let loaded = Loaded::of(data);
        let replaced = loaded.filter(|loaded| loaded.origin != Origin::Created);
        let (id, created) = match &replaced {
            None => self.begin(data, expiry).await?,
            Some(loaded) => self.succeed(loaded, data, expiry).await?,
        };
        created.saved(data, expiry).note_in(data);
        Ok(id)
    }

    /// Stores what a request changed.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the changes are stored, or another request ended the session or
    /// replaced its id.
    pub(super) async fn save_session(
        &self,
        id: Id,
        data: &Data,
        expiry: Timestamp,
    ) -> Result<(), Error> {
        let token = id.unmarked().token();
        let (loaded, mut patch) = match Loaded::of(data) {
            Some(loaded) if loaded.origin == Origin::Superseded => return Err(Error::Superseded),
            Some(loaded) => {
                let loaded = self.state.memory.saved.get(&loaded.load).unwrap_or(loaded);
                let patch = loaded.changes(data)?;
                (loaded, patch)
            }
            None => (self.loaded(&token).await?, Loaded::replacement(data)?),
        };
        loaded.expire(&mut patch, expiry);
        patch.within(loaded.sign_in);
        let mut saved = loaded.saved(data, expiry);
        match self.signed_in(&loaded, data) {
            None => self.apply(&token, patch).await?,
            Some(user) => {
                loaded::keep_pre_auth(data, &mut patch)?;
                self.sign_in(token, patch, &user).await?;
                saved.principal = Some(user);
                saved.sign_in += 1;
            }
        }
        self.state.memory.saved.insert(saved.load, saved);
        Ok(())
    }

    /// Ends a session, or parks it until it gets a new id if the id is marked.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the id no longer opens the session.
    pub(super) async fn delete_session(&self, id: Id) -> Result<(), Error> {
        if id.is_marked() {
            return self.park(id.unmarked()).await;
        }
        let token = id.token();
        let proof = self.prove(&token);
        let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
        match self.state.client.delete(token.id(), &deletion).await? {
            ended if ended.is_ended() => Ok(()),
            // Another request is replacing the id, or has replaced it.
            _ => self.end_successor(id).await,
        }
    }

    /// Stores a session that begins.
    pub(super) async fn begin(
        &self,
        data: &Data,
        expiry: Timestamp,
    ) -> Result<(Id, Loaded), Error> {
        let now = self.now();
        // A placeholder: `store` sets the hash together with the id.
        let hash = self.hash(&Id::new(0).token());
        let mut record = Record::new(hash, now, Timestamp::MAX, now + self.state.absolute);
        if let Some(user) = (self.state.user_of)(data) {
            record.principal = Some(self.principal(&user)?);
            record.authenticated = Some(now);
        }
        let patch = Loaded::replacement(data)?;
        self.store(record, patch, expiry).await
    }

    /// Stores a record, with a patch applied, under an unused id.
    pub(super) async fn store(
        &self,
        record: Record,
        mut patch: Patch,
        expiry: Timestamp,
    ) -> Result<(Id, Loaded), Error> {
        let least = self.now() + LEAST;
        if expiry < least {
            loaded::end_early(&mut patch, expiry);
        }
        let (values, _) = patch.merge(&record.values)?;
        let idle_deadline = expiry.max(least).min(record.absolute_deadline);
        let record = Record { values, idle_deadline, ..record };
        loop {
            let id = Id::random(self.state.client.store.env())?;
            let token = id.token();
            let secret = self.hash(&token);
            let record = Record { secret, ..record.clone() };
            match self.state.client.create(token.id(), record.clone(), self.policy()).await? {
                Outcome::Exists => {}
                outcome => {
                    applied(outcome)?;
                    return Ok((id, Loaded::created(token.id(), &record, self.next_load())));
                }
            }
        }
    }

    /// The user that this data names, unless the session already belongs to that user.
    pub(super) fn signed_in(&self, loaded: &Loaded, data: &Data) -> Option<String> {
        let user = (self.state.user_of)(data);
        user.filter(|user| loaded.principal.as_ref() != Some(user))
    }

    pub(super) fn policy(&self) -> LoginPolicy {
        LoginPolicy { cap: self.state.max_per_user, ..LoginPolicy::default() }
    }

    pub(super) fn prove(&self, token: &Token) -> Proof {
        self.state.keyring.prove(&self.state.realm, token.secret())
    }

    pub(super) fn hash(&self, token: &Token) -> SecretHash {
        self.state.keyring.hash(&self.state.realm, token.secret())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.state.client.store.env().now()
    }

    pub(super) async fn look_up(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
    ) -> Result<Lookup, Error> {
        // No cookie tells which version the client has seen, so only the authority may answer.
        let seen = self.state.client.store.places_sessions().then_some(Version(u64::MAX >> 1));
        let hint = RequestHint { min_version: seen, ..RequestHint::default() };
        Ok(self.state.client.load(id, proof, &hint, Purpose::Use).await?)
    }

    pub(super) async fn update(&self, id: RecordId, patch: &Patch) -> Result<(), Error> {
        applied(self.state.client.update(id, patch, &RequestHint::default()).await?)
    }

    fn unpack(&self, id: RecordId, record: &Record) -> Result<Option<(Data, Timestamp)>, Error> {
        let expiry = loaded::expiry(record);
        if expiry <= self.now() {
            return Ok(None);
        }
        let (_, data) = Loaded::stored(id, record, self.next_load())?;
        Ok(Some((data, expiry)))
    }

    /// The current session, for a request that cleared it without loading it.
    async fn loaded(&self, token: &Token) -> Result<Loaded, Error> {
        let proof = self.prove(token);
        match self.look_up(token.id(), Some(&proof)).await? {
            Lookup::Found(found) => {
                Ok(Loaded::stored(found.id, &found.record, self.next_load())?.0)
            }
            Lookup::Superseded => Err(Error::Superseded),
            Lookup::Absent(_) => Err(Error::Ended),
        }
    }

    async fn apply(&self, token: &Token, mut patch: Patch) -> Result<(), Error> {
        let proof = self.prove(token);
        if let Some(rehash) = self.state.keyring.rehash(&proof) {
            patch.rehash(rehash);
        }
        patch.prove(proof);
        self.update(token.id(), &patch).await
    }

    /// Signs a user in to a session that keeps its id. A store ties a sign-in to a new secret, so the
    /// session has an interim secret between two patches.
    async fn sign_in(&self, token: Token, mut patch: Patch, user: &str) -> Result<(), Error> {
        let interim = Token::generate(token.id(), self.state.client.store.env())?;
        let now = self.now();
        let authentication = Authentication {
            at: now,
            absolute_deadline: now + self.state.absolute,
            principal: Some(self.principal(user)?),
            facts: None,
            policy: self.policy(),
        };
        let rotation = Rotation { hash: self.hash(&interim), authentication: Some(authentication) };
        patch.rotate(self.prove(&token), rotation);
        let mut back = Patch::new();
        let rotation = Rotation { hash: self.hash(&token), authentication: None };
        back.rotate(self.prove(&interim), rotation);
        let bridge = self.clone();
        // If the client disconnected between the two patches, no id would open the session.
        to_the_end(async move {
            bridge.update(token.id(), &patch).await?;
            bridge.update(token.id(), &back).await
        })
        .await
    }

    fn next_load(&self) -> u64 {
        self.state.memory.next_load.fetch_add(1, Ordering::Relaxed)
    }
}

/// Runs work to its end, even if its request is dropped.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let cut = |cut| Err(Error::Store(StoreError::unavailable(cut)));
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(cut)
}

pub(super) fn applied(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Applied(_) => Ok(()),
        Outcome::Superseded | Outcome::Conflict => Err(Error::Superseded),
        Outcome::Gone | Outcome::Exists => Err(Error::Ended),
        Outcome::Rejected(rejection) => Err(rejection.into()),
    }
}

/// The shortest life of a new record. An earlier end is a value.
const LEAST: Duration = Duration::from_secs(1);
