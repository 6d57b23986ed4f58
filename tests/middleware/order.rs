//! Program order: buffered writes, immediate calls, and what a handler sees of its own.

use std::sync::Arc;

use http::StatusCode;
use steadfast::{Error, Session};
use tokio::sync::Notify;

use crate::site::{Reply, Site};

#[tokio::test]
async fn a_handler_reads_its_own_writes() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        session.insert("a", 1).await?;
        assert_eq!(session.get("a").await?, Some(1));
        assert_eq!(session.remove("a").await?, Some(1));
        assert_eq!(session.get::<i64>("a").await?, None);
        session.clear().await?;
        assert_eq!(session.get::<i64>("seed").await?, None);
        session.insert("late", 2).await
    });
    reply.await.ok();
    assert_eq!((browser.value("seed").await, browser.value("late").await), (None, Some(2)));
}

#[tokio::test]
async fn immediate_calls_send_buffered_writes() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = browser.visit(|session| async move {
        session.insert("n", 10).await?;
        assert_eq!(session.increment("n", 5).await?, 15);
        assert_eq!(session.update("n", |n: Option<i64>| n.unwrap_or(0) * 2).await?, 30);
        session.insert("n", 7).await?;
        session.save().await?;
        session.insert("n", 8).await?;
        Err::<(), _>(Error::Csrf)
    });
    assert_eq!(reply.await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.value("n").await, Some(8), "a 4xx commits");
}

#[tokio::test]
async fn a_server_error_drops_only_buffered_writes() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = browser.visit(|session| async move {
        session.increment("acted", 1).await.unwrap();
        session.insert("buffered", 1).await.unwrap();
        session.login("alice").await.unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    });
    assert_eq!(reply.await.set_cookies(), [""; 0]);
    assert_eq!(browser.value("acted").await, Some(1));
    assert_eq!((browser.value("buffered").await, browser.user().await), (None, None));
}

#[tokio::test]
async fn a_layer_may_commit_on_server_errors() {
    let site = Site::with(|layer| layer.commit_on_server_error(true));
    let browser = site.visitor().await;
    let fails = |session: Session| async move {
        session.insert("buffered", 1).await.unwrap();
        StatusCode::BAD_GATEWAY
    };
    assert_eq!(browser.visit(fails).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(browser.value("buffered").await, Some(1));
}

#[tokio::test]
async fn an_immediate_creation_always_sets_the_cookie() {
    for status in [200, 302, 404, 500, 503] {
        let browser = Site::new().browser();
        let reply = browser.visit(move |session| async move {
            session.increment("n", 1).await.unwrap();
            StatusCode::from_u16(status).unwrap()
        });
        assert_eq!(reply.await.set_cookies().len(), 1, "{status}");
        assert_eq!(browser.value("n").await, Some(1), "{status}");
    }
}

/// Shows FX-04.
#[tokio::test]
async fn a_panic_drops_what_is_buffered() {
    let site = Site::new();
    let browser = site.visitor().await;
    let request = browser.request(|session| async move {
        session.insert("buffered", 1).await.unwrap();
        session.login("alice").await.unwrap();
        panic!("on purpose");
        #[allow(unreachable_code)]
        StatusCode::OK
    });
    assert!(tokio::spawn(request).await.unwrap_err().is_panic());
    assert_eq!((browser.value("buffered").await, browser.user().await), (None, None));
    assert_eq!(browser.value("seed").await, Some(1), "the old token still opens the record");
}

#[tokio::test]
async fn an_insert_after_a_flush_starts_another_session() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let old = browser.fork();
    let reply = browser.visit(|session| async move {
        session.insert("before", 1).await?;
        session.flush().await?;
        session.insert("after", 2).await
    });
    assert_eq!(reply.await.ok().set_cookies().len(), 1);
    assert_eq!((browser.value("before").await, browser.value("after").await), (None, Some(2)));
    assert_eq!((browser.user().await, old.value("seed").await), (None, None));
    assert_ne!(browser.token(), old.token());
}

#[tokio::test]
async fn creating_and_ending_leaves_nothing() {
    let site = Site::new();
    let reply = site.browser().visit(|session| async move {
        session.increment("n", 1).await?;
        session.flush().await
    });
    assert_eq!(reply.await.ok().set_cookies(), [""; 0]);
    assert_eq!(site.records().await, 0);
}

#[tokio::test]
async fn nothing_is_buffered_after_the_head() {
    let browser = Site::new().browser();
    let session =
        leaked_by(&browser, |session| async move { session.status().await.map(drop) }).await;
    assert!(matches!(session.insert("a", 1).await, Err(Error::TooLate)));
    assert!(matches!(session.clear().await, Err(Error::TooLate)));
    assert!(matches!(session.login("alice").await, Err(Error::TooLate)));
    assert!(matches!(session.increment("a", 1).await, Err(Error::TooLate)));
}

/// Shows RC-13.
#[tokio::test]
async fn immediate_calls_work_after_the_head() {
    let browser = Site::new().visitor().await;
    let session = leaked_by(&browser, |session| async move { session.status().await.map(drop) });
    let session = session.await;
    assert_eq!(session.increment("seed", 1).await.unwrap(), 2);
    assert_eq!(session.update("seed", |n: Option<i64>| n.unwrap() * 10).await.unwrap(), 20);
    browser.visit(|session| async move { session.flush().await }).await.ok();
    assert!(matches!(session.increment("seed", 1).await, Err(Error::Ended)));
}

#[tokio::test]
async fn the_head_waits_for_calls_of_other_tasks() {
    let site = Site::new();
    let browser = site.browser();
    let pause = site.store.pause_before(steadfast::store::conformance::faults::Call::Create);
    let request = browser.request(|session| async move {
        tokio::spawn(async move { session.increment("n", 1).await });
        tokio::task::yield_now().await;
        Ok(())
    });
    let request = tokio::spawn(request);
    pause.arrived(1).await;
    assert!(!request.is_finished());
    pause.release();
    assert_eq!(request.await.unwrap().set_cookies().len(), 1);
}

#[tokio::test]
async fn a_mistyped_value_is_an_error() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        assert!(matches!(session.get::<String>("seed").await, Err(Error::Decode { .. })));
        assert_eq!(session.get::<i64>("seed").await?, Some(1));
        session.insert("other", 2).await
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(1));
}

#[tokio::test]
async fn a_failed_increment_keeps_nothing() {
    let browser = Site::new().visitor().await;
    let reply = browser.visit(|session| async move {
        session.insert("text", "a").await?;
        session.save().await?;
        session.insert("beside", 1).await?;
        let refused = session.increment("text", 1).await;
        assert!(matches!(refused, Err(Error::NotACounter { .. })), "{refused:?}");
        session.discard("beside").await
    });
    reply.await.ok();
    assert_eq!(browser.value("beside").await, None);
}

/// Shows DS-06.
#[tokio::test]
async fn an_oversized_value_is_refused_when_set() {
    let browser = Site::new().visitor().await;
    let fits = "x".repeat((16 << 10) - 2);
    let too_long = "x".repeat((16 << 10) - 1);
    let reply = browser.visit(move |session| {
        let (fits, too_long) = (fits.clone(), too_long.clone());
        async move {
            session.insert("fits", fits).await?;
            assert!(matches!(session.insert("long", too_long).await, Err(Error::Limit(_))));
            assert!(matches!(session.insert("", 1).await, Err(Error::Limit(_))));
            assert!(matches!(session.insert("a\n", 1).await, Err(Error::Limit(_))));
            Ok(())
        }
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(1));
}

/// Shows DS-07.
#[tokio::test]
async fn a_record_over_the_limit_is_refused_whole() {
    let site = Site::new();
    for browser in [site.visitor().await, site.browser()] {
        let reply = browser.visit(|session| async move {
            for n in 0..65 {
                session.insert(format!("key{n}"), n).await?;
            }
            Ok(())
        });
        assert_eq!(reply.await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(browser.value("key0").await, None);
    }
}

#[tokio::test]
async fn a_full_session_can_still_be_used() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let fill = |n: usize| {
        browser.visit(move |session| async move {
            session.insert(format!("key{n}"), "x".repeat(16_000)).await?;
            session.insert("small", 1).await
        })
    };
    for n in 0..4 {
        fill(n).await.ok();
    }
    let reply = fill(4).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(reply.body.contains("\"key4\", 16002 bytes"), "{}", reply.body);
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
    for act in ["read", "write", "count", "sign in", "remove"] {
        let acting = browser.visit(move |session| async move {
            match act {
                "read" => session.get::<String>("key3").await.map(drop),
                "write" => session.insert("small", 2).await,
                "count" => session.increment("small", 1).await.map(drop),
                "sign in" => session.login("alice").await,
                _ => session.discard("key0").await,
            }
        });
        assert_eq!(acting.await.status, StatusCode::OK, "{act}");
    }
    fill(4).await.ok();
}

#[tokio::test]
async fn an_oversized_update_names_its_key() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = browser.visit(|session| async move {
        for n in 0..4 {
            session.insert(format!("key{n}"), "x".repeat(16_000)).await?;
        }
        let long = session.update("long", |_: Option<String>| "x".repeat(16_000)).await;
        assert!(matches!(&long, Err(Error::TooLarge { bytes: 16_002, .. })), "{long:?}");
        Ok::<_, Error>(())
    });
    // The buffered writes fit without it.
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(1));
}

/// The session of a request that is answered.
async fn leaked_by<F>(
    browser: &crate::site::Browser,
    handler: impl Fn(Session) -> F + Clone + Send + 'static,
) -> Session
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (leak, done) = (Arc::new(std::sync::OnceLock::new()), Arc::new(Notify::new()));
    let kept = Arc::clone(&leak);
    let reply: Reply = browser
        .visit(move |session| {
            let (kept, done, handler) = (Arc::clone(&kept), Arc::clone(&done), handler.clone());
            async move {
                kept.set(session.clone()).expect("one request");
                done.notify_one();
                handler(session).await
            }
        })
        .await;
    reply.ok();
    leak.get().cloned().expect("the handler ran")
}
