//! Messages over a socket.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::socket::Socket;
use crate::error::Failure;

pub(crate) struct Wire {
    socket: Socket,
    incoming: BytesMut,
    outgoing: BytesMut,
    has_sent: bool,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        let (incoming, outgoing) = (BytesMut::with_capacity(4 << 10), BytesMut::new());
        Self { socket, incoming, outgoing, has_sent: false }
    }

    /// Returns the buffer in which messages are composed.
    pub(crate) fn compose(&mut self) -> &mut BytesMut {
        self.outgoing.clear();
        self.has_sent = false;
        &mut self.outgoing
    }

    /// Returns true if part of the last message has been sent.
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Sends the rest of the composed messages.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        while self.outgoing.has_remaining() {
            if self.socket.write_buf(&mut self.outgoing).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.has_sent = true;
        }
        self.socket.flush().await
    }

    /// Returns the next message that is an answer or a notification.
    pub(crate) async fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            match self.parse()? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    /// Returns an unsolicited message of the server. `None` if there is no relevant one, and none
    /// is arriving.
    pub(crate) async fn overhear(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            match self.parse()? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(Some(message)),
                None if self.socket.is_quiet() => return Ok(None),
                // The message has already arrived in full.
                None => timeout(ARRIVES_WITHIN, self.read()).await.unwrap_or(Err(Failure::Hung))?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        match self.socket.read_buf(&mut self.incoming).await? {
            0 => Err(Failure::closed()),
            _ => Ok(()),
        }
    }

    fn parse(&mut self) -> Result<Option<Message>, Failure> {
        let malformed = |_| Failure::Protocol("a message is malformed");
        let header = Header::parse(&self.incoming).map_err(malformed)?;
        if header.is_some_and(|header| header.len() > LONGEST) {
            return Err(Failure::Protocol("a message is too long"));
        }
        Message::parse(&mut self.incoming).map_err(malformed)
    }
}

/// The time to read data that the operating system has already received.
const ARRIVES_WITHIN: Duration = Duration::from_millis(50);

/// The longest message. No row is longer than a record.
const LONGEST: i32 = 64 << 20;
