//! The process's metrics, as Prometheus reads them.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use steadfast::store::Event;

/// Collects the metrics of the process from now on. Before a store is opened, so that nothing of it is
/// missed.
pub(crate) fn collect() -> anyhow::Result<PrometheusHandle> {
    let metrics = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    metrics::describe_counter!("steadfast_events_total", "What happened to sessions, by name");
    // Shown with a count of 0 before they happen.
    for event in Event::ALL {
        metrics::counter!("steadfast_events_total", "event" => event.name()).absolute(0);
    }
    // Otherwise the times of calls pile up for as long as nothing scrapes them.
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}

/// The buckets in seconds: from a call in memory to the longest timeout.
const BUCKETS: [f64; 12] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0];

const UPKEEP: Duration = Duration::from_secs(5);
