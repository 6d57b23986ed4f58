//! The sticky store passes the conformance tests, with several nodes and with one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use steadfast_memory::MemoryStore;
use steadfast_sticky::{StickyStore, StickyStoreBuilder};

/// Nodes over one backup in memory, configured alike.
struct Nodes {
    count: usize,
    set_up: fn(StickyStoreBuilder) -> StickyStoreBuilder,
}

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let backup: Arc<dyn Store> = Arc::new(MemoryStore::builder().env(env).build());
        let node = |n| {
            let label = format!("n{n}").parse().expect("a plain label");
            let builder = StickyStore::builder(label).backup(Arc::clone(&backup));
            Arc::new((self.set_up)(builder).build()) as Arc<dyn Store>
        };
        (1..=self.count).map(node).collect()
    }

    fn moves_records(&self) -> bool {
        true
    }
}

mod following_changes {
    use super::*;

    steadfast_core::conformance_tests!(Nodes { count: 3, set_up: |nodes| nodes }, cases = 64);
}

mod asking_every_time {
    use super::*;

    steadfast_core::conformance_tests!(
        Nodes { count: 3, set_up: |nodes| nodes.follow_changes(false).recheck(Duration::ZERO) },
        cases = 32
    );
}

mod writing_behind {
    use super::*;

    steadfast_core::conformance_tests!(
        Nodes { count: 1, set_up: |nodes| nodes.write_behind(Duration::from_secs(5)) },
        cases = 32
    );
}

mod without_a_backup {
    use super::*;

    /// One node without a backup.
    struct Alone;

    #[async_trait]
    impl Subject for Alone {
        async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
            let label = "n1".parse().expect("a plain label");
            let memory = MemoryStore::builder().env(env).build();
            vec![Arc::new(StickyStore::builder(label).memory(memory).build())]
        }

        fn has_index(&self) -> bool {
            false
        }

        fn moves_records(&self) -> bool {
            true
        }
    }

    steadfast_core::conformance_tests!(Alone, cases = 32);
}
