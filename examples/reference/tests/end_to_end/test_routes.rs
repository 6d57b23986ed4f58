//! The routes for tests, which exist with a control port only.

use testkit::Server;

#[tokio::test]
async fn test_routes_need_a_control_port() {
    let server = Server::without_control(&[]).await;
    let client = server.client();
    for path in ["/gate?g=a", "/status/200", "/public", "/other-cookie", "/same-cookie", "/stream"]
    {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    for path in ["/panic", "/redirect-login?u=a", "/b/panic"] {
        assert_eq!(client.post(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_is_released() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let held = client.spawn("POST", "/gate?g=a&mode=incr");
    server.waiting("a", 1).await;
    assert!(!held.is_finished());
    server.order("/gate/release?g=a").await;
    assert_eq!(held.await.unwrap().ok().body, r#"{"value":1}"#);
    let later = client.get("/gate?g=a&mode=read").await.ok();
    assert_eq!(later.body, r#"{"value":1}"#);
    server.waiting("a", 0).await;
}

#[tokio::test]
async fn a_request_that_gives_up_waits_no_more() {
    let server = Server::start(&[]).await;
    let held = server.client().spawn("GET", "/gate?g=a");
    server.waiting("a", 1).await;
    held.abort();
    server.waiting("a", 0).await;
}

#[tokio::test]
async fn a_gate_loads_first_if_asked_to() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let loaded = client.fork().spawn("GET", "/gate?g=a&mode=read&k=x&load=1");
    let unread = client.fork().spawn("GET", "/gate?g=a&mode=read&k=x");
    server.waiting("a", 2).await;
    client.send("POST", "/put?k=x", &[], "7").await.ok();
    server.order("/gate/release?g=a").await;
    assert_eq!(loaded.await.unwrap().ok().body, r#"{"value":null}"#);
    assert_eq!(unread.await.unwrap().ok().body, r#"{"value":7}"#);
}

#[tokio::test]
async fn each_mode_does_what_it_says() {
    let server = Server::start(&[]).await;
    let client = server.client();
    server.order("/gate/release?g=a").await;
    for (act, value, then) in [
        ("", "null", "null"),
        ("&mode=none", "null", "null"),
        ("&mode=write", "1", "1"),
        ("&mode=write&v=%5B2%5D", "[2]", "[2]"),
        ("&mode=write&v=text", r#""text""#, r#""text""#),
        ("&mode=write&v=5", "5", "5"),
        ("&mode=incr", "6", "6"),
        ("&mode=read", "6", "6"),
        ("&mode=cycle", "null", "6"),
        ("&mode=login&u=bob", r#""bob""#, "6"),
        ("&mode=flush", "null", "null"),
    ] {
        let reply = client.get(&format!("/gate?g=a{act}")).await.ok();
        assert_eq!(reply.body, format!(r#"{{"value":{value}}}"#), "{act}");
        let left = client.get("/get").await.ok();
        assert_eq!(left.body, format!(r#"{{"value":{then}}}"#), "{act}");
    }
}

#[tokio::test]
async fn an_unknown_mode_is_refused_before_anything_waits() {
    let server = Server::start(&[]).await;
    for path in ["/gate?g=a&mode=explode", "/gate", "/status/200?mode=explode"] {
        let reply = server.client().get(path).await;
        assert_eq!((reply.status.as_u16(), reply.error().is_empty()), (400, false), "{path}");
    }
}

#[tokio::test]
async fn a_status_is_answered_after_the_act() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for (code, value) in [(200, 1), (201, 2), (404, 3), (418, 4), (500, 5)] {
        let reply = client.post(&format!("/status/{code}?mode=incr")).await;
        assert_eq!((reply.status.as_u16(), reply.json()["value"].as_i64()), (code, Some(value)));
    }
    for code in [302, 303, 307] {
        let reply = client.get(&format!("/b/status/{code}")).await;
        assert_eq!((reply.status.as_u16(), reply.header("location")), (code, Some("/b/peek")));
    }
    assert_eq!(client.get("/status/204").await.body, "");
    assert_eq!(client.get("/status/100").await.status, 400);
    assert_eq!(client.get("/status/nonsense").await.status, 400);
}

#[tokio::test]
async fn what_a_server_error_buffered_is_dropped() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    assert_eq!(client.post("/status/500?mode=write&v=9").await.status, 500);
    assert!(!client.post("/panic?mode=write&v=9").await.error().is_empty());
    assert_eq!(client.peek().await["n"], 1);
}

#[tokio::test]
async fn a_redirect_after_a_login_finds_it() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let reply = client.post("/redirect-login?u=alice").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (302, Some("/peek")));
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn an_answer_that_reads_a_session_is_private() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let untouched = client.get("/public").await.ok();
    assert_eq!(untouched.header("cache-control"), Some("public, max-age=600"));
    let read = client.get("/public?mode=read").await.ok();
    assert_eq!(read.header("cache-control"), Some("max-age=600, private"));
    let written = client.get("/public?mode=write").await.ok();
    assert_eq!(written.header("cache-control"), Some("no-store"));
}

/// Shows CK-06.
#[tokio::test]
async fn cookies_of_the_application_stay() {
    let server = Server::start(&["--profile", "dev"]).await;
    let other = server.client().get("/other-cookie?mode=write").await.ok();
    assert_eq!(other.set_cookies()[0], "theme=dark");
    assert!(other.set_cookies()[1].starts_with("id-dev="));
    assert_eq!(server.client().get("/other-cookie").await.ok().set_cookies(), ["theme=dark"]);
}

/// Shows CK-05.
#[tokio::test]
async fn an_application_cookie_of_our_name_is_replaced() {
    let server = Server::start(&["--profile", "dev"]).await;
    let same = server.client().get("/same-cookie?mode=write").await.ok();
    assert_eq!(same.set_cookies().len(), 1);
    assert!(!same.body.contains("imposter") && !same.set_cookies()[0].contains("imposter"));
}

#[tokio::test]
async fn a_stream_that_writes_late_is_told_so() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let stream = client.get("/stream").await.ok();
    assert_eq!(stream.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(stream.body, "one\ntwo\n");
    let late = client.get("/stream?late=1").await.ok();
    assert_eq!(late.body, "one\ntwo\nlate: the response head is already sent\n");
    assert_eq!(server.told("/stats").await["records"], 0);
}
