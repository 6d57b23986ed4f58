//! A real HAProxy in front of servers.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::eventually::eventually;
use crate::ports::{free_address, fresh_directory};

/// An HAProxy on a port of its own. It is killed, and what it kept is removed, when this is dropped.
pub struct Haproxy {
    pub address: String,
    directory: PathBuf,
    _process: Child,
}

impl Haproxy {
    /// Starts it with a configuration in which `LISTEN` is the address at which it listens.
    pub async fn start(configuration: &str) -> Self {
        let address = free_address().await;
        let directory = fresh_directory("haproxy");
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, configuration.replace("LISTEN", &address)).unwrap();
        let mut program = Command::new("haproxy");
        program.args(["-db", "-f"]).arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        let process = program.spawn().expect("the Debian package haproxy is installed");
        eventually(async || TcpStream::connect(&address).await.is_ok()).await;
        Self { address, directory, _process: process }
    }

    /// A client that has never been here.
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
