//! What a node hears of what others do.

use rig::redis::Redis;
use rig::within;
use steadfast_core::{Change, ChangeStream, Deletion, EndReason, Outcome, SessionStore};

use crate::fixture::{CLUSTER, Visitor, across, builder, on};

#[tokio::test]
async fn another_node_hears_of_patches_and_ends() {
    let server = Redis::start();
    let both = builder();
    let (here, there) = (on(&server, both.clone()), on(&server, both));
    let mut changes = here.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Missed), "it may have missed something");
    hears(&mut changes, &there).await;
}

#[tokio::test]
async fn in_a_cluster_every_node_hears_of_every_server() {
    let both = builder();
    let (here, there) = (across(&CLUSTER, both.clone()), across(&CLUSTER, both));
    let mut changes = here.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    for _ in 0..10 {
        hears(&mut changes, &there).await;
    }
}

#[tokio::test]
async fn after_a_reconnect_it_says_that_it_missed_something() {
    let mut server = Redis::start();
    let store = on(&server, builder());
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    server.kill();
    assert_eq!(within(changes.next()).await, Some(Change::Missed), "the connection broke");
    server.restart();
    assert_eq!(within(changes.next()).await, Some(Change::Missed), "there is another one");
    hears(&mut changes, &store).await;
}

async fn hears(changes: &mut ChangeStream, there: &steadfast_redis::RedisStore) {
    let visitor = Visitor::arrive(there).await;
    let Outcome::Applied(applied) = visitor.write(there, 1).await.unwrap() else {
        panic!("it is live");
    };
    let heard = within(changes.next()).await;
    assert_eq!(heard, Some(Change::Patched(visitor.id, applied.version)));
    there.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended();
    assert_eq!(within(changes.next()).await, Some(Change::Ended(visitor.id, EndReason::Logout)));
}
