//! Operating a store: what an administrator and a health check ask of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;

use crate::description::Description;
use crate::env::Env;
use crate::error::StoreError;
use crate::patch::Admission;
use crate::principal::{Principal, Realm};
use crate::proof::{KeyId, SecretHash};
use crate::record::Record;
use crate::store::{Deleted, Deletion, EndReason, Outcome, SessionStore};
use crate::token::RecordId;

/// Operating a store. Every method has a default, for stores that have nothing to do or to tell.
#[async_trait]
pub trait Operate: fmt::Debug + Send + Sync + 'static {
    /// Whether a sign-in works now: true exactly then, so a store does the least that one does
    /// ([`Probe`]).
    ///
    /// # Errors
    ///
    /// Why it cannot.
    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stops taking new sessions, and returns when every session is safe elsewhere or can never be.
    ///
    /// # Errors
    ///
    /// When sessions that could be saved were not.
    async fn drain(&self) -> Result<Drained, StoreError> {
        Ok(Drained::default())
    }

    /// Gives back what expired records hold, now instead of little by little, and says how many.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Records as they are kept, at most `limit` of them, in the order of their ids, after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        let _ = (after, limit);
        Err(StoreError::Unsupported("scanning records"))
    }

    /// What the store counts of itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it.
    async fn stats(&self) -> Result<Stats, StoreError> {
        Err(StoreError::Unsupported("statistics"))
    }

    /// This node of the store, and the cluster that it is in. The answer comes within 1 s, also
    /// where other nodes do not answer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it: one that has no nodes of its own
    /// does not.
    async fn describe(&self) -> Result<Description, StoreError> {
        Err(StoreError::Unsupported("describing a cluster"))
    }
}

/// A store that can be operated: what every backend of this project is.
pub trait Store: SessionStore + Operate {}

impl<S: SessionStore + Operate> Store for S {}

#[async_trait]
impl<S: Operate + ?Sized> Operate for Arc<S> {
    async fn ready(&self) -> Result<(), StoreError> {
        (**self).ready().await
    }

    async fn drain(&self) -> Result<Drained, StoreError> {
        (**self).drain().await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        (**self).collect().await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        (**self).scan(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        (**self).stats().await
    }

    async fn describe(&self) -> Result<Description, StoreError> {
        (**self).describe().await
    }
}

/// Finds out whether a sign-in works, by doing the least that one does: it creates a record of a
/// reserved principal and deletes it.
///
/// It asks the store at most once a second; in between, it repeats the last answer.
#[derive(Debug, Default)]
pub struct Probe(Mutex<Option<Checked>>);

#[derive(Debug)]
struct Checked {
    at: Instant,
    error: Option<Arc<StoreError>>,
}

impl Probe {
    /// How long an answer holds: 1 s.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// Whether a sign-in works.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub async fn check(&self, store: &dyn SessionStore) -> Result<(), StoreError> {
        if let Some(known) = self.known() {
            return known.map_or(Ok(()), |error| Err(StoreError::unavailable(error)));
        }
        let answer = sign_in_and_out(store).await;
        let error = answer.err().map(Arc::new);
        *self.lock() = Some(Checked { at: Instant::now(), error: error.clone() });
        error.map_or(Ok(()), |error| Err(StoreError::unavailable(error)))
    }

    /// The last answer while it holds. Otherwise it holds for another interval, in which the caller
    /// asks the store and concurrent ones do not.
    fn known(&self) -> Option<Option<Arc<StoreError>>> {
        let mut checked = self.lock();
        let checked = checked.as_mut()?;
        if checked.at.elapsed() < Self::INTERVAL {
            return Some(checked.error.clone());
        }
        checked.at = Instant::now();
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Checked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sign_in_and_out(store: &dyn SessionStore) -> Result<(), StoreError> {
    let id = store.mint()?;
    let record = reserved_record(store.env())?;
    match store.create(id, record, Admission::default()).await? {
        Outcome::Applied(_) => {}
        Outcome::Rejected(rejection) => return Err(StoreError::refused(rejection)),
        _ => return Err(StoreError::refused("the store did not take a new record")),
    }
    match store.delete(id, &Deletion::for_reason(EndReason::Logout)).await? {
        Deleted::Ended => Ok(()),
        Deleted::Gone | Deleted::Superseded => {
            Err(StoreError::refused("the store lost a record that it had just taken"))
        }
    }
}

/// A record of a few seconds that no token opens. Each probe has a principal of its own, so that nodes
/// do not wait for each other.
fn reserved_record(env: &Env) -> Result<Record, StoreError> {
    let mut random = [0; 48];
    env.fill(&mut random)?;
    let (name, digest) = random.split_first_chunk::<16>().expect("48 bytes are 16 and 32");
    let digest = digest.try_into().expect("48 bytes are 16 and 32");
    let realm = Realm::new("steadfast-ready").expect("the name of the realm fits");
    let name = format!("{:032x}", u128::from_be_bytes(*name));
    let now = env.now();
    let end = now + Duration::from_secs(10);
    let hash = SecretHash::from_parts(KeyId::NONE, digest);
    let principal = Principal::new(realm, &name).expect("hexadecimal digits are a principal's id");
    Ok(Record {
        principal: Some(principal),
        authenticated: Some(now),
        ..Record::new(hash, now, end, end)
    })
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// Sessions that are safe elsewhere now.
    pub moved: u64,
    /// Sessions that end with this node, because nothing else holds them.
    pub lost: u64,
}

/// A page of records.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The records.
    pub records: Vec<Scanned>,
    /// After which id the next page begins; `None` after the last one.
    pub next: Option<RecordId>,
}

/// A record as it is kept.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Its id.
    pub id: RecordId,
    /// What it holds; `None` if it is corrupt.
    pub record: Option<Arc<Record>>,
}

/// What a store counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Records that are kept, expired ones included until they are collected.
    pub records: u64,
    /// Those of them that have a principal.
    pub authenticated: u64,
    /// The bytes they count for against the budgets.
    pub bytes: u64,
}
