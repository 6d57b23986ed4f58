//! The frames that wait for a peer, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The end at which frames are put.
#[derive(Debug)]
pub(super) struct Queue {
    frames: UnboundedSender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// The end at which they are taken.
#[derive(Debug)]
pub(super) struct Frames {
    frames: UnboundedReceiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn queue() -> (Queue, Frames) {
    let (sender, receiver) = unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    (Queue { frames: sender, bytes: Arc::clone(&bytes) }, Frames { frames: receiver, bytes })
}

impl Queue {
    /// Adds a frame, unless more than `limit` bytes would wait then, or the receiver is gone.
    ///
    /// There is one who puts at a time, so nothing is added between the look and the addition.
    pub(super) fn put(&mut self, frame: Vec<u8>, limit: usize) -> bool {
        let len = frame.len();
        if self.bytes() + len > limit {
            return false;
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        self.frames.send(frame).is_ok()
    }

    /// Returns the number of bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Frames {
    /// Returns the next frame. Its bytes count as waiting until [`sent`](Self::sent) is called.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.frames.recv().await
    }

    pub(super) fn sent(&self, frame: &[u8]) {
        self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn taken_frames_count_until_sent() {
        let (mut queue, mut frames) = queue();
        assert!(queue.put(vec![0; 6], 10));
        assert!(!queue.put(vec![0; 6], 10));
        let frame = frames.next().await.unwrap();
        assert!(!queue.put(vec![0; 6], 10));
        frames.sent(&frame);
        assert!(queue.put(vec![0; 6], 10));
    }
}
