//! The page for people, as a browser without scripts uses it.

use testkit::{Client, Reply, Server};

#[tokio::test]
async fn the_page_counts_visits_and_names_the_node() {
    let server = Server::start(&["--node", "n9"]).await;
    let client = server.client();
    client.get("/").await.ok();
    let page = client.get("/").await.ok();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("<dd id=\"visits\">2</dd>") && page.body.contains(">n9<"));
    assert!(page.body.contains("You are not signed in."));
}

#[tokio::test]
async fn a_form_signs_in_and_returns() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let reply = submit(&client, "/login", "u=al%26ice").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, Some("/")));
    assert!(client.get("/").await.ok().body.contains("Hello, al&amp;ice."));
}

#[tokio::test]
async fn a_form_needs_the_token_of_its_session() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.get("/").await.ok();
    for form in ["u=alice", "u=alice&csrf=", "u=alice&csrf=nonsense"] {
        let reply = post_form(&client, "/login", form).await;
        assert_eq!(reply.status, 403, "{form}");
        assert!(reply.body.contains("That did not work."));
    }
    assert_eq!(client.user().await, None);
}

#[tokio::test]
async fn the_page_ends_sessions() {
    let server = Server::start(&[]).await;
    let (here, there) = (server.member("alice").await, server.member("alice").await);
    let handle = there.peek().await["handle"].as_str().unwrap().to_owned();
    assert!(here.get("/").await.ok().body.contains(&format!("/sessions/{handle}/end")));
    submit(&here, &format!("/sessions/{handle}/end"), "").await.ok();
    assert_eq!(there.user().await, None);
    for path in ["/logout-others", "/logout-all"] {
        assert_eq!(submit(&here, path, "").await.status, 303, "{path}");
    }
    assert_eq!(here.user().await, None);
}

#[tokio::test]
async fn the_page_shows_devices_and_their_last_use() {
    let server = Server::start(&[]).await;
    let client = server.client();
    submit(&client, "/login", "u=alice&persistent=1").await;
    client.post("/login?u=alice&label.device=%3Cb%3E").await.ok();
    let page = client.get("/").await.ok().body;
    assert!(page.contains("<strong>&lt;b&gt;</strong>") && page.contains("Last used <time"));
}

#[tokio::test]
async fn the_page_of_the_second_realm_stays_there() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for path in ["/b", "/b/"] {
        assert!(client.get(path).await.ok().body.contains("action=\"/b/login\""));
    }
    let token = token(&client.get("/b").await.ok());
    let reply = post_form(&client, "/b/login", &format!("csrf={token}&u=bob")).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, Some("/b")));
    assert_eq!(client.user().await, None);
}

#[tokio::test]
async fn names_are_text_and_never_markup() {
    let server = Server::start(&[]).await;
    let client = server.member("%3Cimg%20src=x%20onerror=%22a%27%22%3E").await;
    let page = client.get("/").await.ok();
    assert!(page.body.contains("Hello, &lt;img src=x onerror=&quot;a&#39;&quot;&gt;."));
    assert!(!page.body.contains("<img"));
}

#[tokio::test]
async fn the_page_loads_nothing_and_forbids_frames() {
    let server = Server::start(&[]).await;
    let page = server.client().get("/").await.ok();
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_program_that_posts_forms_gets_json() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let reply = client.send("POST", "/put?k=a", &[form], "[1]").await.ok();
    assert_eq!(reply.body, r#"{"ok":true}"#);
}

/// Fills in a form of the page, as it stands now.
async fn submit(client: &Client, action: &str, fields: &str) -> Reply {
    let token = token(&client.get("/").await.ok());
    post_form(client, action, &format!("csrf={token}&{fields}")).await
}

async fn post_form(client: &Client, action: &str, form: &str) -> Reply {
    let headers = [
        ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    client.send("POST", action, &headers, form).await
}

fn token(page: &Reply) -> String {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").expect("a form has a token");
    rest.split('"').next().unwrap().to_owned()
}
