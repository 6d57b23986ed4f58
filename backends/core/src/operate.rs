//! Operations for administrators and health checks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;

use crate::description::Description;
use crate::env::Env;
use crate::error::StoreError;
use crate::outcome::{Deleted, Deletion, EndReason, Outcome};
use crate::patch::LoginPolicy;
use crate::principal::{Principal, Realm};
use crate::proof::{KeyId, SecretHash};
use crate::record::Record;
use crate::store::SessionStore;
use crate::token::RecordId;

/// Operations on a store. Every method has a default, for stores that need or support none.
#[async_trait]
pub trait Operate: fmt::Debug + Send + Sync + 'static {
    /// Checks that a sign-in works now. A store does the least that a sign-in does ([`Probe`]), so
    /// that the answer is reliable.
    ///
    /// # Errors
    ///
    /// Returns the reason why it does not.
    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stops accepting new sessions. Returns once every session is safe elsewhere or cannot be
    /// saved.
    ///
    /// # Errors
    ///
    /// Returns an error when sessions that could have been saved were not.
    async fn drain(&self) -> Result<Drained, StoreError> {
        Ok(Drained::default())
    }

    /// Frees the memory of all expired records now, instead of gradually, and returns their number.
    ///
    /// # Errors
    ///
    /// Returns an error when the store cannot be reached.
    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Returns at most `limit` stored records in the order of their ids, starting after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        let _ = (after, limit);
        Err(StoreError::Unsupported("scanning records"))
    }

    /// Returns the store's statistics.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it.
    async fn stats(&self) -> Result<Stats, StoreError> {
        Err(StoreError::Unsupported("statistics"))
    }

    /// Describes this node and its cluster. The call returns within 1 s, even if other nodes do not
    /// answer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] unless the store implements it: one that has no nodes of its own
    /// does not.
    async fn describe(&self) -> Result<Description, StoreError> {
        Err(StoreError::Unsupported("describing a cluster"))
    }
}

/// A store with its operations. All backends of this project implement it.
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

/// Checks that a sign-in works by doing the least that a sign-in does: it creates a record of a
/// reserved principal and deletes it.
///
/// It asks the store at most once per second and repeats its last answer in between.
#[derive(Debug, Default)]
pub struct Probe(Mutex<Option<Checked>>);

#[derive(Debug)]
struct Checked {
    at: Instant,
    error: Option<Arc<StoreError>>,
}

impl Probe {
    /// The time for which a result is reused: 1 s.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// Checks that a sign-in works.
    ///
    /// # Errors
    ///
    /// Returns the reason why it does not.
    pub async fn check(&self, store: &dyn SessionStore) -> Result<(), StoreError> {
        if let Some(known) = self.known() {
            return known.map_or(Ok(()), |error| Err(StoreError::unavailable(error)));
        }
        let answer = sign_in_and_out(store).await;
        let error = answer.err().map(Arc::new);
        *self.lock() = Some(Checked { at: Instant::now(), error: error.clone() });
        error.map_or(Ok(()), |error| Err(StoreError::unavailable(error)))
    }

    /// Returns the last answer while it is fresh. Otherwise, the caller must ask the store. The old
    /// answer is extended by one interval at the same time, so that concurrent callers use it and
    /// only one asks.
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
    match store.create(id, record, LoginPolicy::default()).await? {
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

/// Creates a short-lived record that no token opens. Each probe has its own principal, so that
/// nodes do not wait for each other's lock.
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

/// The result of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// The number of sessions that are now safe elsewhere.
    pub moved: u64,
    /// The number of sessions that end with this node, because no other copy exists.
    pub lost: u64,
}

/// A page of records.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The records of the page.
    pub records: Vec<Scanned>,
    /// The id after which the next page begins; `None` on the last page.
    pub next: Option<RecordId>,
}

/// A stored record.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The id of the record.
    pub id: RecordId,
    /// The record; `None` if it is corrupt.
    pub record: Option<Arc<Record>>,
}

/// Statistics of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The number of stored records. Expired records count until they are collected.
    pub records: u64,
    /// The number of those with a principal.
    pub authenticated: u64,
    /// The bytes charged to the budgets.
    pub bytes: u64,
}
