//! A backup that behaves like a server: its feed reports changes by stores, but not changes by
//! others.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::{StreamExt, future};
use steadfast_core::{
    Change, ChangeStream, Deletion, Env, Operate, RecordId, SessionStore, forward_calls,
};
use steadfast_memory::MemoryStore;

#[derive(Debug)]
pub struct Server {
    memory: MemoryStore,
    vanished: Arc<Mutex<HashSet<RecordId>>>,
}

impl Server {
    pub fn new(env: Env) -> Self {
        Self { memory: MemoryStore::builder().env(env).build(), vanished: Arc::default() }
    }

    /// Deletes a record as an administrator or an eviction would.
    pub async fn vanish(&self, id: RecordId) {
        self.vanished.lock().unwrap().insert(id);
        assert!(self.memory.delete(id, &Deletion::LOGOUT).await.unwrap().is_ended());
    }
}

#[async_trait]
impl SessionStore for Server {
    forward_calls!(this => this.memory, except changes);

    fn changes(&self) -> Option<ChangeStream> {
        let vanished = Arc::clone(&self.vanished);
        let is_told = move |change: &Change| match change {
            Change::Patched(id, _) | Change::SignedIn(id, _) | Change::Ended(id, _) => {
                future::ready(!vanished.lock().unwrap().contains(id))
            }
            Change::Missed | Change::Down => future::ready(true),
        };
        self.memory.changes().map(|changes| ChangeStream::new(changes.filter(is_told)))
    }
}

#[async_trait]
impl Operate for Server {}
