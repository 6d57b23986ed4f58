//! Every metric of the guide is shown by some server, and every metric that a server shows is in the
//! guide, with the labels and the values that it has there.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod guide;
mod monitoring;
mod shown;

mod memory;
mod sticky;
mod replicated;
mod redis;
mod postgres;

use std::collections::BTreeSet;

use crate::guide::Guide;
use crate::shown::Shown;

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_lists_exactly_the_shown_metrics() {
    let (guide, shown) = (Guide::read(), everything().await);
    assert_eq!(guide.names(), shown.names());
    for metric in &guide.metrics {
        let seen = &shown.metrics[&metric.name];
        assert_eq!(metric.kind, seen.kind, "{}", metric.name);
        let labels: BTreeSet<_> = metric.labels.keys().cloned().collect();
        assert_eq!(seen.labels, BTreeSet::from([labels]), "{}", metric.name);
        for (label, values) in metric.labels.iter().filter(|(_, values)| !values.is_empty()) {
            let seen = &seen.values[label];
            match label.as_str() {
                // Some failures cannot be had from a server that is well.
                "reason" => assert!(seen.is_subset(values), "{}: {seen:?}", metric.name),
                _ => assert_eq!(seen, values, "{}", metric.name),
            }
        }
    }
    assert_eq!(guide.events, shown.events, "each event of the list happened");
}

/// The metrics that servers over every kind of store show after all kinds of events.
async fn everything() -> Shown {
    let (mut shown, sticky, replicated, redis, postgres) = tokio::join!(
        memory::shown(),
        sticky::shown(),
        replicated::shown(),
        redis::shown(),
        postgres::shown()
    );
    [sticky, replicated, redis, postgres].into_iter().for_each(|other| shown.add(other));
    shown
}
