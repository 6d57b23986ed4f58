//! All processes of a comparison end with it, even if it is killed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn ctrl_c_ends_every_process() {
    let mut comparison = Comparison::start("interrupted");
    comparison.signal("INT");
    assert_eq!(comparison.process.wait().unwrap().code(), Some(130));
    comparison.assert_nothing_runs();
}

#[test]
fn a_kill_ends_every_process() {
    let mut comparison = Comparison::start("killed");
    comparison.signal("KILL");
    comparison.process.wait().unwrap();
    comparison.assert_nothing_runs();
}

#[test]
fn a_wrong_option_is_one_clear_line() {
    let output = compare().args(["--nodes", "9"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("compare: invalid value \"9\" for --nodes"), "{said}");
    assert!(!Path::new("target/compare").exists());
}

/// A comparison over Redis, whose nodes are a program that never becomes ready.
struct Comparison {
    process: Child,
    directory: PathBuf,
}

impl Comparison {
    /// Returns once Redis and all nodes run.
    fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("compare-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let node = directory.join("node");
        fs::write(&node, NODE).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = compare();
        process.args(["--strategies", "redis", "--reference"]).arg(&node);
        process.arg("--out").arg(&directory);
        let comparison = Self { process: process.spawn().unwrap(), directory };
        within(|| comparison.nodes().len() == 3);
        comparison
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn assert_nothing_runs(&self) {
        within(|| self.nodes().is_empty() && self.redis().is_empty());
        within(|| !self.workplace().exists());
        fs::remove_dir_all(&self.directory).unwrap();
    }

    fn nodes(&self) -> Vec<String> {
        running(&self.directory.join("node").display().to_string())
    }

    /// Redis servers, whose directories are named by the comparison.
    fn redis(&self) -> Vec<String> {
        running(&format!("steadfast-redis-{}-", self.process.id()))
    }

    fn workplace(&self) -> PathBuf {
        std::env::temp_dir().join(format!("steadfast-compare-{}", self.process.id()))
    }
}

fn compare() -> Command {
    let mut compare = Command::new(env!("CARGO_BIN_EXE_compare"));
    compare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    compare
}

/// The command lines that mention a text, of the programs themselves and not of their keepers.
fn running(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    let is_keeper = |line: &str| line.contains(" keeper ") || line.starts_with("sh -c");
    lines
        .filter(|line| line.contains(text) && !is_keeper(line) && !line.contains("--reference"))
        .collect()
}

fn within(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const NODE: &str = "#!/bin/sh\necho listening on http://127.0.0.1:1\nwhile :; do sleep 1; done\n";
