//! The greetings that turn a connection into a link.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use steadfast_replication::member::Boot;
use steadfast_replication::wire::{EDITION, Greeting};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::frames::{read_frame, write_frame};
use super::refusals::Refusal;
use super::{Links, Peer, Stream};
use crate::credentials::Credentials;
use crate::node::Node;
use crate::system::TcpStream;

impl Links {
    /// The boot that is found at an address. It is linked then, unless it was already, or is this node.
    pub(super) async fn connect(self: &Arc<Self>, address: &str) -> io::Result<Boot> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(credentials) = self.credentials() else {
            return self.greet_dialled(stream, address).await;
        };
        let connector = TlsConnector::from(credentials.client);
        let connected = connector.connect(Credentials::server_name(), stream).await;
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.refuse(address, &Refusal::Stranger),
            _ => error,
        })?;
        if !Credentials::is_node(stream.get_ref().1) {
            return Err(self.refuse(address, &Refusal::Stranger));
        }
        self.greet_dialled(stream, address).await
    }

    pub(super) async fn greet_dialled<S: Stream>(
        self: &Arc<Self>,
        mut stream: S,
        address: &str,
    ) -> io::Result<Boot> {
        let greeting = self.greet(&mut stream).await?;
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let peer = self.examine(greeting).map_err(|why| self.refuse(address, &why))?;
        let boot = peer.hello.member.boot;
        if boot != self.me {
            self.register(&node, stream, peer, None);
        }
        Ok(boot)
    }

    /// Greets a node that dialled this one: a stranger, until it has shown that it is none.
    pub(super) async fn welcome(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(credentials) = self.credentials() else {
            return self.greet_stranger(stream).await;
        };
        let acceptor = TlsAcceptor::from(credentials.server);
        let stream = in_time(HANDSHAKE_WITHIN, acceptor.accept(stream)).await?;
        if !Credentials::is_node(stream.get_ref().1) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.greet_stranger(stream).await
    }

    /// Waits for the first frame before there is a link: a node that dialled hangs up instead if it has a
    /// link to this node already, under another address.
    async fn greet_stranger<S: Stream>(self: &Arc<Self>, mut stream: S) -> io::Result<()> {
        let greet = async {
            let greeting = self.greet(&mut stream).await?;
            let first = read_frame(&mut stream, self.place.max_frame, GREETING_WITHIN).await?;
            Ok((greeting, first))
        };
        let (greeting, first) = in_time(GREETING_WITHIN, greet).await?;
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let address = greeting.address.clone();
        let peer = self.examine(greeting).map_err(|why| self.refuse(&address, &why))?;
        if peer.hello.member.boot != self.me {
            self.register(&node, stream, peer, Some(first));
        }
        Ok(())
    }

    async fn greet<S: Stream>(&self, stream: &mut S) -> io::Result<Greeting> {
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let body = self.greeting(&node).encode();
        drop(node);
        write_frame(stream, &body).await?;
        stream.flush().await?;
        let answer = read_frame(stream, MAX_GREETING, GREETING_WITHIN).await?;
        Greeting::decode(&answer).map_err(io::Error::other)
    }

    pub(super) fn greeting(&self, node: &Node) -> Greeting {
        let hello = node.with_engine(|engine, _| engine.hello());
        Greeting {
            cluster: self.place.cluster.clone(),
            edition: EDITION,
            address: self.place.address.clone(),
            known: self.lock().known(),
            hello: Some(hello),
        }
    }

    /// Returns true if a link to the node is allowed.
    pub(super) fn examine(&self, greeting: Greeting) -> Result<Peer, Refusal> {
        let Greeting { cluster, edition, address, known, hello } = greeting;
        if cluster != self.place.cluster {
            return Err(Refusal::OtherService(cluster));
        }
        let hello = hello.ok_or(Refusal::Edition(edition))?;
        Ok(Peer { hello, address, known })
    }

    /// Logs why the node at an address is refused, unless that was logged already.
    fn refuse(&self, address: &str, why: &Refusal) -> io::Error {
        if self.lock().refusals.is_new(address, why) {
            tracing::warn!(target: "steadfast", address, %why, "a node is refused as a peer");
        }
        io::ErrorKind::PermissionDenied.into()
    }
}

async fn in_time<T>(
    within: Duration,
    happen: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(within, happen).await.map_err(io::Error::from)?
}

/// The time limit of a stranger's handshake, and that of its greeting.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(1);
const GREETING_WITHIN: Duration = Duration::from_secs(1);

/// Bytes of a greeting.
const MAX_GREETING: usize = 64 << 10;
