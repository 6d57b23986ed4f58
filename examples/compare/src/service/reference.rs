//! The program of the nodes: `examples/reference`, built if necessary.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// The program, as cargo builds it in the profile of this program.
///
/// # Errors
///
/// If cargo is not there, or cannot build it.
pub async fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--quiet", "-p", "reference", "--bin", "reference"]);
    build.arg("--manifest-path").arg(&manifest).kill_on_drop(true);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if profile == "release" {
        build.arg("--release");
    }
    let built = build.status().await.context("cannot start cargo")?;
    ensure!(built.success(), "cargo cannot build the reference server");
    let own = std::env::current_exe().context("cannot find this program")?;
    let target = own.ancestors().find(|path| path.ends_with(profile));
    let program = target.context("this program is not in a target directory")?.join("reference");
    ensure!(program.exists(), "there is no {}", program.display());
    Ok(program)
}
