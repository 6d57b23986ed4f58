//! Frames on a stream: a length, and that many bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

pub(super) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    body: &[u8],
) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    writer.write_all(&len.to_be_bytes()).await?;
    writer.write_all(body).await
}

/// Reads a frame no longer than `max`: a longer one is refused before anything is allocated for it.
/// It may take its time, but not be silent for as long as `silence`.
pub(super) async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    max: usize,
    silence: Duration,
) -> io::Result<Vec<u8>> {
    let mut len = [0; HEADER];
    fill(reader, &mut len, silence).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > max {
        return Err(io::Error::other(format!("a frame of {len} bytes is longer than {max}")));
    }
    let mut body = vec![0; len];
    fill(reader, &mut body, silence).await?;
    Ok(body)
}

async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    mut bytes: &mut [u8],
    silence: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = timeout(silence, reader.read(bytes)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
    }
    Ok(())
}

/// Empty frames of a peer. It sends two in a second, where it has nothing else to say.
#[derive(Debug)]
pub(super) struct EmptyFrames {
    since: Instant,
    count: u32,
}

impl EmptyFrames {
    pub(super) fn since(since: Instant) -> Self {
        Self { since, count: 0 }
    }

    /// Counts one more, and says whether that makes too many in a second.
    pub(super) fn are_too_many(&mut self, now: Instant) -> bool {
        if self.since + SECOND <= now {
            *self = Self::since(now);
        }
        self.count += 1;
        self.count > MAX_EMPTY
    }
}

/// The highest number of empty frames accepted per second, including those that came while this
/// node was stalled.
const MAX_EMPTY: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// The bytes before the body of a frame: its length.
pub(super) const HEADER: usize = size_of::<u32>();
