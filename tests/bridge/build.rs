//! Takes the tests of tower-sessions and axum-login, and the examples of their documentation, from the
//! packages that the registry has, so that they run over a bridge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let packages = Packages::of_the_workspace();
    for (name, version) in [("0_14", "0.14"), ("0_15", "0.15")] {
        let sessions = packages.source("tower-sessions", version);
        write(&format!("common_{name}.rs"), &read(&sessions.join("tests/common/mod.rs")));
        write(&format!("service_{name}.rs"), &service(&read(&sessions.join("src/service.rs"))));
        let core = packages.source("tower-sessions-core", version);
        write(&format!("documentation_{name}.rs"), &examples(&read(&core.join("src/session.rs"))));
    }
    let login = packages.source("axum-login", "0.18");
    write("axum_login.rs", &middleware(&read(&login.join("src/middleware.rs"))));
}

/// The tests of `SessionManagerLayer`.
fn service(source: &str) -> String {
    let tests = tests_of(source)
        .replace("use tower_sessions_memory_store::MemoryStore;", "")
        .replace("use crate::session::", "use super::session::");
    // Deadlines are whole milliseconds here, and one that is later has to be later by that much.
    let first = "let rec1 = get_record(&session_store, &sid1).await;";
    assert!(tests.contains(first));
    tests.replace(first, &format!("{first} tokio::time::sleep(MILLISECONDS).await;"))
}

/// The tests of axum-login's middleware, which open their store in `super::session_store`.
fn middleware(source: &str) -> String {
    let tests = tests_of(source)
        .replace("use tower_sessions_sqlx_store::{sqlx::SqlitePool, SqliteStore};", "")
        .replace(
            "use crate::",
            "use axum_login::{login_required, permission_required};\nuse axum_login::",
        );
    let (start, end) = ("let pool = ", "session_store.migrate().await.unwrap();");
    let (before, rest) = tests.split_once(start).expect("a pool is opened");
    let (_, after) = rest.split_once(end).expect("a schema is created");
    format!("{before}let session_store = super::session_store().await;{after}")
}

/// Returns the contents of the module `tests` at the end of a file.
fn tests_of(source: &str) -> String {
    let (_, tests) = source.split_once("mod tests {\n").expect("a module `tests` in the source");
    tests.trim_end().strip_suffix('}').expect("the module ends the file").to_owned()
}

/// A test for each example of a file's documentation.
fn examples(source: &str) -> String {
    let mut tests = String::new();
    let mut lines = source.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "/// ```rust" {
            continue;
        }
        let example = lines.by_ref().map(|(_, line)| line.trim().trim_start_matches("///"));
        let example: Vec<_> = example
            .take_while(|line| line.trim() != "```")
            .map(|line| line.trim().trim_start_matches("# "))
            .collect();
        let example = example.join("\n").replace("tokio_test::block_on", "super::block_on");
        let example = example.replace("use tower_sessions::", "use super::names::");
        let test = format!("#[test]\nfn line_{}() {{\n{example}\n}}\n", number + 1);
        tests.push_str(&test);
    }
    tests
}

/// The packages that the workspace is built from.
struct Packages(Vec<Value>);

impl Packages {
    fn of_the_workspace() -> Self {
        let [cargo, target] = ["CARGO", "TARGET"].map(|name| std::env::var(name).expect(name));
        let arguments =
            ["metadata", "--format-version=1", "--locked", "--filter-platform", &target];
        let output = Command::new(cargo).args(arguments).output().expect("cargo runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "cargo cannot fetch the packages with the tests:\n{error}"
        );
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
        Self(metadata["packages"].as_array().expect("a list of packages").clone())
    }

    /// Returns the directory of a package's source.
    fn source(&self, name: &str, version: &str) -> PathBuf {
        let is_it = |package: &&Value| {
            package["name"] == name
                && package["version"].as_str().is_some_and(|known| known.starts_with(version))
        };
        let package =
            self.0.iter().find(is_it).expect("tower-sessions and axum-login are dependencies");
        let manifest = package["manifest_path"].as_str().expect("a path");
        Path::new(manifest).parent().expect("a directory").to_owned()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("no tests can be read from {}: {error}", path.display()))
}

fn write(name: &str, text: &str) {
    let directory = std::env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&directory).join(name), text).expect("the directory can be written to");
}
