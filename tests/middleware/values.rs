//! Values: what is inserted comes back, and is shown nowhere.

use std::error::Error as _;

use http::StatusCode;
use proptest::num::f64;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::{Deserialize, Serialize};
use steadfast::{Error, Key, Session};

use crate::log::Log;
use crate::site::{Browser, Site};

const RATIO: Key<f64> = Key::new("ratio");
const SHAPE: Key<Shape> = Key::new("shape");

#[test]
fn every_finite_number_is_preserved() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let browser = runtime.block_on(Site::new().visitor());
    let config = Config { failure_persistence: None, ..Config::with_cases(500) };
    let there_and_back = |number: f64| {
        let back = runtime.block_on(async {
            put(&browser, number).await;
            get(&browser).await
        });
        prop_assert_eq!(back.map(f64::to_bits), Some(number.to_bits()));
        Ok(())
    };
    TestRunner::new(config)
        .run(&(f64::NORMAL | f64::SUBNORMAL | f64::ZERO), there_and_back)
        .unwrap();
}

#[tokio::test]
async fn an_unserializable_value_is_refused_by_name() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = browser.visit(|session| async move {
        let infinite = session.insert("ratio", f64::INFINITY).await.unwrap_err();
        assert_eq!(infinite.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(infinite.to_string(), r#"the value of "ratio" cannot be kept"#);
        let nested = session.insert("seed", Some(None::<u8>)).await.unwrap_err();
        assert!(matches!(nested, Error::Encode { key, .. } if key == "seed"));
        let ambiguous = session.insert(SHAPE, Shape::Square(1)).await.unwrap_err();
        assert!(matches!(ambiguous, Error::Encode { key, .. } if key == "shape"));
        let ambiguous = session.update(SHAPE, |_| Shape::Square(1)).await.unwrap_err();
        assert!(matches!(ambiguous, Error::Encode { key, .. } if key == "shape"));
        session.insert(SHAPE, Shape::Circle(1.0)).await
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(1), "what was there stays");
}

#[tokio::test]
async fn no_error_and_no_log_shows_a_value() {
    let log = Log::start();
    let site = Site::new();
    let browser = site.visitor().await;
    let secret = |session: Session| async move { session.insert("secret", "hunter2").await };
    browser.visit(secret).await.ok();
    let reply = browser.visit(|session: Session| async move {
        let error = session.get::<u8>("secret").await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.source());
        assert!(shown.contains("secret") && !shown.contains("hunter2"), "{shown}");
        session.remove::<u8>("secret").await.map(drop)
    });
    let reply = reply.await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.body, r#"the value of "secret" is of another type"#);
    let text = log.text();
    assert!(text.contains("JSON of another type at line 1, column 9"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

async fn put(browser: &Browser, number: f64) {
    let insert = move |session: Session| async move { session.insert(RATIO, number).await };
    browser.visit(insert).await.ok();
}

async fn get(browser: &Browser) -> Option<f64> {
    let reply = browser.visit(|session| async move {
        let number = session.get(RATIO).await?;
        Ok::<_, Error>(number.map(|number| number.to_bits().to_string()).unwrap_or_default())
    });
    reply.await.ok().body.parse().ok().map(f64::from_bits)
}

/// Whichever comes first takes every number.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Circle(f64),
    Square(u8),
}
