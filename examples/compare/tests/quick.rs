//! The quick run measures every strategy, and says which of them are right.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use compare::report::Report;

#[test]
fn a_quick_run_tells_right_strategies_from_the_control() {
    let out = testkit::ports::fresh_directory("quick");
    let mut compare = Command::new(env!("CARGO_BIN_EXE_compare"));
    compare.arg("--quick").arg("--out").arg(&out).stdin(Stdio::null());
    let output = compare.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = Report::parse(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    let figure = |strategy: &str, key| {
        let one = report.strategies.iter().find(|one| one.id == strategy);
        one.and_then(|one| one.figure(key)).unwrap_or_else(|| panic!("{strategy} {key}"))
    };
    assert!(figure("memory", "mismatch_percent") > 10.0);
    for strategy in
        ["sticky", "sticky-backup", "replicated-all", "replicated-one", "redis", "postgres"]
    {
        assert_eq!(figure(strategy, "mismatch_percent"), 0.0, "{strategy}");
        assert_eq!(figure(strategy, "lost_updates_percent"), 0.0, "{strategy}");
        assert_eq!(figure(strategy, "revived"), 0.0, "{strategy}");
    }
    assert!(figure("sticky", "kill_lost_sessions") > 0.0);
    for strategy in ["replicated-all", "replicated-one", "redis", "postgres"] {
        assert_eq!(figure(strategy, "kill_lost_sessions"), 0.0, "{strategy}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("single pass"));
    std::fs::remove_dir_all(out).unwrap();
}
