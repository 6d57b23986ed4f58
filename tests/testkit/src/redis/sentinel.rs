//! A primary, a replica, and three sentinels that replace the one by the other.

use super::process::Process;
use super::{ADMIN, ADMIN_PASSWORD, PASSWORD, Redis, Reply, USER, admin, free_port, wait_until};

/// Two servers of which one is the primary, and three sentinels.
pub struct RedisWithSentinels {
    pub servers: [Redis; 2],
    sentinels: Vec<(Process, u16)>,
}

impl RedisWithSentinels {
    pub fn start() -> Self {
        let primary = Redis::start();
        let replica = Redis::configured(&format!("replicaof 127.0.0.1 {}", primary.port));
        let sentinels = (0..3).map(|_| sentinel(primary.port)).collect();
        let started = Self { servers: [primary, replica], sentinels };
        wait_until(|| started.is_complete());
        started
    }

    /// The URL of a store that uses the sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<_> =
            self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{USER}:{PASSWORD}@{}/{SERVICE}", addresses.join(","))
    }

    /// The addresses of the sentinels.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect()
    }

    /// Has the first sentinel do nothing.
    pub fn pause_a_sentinel(&self) {
        self.sentinels[0].0.signal("STOP");
    }

    /// Returns the server that the sentinels regard as the primary.
    pub fn primary(&self) -> usize {
        let address = self.ask(2, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).list();
        let port = address[1].text();
        let found = self.servers.iter().position(|server| server.port.to_string() == port);
        found.expect("the primary is one of the two")
    }

    /// Waits until the sentinels have made a server the primary.
    pub fn wait_for_primary(&self, server: usize) {
        wait_until(|| self.primary() == server && self.is_primary(server));
    }

    /// Waits until the replica has everything that the primary has.
    pub fn wait_for_replica(&self) {
        wait_until(|| self.is_complete());
    }

    fn is_primary(&self, server: usize) -> bool {
        let role = self.servers[server].try_to_ask(&["ROLE"]);
        role.is_some_and(|role| role.list()[0].is("master"))
    }

    /// Returns true if the sentinels know each other and the replica, which follows its primary.
    fn is_complete(&self) -> bool {
        let info = self.servers[self.primary()].ask(&["INFO", "replication"]).text();
        info.contains("state=online")
            && (0..self.sentinels.len()).all(|n| {
                let master = self.ask(n, &["SENTINEL", "MASTER", SERVICE]).list();
                let field = |name| {
                    let at = master.iter().position(|item: &Reply| item.is(name)).unwrap();
                    master[at + 1].text()
                };
                field("num-other-sentinels") == "2"
                    && field("num-slaves") == "1"
                    && field("flags") == "master"
            })
    }

    fn ask(&self, sentinel: usize, command: &[&str]) -> Reply {
        admin::ask(self.sentinels[sentinel].1, None, command).unwrap()
    }
}

fn sentinel(primary: u16) -> (Process, u16) {
    let port = free_port();
    let config = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
         sentinel auth-user {SERVICE} {ADMIN}\nsentinel auth-pass {SERVICE} {ADMIN_PASSWORD}\n\
         sentinel down-after-milliseconds {SERVICE} 500\n\
         sentinel failover-timeout {SERVICE} 3000\n"
    );
    let process = Process::spawn(&config, &["--sentinel"]);
    wait_until(|| admin::ask(port, None, &["PING"]).is_ok());
    (process, port)
}

/// The sentinels' name of the service.
pub const SERVICE: &str = "sessions";
