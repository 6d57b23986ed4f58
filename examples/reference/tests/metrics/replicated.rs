//! Nodes that hold sessions together, one of which is lost.

use testkit::Cluster;

use crate::shown::{Shown, until};

pub async fn shown() -> Shown {
    let mut cluster = Cluster::start(3, "copies=2").await;
    let client = cluster.node(0).member("alice").await;
    client.at(cluster.node(1)).post("/incr").await.ok();
    cluster.kill(2).await;
    until(cluster.node(0), r#"steadfast_degraded{node="n1"}"#, |degraded| degraded == 1.0).await;
    client.post("/incr").await.ok();
    let down = r#"steadfast_detection_seconds_count{node="n1"}"#;
    until(cluster.node(0), down, |nodes| nodes > 0.0).await;
    let degraded = r#"steadfast_degraded_writes_total{node="n1"}"#;
    until(cluster.node(0), degraded, |writes| writes > 0.0).await;
    let mut shown = Shown::by(cluster.node(0)).await;
    shown.add(Shown::by(cluster.node(1)).await);
    shown
}
