//! Back-channel logout, against an issuer on this machine.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use example_administration::issuer::Issuer;
use futures_util::future::ready;
use futures_util::stream::{self, StreamExt};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use steadfast::testing::{Clock, Reply};
use steadfast::{Error, Login, MemoryStore, RedisStore, SessionStore};
use testkit::redis::{PASSWORD, Redis, USER};
use tokio::net::TcpListener;

use crate::Node;

#[tokio::test]
async fn bad_tokens_end_nothing() {
    let (issuer, nodes) = service(vec![Arc::new(MemoryStore::new())]).await;
    let alice = nodes[0].user(Login::new("alice").label("sid", "s1")).await;
    let bad = bad(&issuer);
    assert!(bad.len() >= 60, "{}", bad.len());
    for (case, token, reason) in bad {
        let answer = notify(&nodes[0], &format!("logout_token={token}")).await;
        assert_refused(&answer, case, reason);
    }
    for form in ["", "token=x", "logout_token=x&logout_token=y"] {
        let answer = notify(&nodes[0], form).await;
        assert_refused(&answer, form, "the request is not a form with one logout_token");
    }
    assert!(nodes[0].serves(&alice).await);
    let good = issuer.sign(&Issuer::header(), &by_sid(&issuer));
    assert_accepted(&notify(&nodes[0], &format!("logout_token={good}")).await);
    assert!(!nodes[0].serves(&alice).await);
}

#[tokio::test]
async fn ending_a_sid_reaches_every_node() {
    let redis = Redis::start();
    let store = || {
        let builder = RedisStore::builder().user(USER, PASSWORD);
        let store = builder.standalone(redis.address().parse().unwrap()).unwrap();
        Arc::new(store) as Arc<dyn SessionStore>
    };
    let (issuer, nodes) = service(vec![store(), store(), store()]).await;
    let login = |n| Login::new(format!("user {}", n % 10)).label("sid", "s1");
    let sign_ins = stream::iter(0..1_000).map(|n| nodes[n % 3].user(login(n)));
    let cookies: Vec<_> = sign_ins.buffered(AT_ONCE).collect().await;
    let other = nodes[0].user(Login::new("bob").label("sid", "s2")).await;
    let form = format!("logout_token={}", issuer.sign(&Issuer::header(), &by_sid(&issuer)));
    assert_eq!(served(&nodes[1], &cookies).await, 1_000);
    assert_accepted(&notify(&nodes[0], &form).await);
    for node in &nodes {
        assert_eq!(served(node, &cookies).await, 0);
        assert!(node.serves(&other).await);
        assert_refused(&notify(node, &form).await, "replayed", "the token was used before");
    }
}

#[tokio::test]
async fn a_sub_ends_sessions_and_earlier_sign_ins() {
    let (issuer, nodes) = service(vec![Arc::new(MemoryStore::new())]).await;
    let (alice, bob) = (nodes[0].user("alice").await, nodes[0].user("bob").await);
    let claims = issuer.claims("alice");
    let token = issuer.sign(&Issuer::header(), &claims);
    assert_accepted(&notify(&nodes[0], &format!("logout_token={token}")).await);
    assert!(!nodes[0].serves(&alice).await && nodes[0].serves(&bob).await);
    let iat = claims["iat"].as_u64().unwrap();
    let sessions = nodes[0].realms.users.sessions();
    let sign_in = |at| sessions.issue(Login::new("alice").epoch(at));
    assert!(matches!(sign_in(iat - 1).await, Err(Error::Revoked)));
    assert!(sign_in(iat).await.is_ok());
}

/// Nodes over these stores, and the issuer that they trust.
async fn service(stores: Vec<Arc<dyn SessionStore>>) -> (Issuer, Vec<Node>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let issuer = Issuer::new(&url).unwrap();
    let served = axum::serve(listener, issuer.router("http://127.0.0.1:9"));
    tokio::spawn(async move { served.await });
    let node = |store| Node::over(store, Clock::default(), &url);
    let nodes = stores.into_iter().map(node).collect();
    (issuer, nodes)
}

/// Counts the cookies that a node serves as sessions.
async fn served(node: &Node, cookies: &[String]) -> usize {
    let served = stream::iter(cookies).map(|cookie| node.serves(cookie)).buffered(AT_ONCE);
    served.filter(|is_served| ready(*is_served)).count().await
}

async fn notify(node: &Node, form: &str) -> Reply {
    node.site.visitor().post_form("/backchannel-logout", form).await
}

#[track_caller]
fn assert_accepted(answer: &Reply) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
}

#[track_caller]
fn assert_refused(answer: &Reply, case: &str, reason: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{case}");
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    let expected = json!({ "error": "invalid_request", "error_description": reason });
    assert_eq!(answer.json::<Value>(), expected, "{case}");
}

fn by_sid(issuer: &Issuer) -> Value {
    let mut claims = issuer.claims("alice");
    claims["sid"] = json!("s1");
    claims
}

/// Tokens that are good but for one thing: what it is, the token, and the reason of the answer.
fn bad(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    [bad_claims(issuer), bad_headers(issuer), bad_parts(issuer)].concat()
}

fn bad_claims(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    let good = by_sid(issuer);
    let now = good["iat"].as_u64().unwrap();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let changed = [
        ("another issuer", json!({ "iss": "http://127.0.0.1:9" }), ISSUER),
        (
            "a longer issuer",
            json!({ "iss": format!("{}/", good["iss"].as_str().unwrap()) }),
            ISSUER,
        ),
        ("several issuers", json!({ "iss": [good["iss"]] }), ISSUER),
        ("an issuer that is a number", json!({ "iss": 7 }), CLAIM),
        ("no issuer", json!({ "iss": null }), CLAIM),
        ("another audience", json!({ "aud": "another" }), AUDIENCE),
        ("other audiences", json!({ "aud": ["another", "exampl"] }), AUDIENCE),
        ("an empty audience", json!({ "aud": [] }), AUDIENCE),
        ("an audience that is a number", json!({ "aud": 7 }), CLAIM),
        ("no audience", json!({ "aud": null }), CLAIM),
        ("expired", json!({ "exp": now - 60 }), EXPIRED),
        ("no expiry", json!({ "exp": null }), CLAIM),
        ("an expiry that is text", json!({ "exp": (now + 60).to_string() }), CLAIM),
        ("an expiry before time began", json!({ "exp": -1 }), CLAIM),
        ("from the future", json!({ "iat": now + 60 }), FUTURE),
        ("from an hour ago", json!({ "iat": now - 3_600 }), EXPIRED),
        ("of no time", json!({ "iat": null }), CLAIM),
        ("of a time that is text", json!({ "iat": now.to_string() }), CLAIM),
        ("of a time past all bounds", json!({ "iat": u64::MAX }), FUTURE),
        ("not valid yet", json!({ "nbf": now + 60 }), FUTURE),
        ("no id", json!({ "jti": null }), CLAIM),
        ("an empty id", json!({ "jti": "" }), CLAIM),
        ("an id that is a number", json!({ "jti": 7 }), CLAIM),
        ("a nonce", json!({ "nonce": "n" }), NONCE),
        ("an empty nonce", json!({ "nonce": "" }), NONCE),
        ("neither sub nor sid", json!({ "sub": null, "sid": null }), SUBJECT),
        ("an empty sub", json!({ "sub": "" }), SUBJECT),
        ("an empty sid", json!({ "sid": "" }), SUBJECT),
        ("a sub that is a list", json!({ "sub": ["alice"] }), CLAIM),
        ("a sid that is a number", json!({ "sid": 1 }), CLAIM),
        ("no events", json!({ "events": null }), CLAIM),
        ("events without one", json!({ "events": {} }), CLAIM),
        ("another event", json!({ "events": { "http://127.0.0.1/": {} } }), CLAIM),
        ("an event that is text", json!({ "events": event }), CLAIM),
        ("a list of events", json!({ "events": [event] }), CLAIM),
        ("an event that is true", json!({ "events": { event: true } }), CLAIM),
        ("an event that is null", json!({ "events": { event: null } }), CLAIM),
    ];
    let token = |change: Value| {
        let mut claims = good.clone();
        for (name, value) in change.as_object().unwrap() {
            match value.is_null() {
                true => claims.as_object_mut().unwrap().remove(name),
                false => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        issuer.sign(&Issuer::header(), &claims)
    };
    let mut bad: Vec<_> =
        changed.map(|(case, change, reason)| (case, token(change), reason)).into();
    let null = json!({ "nonce": null });
    let claims = [good, null].iter().flat_map(|of| of.as_object().unwrap().clone()).collect();
    let claims = Value::Object(claims);
    bad.push(("a nonce that is null", issuer.sign(&Issuer::header(), &claims), NONCE));
    bad.push(("claims that are a list", issuer.sign(&Issuer::header(), &json!([])), CLAIM));
    bad.push(("claims that are text", issuer.sign(&Issuer::header(), &"alice"), CLAIM));
    bad
}

fn bad_headers(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    let (claims, header) = (by_sid(issuer), Issuer::header);
    let other = Issuer::new("http://127.0.0.1:9").unwrap();
    let shared = |secret: &[u8]| {
        let header = Header { alg: Algorithm::HS256, ..header() };
        encode(&header, &claims, &EncodingKey::from_secret(secret).unwrap()).unwrap()
    };
    let public = issuer.public_key();
    let point = URL_SAFE_NO_PAD.decode(public["x"].as_str().unwrap()).unwrap();
    let signed = |header| issuer.sign(&header, &claims);
    let typed = |kind: Option<&str>| signed(Header { typ: kind.map(str::to_owned), ..header() });
    let named = |kid: Option<&str>| signed(Header { kid: kid.map(str::to_owned), ..header() });
    let own_key = Header { jwk: serde_json::from_value(other.public_key()).unwrap(), ..header() };
    let crit = Header { crit: Some(vec!["b64".to_owned()]), ..header() };
    let says = |alg: &str| {
        let head = json!({ "typ": "logout+jwt", "alg": alg, "kid": Issuer::KEY }).to_string();
        let good = signed(header());
        let rest = good.split_once('.').unwrap().1;
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(head))
    };
    vec![
        ("no algorithm", says("none"), MALFORMED),
        ("no algorithm in capitals", says("NONE"), MALFORMED),
        ("no algorithm, and no signature", unsigned(&says("none")), MALFORMED),
        ("an unknown algorithm", says("XS256"), MALFORMED),
        ("RSA with this key", says("RS256"), ALGORITHM),
        ("another curve with this key", says("ES384"), ALGORITHM),
        ("another algorithm, and no signature", unsigned(&says("HS256")), ALGORITHM),
        ("the public key as a shared secret", shared(public.to_string().as_bytes()), ALGORITHM),
        ("a part of the public key as a secret", shared(&point), ALGORITHM),
        ("no type", typed(None), TYPE),
        ("the type of any token", typed(Some("JWT")), TYPE),
        ("the type of an access token", typed(Some("at+jwt")), TYPE),
        ("no key id", named(None), KEY),
        ("an unknown key", named(Some("key-2")), KEY),
        ("a key id that is empty", named(Some("")), KEY),
        ("another issuer's key", other.sign(&header(), &claims), SIGNATURE),
        ("a key that it brings along", other.sign(&own_key, &claims), SIGNATURE),
        ("an extension that must be understood", signed(crit), MALFORMED),
    ]
}

fn bad_parts(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    let good = issuer.sign(&Issuer::header(), &by_sid(issuer));
    let another = issuer.sign(&Issuer::header(), &issuer.claims("alice"));
    let [head, claims, signature] = parts(&good);
    let [_, other_claims, other_signature] = parts(&another);
    vec![
        ("nothing", String::new(), MALFORMED),
        ("dots", "..".to_owned(), MALFORMED),
        ("one part", head.to_owned(), MALFORMED),
        ("two parts", format!("{head}.{claims}"), MALFORMED),
        ("four parts", format!("{good}.{signature}"), MALFORMED),
        ("five parts", format!("{good}.{claims}.{signature}"), MALFORMED),
        ("a garbled header", format!("!!.{claims}.{signature}"), MALFORMED),
        ("a header that is no JSON", format!("{signature}.{claims}.{signature}"), MALFORMED),
        ("garbled claims", format!("{head}.!!.{signature}"), SIGNATURE),
        ("other claims", format!("{head}.{other_claims}.{signature}"), SIGNATURE),
        ("another signature", format!("{head}.{claims}.{other_signature}"), SIGNATURE),
        ("half a signature", format!("{head}.{claims}.{}", &signature[..40]), SIGNATURE),
        ("a garbled signature", format!("{head}.{claims}.!!"), MALFORMED),
        ("no signature", unsigned(&good), SIGNATURE),
    ]
}

fn unsigned(token: &str) -> String {
    let [head, claims, _] = parts(token);
    format!("{head}.{claims}.")
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// Requests that are under way at the same time.
const AT_ONCE: usize = 32;

const MALFORMED: &str = "the token is malformed, or its algorithm is unknown";
const TYPE: &str = "the token is not of the type logout+jwt";
const KEY: &str = "the issuer has no such key";
const ALGORITHM: &str = "the key is not for this algorithm";
const SIGNATURE: &str = "the signature is wrong";
const CLAIM: &str = "a claim is missing or has the wrong form";
const ISSUER: &str = "the token is from another issuer";
const AUDIENCE: &str = "the token is for another audience";
const EXPIRED: &str = "the token has expired";
const FUTURE: &str = "the token is from the future";
const NONCE: &str = "the token has a nonce";
const SUBJECT: &str = "the token names neither a sub nor a sid";
