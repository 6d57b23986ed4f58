//! The queue of sessions that ended without a request, and what a store without it does.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use steadfast_core::{
    Absence, AtCap, CLAIMED_FOR, Deletion, EndReason, Ending, Endings, LoginPolicy, Lookup,
    ManualClock, Operate, Outcome, Patch, Record, RecordId, RequestHint, Revocation, SessionStore,
    Timestamp,
};
use steadfast_redis::RedisStore;
use testkit::redis::Redis;

use crate::fixture::{CLUSTER, Visitor, across, builder, clock, on, principal};

#[tokio::test]
async fn expiries_outlive_a_node_that_claimed_them() {
    let server = Redis::start();
    let (clock, env) = clock();
    let builder = builder().env(env);
    let nodes = [(); 3].map(|()| on(&server, builder.clone()));
    a_thousand_expire(&clock, &nodes).await;
    assert_eq!(server.ask(&["KEYS", "*"]).list(), [], "nothing is left");
}

#[tokio::test]
async fn expiries_in_a_cluster_outlive_a_node() {
    let (clock, env) = clock();
    let builder = builder().env(env);
    let nodes = [(); 3].map(|()| across(&CLUSTER, builder.clone()));
    a_thousand_expire(&clock, &nodes).await;
}

/// Sessions end over 10 minutes. The first node claims some every minute and never acknowledges.
async fn a_thousand_expire(clock: &ManualClock, nodes: &[RedisStore; 3]) {
    let queues = nodes.each_ref().map(|node| node.endings().unwrap());
    let mut created = BTreeSet::new();
    for _ in 0..10 {
        for n in 0..100 {
            created.insert(Visitor::arrive(&nodes[n % 3]).await.id);
        }
        clock.advance(MINUTE);
    }
    clock.advance(20 * MINUTE);
    let mut reported = BTreeSet::new();
    for _ in 0..20 {
        clock.advance(MINUTE);
        queues[0].claim(30).await.unwrap();
        for queue in &queues[1..] {
            report(queue.as_ref(), 60, &mut reported).await;
        }
    }
    assert!(reported.len() >= 900, "{} while the first node claims", reported.len());
    clock.advance(CLAIMED_FOR);
    report(queues[1].as_ref(), 2_000, &mut reported).await;
    assert_eq!(reported, created);
}

/// Claims and acknowledges. Asserts that no id was acknowledged before.
async fn report(queue: &dyn Endings, limit: usize, reported: &mut BTreeSet<RecordId>) {
    let ids: Vec<_> =
        queue.claim(limit).await.unwrap().into_iter().map(|ending| ending.id).collect();
    queue.acknowledge(&ids).await.unwrap();
    for id in ids {
        assert!(reported.insert(id), "{id} was acknowledged already");
    }
}

#[tokio::test]
async fn a_record_of_before_is_not_reported() {
    let server = Redis::start();
    let (clock, env) = clock();
    let builder = builder().env(env);
    let before = on(&server, builder.clone());
    let [unused, used] = [Visitor::arrive(&before).await, Visitor::arrive(&before).await];
    let store = on(&server, builder);
    let queue = store.endings().unwrap();
    let touch = Patch::touch(store.env().now() + 30 * MINUTE);
    store.update(used.id, &touch, &RequestHint::default()).await.unwrap();
    clock.advance(40 * MINUTE);
    let lookup = unused.load(&store).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(Absence::Expired)), "{lookup:?}");
    let claimed = queue.claim(10).await.unwrap();
    assert_eq!(claimed.iter().map(|ending| ending.id).collect::<Vec<_>>(), [used.id]);
}

#[tokio::test]
async fn unclaimed_endings_disappear_after_a_day() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    let queue = store.endings().unwrap();
    Visitor::arrive(&store).await;
    let keys = server.ask(&["KEYS", "*"]).list();
    assert_eq!(keys.len(), 2, "a record and the queue: {keys:?}");
    for key in keys {
        let left = server.ask(&["PTTL", &key.text()]).number();
        let kept = left - 30 * 60_000 - 24 * 3_600_000;
        assert!((-60_000..=5 * 60_000).contains(&kept), "{key:?} is kept for {left} ms");
    }
    // As if the server had removed the record.
    server.ask(&["DEL", &server.ask(&["KEYS", "*:r:*"]).list()[0].text()]);
    clock.advance(25 * 60 * MINUTE);
    Visitor::arrive(&store).await;
    let entries = server.ask(&["ZCARD", &server.ask(&["KEYS", "*:e:*"]).list()[0].text()]);
    assert_eq!(entries.number(), 1, "a later session drops the entry");
    assert_eq!(queue.claim(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_may_lose_an_ending() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    let queue = store.endings().unwrap();
    Visitor::arrive(&store).await;
    server.ask(&["DEL", &server.ask(&["KEYS", "*:r:*"]).list()[0].text()]);
    clock.advance(60 * MINUTE);
    assert_eq!(queue.claim(10).await.unwrap(), []);
    assert_eq!(server.ask(&["KEYS", "*"]).list(), [], "the entry is removed");
}

#[tokio::test]
async fn remains_are_no_session() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    remain_without_a_session(&clock, &store).await;
}

#[tokio::test]
async fn remains_in_a_cluster_are_no_session() {
    let (clock, env) = clock();
    let store = across(&CLUSTER, builder().env(env));
    remain_without_a_session(&clock, &store).await;
}

async fn remain_without_a_session(clock: &ManualClock, store: &RedisStore) {
    let queue = store.endings().unwrap();
    let member = Visitor::arrive(store).await.log_in(store, "alice").await;
    let deadline = Timestamp::from(store.list(&principal("alice")).await.unwrap()[0].deadline);
    clock.advance(40 * MINUTE);
    assert_eq!(store.delete_all(&principal("alice"), Revocation::LOGOUT).await.unwrap(), 0);
    assert!(store.list(&principal("alice")).await.unwrap().is_empty());
    assert!(!member.is_live(store).await);
    let deleted = store.delete(member.id, &Deletion::LOGOUT).await.unwrap();
    assert!(!deleted.is_ended(), "{deleted:?}");
    let again = member.create(store).await.unwrap();
    assert!(matches!(again, Outcome::Exists), "{again:?}");
    let newcomer = Visitor::arrive(store).await;
    let refusing = LoginPolicy { at_cap: AtCap::Refuse, ..LoginPolicy::capped(1) };
    let (login, newcomer) = newcomer.login(store, "alice", refusing);
    let outcome = store.update(newcomer.id, &login, &RequestHint::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    assert!(newcomer.is_live(store).await, "remains are not counted by the cap");

    let claimed = queue.claim(10).await.unwrap();
    let expected = Ending {
        id: member.id,
        principal: Some(principal("alice")),
        reason: EndReason::Expired,
        at: deadline,
    };
    assert_eq!(claimed, [expected]);
    assert_eq!(store.stats().await.unwrap().records, 2, "statistics count it");
    queue.acknowledge(&[member.id]).await.unwrap();
    assert_eq!(store.stats().await.unwrap().records, 1);
}

#[tokio::test]
async fn a_login_that_stops_loses_no_ending() {
    let (clock, env) = clock();
    let store = across(&CLUSTER, builder().prefix("steadfast:stops".parse().unwrap()).env(env));
    let queue = store.endings().unwrap();
    let oldest = Visitor::arrive(&store).await.log_in(&store, "bob").await;
    clock.advance(MINUTE);
    let newest = Visitor::arrive(&store).await;
    let (login, newest) = newest.login(&store, "bob", LoginPolicy::capped(1));
    store.update(newest.id, &login, &RequestHint::default()).await.unwrap();
    let at = store.env().now();
    // As if the node had stopped after it ended the oldest session, and before it made its entry
    // due.
    let before = store.env().now() + 34 * MINUTE;
    let member = oldest.id.as_uuid().simple().to_string();
    let key = format!("steadfast:stops:e:{{{}}}", oldest.id.as_bytes()[15] % 16);
    let server = &CLUSTER.servers[CLUSTER.server_of(&key)];
    let changed = server.ask(&["ZADD", &key, "XX", "CH", &before.as_millis().to_string(), &member]);
    assert_eq!(changed.number(), 1);
    assert_eq!(queue.claim(10).await.unwrap(), []);
    clock.advance(34 * MINUTE);
    let claimed = queue.claim(10).await.unwrap();
    let of_oldest = claimed.iter().find(|ending| ending.id == oldest.id);
    let (principal, reason) = (Some(principal("bob")), EndReason::Cap);
    assert_eq!(of_oldest, Some(&Ending { id: oldest.id, principal, reason, at }));
}

#[tokio::test]
async fn parallel_logins_at_the_cap_lose_no_ending() {
    let server = Redis::start();
    let (clock, env) = clock();
    log_in_in_parallel(&clock, &on(&server, builder().env(env))).await;
}

#[tokio::test]
async fn parallel_logins_in_a_cluster_lose_no_ending() {
    let (clock, env) = clock();
    log_in_in_parallel(&clock, &across(&CLUSTER, builder().env(env))).await;
}

/// Some of these logins are displaced before they have changed their record.
async fn log_in_in_parallel(clock: &ManualClock, store: &RedisStore) {
    let queue = store.endings().unwrap();
    let mut visitors = Vec::new();
    for _ in 0..20 {
        visitors.push(Visitor::arrive(store).await);
    }
    let log_in = async |visitor: &Visitor| {
        let (login, _) = visitor.login(store, "frank", LoginPolicy::capped(1));
        let outcome = store.update(visitor.id, &login, &RequestHint::default()).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    };
    join_all(visitors.iter().map(log_in)).await;
    let left = store.list(&principal("frank")).await.unwrap();
    assert_eq!(left.len(), 1);
    clock.advance(40 * MINUTE);
    let claimed = queue.claim(100).await.unwrap();
    let expected: BTreeSet<_> = visitors
        .iter()
        .map(|visitor| match visitor.id == left[0].id {
            true => (visitor.id, EndReason::Expired.name()),
            false => (visitor.id, EndReason::Cap.name()),
        })
        .collect();
    let reported = claimed.iter().map(|ending| (ending.id, ending.reason.name()));
    assert_eq!(reported.collect::<BTreeSet<_>>(), expected);
    assert_eq!(claimed.len(), 20);
    let frank = Some(principal("frank"));
    assert!(claimed.iter().all(|ending| ending.principal == frank), "{claimed:?}");
}

#[tokio::test]
async fn a_shortened_session_is_reported_in_time() {
    let server = Redis::start();
    let (clock, env) = clock();
    shorten(&clock, &on(&server, builder().env(env))).await;
}

#[tokio::test]
async fn a_cluster_reports_a_shortened_session_in_time() {
    let (clock, env) = clock();
    shorten(&clock, &across(&CLUSTER, builder().env(env))).await;
}

/// Creates a session for a month, whose login ends after eight hours.
async fn shorten(clock: &ManualClock, store: &RedisStore) {
    let queue = store.endings().unwrap();
    let visitor = Visitor::new(store);
    let month = store.env().now() + 30 * 24 * 60 * MINUTE;
    let record = Record::new(visitor.hash(), store.env().now(), month, month);
    store.create(visitor.id, record, LoginPolicy::default()).await.unwrap();
    clock.advance(60 * MINUTE);
    let visitor = visitor.log_in(store, "grace").await;
    clock.advance(8 * 60 * MINUTE);
    assert_eq!(queue.claim(10).await.unwrap(), [], "it is spared for some minutes");
    clock.advance(5 * MINUTE);
    let claimed = queue.claim(10).await.unwrap();
    assert_eq!(claimed.iter().map(|ending| ending.id).collect::<Vec<_>>(), [visitor.id]);
}

#[tokio::test]
async fn a_fast_clock_reports_no_live_session() {
    let server = Redis::start();
    let ((slow_clock, slow), (fast_clock, fast)) = (clock(), clock());
    let builder = builder();
    let [slow, fast] = [slow, fast].map(|env| on(&server, builder.clone().env(env)));
    let (_, queue) = (slow.endings(), fast.endings().unwrap());
    let visitor = Visitor::arrive(&slow).await;
    slow_clock.advance(29 * MINUTE);
    fast_clock.advance(33 * MINUTE);
    assert_eq!(queue.claim(10).await.unwrap(), [], "four minutes are spared");
    fast_clock.advance(10 * MINUTE);
    assert_eq!(queue.claim(10).await.unwrap().len(), 1, "ten are not");
    let touch = Patch::touch(slow.env().now() + 30 * MINUTE);
    slow.update(visitor.id, &touch, &RequestHint::default()).await.unwrap();
    queue.acknowledge(&[visitor.id]).await.unwrap();
    assert!(visitor.is_live(&slow).await, "an acknowledgement ends nothing");
    fast_clock.advance(60 * MINUTE);
    assert_eq!(queue.claim(10).await.unwrap().len(), 1, "it is reported when it ends");
}

const MINUTE: Duration = Duration::from_secs(60);
