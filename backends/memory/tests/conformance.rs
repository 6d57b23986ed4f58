//! The memory store passes the conformance tests.

use std::sync::Arc;

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use steadfast_memory::MemoryStore;

struct OneNode;

#[async_trait]
impl Subject for OneNode {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        vec![Arc::new(MemoryStore::builder().env(env).build())]
    }
}

steadfast_core::conformance_tests!(OneNode, cases = 256);
