//! The programs of the nodes, built if necessary: `examples/reference`, and the baseline's `peer`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// The reference server, as cargo builds it in the profile of this program.
///
/// # Errors
///
/// If cargo is not there, or cannot build it.
pub async fn build() -> anyhow::Result<PathBuf> {
    build_program("../../Cargo.toml", "reference", None).await
}

/// The baseline's server. It has a workspace of its own, so its first build takes minutes.
///
/// # Errors
///
/// If cargo is not there, or cannot build it.
pub async fn build_peer() -> anyhow::Result<PathBuf> {
    let target = target()?.join("peer");
    build_program("../benchmark/Cargo.toml", "peer", Some(target)).await
}

async fn build_program(
    manifest: &str,
    name: &str,
    into: Option<PathBuf>,
) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--quiet", "-p", name, "--bin", name]);
    build.arg("--manifest-path").arg(&manifest).kill_on_drop(true);
    build.arg("--target-dir").arg(match &into {
        Some(target) => target.clone(),
        None => target()?,
    });
    if PROFILE == "release" {
        build.arg("--release");
    }
    let built = build.status().await.context("cannot start cargo")?;
    ensure!(built.success(), "cargo cannot build {name}");
    let program = into.map_or_else(target, Ok)?.join(PROFILE).join(name);
    ensure!(program.exists(), "cargo did not create {}", program.display());
    Ok(program)
}

/// The directory in which cargo built this program.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let profile = own.ancestors().find(|path| path.ends_with(PROFILE));
    let target = profile.and_then(Path::parent);
    Ok(target.context("this program is not in a target directory")?.to_owned())
}

const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
