//! Rules for the whole workspace: licences, minimum Rust version, layering.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_has_a_permissive_licence() {
    let allowed = ["MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "Unicode-3.0", "Zlib", "BSL-1.0"];
    for package in dependencies() {
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let terms = licence.split(" AND ").all(|term| {
            term.split(" OR ").any(|choice| allowed.contains(&choice.trim_matches(['(', ')', ' '])))
        });
        // The one exception is a file-level copyleft, and none of its files is changed.
        let is_foca = package["name"] == "foca" && licence == "MPL-2.0";
        assert!(terms || is_foca, "{} is under {licence:?}", package["name"]);
        let source = package["source"].as_str().unwrap();
        assert!(source.starts_with("registry+"), "{} comes from {source}", package["name"]);
    }
}

#[test]
fn dependencies_support_the_stated_rust_version() {
    let stated = workspace_version();
    for package in dependencies() {
        if let Some(demanded) = package["rust_version"].as_str() {
            assert!(version(demanded) <= stated, "{} demands Rust {demanded}", package["name"]);
        }
    }
}

#[test]
fn backends_depend_on_no_framework() {
    for (package, foreign) in [
        ("steadfast-core", &["http", "axum", "axum-core", "tower", "indexmap", "hyper"][..]),
        ("steadfast-memory", &["http", "axum", "axum-core", "tower", "hyper"]),
        ("steadfast-postgres", &["http", "axum", "axum-core", "tower", "hyper"]),
        ("steadfast-redis", &["http", "axum", "axum-core", "tower", "hyper"]),
        ("steadfast-sticky", &["http", "axum", "axum-core", "tower", "hyper"]),
        (
            "example-app",
            &["steadfast-memory", "steadfast-postgres", "steadfast-redis", "steadfast-sticky"],
        ),
        ("steadfast-replicated", &["http", "axum", "axum-core", "tower", "hyper", "moka"]),
        ("steadfast-replication", &["http", "axum", "tower", "hyper", "tokio", "rand"]),
    ] {
        let tree = tree(package);
        for name in foreign {
            assert!(!tree.contains(*name), "{package} depends on {name}");
        }
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest}");
        assert!(text.contains("rust-version.workspace = true"), "{manifest}");
    }
    let root = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(root.contains("unsafe_code = \"forbid\""));
}

#[test]
fn every_published_crate_is_complete() {
    let is_published =
        |package: &Value| package["source"].is_null() && package["publish"].is_null();
    let published: Vec<_> = packages().into_iter().filter(is_published).collect();
    assert!(published.len() > 7);
    for package in published {
        let name = package["name"].as_str().unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(manifest.with_file_name(file).exists(), "{name} has no {file}");
        }
        assert_eq!(package["documentation"], format!("https://docs.rs/{name}"));
        assert_eq!(package["metadata"]["docs"]["rs"]["all-features"], true, "{name}");
        assert!(!package["description"].is_null() && !package["keywords"].is_null(), "{name}");
    }
}

#[test]
fn every_test_belongs_to_a_package() {
    let own = packages().into_iter().filter(|package| package["source"].is_null());
    let targets: BTreeSet<_> = own.flat_map(|package| sources(&package)).collect();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let path = entry.unwrap().path();
        let main = if path.is_dir() { path.join("main.rs") } else { path };
        let is_test = main.extension().is_some_and(|kind| kind == "rs") && main.exists();
        assert!(!is_test || targets.contains(&main.canonicalize().unwrap()), "{}", main.display());
    }
}

#[test]
fn everything_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let named: BTreeSet<_> = text.split('`').skip(1).step_by(2).collect();
    let (paths, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|name| name.contains('/'));
    assert!(paths.len() > 80 && others.len() > 60, "too few names were found in ARCHITECTURE.md");
    let mut code = String::new();
    for path in paths {
        let path = root.join(path);
        assert!(path.exists(), "ARCHITECTURE.md names {}", path.display());
        code.push_str(&std::fs::read_to_string(path).unwrap_or_default());
    }
    for function in others.into_iter().filter_map(function) {
        let is_there =
            code.contains(&format!("fn {function}(")) || code.contains(&format!("fn {function}<"));
        assert!(
            is_there,
            "ARCHITECTURE.md names a function {function}, which no file named there has"
        );
    }
}

#[test]
fn every_public_method_has_an_example() {
    let mut missing = Vec::new();
    for file in WITH_EXAMPLES {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let methods = public_methods(&text);
        assert!(!methods.is_empty(), "{file} has no public method");
        let without =
            methods.into_iter().filter(|(_, documentation)| !documentation.contains("```"));
        missing.extend(without.map(|(name, _)| format!("{file}: {name}")));
    }
    assert!(missing.is_empty(), "methods without an example: {missing:#?}");
}

/// The public methods of a file, each with its documentation.
fn public_methods(text: &str) -> Vec<(String, String)> {
    let (mut methods, mut documentation) = (Vec::new(), String::new());
    for line in text.lines() {
        let words: Vec<_> = line.trim().split(' ').collect();
        match words.as_slice() {
            ["///", ..] => documentation.push_str(line),
            [attribute, ..] if attribute.starts_with("#[") => {}
            ["pub", "fn", name, ..]
            | ["pub", "async" | "const", "fn", name, ..]
            // Functions outside of an `impl` are not methods.
                if line.starts_with("    pub ") =>
            {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                methods.push((name.to_owned(), std::mem::take(&mut documentation)));
            }
            _ => documentation.clear(),
        }
    }
    methods
}

/// The files whose public methods users call.
const WITH_EXAMPLES: &[&str] = &[
    "backends/memory/src/store.rs",
    "backends/postgres/src/store.rs",
    "backends/redis/src/store.rs",
    "backends/replicated/src/open.rs",
    "backends/sticky/src/store.rs",
    "src/bridge/mod.rs",
    "src/connect/mod.rs",
    "src/cookie/profile.rs",
    "src/health.rs",
    "src/layer.rs",
    "src/seal/keys.rs",
    "src/session/csrf.rs",
    "src/session/flash.rs",
    "src/session/key.rs",
    "src/session/login.rs",
    "src/session/mod.rs",
    "src/session/signed_in.rs",
    "src/sessions.rs",
    "src/testing/mod.rs",
];

#[test]
fn the_readme_has_at_most_700_words() {
    let readme = include_str!("../README.md");
    assert!(readme.split_whitespace().count() <= 700);
    for link in readme.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link.1).exists(), "{}", link.1);
    }
}

/// Returns the name of the function in `Type::function`, or of a test.
fn function(name: &str) -> Option<&str> {
    let function = name.rsplit("::").next()?;
    let is_snake = |text: &str| {
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let is_named = name.contains("::") || function.matches('_').count() > 2;
    (is_named && is_snake(function)).then_some(function)
}

fn dependencies() -> Vec<Value> {
    packages().into_iter().filter(|package| !package["source"].is_null()).collect()
}

fn manifests() -> Vec<String> {
    let own = packages().into_iter().filter(|package| package["source"].is_null());
    own.map(|package| package["manifest_path"].as_str().unwrap().to_owned()).collect()
}

fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--locked", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The files in which the targets of a package begin.
fn sources(package: &Value) -> Vec<PathBuf> {
    let targets = package["targets"].as_array().unwrap().iter();
    targets
        .map(|target| Path::new(target["src_path"].as_str().unwrap()).canonicalize().unwrap())
        .collect()
}

/// Returns the packages that a package is built with, without its tests.
fn tree(package: &str) -> BTreeSet<String> {
    let text = cargo(&["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none"]);
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn workspace_version() -> (u32, u32) {
    version(env!("CARGO_PKG_RUST_VERSION"))
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(0))
}
