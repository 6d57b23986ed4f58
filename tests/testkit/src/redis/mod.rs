//! Redis as it is deployed: one server, a primary with sentinels, a cluster, with TLS.
//!
//! Every server knows the user of a store with the rights that its documentation names, and an
//! administrator for the tests themselves; no client is accepted without a password. The user `default` is
//! off, with rights all the same: as that user a server replays its own file.

mod admin;
mod cluster;
mod process;
mod sentinel;
mod tls;

use std::path::PathBuf;

pub use admin::{Monitor, Reply, Unanswered};
pub use cluster::RedisCluster;
pub use sentinel::{RedisWithSentinels, SERVICE};
pub use tls::Certificates;

use process::Process;

/// One server.
pub struct Redis {
    process: Process,
    port: u16,
    config: String,
}

impl Redis {
    /// The name and the password of the administrator.
    pub const ADMINISTRATOR: [&str; 2] = [ADMIN, ADMIN_PASSWORD];

    /// A server without anything special.
    pub fn start() -> Self {
        Self::configured("")
    }

    /// A server with further lines of configuration.
    pub fn configured(more: &str) -> Self {
        Self::launch(free_port(), more, &[])
    }

    /// A server that speaks TLS and nothing else.
    pub fn with_tls(certificates: &Certificates) -> Self {
        Self::launch_with_tls(certificates, "no")
    }

    /// The same, and it wants a certificate of its authority from clients.
    pub fn with_client_certificates(certificates: &Certificates) -> Self {
        Self::launch_with_tls(certificates, "yes")
    }

    fn launch_with_tls(certificates: &Certificates, auth_clients: &str) -> Self {
        let port = free_port();
        let dir = certificates.dir();
        let more = format!(
            "port 0\ntls-port {port}\ntls-cert-file {dir}/server.pem\ntls-key-file {dir}/key.pem\n\
             tls-ca-cert-file {dir}/ca.pem\ntls-auth-clients {auth_clients}\n",
        );
        Self::launch(port, &more, &[])
    }

    /// A server that listens on a Unix socket as well, and the path of that.
    pub fn with_unix_socket() -> (Self, PathBuf) {
        let path = fresh_dir().join("redis.sock");
        (Self::configured(&format!("unixsocket {}\n", path.display())), path)
    }

    fn launch(port: u16, more: &str, arguments: &[&str]) -> Self {
        let config = format!(
            "port {port}\nbind 127.0.0.1\nsave \"\"\nappendonly no\nloglevel warning\n\
             user default off resetpass ~* &* +@all\nuser {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n{}\n\
             masteruser {ADMIN}\nmasterauth {ADMIN_PASSWORD}\nrepl-diskless-sync-delay 0\n{more}",
            acl(),
        );
        let process = Process::spawn(&config, arguments);
        let redis = Self { process, port, config };
        redis.is_up();
        redis
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a store on it.
    pub fn url(&self) -> String {
        format!("redis://{USER}:{PASSWORD}@{}", self.address())
    }

    /// Asks it as the administrator.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> Reply {
        let reply = admin::ask(self.port, Some((ADMIN, ADMIN_PASSWORD)), command);
        reply.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Asks it as the administrator, with any bytes.
    #[track_caller]
    pub fn ask_bytes(&self, command: &[Vec<u8>]) -> Reply {
        admin::ask(self.port, Some((ADMIN, ADMIN_PASSWORD)), command).unwrap()
    }

    /// Overwrites bytes of a field of a hash.
    pub fn overwrite(&self, key: &str, field: &str, at: usize, bytes: &[u8]) {
        let mut content = self.ask(&["HGET", key, field]).bytes();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        self.ask_bytes(&["HSET".into(), key.into(), field.into(), content]);
    }

    /// Sends it a command as the administrator, and reads no answer for as long as the result is kept.
    pub fn ask_without_waiting(&self, command: &[&str]) -> Unanswered {
        Unanswered::start(self.port, (ADMIN, ADMIN_PASSWORD), command)
    }

    /// Takes the directory away in which it saves its data, and lets it notice.
    pub fn lose_disk(&self) {
        self.process.remove_dir();
        self.ask(&["CONFIG", "SET", "save", "3600 1"]);
        self.ask(&["BGSAVE"]);
        let has_noticed =
            || self.ask(&["INFO", "persistence"]).text().contains("rdb_last_bgsave_status:err");
        wait_until(has_noticed);
    }

    /// Returns its answer to the administrator, if it is reachable.
    pub fn try_to_ask(&self, command: &[&str]) -> Option<Reply> {
        admin::ask(self.port, Some((ADMIN, ADMIN_PASSWORD)), command).ok()
    }

    /// Asks it as the store's user.
    #[track_caller]
    pub fn ask_as_store(&self, command: &[&str]) -> Reply {
        admin::ask(self.port, Some((USER, PASSWORD)), command).unwrap()
    }

    /// Sees every command that it is sent from now on.
    pub fn monitor(&self) -> Monitor {
        Monitor::start(self.port, (ADMIN, ADMIN_PASSWORD))
    }

    /// The names of the commands that a monitor has seen up to now, those of scripts left aside.
    pub fn seen(&self, monitor: Monitor) -> Vec<String> {
        let mark = format!("end-{}", self.port);
        self.ask(&["PING", &mark]);
        monitor.until(&mark)
    }

    /// Every key, and what is kept under it as the server would store it.
    pub fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let keys = self.ask(&["KEYS", "*"]).list();
        let dumped = |key: &Reply| match self.ask(&["DUMP", &key.text()]) {
            Reply::Nil => None,
            dumped => Some((key.text(), dumped.bytes())),
        };
        keys.iter().filter_map(dumped).collect()
    }

    /// Ends it without a warning, as a power cut does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after that, with what it has on disk: nothing, unless it was configured to.
    pub fn restart(&mut self) {
        let again = self.process.spawn_again(&self.config);
        std::mem::replace(&mut self.process, again).forget();
        self.is_up();
    }

    /// Has it do nothing, and keep its connections.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    fn is_up(&self) {
        // With TLS only, the administrator cannot ask it; then it is up when it listens.
        if self.config.contains("\nport 0\n") {
            return wait_until(|| std::net::TcpStream::connect(self.address()).is_ok());
        }
        wait_until(|| self.try_to_ask(&["PING"]).is_some_and(|reply| reply.is("PONG")));
    }
}

/// The store's user with its rights, as the documentation of the store has it.
fn acl() -> String {
    include_str!("../../../../backends/redis/users.acl").trim().replace("PASSWORD", PASSWORD)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn fresh_dir() -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("steadfast-redis-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Waits for what must not take long, outside of any runtime.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it takes too long");
}

/// The user of the store.
pub const USER: &str = "sessions";
pub const PASSWORD: &str = "store-pass";

const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "admin-pass";
