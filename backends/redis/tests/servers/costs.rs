//! The cost of each operation, measured at the server.

use std::sync::LazyLock;

use steadfast_core::{Deletion, LoginPolicy, Patch, RequestHint, Revocation, SessionStore};
use steadfast_redis::RedisStore;
use testkit::redis::{Redis, RedisCluster};

use crate::fixture::{Visitor, across, builder, principal, store};

#[tokio::test]
async fn every_operation_is_one_command() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    visitor.write(&store, 1).await.unwrap();
    visitor.count(&store).await.unwrap();
    // From now on, the server knows the scripts.
    store.delete(Visitor::arrive(&store).await.id, &Deletion::LOGOUT).await.unwrap();
    let other = Visitor::arrive(&store).await.log_in(&store, "eve").await;
    store.list(&principal("eve")).await.unwrap();
    store.delete_all(&principal("eve"), Revocation::LOGOUT).await.unwrap();
    assert!(!other.is_live(&store).await);

    let monitor = server.monitor();
    visitor.load(&store).await.unwrap();
    assert_eq!(server.seen(monitor), ["hgetall"]);

    let monitor = server.monitor();
    visitor.write(&store, 2).await.unwrap();
    visitor.count(&store).await.unwrap();
    let touch = Patch::touch(store.env().now() + std::time::Duration::from_secs(3_600));
    store.update(visitor.id, &touch, &RequestHint::default()).await.unwrap();
    Visitor::arrive(&store).await;
    assert_eq!(server.seen(monitor), ["evalsha"; 4], "a write, a count, a touch, a create");

    let visitor = Visitor::arrive(&store).await;
    let monitor = server.monitor();
    visitor.load(&store).await.unwrap();
    let visitor = visitor.log_in(&store, "bob").await;
    assert_eq!(server.seen(monitor), ["hgetall", "evalsha"], "a login with its load");

    let monitor = server.monitor();
    visitor.load(&store).await.unwrap();
    assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert_eq!(server.seen(monitor), ["hgetall", "evalsha"], "a logout with its load");

    let monitor = server.monitor();
    store.list(&principal("alice")).await.unwrap();
    store
        .delete_all(&principal("alice"), Revocation { epoch: Some(1), ..Revocation::LOGOUT })
        .await
        .unwrap();
    assert_eq!(server.seen(monitor), ["evalsha"; 4], "a list, and the end of all");
}

#[tokio::test]
async fn endings_cost_nothing_until_asked_for() {
    let server = Redis::start();
    let store = store(&server);
    assert_eq!(of_a_session(&server, &store).await, WITHOUT_ENDINGS);
    assert_eq!(server.ask(&["KEYS", "*:e:*"]).list(), []);
    let queue = store.endings().unwrap();
    let with_endings = of_a_session(&server, &store).await;
    assert!(with_endings.iter().all(|made| made.contains("1 evalsha")), "{with_endings:?}");
    assert_eq!(queue.claim(10).await.unwrap(), []);
}

#[tokio::test]
async fn endings_cost_a_cluster_one_more_trip() {
    let store = across(&CLUSTER, builder());
    let queue = store.endings().unwrap();
    // Every server learns the scripts first.
    for n in 0..64 {
        Visitor::arrive(&store).await.log_in(&store, &format!("user{n}")).await;
    }
    let visitor = Visitor::new(&store);
    let seen = watch_all(async || drop(visitor.create(&store).await.unwrap())).await;
    assert_eq!(seen, ["evalsha"; 2], "a create");
    let seen = watch_all(async || drop(visitor.write(&store, 1).await.unwrap())).await;
    assert_eq!(seen, ["evalsha"], "a write that moves no deadline");
    let (login, _) = visitor.login(&store, "carol", LoginPolicy::default());
    let seen = watch_all(async || {
        store.update(visitor.id, &login, &RequestHint::default()).await.unwrap();
    })
    .await;
    assert_eq!(seen, ["evalsha"; 3], "a login");
    assert_eq!(queue.claim(10).await.unwrap(), []);
}

/// Returns the commands that each script made, for a create, a write, a touch, a login and a logout.
async fn of_a_session(server: &Redis, store: &RedisStore) -> [String; 5] {
    // The server learns the scripts first.
    let visitor = Visitor::arrive(store).await.log_in(store, "alice").await;
    visitor.write(store, 1).await.unwrap();
    store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap();

    let visitor = Visitor::new(store);
    let create = made(server, async || drop(visitor.create(store).await.unwrap())).await;
    let write = made(server, async || drop(visitor.write(store, 2).await.unwrap())).await;
    let touch = Patch::touch(store.env().now() + std::time::Duration::from_secs(3_600));
    let touch = made(server, async || {
        store.update(visitor.id, &touch, &RequestHint::default()).await.unwrap();
    })
    .await;
    let (login, _) = visitor.login(store, "alice", LoginPolicy::default());
    let login = made(server, async || {
        store.update(visitor.id, &login, &RequestHint::default()).await.unwrap();
    })
    .await;
    let logout = made(server, async || {
        assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    })
    .await;
    [create, write, touch, login, logout]
}

/// Returns the names of the commands that a call made, with their numbers.
async fn made(server: &Redis, call: impl AsyncFn()) -> String {
    server.ask(&["CONFIG", "RESETSTAT"]);
    call().await;
    let stats = server.ask(&["INFO", "commandstats"]).text();
    let counted = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")).map(|line| {
        let (name, rest) = line.split_once(":calls=").unwrap();
        format!("{} {name}", rest.split(',').next().unwrap())
    });
    let own = ["auth", "hello", "info", "resetstat"];
    let mut counted: Vec<_> =
        counted.filter(|line| !own.iter().any(|own| line.ends_with(own))).collect();
    counted.sort_by(|a, b| a.split(' ').next_back().cmp(&b.split(' ').next_back()));
    counted.join(", ")
}

/// A login also writes the index, and a logout removes its entry.
const WITHOUT_ENDINGS: [&str; 5] = [
    "1 evalsha, 1 hkeys, 1 hmget, 1 hset, 1 pexpire",
    "1 evalsha, 1 hmget, 1 hset, 1 publish",
    "1 evalsha, 1 hmget, 1 hset, 1 pexpire",
    "1 evalsha, 1 hkeys, 1 hmget, 1 hset, 2 pexpire, 1 pttl, 1 publish, 1 zadd, 1 zcount, \
     2 zrangebyscore, 1 zscore",
    "1 del, 1 evalsha, 1 hmget, 1 publish, 1 zcount, 1 zrem",
];

#[tokio::test]
async fn a_script_is_sent_in_full_once() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    visitor.write(&store, 1).await.unwrap();
    server.ask(&["SCRIPT", "FLUSH"]);
    let monitor = server.monitor();
    visitor.write(&store, 2).await.unwrap();
    visitor.write(&store, 3).await.unwrap();
    assert_eq!(server.seen(monitor), ["evalsha", "eval", "evalsha"]);
    assert_eq!(visitor.counted(&store).await, 3);
}

#[tokio::test]
async fn a_cluster_login_costs_one_more_trip() {
    let store = across(&CLUSTER, builder());
    // Every server learns the scripts first.
    for n in 0..64 {
        let visitor = Visitor::arrive(&store).await.log_in(&store, &format!("user{n}")).await;
        visitor.write(&store, 1).await.unwrap();
        store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended();
    }
    let visitor = Visitor::arrive(&store).await;
    let seen = watch_all(async || drop(visitor.load(&store).await.unwrap())).await;
    assert_eq!(seen, ["hgetall"]);
    let seen = watch_all(async || drop(visitor.write(&store, 1).await.unwrap())).await;
    assert_eq!(seen, ["evalsha"]);
    let (login, _) = visitor.login(&store, "alice", LoginPolicy::default());
    let seen = watch_all(async || {
        visitor.load(&store).await.unwrap();
        store.update(visitor.id, &login, &RequestHint::default()).await.unwrap();
    })
    .await;
    assert_eq!(seen, ["evalsha", "evalsha", "hgetall"], "a login with its load");
    let seen = watch_all(async || {
        assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    })
    .await;
    assert_eq!(seen, ["evalsha", "zrem"], "a logout, and its entry of the index");
}

#[tokio::test]
async fn a_small_session_takes_few_bytes() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    for (key, value) in [("user", 12_345_678), ("theme", 4), ("seen", 1_700_000_000)] {
        let mut patch = Patch::new();
        patch.put(key, value.into()).unwrap();
        store.update(visitor.id, &patch, &RequestHint::default()).await.unwrap();
    }
    let before = traffic(&server);
    for _ in 0..100 {
        visitor.load(&store).await.unwrap();
    }
    let after = traffic(&server);
    let read = (after.0 + after.1 - before.0 - before.1) / 100;
    for n in 0..100 {
        visitor.write(&store, n).await.unwrap();
    }
    let write = (traffic(&server).0 + traffic(&server).1 - after.0 - after.1) / 100;
    let key = server.ask(&["KEYS", "*:r:*"]).list()[0].text();
    let memory = server.ask(&["MEMORY", "USAGE", &key]).number();
    println!("a read takes {read} B, a write {write} B, a record {memory} B");
    assert!(read < 320 && write < 300 && memory < 640, "{read} {write} {memory}");
}

#[tokio::test]
async fn login_at_the_cap_costs_at_most_double() {
    let server = Redis::start();
    let store = store(&server);
    let cap = LoginPolicy::default().cap;
    for _ in 0..cap - BATCHES * BATCH {
        Visitor::arrive(&store).await.log_in(&store, "alice").await;
    }
    let below = cost_of_logins(&server, &store).await;
    let at_the_cap = cost_of_logins(&server, &store).await;
    assert_eq!(store.list(&principal("alice")).await.unwrap().len(), cap);
    println!("commands and µs of {BATCH} logins: {below:?} below the cap, {at_the_cap:?} at it");
    assert!(at_the_cap.0 <= 2 * below.0);
}

/// Returns the fewest commands that a batch of logins made, and the shortest time that its scripts
/// ran. Other load on the machine can only increase them.
async fn cost_of_logins(server: &Redis, store: &RedisStore) -> (u64, u64) {
    let mut least = (u64::MAX, u64::MAX);
    for _ in 0..BATCHES {
        let mut visitors = Vec::new();
        for _ in 0..BATCH {
            visitors.push(Visitor::arrive(store).await);
        }
        server.ask(&["CONFIG", "RESETSTAT"]);
        for visitor in visitors {
            visitor.log_in(store, "alice").await;
        }
        let (commands, time) = commands(server);
        least = (least.0.min(commands), least.1.min(time));
    }
    least
}

/// Returns the number of commands that scripts made, and the microseconds that scripts ran.
fn commands(server: &Redis) -> (u64, u64) {
    let stats = server.ask(&["INFO", "commandstats"]).text();
    let (mut made, mut time) = (0, 0);
    for line in stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        let (name, rest) = line.split_once(':').unwrap();
        let field = |field: &str| {
            let value = rest.split(',').find_map(|part| part.strip_prefix(field)).unwrap();
            value.parse::<u64>().unwrap()
        };
        match name {
            "evalsha" => time += field("usec="),
            "auth" | "hello" | "info" | "config|resetstat" => {}
            _ => made += field("calls="),
        }
    }
    (made, time)
}

const BATCHES: usize = 10;
const BATCH: usize = 10;

/// Returns the commands that any server of the cluster received, sorted, without those of the
/// cluster itself.
async fn watch_all(work: impl AsyncFn()) -> Vec<String> {
    let servers = &CLUSTER.servers[..3];
    let monitors: Vec<_> = servers.iter().map(Redis::monitor).collect();
    work().await;
    let seen = servers.iter().zip(monitors).flat_map(|(server, monitor)| server.seen(monitor));
    let cluster = ["replconf", "ping", "cluster"];
    let mut seen: Vec<_> = seen.filter(|name| !cluster.contains(&name.as_str())).collect();
    seen.sort();
    seen
}

/// Returns the bytes received and sent.
fn traffic(server: &Redis) -> (i64, i64) {
    let stats = server.ask(&["INFO", "stats"]).text();
    let field = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').parse().unwrap()
    };
    (field("total_net_input_bytes"), field("total_net_output_bytes"))
}

static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);
