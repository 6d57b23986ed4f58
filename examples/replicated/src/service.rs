//! The whole service on one machine: three nodes as processes of their own, and what is around them.

use std::env;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use example_balancer::{Balancer, Policy, Switch};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Serves at the address until Ctrl-C or SIGTERM, and ends all nodes then.
pub(crate) async fn run(address: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let secret = Secret::new()?;
    let nodes = nodes(&secret)?;
    let addresses = nodes.iter().map(|node| (node.name.to_owned(), node.address));
    let balancer = Balancer::new(Policy::RoundRobin, addresses);
    let (mut kept, (tell, stopping)) = (JoinSet::new(), watch::channel(false));
    // All of them, and only then is one waited for: they found the service together.
    let started: Vec<_> = nodes.iter().map(Node::start).collect::<Result<_, _>>()?;
    for (node, mut process) in nodes.into_iter().zip(started) {
        node.serves(&mut process).await?;
        let switch = balancer.switch(node.name).expect("it has this node").clone();
        kept.spawn(node.keep(process, switch, stopping.clone()));
    }
    println!("{TO_TRY}");
    let stop = async move {
        tokio::select! {
            () = example_app::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        // The nodes end their streams, or the balancer would wait for them.
        tell.send_replace(true);
    };
    let ended = tokio::select! {
        served = balancer.serve(address, stop) => served.context("the balancer cannot serve"),
        Some(Ok(failed)) = kept.join_next() => Err(failed),
    };
    kept.shutdown().await;
    ended
}

/// The option of a node that ends with the service that started it.
pub(crate) const STARTED: &str = "--started-by-service";

/// Resolves when the service that started this process is gone, however that ended, or stops.
pub(crate) fn ended() -> impl Future<Output = ()> {
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = tell.send(());
    });
    async { ended.await.unwrap_or_default() }
}

/// A node, as the service sees it.
struct Node {
    name: &'static str,
    address: SocketAddr,
    store: String,
}

/// Three nodes, each of them a seed of the others.
fn nodes(secret: &Secret) -> anyhow::Result<Vec<Node>> {
    let (ports, names) = (free_addresses(6)?, ["n1", "n2", "n3"]);
    let (shops, stores) = ports.split_at(names.len());
    let seeds = stores.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let secret = secret.file.display();
    let node = |((name, address), bind): ((_, &SocketAddr), &SocketAddr)| Node {
        name,
        address: *address,
        store: format!("replicated:?bind={bind}&seeds={seeds}&secret-file={secret}"),
    };
    Ok(names.into_iter().zip(shops).zip(stores).map(node).collect())
}

impl Node {
    /// Starts its process.
    fn start(&self) -> anyhow::Result<Child> {
        let mut program = Command::new(env::current_exe()?);
        program.args(["node", self.name, &self.address.to_string(), &self.store, STARTED]);
        // Ctrl-C is for the service, which then ends its nodes.
        program.process_group(0).kill_on_drop(true);
        Ok(program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    }

    /// Returns when its process serves.
    async fn serves(&self, process: &mut Child) -> anyhow::Result<()> {
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        let serves = said.lines().next_line().await?.is_some();
        anyhow::ensure!(serves, "{} does not start", self.name);
        let id = process.id().expect("nobody has waited for it");
        println!("{} on http://{} is process {id}", self.name, self.address);
        Ok(())
    }

    /// Kills it when its switch says so, and starts it again a while after it ended, as a supervisor does,
    /// or earlier on an order, until that fails. Once the service stops, the node notices, and ends by
    /// itself.
    async fn keep(
        self,
        mut process: Child,
        switch: Switch,
        mut stopping: watch::Receiver<bool>,
    ) -> anyhow::Error {
        loop {
            // Open for as long as the service is there; waiting alone would close it.
            let stdin = process.stdin.take();
            let ended = tokio::select! {
                status = process.wait() => status,
                () = switch.wanted(false) => kill(&mut process).await,
                () = told(&mut stopping) => {
                    drop(stdin);
                    let _ = process.wait().await;
                    return std::future::pending().await;
                }
            };
            match ended {
                Ok(status) => println!("{} ended ({status}); it starts again in 10 s", self.name),
                Err(error) => return error.into(),
            }
            switch.is_now(false);
            tokio::select! {
                () = tokio::time::sleep(BACK_AFTER) => {}
                () = switch.wanted(true) => {}
            }
            process = match self.start() {
                Ok(process) => process,
                Err(error) => return error,
            };
            if let Err(error) = self.serves(&mut process).await {
                return error;
            }
            switch.is_now(true);
        }
    }
}

async fn kill(process: &mut Child) -> io::Result<ExitStatus> {
    process.start_kill()?;
    process.wait().await
}

/// Resolves once a service stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // It is gone where that fails.
    let _ = stopping.wait_for(|stops| *stops).await;
}

/// The secret of the nodes, in a file that only its owner can read, until this is dropped.
struct Secret {
    file: PathBuf,
}

impl Secret {
    fn new() -> anyhow::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let directory = env::temp_dir().join(format!("example-replicated-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let created = Self { file: directory.join("secret") };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&created.file)?.write_all(&secret)?;
        Ok(created)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.file.parent().unwrap_or(Path::new("")));
    }
}

/// Returns free addresses of loopback.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

const BACK_AFTER: Duration = Duration::from_secs(10);

const TO_TRY: &str = "
Open the address below, and reload: the visits go up, and each time another node serves.
Then stop the owner of your session on the page, which is a kill -9 of its process: the session stays.
Within two seconds a page can be late, or ask for a moment.
A kill without -9 is what a deployment does: the node hands its sessions on first.
Ctrl-C ends everything.
";
