//! A PgBouncer before a server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Postgres, as_owner, free_port, fresh_dir, until};

/// A running PgBouncer. It ends with this value, and with the process.
pub struct PgBouncer {
    port: u16,
    dir: PathBuf,
    keeper: Child,
    leash: Option<ChildStdin>,
}

impl PgBouncer {
    /// Starts it with its defaults and these settings. It lets these roles in, and no others.
    pub fn start(server: &Postgres, roles: &[&str], settings: &[&str]) -> Self {
        let (dir, port) = (fresh_dir(), free_port());
        let configuration = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
            listen_port = {port}\nunix_socket_dir = {dir}\nlogfile = {dir}/log\n\
            pidfile = {dir}/pid\nauth_type = trust\nauth_file = {dir}/users\nadmin_users = postgres\n{}\n",
            server.dir.display(),
            server.port,
            settings.join("\n"),
            dir = dir.display()
        );
        let owner = fs::metadata(&dir).unwrap();
        let users: String = roles.iter().map(|role| format!("\"{role}\" \"\"\n")).collect();
        for (file, text) in [("pgbouncer.ini", configuration), ("users", users)] {
            let path = dir.join(file);
            fs::write(&path, text).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let (keeper, leash) = keep(&dir);
        let pooler = Self { port, dir, keeper, leash };
        pooler.wait_until_ready();
        pooler
    }

    fn wait_until_ready(&self) {
        until(|| std::net::TcpStream::connect(self.address()).is_ok());
    }

    /// Its TCP address, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut does, and starts it again.
    pub fn restart(&mut self) {
        self.leash.take().unwrap().write_all(b"again\n").unwrap();
        self.keeper.wait().unwrap();
        (self.keeper, self.leash) = keep(&self.dir);
        self.wait_until_ready();
    }

    /// Runs SQL through it, or one of its own orders in its database `pgbouncer`.
    pub fn sql(&self, role: &str, database: &str, sql: &str) -> String {
        let mut psql = Command::new(super::binary("psql"));
        psql.env_clear().args(["-XAtq", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        psql.args(["-U", role, "-d", database, "-c", sql]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Starts it under a shell that ends it when its standard input is closed.
fn keep(dir: &Path) -> (Child, Option<ChildStdin>) {
    let mut shell = as_owner(Path::new("sh"));
    shell.args(["-c", KEEPER, "keeper"]).arg(dir).stdin(Stdio::piped());
    let mut keeper = shell.spawn().unwrap();
    let leash = keeper.stdin.take();
    (keeper, leash)
}

const KEEPER: &str = r#"
dir=$1
rm -f "$dir/pid"
PATH=$PATH:/usr/sbin pgbouncer -q "$dir/pgbouncer.ini" </dev/null >>"$dir/out" 2>&1 &
pooler=$!
read -r order
kill -KILL $pooler 2>/dev/null
wait $pooler 2>/dev/null
"#;
