//! Links: one connection to each peer, authenticated by TLS before a byte of it is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::credentials::{Credentials, PROTOCOL};
use crate::engine::Message;
use crate::membership::{Membership, ReachMembership};
use crate::node::{Net, Node};
use crate::placement::Name;
use crate::record::{MAX_SKEW, millis};
use crate::wire::{self, Frame, Hello, MAX_FRAME};

/// All links of a node.
pub(crate) struct Links {
    node: Weak<Node>,
    name: Name,
    cluster: String,
    address: String,
    seeds: Vec<String>,
    credentials: Option<Credentials>,
    open: Mutex<Open>,
    last_link: AtomicU64,
}

struct Open {
    links: BTreeMap<Name, Link>,
    /// Addresses of other nodes, and who was found there.
    known: BTreeMap<String, Option<Name>>,
    dialling: BTreeSet<String>,
    membership: Box<dyn Membership>,
}

struct Link {
    number: u64,
    /// Whether the node with the lower name dialled; of two links, that one stays.
    is_preferred: bool,
    queue: UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    task: Option<AbortHandle>,
}

impl Links {
    pub(crate) fn new(
        node: &Arc<Node>,
        cluster: String,
        address: String,
        seeds: Vec<String>,
        credentials: Option<Credentials>,
    ) -> Arc<Self> {
        let open = Open {
            links: BTreeMap::new(),
            known: BTreeMap::new(),
            dialling: BTreeSet::new(),
            membership: Box::new(ReachMembership::default()),
        };
        Arc::new(Self {
            node: Arc::downgrade(node),
            name: node.name().clone(),
            cluster,
            address,
            seeds,
            credentials,
            open: Mutex::new(open),
            last_link: AtomicU64::new(0),
        })
    }

    /// Accepts and dials, until the node is gone.
    pub(crate) fn start(self: &Arc<Self>, listener: TcpListener) {
        tokio::spawn(accept(Arc::downgrade(self), listener));
        tokio::spawn(dial(Arc::downgrade(self)));
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, node: &Node) -> Hello {
        Hello {
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            protocol: 1,
            features: 0,
            wall: millis(node.env.now()),
            address: self.address.clone(),
            known: self.lock().known.keys().cloned().collect(),
        }
    }

    /// Whether a peer may be linked with.
    fn is_welcome(&self, node: &Node, hello: &Hello) -> bool {
        let skew = millis(node.env.now()).abs_diff(hello.wall);
        hello.cluster == self.cluster
            && hello.name != self.name
            && hello.protocol == 1
            && skew <= MAX_SKEW.as_millis() as u64
    }

    /// Addresses that nobody is linked at.
    fn unlinked(&self) -> Vec<String> {
        let mut open = self.lock();
        for seed in &self.seeds {
            open.known.entry(seed.clone()).or_default();
        }
        open.known.remove(&self.address);
        let Open { links, known, dialling, .. } = &mut *open;
        let is_free = |(address, name): &(&String, &Option<Name>)| {
            !dialling.contains(*address)
                && name.as_ref().is_none_or(|name| !links.contains_key(name))
        };
        let free: Vec<_> =
            known.iter().filter(is_free).map(|(address, _)| address.clone()).collect();
        dialling.extend(free.iter().cloned());
        free
    }

    /// Registers a link, unless there is a better one; the engine hears of it before its first frame.
    fn register(&self, node: &Node, hello: &Hello, is_dialled: bool) -> Option<Registered> {
        let is_preferred = is_dialled == (self.name < hello.name);
        let number = self.last_link.fetch_add(1, Ordering::Relaxed);
        let (queue, frames) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        {
            let mut open = self.lock();
            let others = hello.known.iter().chain([&hello.address]);
            for address in others.take(MAX_KNOWN) {
                open.known.entry(address.clone()).or_default();
            }
            open.known.insert(hello.address.clone(), Some(hello.name.clone()));
            if open.links.get(&hello.name).is_some_and(|link| link.is_preferred && !is_preferred) {
                return None;
            }
            open.membership.reached(&hello.name);
            let link =
                Link { number, is_preferred, queue, queued: Arc::clone(&queued), task: None };
            if let Some(before) = open.links.insert(hello.name.clone(), link) {
                before.close();
            }
        }
        node.drive(|engine, now| engine.linked(now, &hello.name));
        Some(Registered { name: hello.name.clone(), number, frames, queued })
    }

    fn is_current(&self, name: &Name, number: u64) -> bool {
        self.lock().links.get(name).is_some_and(|link| link.number == number)
    }

    fn unregister(&self, name: &Name, number: u64) {
        let was_current = {
            let mut open = self.lock();
            let is_current = open.links.get(name).is_some_and(|link| link.number == number);
            if is_current {
                open.links.remove(name);
                open.membership.lost(name, Instant::now());
            }
            is_current
        };
        if was_current && let Some(node) = self.node.upgrade() {
            node.drive(|engine, now| engine.unlinked(now, name));
        }
    }

    /// Carries frames both ways until the link ends.
    async fn run<S>(self: Arc<Self>, stream: S, is_dialled: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some((stream, hello)) = self.greet(stream).await else {
            return;
        };
        let registered = {
            let Some(node) = self.node.upgrade() else {
                return;
            };
            self.register(&node, &hello, is_dialled)
        };
        let Some(Registered { name, number, frames, queued }) = registered else {
            return;
        };
        let links = Arc::clone(&self);
        let of = name.clone();
        let task = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            tokio::select! {
                _ = links.read(reader, &of, number) => {}
                _ = write(writer, frames, queued) => {}
            }
            links.unregister(&of, number);
        });
        let mut open = self.lock();
        match open.links.get_mut(&name).filter(|link| link.number == number) {
            Some(link) => link.task = Some(task.abort_handle()),
            None => task.abort(),
        }
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Option<(S, Hello)> {
        let node = self.node.upgrade()?;
        let body = self.hello(&node).encode();
        let exchange = async {
            write_frame(&mut stream, &body).await?;
            stream.flush().await?;
            read_frame(&mut stream, MAX_HELLO).await
        };
        let answer = tokio::time::timeout(GREET_WITHIN, exchange).await.ok()?.ok()?;
        let hello = Hello::decode(&answer).ok()?;
        self.is_welcome(&node, &hello).then_some((stream, hello))
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut reader: R,
        from: &Name,
        number: u64,
    ) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut reader, MAX_FRAME);
            let body = tokio::time::timeout(SILENT_FOR, frame).await??;
            if body.is_empty() {
                if let Some(node) = self.node.upgrade() {
                    node.drive(|engine, now| engine.heard(now, from));
                }
                continue;
            }
            let frame = wire::decode(&body).map_err(io::Error::other)?;
            let Some(node) = self.node.upgrade().filter(|_| self.is_current(from, number)) else {
                return Ok(());
            };
            match frame {
                Some(Frame::Message(message)) => {
                    node.drive(|engine, now| engine.receive(now, from, message));
                }
                Some(Frame::Gossip(_)) | None => {}
            }
        }
    }

    /// Tells the engine who cannot be reached for too long.
    fn bury(&self) {
        let dead = self.lock().membership.dead(Instant::now());
        if let Some(node) = self.node.upgrade() {
            for name in dead {
                node.drive(|engine, now| engine.down(now, &name));
            }
        }
    }
}

struct Registered {
    name: Name,
    number: u64,
    frames: UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

impl Link {
    fn close(self) {
        if let Some(task) = self.task {
            task.abort();
        }
    }
}

impl Net for Links {
    fn send(&self, to: &Name, message: Message) -> usize {
        let mut open = self.lock();
        let Some(link) = open.links.get(to) else {
            return 0;
        };
        let frame = wire::encode(&message);
        let bytes = HEADER + frame.len();
        let queued = link.queued.fetch_add(frame.len(), Ordering::Relaxed);
        let is_full = queued > MAX_QUEUED || frame.len() > MAX_FRAME;
        if (is_full || link.queue.send(frame).is_err())
            && let Some(link) = open.links.get_mut(to)
            && let Some(task) = link.task.take()
        {
            // Not under the engine's lock, which is held: the reader notices, and says so.
            link.queue = unbounded_channel().0;
            task.abort();
        }
        bytes
    }

    fn queued(&self) -> BTreeMap<Name, usize> {
        let open = self.lock();
        let queued = |link: &Link| link.queued.load(Ordering::Relaxed);
        open.links.iter().map(|(name, link)| (name.clone(), queued(link))).collect()
    }

    fn close(&self, peer: &Name) {
        let mut open = self.lock();
        if let Some(link) = open.links.remove(peer) {
            open.membership.lost(peer, Instant::now());
            link.close();
        }
    }

    fn rename(&self, _: u64) {}
}

async fn accept(links: Weak<Links>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(DIAL_EVERY).await;
            continue;
        };
        let Some(links) = links.upgrade().filter(|links| links.node.strong_count() > 0) else {
            return;
        };
        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else {
            continue;
        };
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match links.credentials.clone() {
                None => links.run(stream, false).await,
                Some(credentials) => {
                    let acceptor = TlsAcceptor::from(credentials.server);
                    let handshake = tokio::time::timeout(GREET_WITHIN, acceptor.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await
                        && stream.get_ref().1.alpn_protocol() == Some(PROTOCOL)
                    {
                        links.run(stream, false).await;
                    }
                }
            }
            drop(permit);
        });
    }
}

async fn dial(links: Weak<Links>) {
    let mut beat = tokio::time::interval(DIAL_EVERY);
    loop {
        beat.tick().await;
        let Some(links) = links.upgrade().filter(|links| links.node.strong_count() > 0) else {
            return;
        };
        links.bury();
        for address in links.unlinked() {
            let links = Arc::clone(&links);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(GREET_WITHIN, connect(&links, &address)).await;
                links.lock().dialling.remove(&address);
            });
        }
    }
}

async fn connect(links: &Arc<Links>, address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match links.credentials.clone() {
        None => Arc::clone(links).run(stream, true).await,
        Some(credentials) => {
            let connector = TlsConnector::from(credentials.client);
            let stream = connector.connect(Credentials::server_name(), stream).await?;
            Arc::clone(links).run(stream, true).await;
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(
    writer: W,
    mut frames: UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(16 << 10, writer);
    loop {
        match tokio::time::timeout(SILENT_FOR / 4, frames.recv()).await {
            Ok(Some(frame)) => {
                write_frame(&mut writer, &frame).await?;
                queued.fetch_sub(frame.len(), Ordering::Relaxed);
            }
            Ok(None) => return Ok(()),
            // An empty frame says that this node is there.
            Err(_) => write_frame(&mut writer, &[]).await?,
        }
        if frames.is_empty() {
            writer.flush().await?;
        }
    }
}

async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    writer.write_all(&len.to_be_bytes()).await?;
    writer.write_all(body).await
}

/// Reads a frame no longer than `max`: a longer one is refused before anything is allocated for it.
async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R, max: usize) -> io::Result<Vec<u8>> {
    let len = reader.read_u32().await? as usize;
    if len > max {
        return Err(io::Error::other(format!("a frame of {len} bytes is longer than {max}")));
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).await?;
    Ok(body)
}

/// The bytes before the body of a frame: its length.
const HEADER: usize = size_of::<u32>();

/// How often addresses are dialled that nobody is linked at.
const DIAL_EVERY: Duration = Duration::from_millis(100);

/// How long a stranger may take to become a peer.
const GREET_WITHIN: Duration = Duration::from_secs(3);

/// How long a link may be silent.
const SILENT_FOR: Duration = Duration::from_millis(1_400);

/// How many strangers may be on their way to become peers.
const MAX_STRANGERS: usize = 64;

/// Bytes that wait for a peer, at most; then its link is closed, and it is repaired later.
const MAX_QUEUED: usize = 16 << 20;

/// Bytes of a hello, and addresses that one peer may name.
const MAX_HELLO: usize = 64 << 10;
const MAX_KNOWN: usize = 256;
