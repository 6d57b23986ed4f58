//! The balancer: a real HAProxy, with the settings of the configurations that the examples ship.

use std::time::Duration;

use anyhow::ensure;
use tokio::net::TcpStream;

use super::leash::{Leash, Workplace};
use crate::load::SERVED_BY;
use crate::strategy::Balance;

/// A running HAProxy.
#[derive(Debug)]
pub(super) struct Haproxy {
    leash: Leash,
    /// The number of lines of its configuration.
    pub(super) lines: usize,
}

impl Haproxy {
    /// Starts one that listens at an address, in front of nodes with labels and addresses.
    ///
    /// # Errors
    ///
    /// If it cannot start, or does not listen within 10 s.
    pub(super) async fn start(
        workplace: &Workplace,
        listen: &str,
        balance: Balance,
        nodes: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let configuration = configuration(listen, balance, nodes);
        let file = workplace.file("haproxy.cfg");
        std::fs::write(&file, &configuration)?;
        let arguments = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
        let log = workplace.file("haproxy.log");
        let leash = Leash::start("haproxy".as_ref(), &arguments, &log).await?;
        for _ in 0..1_000 {
            if TcpStream::connect(listen).await.is_ok() {
                return Ok(Self { leash, lines: configuration.lines().count() });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(said.is_empty(), "HAProxy did not start: {}", said.trim());
        anyhow::bail!("HAProxy did not start")
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.leash.end().await;
    }
}

fn configuration(listen: &str, balance: Balance, nodes: &[(String, String)]) -> String {
    let mut configuration = CONFIGURATION.replace("LISTEN", listen).replace("HEADER", SERVED_BY);
    configuration += match balance {
        Balance::RoundRobin => "    balance roundrobin\n",
        Balance::Cookie => "    balance roundrobin\n    cookie __Host-id-route\n",
        Balance::Address => "    balance hdr(X-Forwarded-For)\n    hash-type consistent\n",
    };
    for (label, address) in nodes {
        let cookie =
            if balance == Balance::Cookie { format!(" cookie {label}") } else { String::new() };
        configuration += &format!("    server {label} {address}{cookie}\n");
    }
    configuration
}

const CONFIGURATION: &str = "\
global
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1
frontend web
    bind LISTEN
    default_backend nodes
backend nodes
    option httpchk GET /readyz
    http-check disable-on-404
    http-response set-header HEADER %s
    default-server check inter 1s fastinter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sticky_balancer_reads_the_cookie() {
        let nodes = [("n1".to_owned(), "127.0.0.1:1".to_owned())];
        let sticky = configuration("127.0.0.1:2", Balance::Cookie, &nodes);
        assert!(sticky.contains("bind 127.0.0.1:2\n"));
        assert!(
            sticky.ends_with("    cookie __Host-id-route\n    server n1 127.0.0.1:1 cookie n1\n")
        );
        let plain = configuration("127.0.0.1:2", Balance::RoundRobin, &nodes);
        assert!(plain.ends_with("    server n1 127.0.0.1:1\n") && !plain.contains("cookie"));
        let by_address = configuration("127.0.0.1:2", Balance::Address, &nodes);
        assert!(by_address.contains("balance hdr(X-Forwarded-For)"));
    }
}
