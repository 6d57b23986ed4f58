//! One application, and every strategy: the same program with another URL behaves the same.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod service;
mod journey;
mod races;
mod keys;
mod sealed;
mod administration;

/// A module for each strategy, with all tests.
macro_rules! strategies {
    ($($strategy:ident),+ $(,)?) => {
        $(mod $strategy {
            use crate::service::Service;
            use crate::{administration, journey, keys, races, sealed};

            #[tokio::test(flavor = "multi_thread")]
            async fn a_journey_equals_that_on_one_node() {
                journey::is_the_same(&Service::$strategy(&[]).await).await;
            }

            /// Shows RC-09.
            #[tokio::test(flavor = "multi_thread")]
            async fn no_concurrent_write_revives_a_session() {
                races::no_write_outlives_a_logout(&Service::$strategy(&[]).await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_administrator_sees_and_ends_sessions() {
                let service = Service::$strategy(&[]).await;
                administration::sees_and_ends_sessions(&service).await;
                administration::ends_sessions_by_their_label(&service).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn hash_keys_change_under_load() {
                keys::change_under_load(&Service::$strategy(&[]).await, &keys::HASH).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn seal_keys_change_under_load() {
                let service = Service::$strategy(sealed::NOT_YET).await;
                keys::change_under_load(&service, &keys::SEAL).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_journey_with_sealed_values_is_the_same() {
                journey::is_the_same(&Service::$strategy(sealed::ON).await).await;
            }

            /// Shows AR-03.
            #[tokio::test(flavor = "multi_thread")]
            async fn no_dump_shows_a_plain_value() {
                sealed::no_dump_shows_a_value(&Service::$strategy(sealed::ON).await).await;
            }

            /// Shows DS-07.
            #[tokio::test(flavor = "multi_thread")]
            async fn limits_count_the_plain_value() {
                sealed::limits_count_the_plain_value(&Service::$strategy(sealed::ON).await).await;
            }
        })+
    };
}

strategies!(
    memory,
    sticky,
    replicated_to_all,
    replicated_to_a_backup,
    redis,
    redis_with_sentinels,
    redis_cluster,
    postgres,
);
