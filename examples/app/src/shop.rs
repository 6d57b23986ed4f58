//! Several nodes in one process, and the balancer that clients talk to.

use std::net::SocketAddr;

use anyhow::Context;
use example_balancer::{Balancer, Switch};
use futures_util::future::try_join_all;
use steadfast::SessionLayer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Strategy, ctrl_c, router};

pub use example_balancer::Policy;

/// The shop on several nodes.
#[derive(Clone, Copy, Debug)]
pub struct Shop {
    /// The description of the store.
    pub strategy: Strategy,
    /// The labels of the nodes.
    pub nodes: &'static [&'static str],
    /// The node to which the balancer sends a request first.
    pub policy: Policy,
}

impl Shop {
    /// Serves at the address until Ctrl-C. `open` makes the session layer of a node whenever that node
    /// starts, so a node that starts again remembers nothing.
    ///
    /// # Errors
    ///
    /// When an address is taken, or a store cannot be opened.
    pub async fn serve(
        self,
        address: &str,
        open: impl AsyncFn(&'static str) -> anyhow::Result<SessionLayer>,
    ) -> anyhow::Result<()> {
        let mut nodes = Vec::new();
        for label in self.nodes {
            nodes.push(Node::start(self.strategy, label, ANY_PORT, open(label).await?).await?);
        }
        let addresses = nodes.iter().map(|node| (node.label.to_owned(), node.address));
        let balancer = Balancer::new(self.policy, addresses);
        let (close, closing) = watch::channel(false);
        let kept: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                let switch = balancer.switch(node.label).expect("it has this node").clone();
                node.keep(switch, &open, closing.clone())
            })
            .collect();
        let stop = async move {
            ctrl_c().await;
            // The nodes end their streams, or the balancer would wait for them.
            close.send_replace(true);
        };
        let serving =
            async { balancer.serve(address, stop).await.context("the shop cannot serve") };
        let (layers, ()) = tokio::try_join!(try_join_all(kept), serving)?;
        for sessions in layers {
            sessions.join().await;
        }
        Ok(())
    }
}

/// A node that serves.
struct Node {
    strategy: Strategy,
    label: &'static str,
    address: SocketAddr,
    sessions: SessionLayer,
    server: JoinHandle<std::io::Result<()>>,
}

impl Node {
    async fn start(
        strategy: Strategy,
        label: &'static str,
        address: SocketAddr,
        sessions: SessionLayer,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        println!("{label} on http://{address}");
        let app = router(strategy, label, sessions.clone());
        let server = tokio::spawn(axum::serve(listener, app).into_future());
        Ok(Self { strategy, label, address, sessions, server })
    }

    /// Stops and starts it as its switch says, and returns its layer when the service closes.
    async fn keep(
        mut self,
        switch: Switch,
        open: &impl AsyncFn(&'static str) -> anyhow::Result<SessionLayer>,
        mut closing: watch::Receiver<bool>,
    ) -> anyhow::Result<SessionLayer> {
        loop {
            tokio::select! {
                () = switch.wanted(false) => {}
                _ = closing.wait_for(|closes| *closes) => break,
            }
            self.stop().await;
            switch.is_now(false);
            tokio::select! {
                () = switch.wanted(true) => {}
                _ = closing.wait_for(|closes| *closes) => break,
            }
            let sessions = open(self.label).await?;
            self = Self::start(self.strategy, self.label, self.address, sessions).await?;
            switch.is_now(true);
        }
        self.sessions.close();
        Ok(self.sessions)
    }

    /// Returns when nothing listens any more. The node hands nothing on.
    async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.sessions.close();
        println!("{} is stopped", self.label);
    }
}

const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
