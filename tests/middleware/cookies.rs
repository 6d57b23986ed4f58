//! The session cookie, as a browser gets and sends it.

use std::time::Duration;

use http::{HeaderName, StatusCode, header};
use steadfast::{CookieProfile, Lifetime, MemoryStore, Session, SessionLayer, Status};

use crate::site::{Site, cookie};

/// Shows CK-01.
#[tokio::test]
async fn a_session_cookie_has_the_default_attributes() {
    let reply = Site::new().browser().request(insert).await.ok();
    let [line] = reply.set_cookies()[..] else { panic!("{reply:?}") };
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
    assert_eq!(pair.strip_prefix("__Host-id=").unwrap().len(), 64);
}

/// Shows CK-04.
#[tokio::test]
async fn a_removal_repeats_what_identifies_the_cookie() {
    for profile in [
        CookieProfile::host(),
        CookieProfile::domain("example.org").path("/shop"),
        CookieProfile::partitioned(),
        CookieProfile::dev(),
        CookieProfile::host().persistent(),
    ] {
        let site = Site::with(cookie(profile.clone()));
        let browser = site.browser();
        let set = browser.visit(insert).await.ok();
        if browser.token().is_none() {
            continue;
        }
        let removed = browser.visit(|session| async move { session.flush().await }).await.ok();
        assert_eq!(identity(set.set_cookies()[0]), identity(removed.set_cookies()[0]));
        assert!(removed.set_cookies()[0].contains("=; ") && browser.token().is_none());
    }
}

/// Shows CK-05.
#[tokio::test]
async fn a_response_sets_the_token_at_most_once() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = browser.visit(|session| async move {
        session.login("alice").await?;
        session.cycle_id().await?;
        session.flush().await?;
        session.insert("again", 1).await?;
        session.login("bob").await
    });
    assert_eq!(reply.await.ok().set_cookies().len(), 1);
    assert_eq!(browser.user().await.as_deref(), Some("bob"), "what was set opens a live record");
}

/// Shows CK-05.
#[tokio::test]
async fn an_application_cookie_of_our_name_is_dropped() {
    let site = Site::new();
    for (browser, ours) in [(site.browser(), 1), (site.visitor().await, 0)] {
        let reply = browser.visit(|session| async move {
            session.insert("a", 1).await.unwrap();
            let lines = [(header::SET_COOKIE, "__Host-id=forged; Path=/; Secure")];
            axum::response::IntoResponse::into_response((lines, "ok"))
        });
        let reply = reply.await;
        assert_eq!(reply.set_cookies().len(), ours, "{reply:?}");
        assert_eq!(browser.value("a").await, Some(1));
    }
}

/// Shows CK-06.
#[tokio::test]
async fn cookies_of_others_stay_as_they_are() {
    let browser = Site::new().browser();
    let reply = browser.request(|session| async move {
        session.login("alice").await.unwrap();
        let lines = [(header::SET_COOKIE, "theme=dark; Path=/")];
        axum::response::IntoResponse::into_response((lines, "ok"))
    });
    let reply = reply.await;
    assert_eq!((reply.set_cookies().len(), reply.set_cookies()[0]), (2, "theme=dark; Path=/"));
}

/// Shows CK-10.
#[tokio::test]
async fn two_live_tokens_open_no_session() {
    let site = Site::new();
    let (mine, planted) = (site.member("alice").await, site.member("mallory").await);
    let (mine, planted) = (mine.token().unwrap(), planted.token().unwrap());
    let dead = "A".repeat(64);
    for (cookies, seen) in [
        ([&dead, &mine], Status::Existing),
        ([&mine, &dead], Status::Existing),
        ([&mine, &mine], Status::Existing),
        ([&mine, &planted], Status::Ambiguous),
        ([&planted, &mine], Status::Ambiguous),
        ([&dead, &dead], Status::Unknown),
    ] {
        let line = cookies.map(|token| format!("__Host-id={token}")).join("; ");
        let reply = site.browser().request_with(&[("cookie", &line)], move |session| async move {
            assert_eq!(session.status().await?, seen);
            Ok(session.principal().await?.map(|who| who.id().to_owned()).unwrap_or_default())
        });
        let user = if seen == Status::Existing { "alice" } else { "" };
        assert_eq!(reply.await.ok().body, user);
    }
    assert_eq!(site.records().await, 2, "nothing is destroyed");
}

/// Shows CK-11.
#[tokio::test]
async fn many_candidates_cost_at_most_four_loads() {
    let site = Site::new();
    let letters = ('A'..='Z').chain('a'..='z');
    let line: Vec<_> = letters.map(|c| format!("__Host-id={}", c.to_string().repeat(64))).collect();
    let line = line.join("; ");
    let visit = site.browser().request_with(&[("cookie", &line)], |session| async move {
        session.status().await.map(drop)
    });
    assert_eq!(site.cost(visit).await, [4, 0, 0, 0]);
}

/// Shows ID-03.
#[tokio::test]
async fn an_unknown_token_is_ignored() {
    let site = Site::new();
    let chosen = "Q".repeat(64);
    for login in [false, true] {
        let browser = site.browser();
        browser.set_token(&chosen);
        let read = browser.request(|session| async move { session.status().await.map(drop) });
        assert_eq!(read.await.ok().set_cookies(), [""; 0]);
        browser
            .visit(move |session| async move {
                match login {
                    true => session.login("alice").await,
                    false => session.increment("n", 1).await.map(drop),
                }
            })
            .await
            .ok();
        assert!(browser.token().is_some_and(|token| token[..22] != chosen[..22]));
        browser.set_token(&chosen);
        assert_eq!((browser.user().await, browser.value("n").await), (None, None));
    }
}

/// Shows ID-04.
#[tokio::test]
async fn what_is_no_token_is_never_looked_up() {
    let site = Site::new();
    for junk in ["x", "../../etc/passwd", "%00", "\"\"", &"A".repeat(65_000)] {
        let line = format!("__Host-id={junk}");
        let visit = site.browser().request_with(&[("cookie", &line)], |session| async move {
            session.status().await.map(|status| assert_eq!(status, Status::New))
        });
        assert_eq!(site.cost(visit).await, [0; 4], "{junk:.20}");
    }
}

/// Shows ID-07.
#[tokio::test]
async fn a_token_counts_nowhere_but_in_its_cookie() {
    let site = Site::new();
    let token = site.member("alice").await.token().unwrap();
    for name in ["x-session", "authorization", "__host-id", "set-cookie", "cookie2"] {
        let reply = site.browser().request_with(&[(name, &token)], |session| async move {
            session.status().await.map(|status| assert_eq!(status, Status::New))
        });
        reply.await.ok();
    }
}

/// Shows CK-12.
#[tokio::test]
async fn a_persistent_cookie_has_the_absolute_lifetime() {
    let lifetime = Lifetime::new(Duration::from_secs(600), Duration::from_secs(3600)).unwrap();
    let site = Site::with(|layer| {
        layer.lifetime(lifetime).cookie(CookieProfile::host().persistent()).unwrap()
    });
    let browser = site.browser();
    let set = browser.visit(insert).await.ok();
    assert!(set.set_cookies()[0].contains("; Max-Age=3600; "), "{set:?}");
    site.clock.advance(Duration::from_secs(500));
    let read = browser.visit(|session| async move { session.status().await.map(drop) }).await;
    assert_eq!(read.ok().set_cookies(), [""; 0], "CK-13: the secret is not sent again");
    let cycled = browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    assert!(cycled.set_cookies()[0].contains("; Max-Age=3100; "), "{cycled:?}");
    let login = browser.visit(|session| async move { session.login("alice").await }).await.ok();
    assert!(login.set_cookies()[0].contains("; Max-Age=3600; "), "{login:?}");
}

/// Shows CK-18.
#[tokio::test]
async fn request_headers_do_not_steer_the_cookie() {
    let spoofs = ["x-forwarded-proto", "x-forwarded-host", "forwarded", "host"];
    let headers = spoofs.map(|name| (name, "http://evil.example"));
    let reply = Site::new().browser().request_with(&headers, insert).await.ok();
    assert!(reply.set_cookies()[0].ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
}

/// Shows CK-19.
#[tokio::test]
async fn every_committing_status_sets_the_cookie() {
    for status in [200, 204, 302, 303, 304, 401, 404] {
        let reply = Site::new().browser().request(move |session| async move {
            session.insert("a", 1).await.unwrap();
            StatusCode::from_u16(status).unwrap()
        });
        assert_eq!(reply.await.set_cookies().len(), 1, "{status}");
    }
}

/// Shows CA-07.
#[tokio::test]
async fn the_token_is_marked_as_sensitive() {
    let reply = Site::new().browser().request(insert).await.ok();
    assert!(reply.headers[header::SET_COOKIE].is_sensitive());
}

#[tokio::test]
async fn a_header_may_replace_the_cookie() {
    let name = HeaderName::from_static("x-session");
    let site = Site::with(|layer| layer.header(name).unwrap());
    let reply = site.browser().request_with(&[("x-session", "")], insert).await.ok();
    let token = reply.header("x-session").unwrap().to_owned();
    assert_eq!((token.len(), reply.set_cookies()), (64, vec![]));
    assert_eq!(reply.header("vary"), Some("Cookie, x-session"));
    let read = site.browser().request_with(&[("x-session", &token)], |session| async move {
        session.get::<i64>("a").await.map(|a| a.unwrap().to_string())
    });
    assert_eq!(read.await.ok().body, "1");
    let logout = site
        .browser()
        .request_with(&[("x-session", &token)], |session| async move { session.flush().await });
    assert_eq!(logout.await.ok().header("x-session"), Some(""));
    assert_eq!(site.records().await, 0);
}

#[tokio::test]
async fn a_layer_without_cookies_answers_in_the_header() {
    let name = HeaderName::from_static("x-session");
    let site = Site::with(|layer| layer.header_only(name).unwrap());
    let reply = site.browser().request(insert).await.ok();
    let token = reply.header("x-session").unwrap().to_owned();
    assert_eq!((token.len(), reply.set_cookies()), (64, vec![]));
    assert_eq!(reply.header("vary"), Some("x-session"));
    let cookie = format!("__Host-id={token}");
    for (header, seen) in [(("x-session", &token), "Some(1)"), (("cookie", &cookie), "None")] {
        let read = site.browser().request_with(&[(header.0, header.1)], |session| async move {
            session.get::<i64>("a").await.map(|a| format!("{a:?}"))
        });
        assert_eq!(read.await.ok().body, seen, "{}", header.0);
    }
}

#[test]
fn a_header_of_http_carries_no_session() {
    let layer = SessionLayer::new(MemoryStore::new());
    let error = layer.header(http::header::AUTHORIZATION).unwrap_err();
    assert_eq!(error.name, "authorization");
    assert!(error.to_string().contains("x-session"), "{error}");
}

async fn insert(session: Session) -> Result<(), steadfast::Error> {
    session.insert("a", 1).await
}

/// The parts of a `Set-Cookie` by which a browser knows the cookie again.
fn identity(line: &str) -> Vec<&str> {
    let name = line.split('=').next();
    let parts = line.split("; ").filter(|part| {
        ["Path=", "Domain=", "Secure", "SameSite=", "Partitioned"]
            .iter()
            .any(|known| part.starts_with(known))
    });
    name.into_iter().chain(parts).collect()
}
