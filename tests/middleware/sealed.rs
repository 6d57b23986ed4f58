//! Values sealed at rest: what the store has, and what a handler sees.

use futures_util::future::join_all;
use http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use steadfast::store::{Lookup, Patch, RawJson, Record, RequestHint, SessionStore};
use steadfast::{Error, Key, OpenError, RecordId, SealKeys};

use crate::site::{Browser, Site};

/// Shows AR-03.
#[tokio::test]
async fn the_store_sees_no_plain_value() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "created").await;
    write(&browser, "blind").await;
    let visit = browser.visit(|session| async move {
        session.get::<i64>("seed").await?;
        session.insert("loaded", MARKER).await?;
        session.update("updated", |_: Option<String>| MARKER.to_owned()).await?;
        session.insert(STATE, MARKER.to_owned()).await?;
        session.save().await?;
        session.flash(MARKER).await?;
        session.csrf_token().await?;
        session.login("alice").await?;
        session.insert(STATE, MARKER.to_owned()).await?;
        session.save().await.map(drop)
    });
    visit.await.ok();
    let record = site.record(&browser).await;
    assert_eq!(record.values.len(), 6);
    for (key, json) in record.values.iter() {
        assert!(json.starts_with(b"\"$sealed1:k1:"), "{key}");
    }
    for key in ["created", "blind", "loaded", "updated", "~oauth"] {
        assert_eq!(text(&browser, key).await.ok().body, MARKER, "{key}");
    }
    let flashes = browser.visit(|session| async move {
        Ok::<_, Error>(session.take_flashes::<String>().await?.concat())
    });
    assert_eq!(flashes.await.ok().body, MARKER);
}

#[tokio::test]
async fn sealed_values_stay_when_the_token_is_replaced() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "cart").await;
    let before = site.stored(&browser, "cart").await;
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    browser.visit(|session| async move { session.login("alice").await }).await.ok();
    browser.visit(|session| async move { session.reauthenticate().await }).await.ok();
    assert_eq!(site.stored(&browser, "cart").await, before, "nothing is sealed again");
    assert_eq!(text(&browser, "cart").await.ok().body, MARKER);
}

/// The login that came second starts a session of its own, with what its request wrote.
#[tokio::test]
async fn a_moved_write_is_sealed_again() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "seed").await;
    let (tab, other) = (browser.fork(), browser.clone());
    let visit = tab.visit(move |session| {
        let other = other.clone();
        async move {
            session.insert("cart", MARKER).await?;
            session.login("alice").await?;
            other.visit(|session| async move { session.login("alice").await }).await.ok();
            Ok::<_, Error>(())
        }
    });
    visit.await.ok();
    assert_ne!(tab.id().await, browser.id().await);
    assert_eq!(text(&tab, "cart").await.ok().body, MARKER);
}

/// Shows AR-04.
#[tokio::test]
async fn swapped_values_do_not_open() {
    let site = sealed();
    let (one, other) = (site.browser(), site.browser());
    for browser in [&one, &other] {
        write(browser, "a").await;
        write(browser, "b").await;
    }
    let (a, b) = (site.stored(&one, "a").await, site.stored(&one, "b").await);
    site.plant(&one, "a", &b).await;
    assert_not_opened(&one, "a").await;
    site.plant(&other, "a", &a).await;
    assert_not_opened(&other, "a").await;
    assert_eq!(text(&one, "b").await.ok().body, MARKER);
}

#[tokio::test]
async fn a_value_of_another_realm_does_not_open() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "a").await;
    let layer = site.layer.clone().realm(steadfast::Realm::new("admin").unwrap());
    let admin = Site { layer, ..site.clone() };
    let there = admin.browser();
    write(&there, "b").await;
    site.plant(&there, "a", &site.stored(&browser, "a").await).await;
    assert_not_opened(&there, "a").await;
}

/// Shows IN-07.
#[tokio::test]
async fn a_plain_value_is_refused_and_kept() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "seed").await;
    site.plant(&browser, "role", br#""admin""#).await;
    assert_not_opened(&browser, "role").await;
    let error = browser.request(|session| async move {
        let error = session.get::<String>("role").await.unwrap_err();
        assert!(matches!(error, Error::NotOpened { source: OpenError::Plain, .. }), "{error:?}");
        Ok::<_, Error>(())
    });
    error.await.ok();
    assert_eq!(site.stored(&browser, "role").await, br#""admin""#);
    assert_eq!(text(&browser, "seed").await.ok().body, MARKER, "the rest is served");
}

#[tokio::test]
async fn what_does_not_open_is_not_overwritten_unseen() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "seed").await;
    site.plant(&browser, "cart", b"\"plain\"").await;
    let visit = browser.visit(|session| async move {
        let cart = session.get::<String>("cart").await.unwrap_or_default();
        assert_not(session.insert("cart", cart).await);
        assert_not(session.update("cart", |_: Option<String>| String::new()).await);
        assert_not(session.pop::<String>("cart").await);
        assert_not(session.increment("cart", 1).await);
        assert_not(session.entries().await);
        Ok::<_, Error>(())
    });
    visit.await.ok();
    assert_eq!(site.stored(&browser, "cart").await, b"\"plain\"");
    let visit = browser.visit(|session| async move {
        session.get::<String>("cart").await.unwrap_err();
        session.discard("cart").await?;
        session.insert("cart", MARKER).await
    });
    visit.await.ok();
    assert_eq!(text(&browser, "cart").await.ok().body, MARKER);
}

#[tokio::test]
async fn an_export_shows_what_was_sealed() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "cart").await;
    browser.visit(|session| async move { session.login("alice").await }).await.ok();
    let export = site.layer.sessions().export("alice").await.unwrap();
    assert_eq!(export[0].values["cart"].decode::<String>().unwrap(), MARKER);
    assert!(site.layer.replace_seal_keys(key("k2")));
    assert_not(site.layer.sessions().export("alice").await.map(drop));
}

/// Shows AR-06.
#[tokio::test]
async fn keys_change_in_a_running_service() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "old").await;
    for (keys, sealed_under) in [
        (key("k1").accept("k2", &[b'2'; 32]).unwrap(), "k1"),
        (key("k2").accept("k1", &[b'1'; 32]).unwrap(), "k2"),
    ] {
        assert!(site.layer.replace_seal_keys(keys));
        write(&browser, "new").await;
        let stored = String::from_utf8(site.stored(&browser, "new").await).unwrap();
        assert!(stored.starts_with(&format!("\"$sealed1:{sealed_under}:")), "{stored}");
        for name in ["old", "new"] {
            assert_eq!(text(&browser, name).await.ok().body, MARKER);
        }
    }
    assert!(site.layer.replace_seal_keys(key("k2")));
    let reply = text(&browser, "old").await;
    assert_eq!(reply.body, r#"the value of "old" does not open"#);
    assert_eq!(text(&browser, "new").await.ok().body, MARKER);
}

#[tokio::test]
async fn sealing_is_switched_on_without_a_logout() {
    let site = Site::with(|layer| layer.seal(key("k1").write_plain()));
    let browser = site.browser();
    write(&browser, "before").await;
    assert!(!site.is_sealed(&browser, "before").await);
    assert!(site.layer.replace_seal_keys(key("k1").accept_plain()));
    write(&browser, "after").await;
    assert!(site.is_sealed(&browser, "after").await);
    assert_eq!(text(&browser, "before").await.ok().body, MARKER);
    write(&browser, "before").await;
    assert!(site.layer.replace_seal_keys(key("k1")));
    assert_eq!(text(&browser, "before").await.ok().body, MARKER);
    assert!(!Site::new().layer.replace_seal_keys(key("k1")), "there was no ring to replace");
}

#[tokio::test]
async fn a_counter_is_not_sealed() {
    let site = sealed();
    let browser = site.browser();
    let add = || browser.visit(|session| async move { session.increment("n", 2).await.map(drop) });
    add().await.ok();
    assert_eq!(site.cost(add()).await, [0, 0, 1, 0]);
    assert_eq!(site.stored(&browser, "n").await, b"4");
    assert_eq!(browser.value("n").await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_integers_can_be_incremented() {
    let site = sealed();
    let browser = site.browser();
    browser.visit(|session| async move { session.insert("n", 5).await }).await.ok();
    let add =
        || browser.request(|session| async move { session.increment("n", 1).await.map(drop) });
    for reply in join_all((0..20).map(|_| tokio::spawn(add()))).await {
        reply.unwrap().ok();
    }
    assert_eq!(browser.value("n").await, Some(25));
    assert!(site.is_sealed(&browser, "n").await);
    let over =
        browser.visit(|session| async move { session.increment("n", i64::MAX).await.map(drop) });
    assert_eq!(over.await.status, StatusCode::CONFLICT);
}

/// Shows RC-06.
#[tokio::test(flavor = "multi_thread")]
async fn no_update_of_a_sealed_value_is_lost() {
    let site = sealed();
    let browser = site.browser();
    write(&browser, "seed").await;
    let push = |n: usize| {
        browser.request(move |session| async move {
            let push = |list: Option<Vec<usize>>| [list.unwrap_or_default(), vec![n]].concat();
            session.update("list", push).await.map(drop)
        })
    };
    for reply in join_all((0..20).map(|n| tokio::spawn(push(n)))).await {
        reply.unwrap().ok();
    }
    let list = browser.request(|session| async move {
        let mut list: Vec<usize> = session.get("list").await?.unwrap_or_default();
        list.sort_unstable();
        Ok::<_, Error>(format!("{list:?}"))
    });
    assert_eq!(list.await.ok().body, format!("{:?}", (0..20).collect::<Vec<_>>()));
}

/// Shows DS-07.
#[tokio::test]
async fn limits_count_the_plain_value() {
    let browser = sealed().browser();
    let put = |key: &'static str, bytes: usize| {
        let text = "x".repeat(bytes - 2);
        browser.visit(move |session| {
            let text = text.clone();
            async move { session.insert(key, text).await }
        })
    };
    assert_eq!(put("a", (16 << 10) + 1).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    for key in ["a", "b", "c"] {
        put(key, 16 << 10).await.ok();
    }
    assert_eq!(put("d", (16 << 10) - 3).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    put("d", (16 << 10) - 4).await.ok();
}

#[test]
fn every_json_comes_back_sealed_or_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (site, config) =
        (sealed(), Config { failure_persistence: None, ..Config::with_cases(200) });
    let browser = site.browser();
    let there_and_back = |value: Value| {
        let (back, is_sealed) = runtime.block_on(async {
            let sent = value.clone();
            let put = browser.visit(move |session| {
                let sent = sent.clone();
                async move { session.insert("value", sent).await }
            });
            put.await.ok();
            let get = browser.request(|session| async move {
                Ok::<_, Error>(session.get::<Value>("value").await?.unwrap().to_string())
            });
            (get.await.ok().body, site.is_sealed(&browser, "value").await)
        });
        prop_assert_eq!(back, value.to_string());
        prop_assert!(is_sealed);
        Ok(())
    };
    TestRunner::new(config).run(&json(), there_and_back).unwrap();
}

impl Site {
    async fn record(&self, browser: &Browser) -> Record {
        match self.store.load(browser.id().await, None, &RequestHint::default()).await.unwrap() {
            Lookup::Found(found) => Record::clone(&found.record),
            other => panic!("{other:?}"),
        }
    }

    /// A value as the store has it.
    async fn stored(&self, browser: &Browser, key: &str) -> Vec<u8> {
        self.record(browser).await.values.get(key).unwrap().to_vec()
    }

    async fn is_sealed(&self, browser: &Browser, key: &str) -> bool {
        self.stored(browser, key).await.starts_with(b"\"$sealed1:")
    }

    /// Puts a value into the store past the layer.
    async fn plant(&self, browser: &Browser, key: &str, json: &[u8]) {
        let mut patch = Patch::new();
        patch.put(key, RawJson::copied(json)).unwrap();
        let id: RecordId = browser.id().await;
        self.store.update(id, &patch, &RequestHint::default()).await.unwrap();
    }
}

fn sealed() -> Site {
    Site::with(|layer| layer.seal(key("k1")))
}

/// A ring of one key, whose bytes follow from the name.
fn key(name: &str) -> SealKeys {
    SealKeys::new(name, &[*name.as_bytes().last().unwrap(); 32]).unwrap()
}

async fn write(browser: &Browser, key: &'static str) {
    browser.visit(move |session| async move { session.insert(key, MARKER).await }).await.ok();
}

async fn text(browser: &Browser, key: &'static str) -> crate::site::Reply {
    let read = browser.request(move |session| async move {
        Ok::<_, Error>(session.get::<String>(key).await?.unwrap())
    });
    read.await
}

async fn assert_not_opened(browser: &Browser, key: &'static str) {
    let reply = text(browser, key).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.body, format!("the value of {key:?} does not open"));
}

#[track_caller]
fn assert_not<T: std::fmt::Debug>(answer: Result<T, Error>) {
    match answer {
        Err(Error::NotOpened { .. }) => {}
        other => panic!("{other:?}"),
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^\\u{0}]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const STATE: Key<String> = Key::pre_auth("oauth");
const MARKER: &str = "marker-0c63f1";
