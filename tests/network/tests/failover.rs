//! A primary falls under load: what clients were told before, meanwhile and afterwards is what one
//! server could have told them, except for what the configuration allows to be lost.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use network::draw::Draw;
use network::history::clients::Part;
use network::history::failover::{Failover, Fall, Service, Toll, Tolls};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_wait_loses_no_logout() {
    let tolls = fail_over(Service::Redis, true).await;
    for part in [Part::Secret, Part::Life] {
        assert_eq!(of(&tolls, part).undone, 0, "{tolls:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_wait_loses_what_no_replica_has() {
    let tolls = fail_over(Service::Redis, false).await;
    assert_last_moments_are_lost(&tolls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_with_a_synchronous_standby_loses_nothing() {
    let tolls = fail_over(Service::Postgres, true).await;
    assert!(tolls.iter().all(|(_, toll)| toll.undone == 0), "{tolls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_loses_recent_commits() {
    let tolls = fail_over(Service::Postgres, false).await;
    assert_last_moments_are_lost(&tolls);
}

/// The primary is killed when its replica has followed no more for a while.
async fn fail_over(service: Service, is_confirmed: bool) -> Tolls {
    let failover = Failover { service, is_confirmed, fall: Fall::KilledAfter(LAG), answers: 500 };
    let tolls = failover.run(Draw::seeded().below(usize::MAX) as u64).await;
    for (_, toll) in &tolls {
        assert_eq!((toll.broken, toll.misread), (0, 0), "{tolls:?}");
    }
    tolls
}

/// Clients notice, and nothing is lost that the replica had.
fn assert_last_moments_are_lost(tolls: &Tolls) {
    for part in [Part::Counter, Part::Secret, Part::Life] {
        assert!(of(tolls, part).undone > 0, "{tolls:?}");
    }
    for (_, toll) in tolls {
        assert!(toll.oldest < LAG + A_BUSY_MACHINE, "{tolls:?}");
    }
}

fn of(tolls: &Tolls, part: Part) -> Toll {
    tolls.iter().find(|(of, _)| *of == part).unwrap().1
}

const LAG: Duration = Duration::from_millis(400);

/// How long clients may take until each of them has something to lose.
const A_BUSY_MACHINE: Duration = Duration::from_secs(20);
