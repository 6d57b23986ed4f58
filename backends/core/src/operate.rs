//! Operating a store: what an administrator and a health check ask of it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::record::Record;
use crate::store::SessionStore;
use crate::token::RecordId;

/// Operating a store. Every method has a default, for stores that have nothing to do or to tell.
#[async_trait]
pub trait Operate: fmt::Debug + Send + Sync + 'static {
    /// Whether the store can serve now.
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
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that are kept, expired ones included until they are collected.
    pub records: u64,
    /// Those of them that have a principal.
    pub authenticated: u64,
    /// The bytes they count for against the budgets.
    pub bytes: u64,
}
