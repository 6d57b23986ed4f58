//! Every requirement, and where it is shown: `README.md` beside this file is made from here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::requirements::{REQUIREMENTS, Requirement, Shown};

/// `UPDATE_SECURITY_TABLE=1 cargo test -p reference --test security table` writes it anew.
#[test]
fn the_table_says_where_each_requirement_is_shown() {
    let table = table(&tests());
    let path = root().join("tests/security/README.md");
    if std::env::var_os("UPDATE_SECURITY_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == table, "tests/security/README.md is out of date: {UPDATE}");
}

#[test]
fn what_blocks_a_release_and_one_node_can_show_is_shown() {
    let tests = tests();
    let missing: Vec<_> = REQUIREMENTS
        .iter()
        .filter(|requirement| matches!(requirement.shown, Shown::Here(_)))
        .filter(|requirement| places(requirement, &tests).is_empty())
        .map(|requirement| requirement.id)
        .collect();
    assert!(missing.is_empty(), "no test bears the id of {missing:?}");
}

#[test]
fn every_test_that_bears_an_id_bears_one_of_the_list() {
    let known: BTreeSet<_> = REQUIREMENTS.iter().map(|requirement| requirement.id).collect();
    for name in tests().keys() {
        let id = id_of(name);
        assert!(id.is_none_or(|id| known.contains(id.as_str())), "{name}");
    }
    assert_eq!(known.len(), REQUIREMENTS.len(), "an id stands twice");
}

#[test]
fn a_test_that_is_named_as_showing_something_exists() {
    let tests = tests();
    for requirement in REQUIREMENTS {
        if let Shown::Here(others) = requirement.shown {
            for other in others {
                assert!(tests.contains_key(*other), "{}: {other}", requirement.id);
            }
        }
    }
}

/// The names of all functions of this repository's tests, and the files they are in.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for file in ["src", "backends", "tests", "examples/reference"].iter().flat_map(sources) {
        let text = std::fs::read_to_string(&file).unwrap();
        let file = file.strip_prefix(root()).unwrap().display().to_string();
        for name in functions(&text) {
            found.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    found
}

/// The Rust files below a directory.
fn sources(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    found
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).map(|rest| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        rest.split(|c| !is_part(c)).next().unwrap_or_default()
    })
}

/// The id that a name begins with: `lo_01_…` is LO-01.
fn id_of(name: &str) -> Option<String> {
    let (kind, rest) = name.split_once('_')?;
    let (number, _) = rest.split_once('_')?;
    let is_id = kind.len() == 2 && number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit());
    is_id.then(|| format!("{}-{number}", kind.to_uppercase()))
}

/// Where a requirement is shown: each file, and the tests in it.
fn places(
    requirement: &Requirement,
    tests: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeMap<String, Vec<String>> {
    let others = match requirement.shown {
        Shown::Here(others) => others,
        Shown::Elsewhere(_) => &[],
    };
    let bears = |name: &str| id_of(name).is_some_and(|id| id == requirement.id);
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for (name, files) in tests.iter().filter(|(n, _)| bears(n) || others.contains(&n.as_str())) {
        for file in files {
            places.entry(file.clone()).or_default().push(name.clone());
        }
    }
    places
}

fn table(tests: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut text = INTRODUCTION.to_owned();
    for requirement in REQUIREMENTS {
        let shown = match (requirement.shown, places(requirement, tests)) {
            (Shown::Elsewhere(why), places) if places.is_empty() => why.to_owned(),
            (Shown::Elsewhere(why), places) => format!("{}; {why}", list(&places)),
            (Shown::Here(_), places) => list(&places),
        };
        let Requirement { id, priority, demands, .. } = requirement;
        writeln!(text, "| {id} | {priority} | {demands} | {shown} |").unwrap();
    }
    text
}

fn list(places: &BTreeMap<String, Vec<String>>) -> String {
    let file = |(file, tests): (&String, &Vec<String>)| match tests.len() {
        1 => format!("`{file}`"),
        count => format!("`{file}` ({count})"),
    };
    places.iter().map(file).collect::<Vec<_>>().join(", ")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

const UPDATE: &str = "UPDATE_SECURITY_TABLE=1 cargo test -p reference --test security table";

const INTRODUCTION: &str = "# Security requirements, and where each is shown

Made by `UPDATE_SECURITY_TABLE=1 cargo test -p reference --test security table`; a test compares it
with the names of all tests. A test bears the id of what it shows: `lo_01_…` is LO-01. A file with
several such tests has their number behind it. P0 blocks a release, P1 blocks 1.0.

| id | P | demands | shown in |
| --- | --- | --- | --- |
";
