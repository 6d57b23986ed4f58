//! Tests of the messages and metrics that an operator sees.

use serde_json::json;
use testkit::redis::{PASSWORD, Redis, USER};
use testkit::{Server, within};

/// Shows ST-07.
#[tokio::test]
async fn a_policy_that_evicts_sessions_is_warned_of() {
    let [good, bad] = ["noeviction", "allkeys-lru"]
        .map(|policy| Redis::configured(&format!("maxmemory-policy {policy}")));
    for (redis, is_warned) in [(&good, false), (&bad, true)] {
        let server = Server::without_control(&["--store", &redis.url()]).await;
        server.signal("TERM");
        let (status, said) = within(server.ended()).await;
        assert!(status.success(), "{said}");
        assert_eq!(said.contains("set maxmemory-policy to noeviction"), is_warned, "{said}");
    }
}

/// Shows IN-06.
#[tokio::test]
async fn a_corrupt_record_is_counted_and_left_unchanged() {
    let redis = Redis::start();
    let server = Server::start(&["--store", &redis.url()]).await;
    let client = server.member("alice").await;
    let key = redis.ask(&["KEYS", "*:r:*"]).list()[0].text();
    redis.ask(&["HSET", &key, ".", "junk"]);
    assert_eq!(client.user().await, None);
    assert_eq!(server.told("/events").await["corrupt_record"], 1);
    assert_eq!(redis.ask(&["HGET", &key, "."]).text(), "junk");
    assert_eq!(server.told("/dump").await["records"][0]["corrupt"], true);
    client.post("/incr").await.ok();
    assert_eq!(client.peek().await["n"], 1, "a fresh session took its place");
}

/// Shows TO-09.
#[tokio::test]
async fn what_expired_is_collected_and_counted_once() {
    let redis = Redis::start();
    let server = Server::start(&["--store", &redis.url()]).await;
    let (one, other) = (server.member("alice").await, server.member("bob").await);
    server.order("/clock/advance?s=1801").await;
    assert_eq!(one.user().await, None);
    testkit::eventually(async || server.told("/events").await["expired"] == 1).await;
    assert_eq!(one.user().await, None);
    assert_eq!(server.order("/gc").await, json!({ "collected": 1 }));
    assert_eq!(server.told("/events").await["expired"], 2);
    assert_eq!(other.user().await, None);
    assert_eq!(redis.ask(&["DBSIZE"]).number(), 0);
}

#[tokio::test]
async fn an_unreachable_store_is_one_clear_line() {
    let mut redis = Redis::start();
    let url = redis.url();
    redis.kill();
    let said = testkit::server::refusal(testkit::server::program(&["--store", &url])).await;
    assert!(said.contains("the store does not answer"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let redis = Redis::start();
    let url = redis.url().replace(PASSWORD, "hunter2");
    let said = refusal(&url).await;
    assert!(said.contains("refuses the user \"sessions\" or the password"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn an_unusable_store_is_refused_with_the_remedy() {
    let redis = Redis::start();
    let replica = Redis::configured(&format!("replicaof {}", redis.address().replace(':', " ")));
    let said = refusal(&replica.url()).await;
    assert!(said.contains("is a replica: name its primary"), "{said}");
    redis.ask(&["ACL", "SETUSER", USER, "resetchannels"]);
    let said = refusal(&redis.url()).await;
    assert!(said.contains("grant &steadfast:*"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}

#[tokio::test]
async fn a_user_without_warning_privileges_is_served() {
    let redis = Redis::start();
    for right in ["-info", "-scan", "-pubsub"] {
        redis.ask(&["ACL", "SETUSER", USER, right]);
    }
    let server = Server::start(&["--store", &redis.url()]).await;
    let member = server.member("alice").await;
    assert_eq!(member.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_socket_url_may_end_with_a_newline() {
    let (_redis, path) = Redis::with_unix_socket();
    let url = format!("redis+unix://{}:{}@{}\n", USER, PASSWORD, path.display());
    let server = Server::start(&["--store", &url]).await;
    server.member("alice").await;
}

#[tokio::test]
async fn hidden_shards_get_one_key_per_command() {
    let redis = Redis::start();
    let server = Server::start(&["--store", &format!("{}?split=yes", redis.url())]).await;
    let (one, other) = (server.member("alice").await, server.member("alice").await);
    one.post("/logout-others").await.ok();
    assert_eq!(other.user().await, None);
    assert_eq!(one.user().await.as_deref(), Some("alice"));
}

async fn refusal(url: &str) -> String {
    testkit::server::refusal(testkit::server::program(&["--store", url])).await
}
