//! Sessions that end without a request are reported, also if a node dies.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Budget, EndReason, Ending, Endings, Env, KeyId, LoginPolicy, Lookup, ManualClock, Operate,
    Outcome, Record, RecordId, RequestHint, SecretHash, SessionStore, SystemRandom, Timestamp,
};
use steadfast_replicated::{PartitionPolicy, ReplicatedStore, ReplicatedStoreBuilder};
use tokio::net::TcpListener;

/// The node that dies claims endings before and reports none of them. Sessions end before and after its death.
#[tokio::test]
async fn a_node_that_dies_takes_no_ending_along() {
    let (clock, mut stores) = three_nodes().await;
    let queues: Vec<_> = stores.iter().map(|store| store.endings().unwrap()).collect();
    let (mut ids, mut alive) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..1_100 {
        let (store, lives_on) = (&stores[n % 3], n >= 1_000);
        let until = if lives_on { 100_000 } else { 1_000 + n as u64 };
        let id = create(store, after(until)).await;
        if lives_on {
            alive.insert(id)
        } else {
            ids.insert(id)
        };
    }

    clock.set(after(1_600));
    let mut told = BTreeSet::new();
    for _ in 0..1_000 {
        collect(&stores).await;
        for queue in &queues {
            told.extend(claim(queue).await);
        }
        if told.len() >= 600 {
            break;
        }
        // Neither call waits, and the nodes run on this thread.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(told.len() >= 600, "{} are claimed", told.len());
    assert!(told.is_subset(&ids), "the others live");
    let lost = stores.remove(2);
    drop((lost, queues));

    clock.set(after(2_200));
    let mut told = BTreeSet::new();
    let queues: Vec<_> = stores.iter().map(|store| store.endings().unwrap()).collect();
    for _ in 0..1_000 {
        collect(&stores).await;
        for queue in &queues {
            let claimed = claim(queue).await;
            queue.acknowledge(&claimed).await.unwrap();
            told.extend(claimed);
        }
        if told.len() >= 1_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told, ids);
    for id in alive {
        let found = stores[0].load(id, None, &RequestHint::default()).await.unwrap();
        assert!(matches!(found, Lookup::Found(_)), "{found:?}");
    }
}

#[tokio::test]
async fn an_evicted_session_is_told() {
    let visitors = Budget { records: 5, ..Budget::ANONYMOUS };
    let store = node("n0").anonymous(visitors).open().await.unwrap();
    let queue = store.endings().unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..25 {
        ids.insert(create(&store, Timestamp::MAX).await);
    }
    let told = queue.claim(99).await.unwrap();
    let is_evicted = |ending: &Ending| ending.reason == EndReason::Evicted;
    assert!(told.len() == 20 && told.iter().all(is_evicted), "{told:?}");
    for ending in told {
        assert!(ids.contains(&ending.id));
        let found = store.load(ending.id, None, &RequestHint::default()).await.unwrap();
        assert!(matches!(found, Lookup::Absent(_)), "{found:?}");
    }
}

async fn three_nodes() -> (ManualClock, Vec<ReplicatedStore>) {
    let clock = ManualClock::default();
    clock.set(after(0));
    let env = Env::new(clock.clone(), SystemRandom);
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let node = |name| node(name).partition(PartitionPolicy::Fail).env(env.clone());
    let first = node("n0").bind(address).open().await.unwrap();
    let second = node("n1").seeds([address.to_string()]).open().await.unwrap();
    let third = node("n2").seeds([address.to_string()]).open().await.unwrap();
    let stores = vec![first, second, third];
    for store in &stores {
        store.wait_for(3).await.unwrap();
    }
    (clock, stores)
}

fn node(name: &str) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder().name(name.parse().unwrap()).secret([7; 32])
}

/// A session of a visitor, which the node owns.
async fn create(store: &ReplicatedStore, until: Timestamp) -> RecordId {
    let id = store.mint().unwrap();
    let secret = SecretHash::from_parts(KeyId::NONE, [0; 32]);
    let record = Record::new(secret, store.env().now(), until, until);
    let created = store.create(id, record, LoginPolicy::default()).await.unwrap();
    assert!(matches!(created, Outcome::Applied(_)), "{created:?}");
    id
}

async fn collect(stores: &[ReplicatedStore]) {
    for store in stores {
        store.collect().await.unwrap();
    }
}

async fn claim(queue: &Arc<dyn Endings>) -> Vec<RecordId> {
    let claimed = queue.claim(50).await.unwrap();
    claimed.into_iter().map(|ending| ending.id).collect()
}

fn after(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}
