//! The prose of the project: documentation, comments, error texts and pages.
//!
//! [`patterns`] lists constructions that are hard to read for an engineer whose language is English, each with the
//! highest rate that is accepted. The rates come from tower-http, axum, rustls, jiff, opendal and openraft.
//!
//! The check covers the directories and files of [`CLEAN`]. Add one once its prose has been edited.

#![allow(clippy::unwrap_used)]

mod names;
mod patterns;
mod text;

use std::path::Path;

use patterns::{OPENINGS, OPENINGS_PER_100, PATTERNS, Pattern};
use text::{Passage, passages};

/// The directories and files whose prose keeps to the accepted rates.
const CLEAN: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "backends/core",
    "backends/memory",
    "backends/postgres",
    "backends/redis",
    "backends/replicated",
    "backends/replication",
    "backends/sticky",
    "examples/administration",
    "examples/app",
    "examples/balancer",
    "examples/benchmark",
    "examples/chat",
    "examples/compare",
    "examples/memory",
    "examples/migration",
    "examples/postgres",
    "examples/redis",
    "examples/reference",
    "examples/replicated",
    "examples/sticky",
    "examples/store",
    "src",
    "tests/README.md",
    "tests/accounts.rs",
    "tests/bridge",
    "tests/browser",
    "tests/drills",
    "tests/fuzz",
    "tests/handles",
    "tests/health.rs",
    "tests/interleavings",
    "tests/linearizability",
    "tests/middleware",
    "tests/neighbours",
    "tests/network",
    "tests/prose",
    "tests/security",
    "tests/simulation",
    "tests/strategies",
    "tests/testing.rs",
    "tests/testkit",
    "tests/wire",
    "tests/workspace.rs",
];

/// Sentences that a failure prints for each pattern.
const SHOWN: usize = 12;

/// `PROSE="backends/core README.md"` checks these paths instead, and prints all their matches.
#[test]
fn edited_prose_stays_readable() {
    let requested = std::env::var("PROSE").unwrap_or_default();
    let requested: Vec<_> = requested.split_whitespace().collect();
    let paths = if requested.is_empty() { CLEAN } else { &requested };
    let complaints: Vec<_> = paths.iter().flat_map(|path| complaints(path)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Returns one text for each pattern that is too frequent at a path.
fn complaints(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let passages = passages(root, &root.join(path));
    assert!(!passages.is_empty(), "{path} has no prose");
    let words = passages.iter().map(Passage::words).sum();
    let mut complaints: Vec<_> =
        PATTERNS.iter().filter_map(|pattern| too_frequent(pattern, &passages, words)).collect();
    complaints.extend(too_many_openings(&passages));
    complaints.iter().map(|complaint| format!("{path}: {complaint}")).collect()
}

fn too_frequent(pattern: &Pattern, passages: &[Passage], words: usize) -> Option<String> {
    let found: Vec<_> = passages
        .iter()
        .flat_map(|passage| passage.sentences().map(move |sentence| (passage, sentence)))
        .flat_map(|(passage, sentence)| vec![(passage, sentence); pattern.count(sentence)])
        .collect();
    let rate = found.len() as f64 * 10_000.0 / words as f64;
    // A short text may use an accepted construction once.
    let accepted = pattern.per_10_000 > 0.0 && found.len() == 1;
    (rate > pattern.per_10_000 && !accepted).then(|| {
        let heading = format!(
            "{}: {rate:.1} per 10,000 words, at most {} accepted",
            pattern.name, pattern.per_10_000
        );
        listing(&heading, &found)
    })
}

fn too_many_openings(passages: &[Passage]) -> Option<String> {
    let docs: Vec<_> = passages.iter().filter(|passage| passage.opens_docs).collect();
    let found: Vec<_> = docs
        .iter()
        .filter_map(|passage| passage.sentences().next().map(|sentence| (*passage, sentence)))
        .filter(|(_, sentence)| OPENINGS.contains(&text::first_word(sentence).as_str()))
        .collect();
    let share = found.len() as f64 * 100.0 / docs.len().max(1) as f64;
    (share > OPENINGS_PER_100).then(|| {
        let heading = format!(
            "first line opens with a question word or preposition: {share:.0} %, at most {OPENINGS_PER_100} accepted"
        );
        listing(&heading, &found)
    })
}

fn listing(heading: &str, found: &[(&Passage, &str)]) -> String {
    let shown = if std::env::var_os("PROSE").is_some() { found.len() } else { SHOWN };
    let lines = found
        .iter()
        .take(shown)
        .map(|(passage, sentence)| format!("    {}:{}: {sentence}\n", passage.file, passage.line));
    format!("{heading}\n{}", lines.collect::<String>())
}
