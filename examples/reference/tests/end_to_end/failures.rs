//! Tests of failing requests.

use testkit::Server;

#[tokio::test]
async fn every_failure_has_a_status_and_reason() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    let long = format!("\"{}\"", "x".repeat(17_000));
    let huge = "1".repeat(3 << 20);
    for (method, path, body, status) in [
        ("POST", "/put", "nonsense", 400),
        ("POST", "/put", "", 400),
        ("POST", "/append?k=l", "[1", 400),
        ("POST", "/login", "", 400),
        ("POST", "/login?u=", "", 400),
        ("GET", "/sessions", "", 401),
        ("POST", "/elevate", "", 401),
        ("POST", "/reauth", "", 401),
        ("POST", "/logout-others", "", 401),
        ("POST", "/logout-all", "", 401),
        ("POST", "/sessions/00000000-0000-0000-0000-000000000000/end", "", 401),
        ("POST", "/sessions/nonsense/end", "", 401),
        ("POST", "/protected", "", 403),
        ("GET", "/nowhere", "", 404),
        ("GET", "/b/nowhere", "", 404),
        ("GET", "/logout", "", 405),
        ("POST", "/append", "1", 409),
        ("POST", "/put", &long, 413),
        ("POST", "/put", &huge, 413),
        ("POST", "/incr?k=", "", 413),
    ] {
        let reply = client.send(method, path, &[], body).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(!reply.error().is_empty(), "{method} {path}");
    }
    assert_eq!(client.peek().await["n"], 1);
}

/// Shows CS-02.
#[tokio::test]
async fn a_cross_site_request_is_refused() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let origin = format!("http://{}", server.address);
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", &origin, 200),
    ] {
        let reply = client.send("POST", "/incr", &[(name, value)], "").await;
        assert_eq!(reply.status, status, "{name}: {value}");
        assert!(status == 200 || !reply.error().is_empty());
    }
    let reply = client.send("POST", "/logout", &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!((reply.status.as_u16(), client.user().await.as_deref()), (403, Some("alice")));
}

#[tokio::test]
async fn a_failed_commit_has_a_reason() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    server.order("/fault?op=update&mode=down").await;
    let reply = client.post("/login?u=bob").await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, Some("1")));
    assert!(reply.error().contains("not confirmed") && reply.set_cookies().is_empty());
}

#[tokio::test]
async fn a_commit_that_loses_is_409() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let tab = client.fork();
    server.order("/fault?op=update&mode=slow&ms=400").await;
    let (one, other) = tokio::join!(client.post("/elevate"), tab.post("/elevate"));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let lost = if one.status == 409 { one } else { other };
    assert_eq!(lost.error(), "another request rotated the session's token");
}

#[tokio::test]
async fn a_failed_page_is_answered_as_html() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    server.order("/fault?op=load&mode=down").await;
    let reply = client.send("GET", "/", &[("accept", "text/html")], "").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(reply.body.contains("the session store failed"));
    assert!(client.get("/").await.error().contains("the session store failed"));
}
