//! The names of tests: short sentences about behaviour.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// The accepted number of words in a name. Underscores separate the words.
const WORDS: RangeInclusive<usize> = 3..=8;

/// The checks of the conformance kit become tests, without an attribute in the source.
const CHECKS: &str = "conformance/checks";

#[test]
fn test_names_have_three_to_eight_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    for directory in ["backends", "examples", "src", "tests"] {
        collect(&root.join(directory), &mut names);
    }
    assert!(names.len() > 1_500, "{} tests are found", names.len());
    names.retain(|(_, name)| !WORDS.contains(&name.split('_').count()));
    assert!(names.is_empty(), "{names:#?}");
}

/// Adds the file and the name of each test below a directory.
fn collect(directory: &Path, names: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            let found = tests(&text, file.contains(CHECKS));
            names.extend(found.map(|name| (file.clone(), name.to_owned())));
        }
    }
}

/// The functions of a source file that are tests, or, in a file of checks, public.
fn tests(text: &str, of_checks: bool) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().map(str::trim).filter_map(move |line| {
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        let (before, name) = line.split_once("fn ")?;
        let is_function = matches!(before, "" | "async " | "pub " | "pub async ");
        let is_check = of_checks && before == "pub async ";
        (is_function && (std::mem::take(&mut is_test) || is_check))
            .then(|| name.split(['(', '<']).next().unwrap_or_default())
    })
}

#[test]
fn attributes_and_checks_mark_tests() {
    let text = "#[test]\nfn one() {}\n#[tokio::test]\nasync fn two() {}\nfn none() {}\npub async fn three() {}";
    assert_eq!(tests(text, false).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(tests(text, true).collect::<Vec<_>>(), ["one", "two", "three"]);
}
