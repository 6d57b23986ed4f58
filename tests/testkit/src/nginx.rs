//! A real nginx in front of a server.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::eventually::eventually;
use crate::ports::{free_address, fresh_directory};

/// An nginx on a port of its own. It is killed, and what it kept is removed, when this is dropped.
pub struct Nginx {
    pub address: String,
    directory: PathBuf,
    _process: Child,
}

impl Nginx {
    /// Starts it with the directives of one server, which listens at `LISTEN`, and of the `http` block
    /// around it; `DIRECTORY` is its own to keep files in.
    pub async fn start(http: &str) -> Self {
        let address = free_address().await;
        let directory = fresh_directory("nginx");
        let configuration = directory.join("nginx.conf");
        let http = http.replace("LISTEN", &address);
        let http = http.replace("DIRECTORY", directory.to_str().expect("a path of ours is a text"));
        std::fs::write(&configuration, format!("{PROCESS}\nhttp {{\n{PATHS}\n{http}\n}}\n"))
            .unwrap();
        let mut program = Command::new("nginx");
        program.arg("-p").arg(&directory).arg("-c").arg(&configuration);
        program.args(["-e", "error.log"]).stdin(Stdio::null()).kill_on_drop(true);
        let process = program.spawn().expect("the Debian package nginx is installed");
        eventually(async || TcpStream::connect(&address).await.is_ok()).await;
        Self { address, directory, _process: process }
    }

    /// A client that has never been here.
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One process, which ends when it is killed: a worker of its own would outlive it.
const PROCESS: &str = "daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 256; }";

const PATHS: &str = "access_log off;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi;
scgi_temp_path scgi;";
