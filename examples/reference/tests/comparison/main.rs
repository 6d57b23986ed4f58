//! The comparison of strategies, in its quick run over this program.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;

use compare::options::Options;
use compare::report::Report;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_run_tells_right_from_wrong() {
    let out = std::env::temp_dir().join(format!("steadfast-comparison-{}", std::process::id()));
    let report = compare::run(&options(out.clone())).await.unwrap();
    let figure = |strategy, key| figure(&report, strategy, key);
    assert!(figure("memory", "mismatch_percent") > 10.0);
    assert!(figure("memory", "lost_updates_percent") > 10.0);
    for strategy in
        ["sticky", "sticky-backup", "replicated-all", "replicated-one", "redis", "postgres"]
    {
        for key in ["mismatch_percent", "lost_updates_percent", "revived"] {
            assert_eq!(figure(strategy, key), 0.0, "{strategy} {key}");
        }
    }
    assert!(figure("sticky", "kill_lost_sessions") > 0.0);
    for strategy in ["replicated-all", "replicated-one", "redis", "postgres"] {
        for key in ["kill_lost_sessions", "kill_lost_values"] {
            assert_eq!(figure(strategy, key), 0.0, "{strategy} {key}");
        }
    }
    for key in ["read_p99_ms", "write_p50_ms", "cpu_ms_per_1000", "node_mb", "server_mb"] {
        assert!(figure("redis", key) > 0.0, "{key}");
    }
    assert!(figure("redis", "request_skew") < 1.2);
    assert_is_written(&out, &report);
    std::fs::remove_dir_all(out).unwrap();
}

/// The written file holds the returned value.
fn assert_is_written(out: &std::path::Path, report: &Report) {
    let json = std::fs::read_to_string(out.join("report.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let strategies = json["strategies"].as_array().unwrap();
    for (written, measured) in strategies.iter().zip(&report.strategies) {
        for (key, value) in &measured.measures {
            assert_eq!(written["measures"][key].as_f64(), *value, "{key}");
        }
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("single pass"));
    let chart = std::fs::read_to_string(out.join("promises.svg")).unwrap();
    assert!(chart.contains("Undone logouts"));
    let records = std::fs::read_to_string(out.join("requests.csv")).unwrap();
    assert!(records.lines().filter(|line| line.starts_with("redis,calm,")).count() > 50);
}

fn figure(report: &Report, strategy: &str, key: &str) -> f64 {
    let measured = report.strategies.iter().find(|measured| measured.id == strategy).unwrap();
    measured.measures[key].unwrap()
}

fn options(out: PathBuf) -> Options {
    let options = Options::parse(["--quick".to_owned()]).unwrap().unwrap();
    Options { out, reference: Some(env!("CARGO_BIN_EXE_reference").into()), ..options }
}
