//! A wire that counts what passes, and that can be stopped or cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Stands between clients and a server. Its connections end with it.
pub struct Proxy {
    address: String,
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
}

/// The traffic so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub connections: u64,
    /// Connections that are not closed.
    pub open: u64,
    /// Bytes to the server.
    pub sent: u64,
    /// Bytes from the server.
    pub received: u64,
    /// Counts the messages that were sent after an answer, or first.
    pub round_trips: u64,
}

impl Proxy {
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wire = Arc::new(Wire::default());
        let accepting = tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&wire)));
        Self { address, wire, accepting }
    }

    /// Returns the address for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn traffic(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Traffic {
            connections: count(&self.wire.connections),
            open: count(&self.wire.open),
            sent: count(&self.wire.sent),
            received: count(&self.wire.received),
            round_trips: count(&self.wire.round_trips),
        }
    }

    /// Silently lets nothing pass any more.
    pub fn stop(&self) {
        self.wire.stopped.send_replace(true);
    }

    /// Lets nothing pass any more on the connections there are, for good. Later ones work.
    pub fn swallow(&self) {
        self.wire.swallowed.send_modify(|swallowed| *swallowed += 1);
    }

    /// Lets everything pass again, also what was held.
    pub fn go_on(&self) {
        self.wire.stopped.send_replace(false);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.wire.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

#[derive(Default)]
struct Wire {
    connections: AtomicU64,
    open: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    round_trips: AtomicU64,
    stopped: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
    swallowed: watch::Sender<u64>,
}

async fn accept(listener: TcpListener, server: String, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        wire.connections.fetch_add(1, Ordering::SeqCst);
        wire.open.fetch_add(1, Ordering::SeqCst);
        let (server, wire) = (server.clone(), Arc::clone(&wire));
        tokio::spawn(async move {
            carry(client, server, Arc::clone(&wire)).await;
            wire.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn carry(client: TcpStream, server: String, wire: Arc<Wire>) {
    let mut cuts = wire.cuts.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let answered = AtomicBool::new(true);
    let sending = pass(from_client, to_server, &wire, |bytes| {
        wire.sent.fetch_add(bytes, Ordering::SeqCst);
        let is_turn = answered.swap(false, Ordering::SeqCst);
        wire.round_trips.fetch_add(u64::from(is_turn), Ordering::SeqCst);
    });
    let receiving = pass(from_server, to_client, &wire, |bytes| {
        wire.received.fetch_add(bytes, Ordering::SeqCst);
        answered.store(true, Ordering::SeqCst);
    });
    tokio::select! {
        () = sending => {}
        () = receiving => {}
        _ = cuts.changed() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &Wire, count: impl Fn(u64)) {
    let mut stopped = wire.stopped.subscribe();
    let swallowed = wire.swallowed.subscribe();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if stopped.wait_for(|stopped| !stopped).await.is_err() {
            return;
        }
        if swallowed.has_changed().unwrap_or(true) {
            std::future::pending::<()>().await;
        }
        count(read as u64);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
