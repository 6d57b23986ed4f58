//! Several handles of one session, on every store: handles that outlive a sign-in, a sign-out, a
//! rotation or an expiry do exactly what a model says.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
#![allow(clippy::unused_async, reason = "every service is opened in the same way")]

mod steps;
mod model;
mod history;
mod once;
mod administration;
mod visits;
mod service;

use service::Service;
use steps::{Act, Step, Who};

/// A test for each store, with the number of histories that are compared with the model.
macro_rules! handles {
    ($($store:ident: $cases:expr),+ $(,)?) => {
        $(#[test]
        fn $store() {
            history::check($cases, Service::$store);
        })+

        mod administrators_see_and_end_what_requests_began {
            use super::{Service, administration};

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $store() {
                administration::check(Service::$store().await).await;
            })+
        }

        mod one_request_has_what_is_read_once {
            use super::{Service, once};

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $store() {
                once::check(Service::$store().await).await;
            })+
        }
    };
}

handles!(
    memory: 384,
    sticky_over_memory: 96,
    sticky_that_follows_changes: 96,
    sticky_over_redis: 24,
    sticky_over_postgres: 16,
    replicated_to_all: 24,
    replicated_to_a_backup: 24,
    redis: 48,
    redis_cluster: 24,
    postgres: 32,
);

/// Not even where the same user signed in again after another one.
#[test]
fn an_earlier_handle_lists_nothing() {
    let visit = |act| Step::Visit { browser: 0, node: 0, act };
    history::play(
        Service::memory,
        &[
            visit(Act::Login(Who::Alice)),
            Step::Open { browser: 0, node: 0, loads: true },
            visit(Act::Login(Who::Bob)),
            visit(Act::Login(Who::Alice)),
            Step::Act { handle: 1, act: Act::List },
        ],
    );
}
