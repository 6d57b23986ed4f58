//! Forged requests: what another site causes changes nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::{Client, Server};

use crate::common::{csrf, event, records, token};
use crate::visitor::Visitor;

/// Shows CS-01.
#[tokio::test]
async fn a_forged_form_carries_no_cookie() {
    for profile in ["host", "domain", "dev"] {
        let server = Server::start(&["--profile", profile]).await;
        let scheme = if profile == "dev" { "http" } else { "https" };
        let visitor = Visitor::at(&server, &format!("{scheme}://shop.example.org"));
        let reply = visitor.post("/login?u=alice").await.ok();
        assert!(reply.set_cookies()[0].contains("; SameSite=Lax"));
        assert_eq!(visitor.sent_when_forged("https://evil.example"), None, "{profile}");
        assert_eq!(visitor.cookies().len(), 1);
    }
}

/// Shows CS-03.
#[tokio::test]
async fn a_csrf_token_ends_with_its_session() {
    let server = Server::start(&[]).await;
    let (client, other) = (server.client(), server.member("bob").await);
    let before = csrf(&client).await;
    assert_eq!(protected(&client, &before).await, 200);
    client.post("/login?u=alice").await.ok();
    assert_eq!(protected(&client, &before).await, 403, "from before the login");
    let own = csrf(&client).await;
    csrf(&other).await;
    assert_eq!((protected(&client, &own).await, protected(&other, &own).await), (200, 403));
    client.post("/cycle").await.ok();
    assert_eq!(protected(&client, &own).await, 200, "rotation keeps it");
    client.post("/logout").await.ok();
    assert_eq!(protected(&client, &own).await, 403);
    client.post("/login?u=alice").await.ok();
    assert_eq!(protected(&client, &own).await, 403, "of the session before");
}

/// Shows CS-04.
#[tokio::test]
async fn a_csrf_token_never_repeats() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let (one, other) = (csrf(&client).await, csrf(&client).await);
    assert_ne!(one, other);
    assert_eq!((protected(&client, &one).await, protected(&client, &other).await), (200, 200));
    let bytes = URL_SAFE_NO_PAD.decode(&one).unwrap();
    for at in [0, 7, 31, 32, 63] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert_eq!(protected(&client, &URL_SAFE_NO_PAD.encode(flipped)).await, 403, "{at}");
    }
    for odd in
        ["", "A", &one[..one.len() - 1], &format!("{one}A"), &format!("{one}="), &"A".repeat(86)]
    {
        assert_eq!(protected(&client, odd).await, 403, "{odd}");
    }
}

/// Shows CS-05.
#[tokio::test]
async fn nobody_is_signed_in_by_another_site() {
    let server = Server::start(&[]).await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for path in ["/login?u=mallory", "/redirect-login?u=mallory", "/b/login?u=mallory"] {
            let reply = server.client().send("POST", path, &[(name, value)], "").await;
            assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (403, 0), "{path}");
        }
    }
    assert!(records(&server).await.is_empty());
}

/// Shows CS-06.
#[tokio::test]
async fn nobody_is_signed_out_by_another_site() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for path in ["/logout", "/logout-all", "/logout-others", "/cycle", "/elevate"] {
        let evil = [("origin", "https://evil.example")];
        assert_eq!(client.send("POST", path, &evil, "").await.status, 403, "{path}");
        assert_eq!(client.get(path).await.status, 405, "{path}");
    }
    assert_eq!(
        (client.user().await.as_deref(), event(&server, "logout").await),
        (Some("alice"), 0)
    );
}

/// Shows CS-07.
#[tokio::test]
async fn a_csrf_token_reveals_no_session_token() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let own = URL_SAFE_NO_PAD.decode(csrf(&client).await).unwrap();
    let (mask, masked) = own.split_at(32);
    let bare: Vec<u8> = mask.iter().zip(masked).map(|(a, b)| a ^ b).collect();
    let session = URL_SAFE_NO_PAD.decode(token(&client)).unwrap();
    let hash = server.told("/dump").await["records"][0]["hash"].clone();
    for known in session.windows(8) {
        assert!(!bare.windows(8).chain(own.windows(8)).any(|part| part == known));
    }
    assert_ne!(hash, crate::identifier::hex(&bare));
    let page = client.get("/").await.ok().body;
    let mut addresses = page.split("action=\"").chain(page.split("href=\"")).skip(1);
    assert!(addresses.all(|rest| !rest.split('"').next().unwrap().contains("csrf")));
}

async fn protected(client: &Client, token: &str) -> u16 {
    client.send("POST", "/protected", &[("x-csrf-token", token)], "").await.status.as_u16()
}
