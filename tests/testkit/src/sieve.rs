//! A wire between stores and one server that loses single messages of the server.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Stands between clients and a server, and can hold back what comes from there with some text in it.
/// It accepts no connection any more once it is dropped.
pub struct Sieve {
    address: String,
    held: Arc<Held>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Held {
    text: Mutex<Option<String>>,
    count: Mutex<usize>,
}

impl Sieve {
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let held = Arc::<Held>::default();
        let accepting = tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&held)));
        Self { address, held, accepting }
    }

    /// Returns the address for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Drops all data from the server that contains this text, from now on.
    pub fn hold_back(&self, text: String) {
        *self.held.text.lock().unwrap() = Some(text);
    }

    /// Counts the drops.
    pub fn lost(&self) -> usize {
        *self.held.count.lock().unwrap()
    }
}

impl Drop for Sieve {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Held {
    fn holds_back(&self, bytes: &[u8]) -> bool {
        let said = String::from_utf8_lossy(bytes);
        let text = self.text.lock().unwrap();
        let is_held = text.as_ref().is_some_and(|text| said.contains(text));
        *self.count.lock().unwrap() += usize::from(is_held);
        is_held
    }
}

async fn accept(listener: TcpListener, server: String, held: Arc<Held>) {
    while let Ok((client, _)) = listener.accept().await {
        // A server that is away looks the same to clients as without this proxy.
        let Ok(server) = TcpStream::connect(&server).await else { continue };
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        tokio::spawn(sift(from_server, to_client, Arc::clone(&held)));
    }
}

async fn sift(mut from_server: OwnedReadHalf, mut to_client: OwnedWriteHalf, held: Arc<Held>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
        let passes = !held.holds_back(&bytes[..read]);
        if passes && to_client.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
