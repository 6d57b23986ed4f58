//! The table of the requirements and of the tests that show them. It writes `README.md` beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::requirements::{REQUIREMENTS, Requirement, Shown};

/// `UPDATE_SECURITY_TABLE=1 cargo test -p reference --test security table` writes the table.
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
fn every_release_requirement_is_shown() {
    let tests = tests();
    let missing: Vec<_> = REQUIREMENTS
        .iter()
        .filter(|requirement| matches!(requirement.shown, Shown::Here(_)))
        .filter(|requirement| places(requirement, &tests).is_empty())
        .map(|requirement| requirement.id)
        .collect();
    assert!(missing.is_empty(), "no test shows {missing:?}");
}

#[test]
fn every_shown_requirement_is_listed() {
    let known: BTreeSet<_> = REQUIREMENTS.iter().map(|requirement| requirement.id).collect();
    for test in tests() {
        for id in &test.shows {
            assert!(known.contains(id.as_str()), "{}: {} shows {id}", test.file, test.name);
        }
    }
    assert_eq!(known.len(), REQUIREMENTS.len(), "an id is listed twice");
}

#[test]
fn every_named_test_exists() {
    let tests = tests();
    for requirement in REQUIREMENTS {
        if let Shown::Here(others) = requirement.shown {
            for other in others {
                assert!(
                    tests.iter().any(|test| test.name == *other),
                    "{}: {other}",
                    requirement.id
                );
            }
        }
    }
}

/// A function of this repository, and the requirements that its documentation says it shows.
struct Test {
    name: String,
    file: String,
    shows: Vec<String>,
}

fn tests() -> Vec<Test> {
    let mut found = Vec::new();
    for path in ["src", "backends", "tests", "examples/reference"].iter().flat_map(sources) {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root()).unwrap().display().to_string();
        found.extend(tests_of(&text, &file));
    }
    found
}

/// The functions of a file. A line with one of [`MARKS`] belongs to the next function.
fn tests_of(text: &str, file: &str) -> Vec<Test> {
    let (mut found, mut shows) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let text = line.trim();
        if let Some(ids) = MARKS.iter().find_map(|mark| text.strip_prefix(mark)) {
            let ids = ids.trim_end_matches('.').split(", ").map(str::to_owned);
            shows.extend(ids.filter(|id| is_id(id)));
        }
        for name in functions(line) {
            let (name, file) = (name.to_owned(), file.to_owned());
            found.push(Test { name, file, shows: std::mem::take(&mut shows) });
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

/// The beginnings of a line that names requirements; the second one is for examples of the documentation.
const MARKS: [&str; 2] = ["/// Shows ", "/// # // Shows "];

/// True for the form of an id: `LO-01`.
fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(kind, number)| {
        kind.len() == 2
            && kind.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The tests of each file that show a requirement.
fn places(requirement: &Requirement, tests: &[Test]) -> BTreeMap<String, BTreeSet<String>> {
    let others = match requirement.shown {
        Shown::Here(others) => others,
        Shown::Elsewhere(_) => &[],
    };
    let shows = |test: &&Test| {
        test.shows.iter().any(|id| id == requirement.id) || others.contains(&test.name.as_str())
    };
    let mut places = BTreeMap::<_, BTreeSet<_>>::new();
    for test in tests.iter().filter(shows) {
        places.entry(test.file.clone()).or_default().insert(test.name.clone());
    }
    places
}

fn table(tests: &[Test]) -> String {
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

fn list(places: &BTreeMap<String, BTreeSet<String>>) -> String {
    let file = |(file, tests): (&String, &BTreeSet<String>)| match tests.len() {
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

`UPDATE_SECURITY_TABLE=1 cargo test -p reference --test security table` writes this page, and a test
compares it with the documentation of all tests: `/// Shows LO-01.` names the requirement that a test
shows. A number in parentheses counts several such tests of a file. P0 blocks a release, P1 blocks 1.0.

| id | P | demands | shown in |
| --- | --- | --- | --- |
";
