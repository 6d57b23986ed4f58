//! Counts the commands of Redis for a request.

use testkit::redis::Redis;

use crate::fixture::nodes;

#[tokio::test]
async fn each_request_costs_what_it_must() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url()).await;
    let client = nodes[0].client();
    // Redis learns the scripts first.
    for path in ["/incr", "/login?u=zoe", "/sessions", "/logout"] {
        let method = if path == "/sessions" { "GET" } else { "POST" };
        client.send(method, path, &[], "").await.ok();
    }
    let visitor = nodes[1].client();
    for (what, method, path, expected) in [
        ("a request without a cookie that touches nothing", "GET", "/ping", &[][..]),
        ("a read without a cookie", "GET", "/peek", &[]),
        ("a first write", "POST", "/incr", &["evalsha"]),
        ("a request that touches nothing", "GET", "/ping", &[]),
        ("a read", "GET", "/peek", &["hgetall"]),
        ("a blind write", "PUT", "/put?k=a", &["evalsha"]),
        ("a blind count", "POST", "/incr", &["evalsha"]),
        ("a read and a write", "POST", "/append?k=list", &["hgetall", "evalsha"]),
        ("a login", "POST", "/login?u=alice", &["hgetall", "evalsha"]),
        ("a list", "GET", "/sessions", &["hgetall", "evalsha", "evalsha"]),
        ("a logout", "POST", "/logout", &["hgetall", "evalsha"]),
    ] {
        let method = if method == "PUT" { "POST" } else { method };
        let monitor = redis.monitor();
        visitor.send(method, path, &[], "1").await.ok();
        assert_eq!(redis.seen(monitor), expected, "{what}");
    }
}
