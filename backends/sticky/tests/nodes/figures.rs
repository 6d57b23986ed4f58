//! The metrics of a node.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use steadfast_core::Operate;
use steadfast_core::conformance::faults::{Call, Fault};
use testkit::eventually;

use crate::service::{Node, Service, put};

#[tokio::test(start_paused = true)]
async fn an_operator_sees_the_feed_and_the_copies() {
    let (_guard, seen) = recorder();
    let service = Service::with(1, |node| node);
    let id = service.session().await;
    seen.eventually("steadfast_feed_up", 1.0).await;
    seen.eventually("steadfast_feed_gaps_total", 0.0).await;
    seen.eventually("steadfast_local_copies", 1.0).await;
    // More changes than the feed buffers for a listener that does not read.
    let touch = |n| put("n", n);
    for n in 0..2_000 {
        service.backup.patch(id, &touch(n)).await;
    }
    seen.eventually("steadfast_feed_gaps_total", 1.0).await;
    seen.eventually("steadfast_feed_up", 1.0).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_that_a_backup_tells_nothing() {
    let (_guard, seen) = recorder();
    let service = Service::with(1, |node| node.follow_changes(false));
    service.session().await;
    seen.eventually("steadfast_feed_up", 0.0).await;
}

#[tokio::test(start_paused = true)]
async fn metrics_show_queued_and_lost_writes() {
    let (_guard, seen) = recorder();
    let service = Service::with(1, |node| node.write_behind(Duration::from_secs(5)));
    let id = service.session().await;
    seen.eventually("steadfast_write_behind_lost_total", 0.0).await;
    service.backup.set(Call::Update, Fault::Down);
    for n in 0..3 {
        service.nodes[0].write(id, &put(&format!("k{n}"), n)).await;
    }
    seen.eventually("steadfast_write_behind_queued", 3.0).await;
    service.nodes[0].drain().await.unwrap();
    seen.eventually("steadfast_write_behind_queued", 0.0).await;
    seen.eventually("steadfast_write_behind_lost_total", 3.0).await;
}

fn recorder() -> (impl Drop, Seen) {
    let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let seen = Seen(recorder.handle());
    (metrics::set_default_local_recorder(recorder), seen)
}

/// The rendered metrics.
struct Seen(PrometheusHandle);

impl Seen {
    async fn eventually(&self, name: &str, value: f64) {
        let start = format!("{name}{{node=\"n1\"}} ");
        let figure = || {
            let text = self.0.render();
            text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
        };
        eventually(async || figure() == Some(value)).await;
    }
}
