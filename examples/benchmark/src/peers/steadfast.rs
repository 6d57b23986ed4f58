//! Steadfast with its memory store.

use std::time::Duration;

use ::steadfast::store::{Env, Keyring, RecordId, SecretHash, Token};
use ::steadfast::{Budget, Lifetime, Limits, MemoryStore, Realm, Session, SessionLayer};
use axum::Router;
use serde::Serialize;

use super::Peer;
use crate::cases::{Case, Visit, routes};

#[derive(Debug)]
pub struct Steadfast;

impl Peer for Steadfast {
    fn name(&self) -> &'static str {
        "steadfast memory"
    }

    fn app(&self, lifetime: Duration) -> Router {
        let limits = Limits { keys: 128, ..Limits::default() };
        let store = MemoryStore::builder().limits(limits).anonymous(ROOM).authenticated(ROOM);
        let lifetime = Lifetime::new(lifetime, lifetime).expect("a lifetime is a second or more");
        routes::<Session>().layer(SessionLayer::new(store.build()).lifetime(lifetime))
    }

    /// The presented secret, and the issued one.
    fn hashes(&self, case: Case) -> u32 {
        match case {
            Case::Anon | Case::Untouched => 0,
            Case::Login => 2,
            _ => 1,
        }
    }
}

impl Visit for Session {
    async fn get(&self, key: &str) -> Option<i64> {
        Session::get(self, key).await.expect("the store answers")
    }

    async fn put<T: Serialize + Send + Sync>(&self, key: &str, value: T) {
        self.insert(key, value).await.expect("the store answers");
    }

    async fn login(&self, user: String) {
        Session::login(self, user).await.expect("the store answers");
    }

    async fn logout(&self) {
        self.flush().await.expect("the store answers");
    }

    async fn count(&self, key: &str) -> i64 {
        self.increment(key, 1).await.expect("the store answers")
    }
}

/// Returns a function that hashes a secret once. A request spends this SHA-256 in addition to its
/// counted instructions, because callgrind lacks the processor's instructions for it.
pub fn hash_a_secret() -> impl Fn() -> SecretHash {
    let token = Token::generate(RecordId::from_bytes([7; 16]), &Env::system());
    let token = token.expect("the system has randomness");
    let (keyring, realm) = (Keyring::unkeyed(), Realm::default());
    move || keyring.hash(&realm, token.secret())
}

/// A budget for every session of every measurement.
const ROOM: Budget = Budget { records: 4_000_000, bytes: 8 << 30 };
