//! Concurrent requests of one session: nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast::{Error, Timeouts};
use tokio::task::JoinSet;

use crate::site::{Reply, Site};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_inserts_of_different_keys_are_kept() {
    for load in [false, true] {
        let browser = Site::new().browser();
        browser.visit(|session| async move { session.login("alice").await }).await.ok();
        at_once(64, |n| {
            browser.request(move |session| async move {
                if load {
                    session.get::<i64>("key0").await?;
                    tokio::task::yield_now().await;
                }
                session.insert(format!("key{n}"), n).await
            })
        })
        .await;
        let count = browser.request(|session| async move {
            for n in 0..64 {
                assert_eq!(session.get(format!("key{n}")).await?, Some(n));
            }
            Ok(())
        });
        count.await.ok();
    }
}

/// Shows RC-06.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_increments_give_one_to_a_hundred() {
    let browser = Site::new().visitor().await;
    let replies = at_once(100, |_| {
        browser.request(
            |session| async move { session.increment("n", 1).await.map(|n| n.to_string()) },
        )
    });
    assert_eq!(numbers(&replies.await), (1..=100).collect());
}

/// Shows RC-06.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_updates_give_one_to_a_hundred() {
    // The deadline is not what this is about, and a busy machine is slow.
    let patient = Timeouts::default().normal(Duration::from_secs(60));
    let browser = Site::with(|layer| layer.timeouts(patient)).visitor().await;
    let replies = at_once(100, |_| {
        browser.request(|session| async move {
            let n = session.update("n", |n: Option<i64>| n.unwrap_or(0) + 1).await?;
            Ok::<_, Error>(n.to_string())
        })
    });
    assert_eq!(numbers(&replies.await), (1..=100).collect());
    assert_eq!(browser.value("n").await, Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_starving_update_is_contended() {
    let browser = Site::new().visitor().await;
    let start = tokio::time::Instant::now();
    let reply = browser.request({
        let other = browser.clone();
        move |session| {
            let other = other.clone();
            async move {
                let interfere = |seed: Option<i64>| {
                    // Another request commits between the read and the write, every time.
                    let visit = other.visit(|session| async move {
                        session.increment("seed", 1).await.map(drop)
                    });
                    futures_util::FutureExt::now_or_never(visit).expect("memory never waits").ok();
                    seed.unwrap()
                };
                session.update("seed", interfere).await.map(drop)
            }
        }
    });
    let reply = reply.await;
    assert_eq!(reply.status, http::StatusCode::CONFLICT);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_millis(1_100), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_not_disturbed_by_other_keys() {
    let browser = Site::new().visitor().await;
    let reply = browser.request({
        let other = browser.clone();
        move |session| {
            let other = other.clone();
            async move {
                session.get::<i64>("seed").await?;
                other.visit(|session| async move { session.insert("other", 1).await }).await.ok();
                let mut runs = 0;
                session
                    .update("seed", |seed: Option<i64>| {
                        runs += 1;
                        seed.unwrap() + 1
                    })
                    .await?;
                assert_eq!(runs, 1);
                Ok(())
            }
        }
    });
    reply.await.ok();
    assert_eq!((browser.value("seed").await, browser.value("other").await), (Some(2), Some(1)));
}

#[tokio::test]
async fn an_update_reruns_when_its_key_changes() {
    let browser = Site::new().visitor().await;
    let reply = browser.request({
        let other = browser.clone();
        move |session| {
            let other = other.clone();
            async move {
                session.get::<i64>("seed").await?;
                other.visit(|session| async move { session.insert("seed", 40).await }).await.ok();
                session.update("seed", |seed: Option<i64>| seed.unwrap() + 2).await.map(drop)
            }
        }
    });
    reply.await.ok();
    assert_eq!(browser.value("seed").await, Some(42));
}

/// Shows RC-17.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_visits_leave_one_live_session() {
    let site = Site::new();
    let browser = site.browser();
    let replies =
        at_once(20, |_| browser.request(|session| async move { session.insert("a", 1).await }));
    for reply in replies.await {
        browser.keep(&reply);
        assert_eq!(browser.value("a").await, Some(1));
    }
}

/// Shows RC-12.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_values_of_somebody_else() {
    let site = Site::new();
    at_once(100, |n| {
        let browser = site.browser();
        async move {
            for visit in 1..=20 {
                let reply = browser.visit(move |session| async move {
                    let mine = session.get::<i64>("who").await?.unwrap_or(n);
                    session.insert("who", mine).await?;
                    session.increment("visits", 1).await.map(|visits| format!("{mine} {visits}"))
                });
                assert_eq!(reply.await.ok().body, format!("{n} {visit}"));
            }
            browser.visit(|session| async move { session.flush().await }).await
        }
    })
    .await;
    assert_eq!(site.records().await, 0);
}

async fn at_once<F>(count: i64, request: impl Fn(i64) -> F) -> Vec<Reply>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let replies = (0..count).map(request).collect::<JoinSet<_>>().join_all().await;
    replies.into_iter().map(Reply::ok).collect()
}

fn numbers(replies: &[Reply]) -> BTreeSet<i64> {
    replies.iter().map(|reply| reply.body.parse().unwrap()).collect()
}
