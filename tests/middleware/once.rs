//! Values that are read once: `pop`, and flash messages.

use http::StatusCode;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Error, Key, Session};

use crate::site::Site;

#[tokio::test]
async fn a_popped_value_is_gone() {
    let browser = Site::new().visitor().await;
    let pop = |session: Session| async move {
        Ok::<_, Error>(format!("{:?}", session.pop::<i64>("seed").await?))
    };
    assert_eq!(browser.visit(pop).await.body, "Some(1)");
    assert_eq!(browser.visit(pop).await.body, "None");
}

#[tokio::test]
async fn a_pop_costs_two_calls() {
    let site = Site::new();
    let browser = site.visitor().await;
    let pop = |session: Session| async move { session.pop::<i64>("seed").await.map(drop) };
    assert_eq!(site.cost(browser.visit(pop)).await, [1, 0, 1, 0]);
    assert_eq!(site.cost(browser.visit(pop)).await, [1, 0, 0, 0]);
    assert_eq!(site.cost(site.browser().visit(pop)).await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_pop_sees_what_its_own_request_wrote() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        session.insert("seed", 2).await?;
        assert_eq!(session.pop::<i64>("seed").await?, Some(2));
        session.insert("seed", 3).await
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(3), "what is written later stays");
}

#[tokio::test]
async fn a_value_of_another_type_is_not_popped() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        let error = session.pop::<String>("seed").await.unwrap_err();
        assert!(matches!(error, Error::Decode { ref key, .. } if key == "seed"), "{error:?}");
        Ok(())
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(1));
}

#[tokio::test]
async fn an_unconfirmed_pop_returns_no_value() {
    let site = Site::new();
    let browser = site.visitor().await;
    site.store.set(Call::Update, Fault::Down);
    let pop = |session: Session| async move { session.pop::<i64>("seed").await.map(drop) };
    assert_eq!(browser.visit(pop).await.status, StatusCode::SERVICE_UNAVAILABLE);
    site.store.heal();
    assert_eq!(browser.value("seed").await, Some(1));
}

#[tokio::test]
async fn a_message_is_shown_once() {
    let browser = Site::new().browser();
    browser.visit(|session| async move { session.flash("Saved.").await }).await.ok();
    assert_eq!(browser.visit(read).await.body, "Saved.");
    assert_eq!(browser.visit(read).await.body, "");
}

#[tokio::test]
async fn messages_come_in_the_order_they_were_left() {
    let site = Site::new();
    let browser = site.browser();
    // The clock stands still, so that only the messages themselves can tell.
    for messages in [["a", "b"], ["c", "d"]] {
        let leave = move |session: Session| async move {
            for message in messages {
                session.flash(message).await?;
            }
            Ok(())
        };
        browser.visit(leave).await.ok();
    }
    assert_eq!(browser.visit(read).await.body, "a b c d");
}

#[tokio::test]
async fn a_page_shows_messages_of_the_same_request() {
    let site = Site::new();
    let reply = site.browser().visit(|session| async move {
        session.flash("a").await?;
        read(session).await
    });
    let reply = reply.await.ok();
    assert_eq!(reply.body, "a");
    assert!(reply.set_cookies().is_empty(), "nothing is left to keep: {reply:?}");
    assert_eq!(site.records().await, 0);
}

#[tokio::test]
async fn only_the_last_messages_are_kept() {
    let browser = Site::new().browser();
    for n in 0..20 {
        browser.visit(move |session| async move { session.flash(n.to_string()).await }).await.ok();
    }
    assert_eq!(browser.visit(read).await.body, "12 13 14 15 16 17 18 19");
}

#[tokio::test]
async fn a_handler_that_fails_leaves_no_message() {
    let browser = Site::new().visitor().await;
    let fail = |session: Session| async move {
        session.flash("a").await.unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    };
    browser.visit(fail).await;
    assert_eq!(browser.visit(read).await.body, "");
}

#[tokio::test]
async fn a_failing_handler_still_takes_messages() {
    let browser = Site::new().browser();
    browser.visit(|session| async move { session.flash("a").await }).await.ok();
    let fail = |session: Session| async move {
        assert_eq!(session.take_flashes::<String>().await.unwrap(), ["a"]);
        StatusCode::INTERNAL_SERVER_ERROR
    };
    browser.visit(fail).await;
    assert_eq!(browser.visit(read).await.body, "");
}

#[tokio::test]
async fn messages_of_another_type_fail_one_page() {
    let browser = Site::new().browser();
    browser.visit(|session| async move { session.flash(7).await }).await.ok();
    assert_eq!(browser.visit(read).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(browser.visit(read).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_message_survives_a_sign_in() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        session.flash("before").await?;
        session.login("alice").await?;
        session.flash("after").await
    });
    reply.await.ok();
    assert_eq!(browser.visit(read).await.body, "before after");
}

#[tokio::test]
async fn another_user_gets_no_messages() {
    let browser = Site::new().member("alice").await;
    browser.visit(|session| async move { session.flash("for alice").await }).await.ok();
    browser.visit(|session| async move { session.login("bob").await }).await.ok();
    assert_eq!(browser.visit(read).await.body, "");
}

#[tokio::test]
async fn entries_leave_out_reserved_keys() {
    const STATE: Key<String> = Key::pre_auth("state");
    let browser = Site::new().visitor().await;
    let write = |session: Session| async move {
        session.csrf_token().await?;
        session.flash("a").await?;
        session.insert(STATE, "b".to_owned()).await?;
        session.insert("cart", ["tea"]).await
    };
    browser.visit(write).await.ok();
    let reply = browser.visit(|session| async move {
        session.insert("own", true).await?;
        session.discard("seed").await?;
        let entries = session.entries().await?;
        let text = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap();
        let lines = entries.iter().map(|(key, json)| format!("{key}={}", text(json.as_bytes())));
        Ok::<_, Error>(lines.collect::<Vec<_>>().join(" "))
    });
    assert_eq!(reply.await.body, r#"cart=["tea"] own=true ~state="b""#);
}

#[tokio::test]
async fn an_update_that_refuses_changes_nothing() {
    let site = Site::new();
    let browser = site.visitor().await;
    let refuse = |session: Session| async move {
        let refused = session.try_update("seed", |seed: Option<i64>| {
            seed.filter(|seed| *seed > 1).ok_or(Refused::TooSmall)
        });
        assert!(matches!(refused.await, Err(Refused::TooSmall)));
        Ok(())
    };
    assert_eq!(site.cost(browser.visit(refuse)).await, [1, 0, 0, 0]);
    let double = |session: Session| async move {
        let doubled = session
            .try_update("seed", |seed| seed.map(|seed: i64| 2 * seed).ok_or(Refused::TooSmall));
        doubled.await.map_err(Refused::into_error).map(|seed| seed.to_string())
    };
    assert_eq!(browser.visit(double).await.body, "2");
    assert_eq!(browser.value("seed").await, Some(2));
}

#[derive(Debug)]
enum Refused {
    TooSmall,
    Session(Error),
}

impl Refused {
    fn into_error(self) -> Error {
        match self {
            Self::TooSmall => panic!("the seed is large enough"),
            Self::Session(error) => error,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

/// A page that shows the messages there are.
async fn read(session: Session) -> Result<String, Error> {
    Ok(session.take_flashes::<String>().await?.join(" "))
}
