//! The records that a layer makes.

use steadfast_core::{
    Authentication, Facts, Principal, Record, RecordId, SecretHash, StoreError, Timestamp, Token,
    Values,
};

use crate::layer_state::LayerState;

impl LayerState {
    /// The hash of a token's secret, as the store keeps it.
    pub(crate) fn hash(&self, token: &Token) -> SecretHash {
        self.keyring().hash(&self.realm, token.secret())
    }

    /// The record of a session that begins now, signed in or not.
    pub(crate) fn new_record(
        &self,
        hash: SecretHash,
        values: Values,
        authentication: Option<Authentication>,
    ) -> Record {
        let authenticated = authentication.as_ref().map(|authentication| authentication.at);
        let now = authenticated.unwrap_or_else(|| self.client.store.env().now());
        let (principal, facts) = match authentication {
            Some(login) => (login.principal, login.facts.unwrap_or_default()),
            None => (None, self.visitor.clone()),
        };
        let lifetime = facts.lifetime_within(&self.lifetime());
        let absolute = lifetime.absolute_deadline(now);
        let record = Record::new(hash, now, lifetime.idle_deadline(now), absolute);
        Record { values, authenticated, principal, facts, ..record }
    }

    /// A record of a principal that says something and holds no values, and that no token opens.
    pub(crate) fn closed_record(
        &self,
        principal: Principal,
        facts: Facts,
        authenticated: Timestamp,
        until: Timestamp,
    ) -> Result<(RecordId, Record), StoreError> {
        let store = &self.client.store;
        let id = store.mint()?;
        // The token is dropped here, so no client can ever present it.
        let hash = self.hash(&Token::generate(id, store.env())?);
        let record = Record::new(hash, store.env().now(), until, until);
        let (principal, authenticated) = (Some(principal), Some(authenticated));
        Ok((id, Record { principal, authenticated, facts, ..record }))
    }
}
