//! Actions of an administrator on one node on sessions that are used on others.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{Error, Login};

use crate::service::Service;
use crate::visits::visit;

pub async fn check(service: Service) {
    an_issued_session_is_one(&service).await;
    one_session_ends(&service).await;
    all_sessions_end_below_an_epoch(&service).await;
    sessions_end_by_their_label(&service).await;
    what_is_kept_is_exported(&service).await;
    everybody_ends(&service).await;
}

async fn an_issued_session_is_one(service: &Service) {
    let login = Login::new("issued").label("device", "Firefox on Linux");
    let issued = service.node(0).sessions().issue(login).await.unwrap();
    let cookie = issued.cookie().to_str().unwrap().to_owned();
    assert_eq!(user(service, 1, &cookie).await.as_deref(), Some("issued"));
    let listed = service.node(2).sessions().list("issued").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, issued.handle());
    assert_eq!(listed[0].facts.label("device"), Some("Firefox on Linux"));
    assert!(listed[0].last_used.is_some());
}

async fn one_session_ends(service: &Service) {
    let (kept, other) =
        (sign_in(service, 0, "one", None).await, sign_in(service, 1, "one", None).await);
    let sessions = service.node(2).sessions();
    let handle = handle(service, &other).await;
    assert!(sessions.end(handle).await.unwrap());
    assert!(!sessions.end(handle).await.unwrap(), "it ended before");
    for n in 0..3 {
        assert_eq!(user(service, n, &other).await, None);
        assert_eq!(user(service, n, &kept).await.as_deref(), Some("one"));
    }
    assert_eq!(sessions.count("one").await.unwrap(), 1);
}

async fn all_sessions_end_below_an_epoch(service: &Service) {
    let cookies = [sign_in(service, 0, "all", None).await, sign_in(service, 1, "all", None).await];
    let sessions = service.node(2).sessions();
    assert_eq!(sessions.end_all("all", Some(7)).await.unwrap(), 2);
    for cookie in &cookies {
        assert_eq!(user(service, 0, cookie).await, None);
    }
    let late = sessions.issue(Login::new("all").epoch(6)).await;
    assert!(matches!(late, Err(Error::Revoked)), "{late:?}");
    sessions.issue(Login::new("all").epoch(7)).await.unwrap();
}

async fn sessions_end_by_their_label(service: &Service) {
    let mut labelled = Vec::new();
    for n in 0..20 {
        labelled.push(sign_in(service, n, ["ann", "ben"][n % 2], Some("1")).await);
    }
    let another = sign_in(service, 0, "ann", Some("2")).await;
    // A session whose label changed, and one that somebody else took over.
    let changed = sign_in(service, 0, "ann", Some("1")).await;
    let changed = sign_in_again(service, 1, changed, "ann", Some("2")).await;
    let taken = sign_in(service, 1, "ann", Some("1")).await;
    let taken = sign_in_again(service, 2, taken, "cid", None).await;
    let sessions = service.node(1).sessions();
    assert_eq!(sessions.end_labelled("sid", "1").await.unwrap(), 20);
    let users = (0..3).flat_map(|n| labelled.iter().map(move |cookie| user(service, n, cookie)));
    assert!(join_all(users).await.iter().all(Option::is_none));
    for (cookie, who) in [(&another, "ann"), (&changed, "ann"), (&taken, "cid")] {
        assert_eq!(user(service, 0, cookie).await.as_deref(), Some(who));
    }
    assert_eq!(sessions.end_labelled("sid", "1").await.unwrap(), 0);
    assert_eq!(sessions.end_labelled("sid", "2").await.unwrap(), 2);
    let unknown = sessions.end_labelled("device", "1").await;
    assert!(matches!(unknown, Err(Error::NotIndexed { .. })), "{unknown:?}");
}

async fn what_is_kept_is_exported(service: &Service) {
    let cookie = sign_in(service, 0, "export", None).await;
    visit(service.node(0), cookie, |session| async move {
        session.csrf_token().await?;
        session.insert("cart", vec![1, 2]).await
    })
    .await;
    let exported = service.node(1).sessions().export("export").await.unwrap();
    let [session] = exported.as_slice() else { panic!("{exported:?}") };
    let values = serde_json::to_value(&session.values).unwrap();
    assert_eq!(values, serde_json::json!({ "cart": [1, 2] }));
}

/// No node serves a session of before, whether the node knew of the floor or has to ask first.
async fn everybody_ends(service: &Service) {
    let nodes: Vec<_> = (0..3)
        .map(|n| service.node(n).clone().end_everybody_within(Duration::from_millis(200)))
        .collect();
    let mut before = Vec::new();
    for n in 0..6 {
        before.push(sign_in(service, n, ["ann", "ben"][n % 2], None).await);
    }
    let user = |n: usize, cookies: &str| {
        visit(&nodes[n], cookies.to_owned(), |session| async move {
            Ok(session.principal().await?.map(|principal| principal.id().to_owned()))
        })
    };
    // The last node did not read the floor before.
    for n in 0..2 {
        assert_eq!(user(n, &before[0]).await.0.as_deref(), Some("ann"));
    }
    nodes[0].sessions().end_everybody().await.unwrap();
    for (n, node) in nodes.iter().enumerate() {
        for cookies in &before {
            assert_eq!(user(n, cookies).await.0, None);
        }
        assert_eq!(node.sessions().count("ann").await.unwrap(), 0);
    }
    service.clock.advance(Duration::from_secs(2));
    let after = sign_in(service, 1, "ann", None).await;
    assert_eq!(user(2, &after).await.0.as_deref(), Some("ann"));
}

async fn sign_in(
    service: &Service,
    n: usize,
    user: &'static str,
    sid: Option<&'static str>,
) -> String {
    sign_in_again(service, n, String::new(), user, sid).await
}

/// Signs in to the session of a client, and returns its cookies.
async fn sign_in_again(
    service: &Service,
    n: usize,
    cookies: String,
    user: &'static str,
    sid: Option<&'static str>,
) -> String {
    let login = sid.map_or(Login::new(user), |sid| Login::new(user).label("sid", sid));
    let signed_in = visit(service.node(n), cookies, move |session| {
        let login = login.clone();
        async move { session.login(login).await }
    });
    signed_in.await.1
}

async fn user(service: &Service, n: usize, cookies: &str) -> Option<String> {
    let seen = visit(service.node(n), cookies.to_owned(), |session| async move {
        Ok(session.principal().await?.map(|principal| principal.id().to_owned()))
    });
    seen.await.0
}

async fn handle(service: &Service, cookies: &str) -> steadfast::RecordId {
    let seen = visit(service.node(0), cookies.to_owned(), |session| async move {
        Ok(session.handle().await?.unwrap())
    });
    seen.await.0
}
