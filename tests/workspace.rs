//! What must hold of the workspace as a whole: licences, minimum Rust version, layering.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_has_a_permissive_licence_and_comes_from_the_registry() {
    let allowed = ["MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "Unicode-3.0", "Zlib", "BSL-1.0"];
    for package in dependencies() {
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let terms = licence.split(" AND ").all(|term| {
            term.split(" OR ").any(|choice| allowed.contains(&choice.trim_matches(['(', ')', ' '])))
        });
        // The one exception: a copyleft of files, and none of them is changed.
        let is_foca = package["name"] == "foca" && licence == "MPL-2.0";
        assert!(terms || is_foca, "{} is under {licence:?}", package["name"]);
        let source = package["source"].as_str().unwrap();
        assert!(source.starts_with("registry+"), "{} comes from {source}", package["name"]);
    }
}

#[test]
fn every_dependency_of_a_library_supports_the_stated_rust_version() {
    let stated = workspace_version();
    for package in dependencies() {
        if let Some(demanded) = package["rust_version"].as_str() {
            assert!(version(demanded) <= stated, "{} demands Rust {demanded}", package["name"]);
        }
    }
}

#[test]
fn the_core_knows_no_framework_and_a_backend_knows_no_http() {
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
fn every_crate_forbids_unsafe_code_and_states_its_rust_version() {
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest}");
        assert!(text.contains("rust-version.workspace = true"), "{manifest}");
    }
    let root = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(root.contains("unsafe_code = \"forbid\""));
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

/// What a package is built with, its tests left aside.
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
