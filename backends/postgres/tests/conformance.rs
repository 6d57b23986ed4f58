//! The PostgreSQL store passes the conformance tests with three nodes on one server, as a role with
//! the documented privileges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Service;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, RecordId, Store};

struct ThreeNodes(Service);

#[async_trait]
impl Subject for ThreeNodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..3 {
            nodes.push(Arc::new(self.0.store(env.clone()).await));
        }
        nodes
    }

    async fn corrupt(&self, id: RecordId) -> bool {
        self.0.corrupt(id);
        true
    }

    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        self.0.set_format(id, format);
        true
    }
}

steadfast_core::conformance_tests!(ThreeNodes(Service::new()), cases = 64);
