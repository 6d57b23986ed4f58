//! The control port, and what operators ask of the public one.

use serde_json::json;

use testkit::Server;

#[tokio::test]
async fn the_clock_moves_and_sessions_expire_by_it() {
    let server = Server::start(&["--idle", "60", "--absolute", "3600"]).await;
    let client = server.member("alice").await;
    server.order("/clock/advance?s=57").await;
    assert_eq!(client.user().await.as_deref(), Some("alice"));
    server.order("/clock/advance?s=60.5").await;
    assert_eq!(client.user().await, None);
    for bad in ["nonsense", "NaN", "1e300"] {
        let reply = server.control("POST", &format!("/clock/advance?s={bad}")).await;
        assert_eq!((reply.status.as_u16(), reply.error().is_empty()), (400, false), "{bad}");
    }
}

#[tokio::test]
async fn each_fault_is_injected_before_the_store() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for (fault, method, path, status) in [
        ("op=load&mode=down", "GET", "/peek", 503),
        ("op=create&mode=down", "POST", "/b/incr", 503),
        ("op=update&mode=down", "POST", "/incr", 503),
        ("op=update&mode=ack-lost", "POST", "/incr", 503),
        ("op=delete&mode=down", "POST", "/logout", 503),
        ("op=all&mode=down", "POST", "/logout-all", 503),
        ("op=delete&mode=corrupt", "POST", "/logout", 503),
        ("op=update&mode=slow&ms=1", "POST", "/incr", 200),
        ("op=load&mode=hang", "GET", "/ping", 200),
    ] {
        server.order(&format!("/fault?{fault}")).await;
        let reply = client.send(method, path, &[], "").await;
        assert_eq!(reply.status, status, "{fault}: {reply:?}");
        server.order("/fault?op=all&mode=none").await;
    }
    assert_eq!(client.user().await.as_deref(), Some("alice"));
    assert_eq!(client.peek().await["n"], 2, "one was applied and not acknowledged, one was slow");
}

#[tokio::test]
async fn an_unknown_fault_is_refused() {
    let server = Server::start(&[]).await;
    for path in
        ["/fault?op=all&mode=explode", "/fault?op=explode&mode=down", "/fault", "/gate/release"]
    {
        assert_eq!(server.control("POST", path).await.status, 400, "{path}");
    }
    assert!(!server.control("GET", "/nowhere").await.error().is_empty());
}

#[tokio::test]
async fn readiness_follows_the_store_and_the_drain() {
    let server = Server::start(&[]).await;
    let client = server.client();
    assert_eq!(client.get("/readyz").await.ok().body, r#"{"ok":true}"#);
    server.order("/fault?op=load&mode=down").await;
    assert_eq!(client.get("/readyz").await.status, 503);
    server.order("/fault?op=load&mode=none").await;
    client.post("/incr").await.ok();
    assert_eq!(server.order("/drain").await, json!({ "moved": 0, "lost": 1 }));
    assert_eq!(client.get("/readyz").await.error(), "draining");
    assert_eq!(client.get("/readyz").await.status, 404);
    assert_eq!(client.get("/healthz").await.ok().body, r#"{"ok":true}"#);
}

#[tokio::test]
async fn what_expired_is_given_back_on_demand() {
    let server = Server::start(&[]).await;
    server.client().post("/incr").await.ok();
    server.order("/clock/advance?s=1801").await;
    assert_eq!(server.order("/gc").await, json!({ "collected": 1 }));
    assert_eq!(server.told("/dump").await, json!({ "records": [] }));
}

/// Shows ID-09.
#[tokio::test]
async fn a_dump_shows_records_and_no_token() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    client.send("POST", "/put?k=cart", &[], r#"["tea"]"#).await.ok();
    let dump = server.control("GET", "/dump").await.ok();
    let record = &dump.json()["records"][0];
    assert_eq!(record["id"], client.peek().await["handle"]);
    assert_eq!(record["values"], json!({ "cart": r#"["tea"]"# }));
    assert_eq!((&record["principal"], &record["version"]), (&json!("alice"), &json!(2)));
    assert_eq!(record["hash"].as_str().unwrap().len(), 64);
    let cookies = client.cookies();
    let secret = &cookies[cookies.len() - 42..];
    assert!(!dump.body.contains(secret));
}

#[tokio::test]
async fn statistics_count_records_and_calls() {
    let server = Server::start(&[]).await;
    server.member("alice").await.user().await;
    let stats = server.told("/stats").await;
    assert_eq!((&stats["records"], &stats["authenticated"]), (&json!(1), &json!(1)));
    let ops =
        json!({ "create": 1, "load": 1, "update": 0, "delete": 0, "list": 0, "delete_all": 0 });
    assert_eq!(stats["ops"], ops);
}

#[tokio::test]
async fn events_are_counted_by_name() {
    let server = Server::start(&["--profile", "dev"]).await;
    let client = server.member("alice").await;
    client.post("/cycle").await.ok();
    client.post("/logout").await.ok();
    client.send("GET", "/peek", &[("cookie", "id-dev=nonsense")], "").await.ok();
    let events = server.told("/events").await;
    for (event, count) in
        [("created", 1), ("rotated", 1), ("logout", 1), ("malformed_id", 1), ("misrouted", 0)]
    {
        assert_eq!(events[event], count, "{event}: {events}");
    }
    let metrics = client.get("/metrics").await.ok();
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert!(metrics.body.contains(r#"steadfast_events_total{event="rotated"} 1"#));
}

#[tokio::test]
async fn a_store_without_nodes_shows_no_cluster() {
    let server = Server::start(&[]).await;
    for reply in [server.control("GET", "/cluster").await, server.control_page("/cluster").await] {
        assert_eq!(reply.status, 404);
        assert_eq!(reply.error(), "the session store does not support describing a cluster");
    }
}
