//! A Redis that hangs, and one that is restarted.

use std::time::{Duration, Instant};

use testkit::redis::Redis;

use crate::fixture::{Counting, Pinging, SOON, Stop, is_done, nodes, recovery};

#[tokio::test(flavor = "multi_thread")]
async fn only_sessions_notice_a_hanging_redis() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url()).await;
    let client = nodes[0].member("alice").await;
    let pinging = Pinging::start(&nodes, &client);
    let (leaving, staying) = (nodes[1].member("bob").await, nodes[1].member("carol").await);
    let (stop, mut counting) = (Stop::default(), Vec::new());
    for _ in 0..8 {
        counting.push(Counting::arrive(&nodes).await.start(&nodes, &stop));
    }

    redis.pause();
    let paused = Instant::now();
    let mut longest = Duration::ZERO;
    let mut logouts = Vec::new();
    while paused.elapsed() < Duration::from_secs(10) {
        let start = Instant::now();
        let reply = client.fork().get("/peek").await;
        longest = longest.max(start.elapsed());
        assert_eq!(reply.status, 503, "st_01");
        assert!(reply.set_cookies().is_empty() && reply.header("retry-after").is_some());
        logouts.push(leaving.fork().post("/logout").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(logouts.iter().all(|reply| !is_done(reply)), "lo_02: {logouts:?}");
    assert!(logouts.iter().all(|reply| reply.set_cookies().is_empty()), "lo_02");

    redis.resume();
    let recovered = recovery(&nodes, &client).await;
    stop.now();
    for one in counting {
        let one = one.await.unwrap();
        let value = one.value(&nodes[2]).await;
        assert!(one.lost(value).is_empty(), "a server that hung has lost nothing");
    }
    for (who, name) in [(&client, "alice"), (&staying, "carol")] {
        assert_eq!(who.user().await.as_deref(), Some(name), "nobody was logged out by it");
    }
    leaving.post("/logout").await.ok();
    assert_eq!(leaving.user().await, None);
    let unaffected = pinging.longest().await;
    println!(
        "hung: the longest answer took {longest:?}, to others {unaffected:?}; recovered within {recovered:?}"
    );
    assert!(unaffected < Duration::from_secs(1), "{unaffected:?}");
    assert!(longest < Duration::from_secs(2), "the deadline, not more: {longest:?}");
    assert!(recovered < SOON, "{recovered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_still_serves_signed_in_users() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url()).await;
    let mut members = Vec::new();
    for n in 0..40 {
        members.push(nodes[n % 3].member(&format!("user{n}")).await);
    }
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let (mut refused, mut read, mut signed_out) = (0, 0, 0);
    for (n, member) in members.iter().enumerate() {
        for node in nodes.iter() {
            refused += usize::from(node.client().post("/incr").await.status == 503);
        }
        read += usize::from(member.user().await == Some(format!("user{n}")));
        signed_out += usize::from(is_done(&member.post("/logout").await));
    }
    assert_eq!((refused, read, signed_out), (120, 40, 40));
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    nodes[0].client().post("/incr").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_restarts_from_its_disk() {
    let mut redis = Redis::configured("appendonly yes\nappendfsync always");
    let nodes = nodes(&redis.url()).await;
    let client = nodes[0].member("alice").await;
    let pinging = Pinging::start(&nodes, &client);
    let out = nodes[1].member("bob").await;
    let stolen = out.fork();
    let (stop, mut counting) = (Stop::default(), Vec::new());
    for _ in 0..8 {
        counting.push(Counting::arrive(&nodes).await.start(&nodes, &stop));
    }
    out.post("/logout").await.ok();
    redis.kill();
    assert_eq!(client.fork().get("/peek").await.status, 503);
    let reply = client.fork().post("/logout").await;
    assert!(!is_done(&reply), "lo_02: {reply:?}");
    redis.restart();
    let recovered = recovery(&nodes, &client).await;
    stop.now();
    for one in counting {
        let one = one.await.unwrap();
        let value = one.value(&nodes[2]).await;
        assert!(one.lost(value).is_empty(), "what was acknowledged was on disk");
    }
    assert_eq!(client.user().await.as_deref(), Some("alice"));
    assert_eq!(stolen.user().await, None, "a logout stays done");
    let unaffected = pinging.longest().await;
    println!("restarted: recovered within {recovered:?}; others waited {unaffected:?} at most");
    assert!(recovered < SOON, "{recovered:?}");
    assert!(unaffected < Duration::from_secs(1), "{unaffected:?}");
}
