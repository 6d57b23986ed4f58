//! A primary fails under load. The answers before, during and after the failover could all come
//! from a single server, except for losses that the configuration permits.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use network::draw::Draw;
use network::history::clients::Part;
use network::history::failover::{Failover, Losses, LossesByPart, PrimaryFailure, Service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_wait_loses_no_logout() {
    let losses = fail_over(Service::Redis, true).await;
    for part in [Part::Secret, Part::Life] {
        assert_eq!(of(&losses, part).undone, 0, "{losses:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_wait_loses_what_no_replica_has() {
    let losses = fail_over(Service::Redis, false).await;
    assert_last_moments_are_lost(&losses);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_with_a_synchronous_standby_loses_nothing() {
    let losses = fail_over(Service::Postgres, true).await;
    assert!(losses.iter().all(|(_, losses)| losses.undone == 0), "{losses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_loses_recent_commits() {
    let losses = fail_over(Service::Postgres, false).await;
    assert_last_moments_are_lost(&losses);
}

/// Kills the primary after replication was stopped for a while.
async fn fail_over(service: Service, is_confirmed: bool) -> LossesByPart {
    let failover =
        Failover { service, is_confirmed, failure: PrimaryFailure::KilledAfter(LAG), answers: 500 };
    let losses = failover.run(Draw::seeded().below(usize::MAX) as u64).await;
    for (_, losses) in &losses {
        assert_eq!((losses.broken, losses.misread), (0, 0), "{losses:?}");
    }
    losses
}

/// Checks that clients notice the failover, and that changes which reached the replica are kept.
fn assert_last_moments_are_lost(losses: &LossesByPart) {
    for part in [Part::Counter, Part::Secret, Part::Life] {
        assert!(of(losses, part).undone > 0, "{losses:?}");
    }
    for (_, losses) in losses {
        assert!(losses.oldest < LAG + A_BUSY_MACHINE, "{losses:?}");
    }
}

fn of(losses: &LossesByPart, part: Part) -> Losses {
    losses.iter().find(|(of, _)| *of == part).unwrap().1
}

const LAG: Duration = Duration::from_millis(400);

/// The time within which each client has something to lose, on a busy machine.
const A_BUSY_MACHINE: Duration = Duration::from_secs(20);
