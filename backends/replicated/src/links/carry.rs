//! Carrying frames over a link, both ways, until it ends.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use steadfast_replication::engine::Packet;
use steadfast_replication::member::Boot;
use steadfast_replication::wire::{self, Ends, Frame};
use tokio::io::{AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::frames::{EmptyFrames, read_frame, write_frame};
use super::queue::Frames;
use super::{Links, Stream};
use crate::node::Node;
use crate::system::uptime;

/// Carries frames both ways until the link ends. Each way is a task of its own, so that a peer that sends
/// without end does not keep this node from sending.
pub(super) async fn run<S: Stream>(
    links: Arc<Links>,
    stream: S,
    link: (Boot, u64),
    first: Option<Vec<u8>>,
    frames: Frames,
    ended: oneshot::Receiver<Infallible>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let mut writing = tokio::spawn(write(writer, frames));
    let is_closed = tokio::select! {
        biased;
        _ = ended => false,
        written = &mut writing => matches!(written, Ok(Err(_))),
        read = links.read(reader, link, first) => read.is_err_and(|error| is_close(&error)),
    };
    writing.abort();
    links.unregister(link, is_closed);
}

fn is_close(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl Links {
    /// Takes one frame after the other, the next one when this one is handled: a peer that sends faster
    /// than that fills its socket, and waits.
    async fn read<S: Stream>(
        &self,
        mut reader: ReadHalf<S>,
        link: (Boot, u64),
        first: Option<Vec<u8>>,
    ) -> io::Result<()> {
        let mut next = first;
        let mut empty = EmptyFrames::since(Instant::now());
        loop {
            let body = match next.take() {
                Some(first) => first,
                None => read_frame(&mut reader, self.place.max_frame, SILENT_FOR).await?,
            };
            if body.is_empty() && empty.are_too_many(Instant::now()) {
                return Err(io::Error::other("a flood of empty frames"));
            }
            // Frames that are there already are read without waiting: other tasks have their turn, too.
            tokio::task::coop::consume_budget().await;
            let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
            self.take(&node, link, &body)?;
        }
    }

    pub(super) fn take(&self, node: &Node, link: (Boot, u64), body: &[u8]) -> io::Result<()> {
        let (from, to) = (link.0, self.me);
        // An empty frame shows that its sender is there, and nothing else.
        if body.is_empty() {
            return Ok(());
        }
        match wire::decode(body, Ends { from, to }).map_err(io::Error::other)? {
            Some(Frame::Packet(packet)) => self.take_packet(node, link, packet),
            Some(Frame::Gossip(gossip)) => self.take_gossip(link, &gossip),
            None => Ok(()),
        }
    }

    fn take_packet(&self, node: &Node, link: (Boot, u64), packet: Packet) -> io::Result<()> {
        let is_current = node.with_engine(|engine, now| {
            let is_current = self.lock().is_current(link);
            if is_current {
                engine.receive(now, link.0, packet);
            }
            is_current
        });
        is_current.then_some(()).ok_or(io::ErrorKind::NotConnected.into())
    }

    fn take_gossip(&self, link: (Boot, u64), gossip: &[u8]) -> io::Result<()> {
        let mut open = self.lock();
        if open.is_current(link) {
            open.detector.heard(uptime(), link.0, gossip).map_err(io::Error::other)?;
            open.carry_gossip();
        }
        Ok(())
    }
}

async fn write<S: Stream>(writer: WriteHalf<S>, mut frames: Frames) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(16 << 10, writer);
    loop {
        match tokio::time::timeout(SPEAK_EVERY, frames.next()).await {
            Ok(Some(frame)) => {
                write_frame(&mut writer, &frame).await?;
                frames.sent(&frame);
            }
            Ok(None) => return Ok(()),
            // An empty frame shows that this node is there.
            Err(_) => write_frame(&mut writer, &[]).await?,
        }
        if frames.is_empty() {
            writer.flush().await?;
        }
    }
}

/// The time after which a silent link is closed, and the interval at which something is sent.
pub(super) const SILENT_FOR: Duration = Duration::from_millis(1_500);
pub(super) const SPEAK_EVERY: Duration = Duration::from_millis(500);
