//! The conformance tests pass on a simple store: two handles to one map under a lock.

mod common;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use common::SimpleStore;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, RecordId, Store};

steadfast_core::conformance_tests!(Simple::default(), cases = 256);

mod without_an_index {
    use super::Unindexed;

    steadfast_core::conformance_tests!(Unindexed);
}

/// Remembers the one service that a test opens.
#[derive(Default)]
struct Simple {
    opened: OnceLock<Arc<SimpleStore>>,
}

#[async_trait]
impl Subject for Simple {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let store = Arc::new(SimpleStore::new(env));
        let _ = self.opened.set(Arc::clone(&store));
        vec![Arc::clone(&store) as Arc<dyn Store>, store]
    }

    async fn corrupt(&self, id: RecordId) -> bool {
        self.opened().shelf().records.insert(id, None).is_some()
    }

    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        self.opened().shelf().set_format(id, format)
    }
}

impl Simple {
    fn opened(&self) -> &SimpleStore {
        self.opened.get().expect("a service was opened")
    }
}

struct Unindexed;

#[async_trait]
impl Subject for Unindexed {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        vec![Arc::new(SimpleStore::without_index(env))]
    }

    fn has_index(&self) -> bool {
        false
    }
}
