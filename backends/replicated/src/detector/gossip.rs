//! Gossip as bytes. A message is bounded by the packet that it is read from.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

use steadfast_replication::member::Boot;

/// A node that gossips: a higher number is that of a boot that was declared dead and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) boot: Boot,
    pub(super) number: u32,
}

impl Identity for Life {
    type Addr = Boot;

    /// A node that others declared dead goes on under the next number.
    fn renew(&self) -> Option<Self> {
        let number = self.number.checked_add(1)?;
        Some(Self { number, ..*self })
    }

    fn addr(&self) -> Boot {
        self.boot
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.number > other.number
    }
}

/// A peer sent something else than gossip.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GossipError {
    /// It cannot be read.
    #[error("cannot decode {len} bytes of gossip")]
    Unreadable { len: usize },
    /// It names another sender than the node at the other end of the link.
    #[error("another node sent gossip in the name of {boot:?}")]
    Foreign { boot: Boot },
    /// It is malformed.
    #[error("malformed gossip message")]
    Refused(#[source] foca::Error),
    /// It is longer than a packet may be.
    #[error("a gossip message of {len} bytes does not fit into a packet")]
    TooLong { len: usize },
}

/// Writes and reads what foca says.
#[derive(Clone, Copy, Debug)]
pub(super) struct GossipCodec;

impl Codec<Life> for GossipCodec {
    type Error = GossipError;

    fn encode_header(
        &mut self,
        header: &Header<Life>,
        buf: impl BufMut,
    ) -> Result<(), GossipError> {
        let mut out = Vec::with_capacity(96);
        put_life(&header.src, &mut out);
        out.put_u16(header.src_incarnation);
        put_life(&header.dst, &mut out);
        put_message(&header.message, &mut out);
        put_whole(&out, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Life>, GossipError> {
        let len = buf.remaining();
        take_header(&mut buf).ok_or(GossipError::Unreadable { len })
    }

    fn encode_member(
        &mut self,
        member: &Member<Life>,
        buf: impl BufMut,
    ) -> Result<(), GossipError> {
        let mut out = Vec::with_capacity(48);
        put_life(member.id(), &mut out);
        out.put_u16(member.incarnation());
        out.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_whole(&out, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Life>, GossipError> {
        let len = buf.remaining();
        take_member(&mut buf).ok_or(GossipError::Unreadable { len })
    }
}

/// All of it or nothing.
fn put_whole(bytes: &[u8], mut buf: impl BufMut) -> Result<(), GossipError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(GossipError::TooLong { len: bytes.len() });
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_life(life: &Life, out: &mut Vec<u8>) {
    out.put_slice(&life.boot.to_bytes());
    out.put_u32(life.number);
}

fn take_life(buf: &mut impl Buf) -> Option<Life> {
    let mut boot = [0; 16];
    buf.try_copy_to_slice(&mut boot).ok()?;
    Some(Life { boot: Boot::new(boot), number: buf.try_get_u32().ok()? })
}

fn put_message(message: &Message<Life>, out: &mut Vec<u8>) {
    let (kind, other, probe) = match message {
        Message::Ping(probe) => (0, None, Some(probe)),
        Message::Ack(probe) => (1, None, Some(probe)),
        Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
        Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
        Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    out.put_u8(kind);
    if let Some(other) = other {
        put_life(other, out);
    }
    out.extend(probe);
}

fn take_message(buf: &mut impl Buf) -> Option<Message<Life>> {
    let kind = buf.try_get_u8().ok()?;
    let other = if matches!(kind, 2..=5) { Some(take_life(buf)?) } else { None };
    let probe_number = if kind <= 5 { buf.try_get_u8().ok()? } else { 0 };
    Some(match (kind, other) {
        (0, _) => Message::Ping(probe_number),
        (1, _) => Message::Ack(probe_number),
        (2, Some(target)) => Message::PingReq { target, probe_number },
        (3, Some(origin)) => Message::IndirectPing { origin, probe_number },
        (4, Some(target)) => Message::IndirectAck { target, probe_number },
        (5, Some(origin)) => Message::ForwardedAck { origin, probe_number },
        (6, _) => Message::Announce,
        (7, _) => Message::Feed,
        (8, _) => Message::Gossip,
        (10, _) => Message::TurnUndead,
        _ => return None,
    })
}

fn take_header(buf: &mut impl Buf) -> Option<Header<Life>> {
    let src = take_life(buf)?;
    let src_incarnation = buf.try_get_u16().ok()?;
    let dst = take_life(buf)?;
    Some(Header { src, src_incarnation, dst, message: take_message(buf)? })
}

fn take_member(buf: &mut impl Buf) -> Option<Member<Life>> {
    let id = take_life(buf)?;
    let incarnation = buf.try_get_u16().ok()?;
    let state = match buf.try_get_u8().ok()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return None,
    };
    Some(Member::new(id, incarnation, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_round_trip() {
        for message in messages() {
            let header = Header { src: life(1), src_incarnation: 3, dst: life(2), message };
            let mut bytes = Vec::new();
            GossipCodec.encode_header(&header, &mut bytes).unwrap();
            assert_eq!(GossipCodec.decode_header(bytes.as_slice()).unwrap(), header);
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let (member, mut bytes) = (Member::new(life(3), 9, state), Vec::new());
            GossipCodec.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(GossipCodec.decode_member(bytes.as_slice()).unwrap(), member);
        }
    }

    /// Shows CL-08.
    #[test]
    fn gossip_that_is_cut_is_refused() {
        let message = Message::PingReq { target: life(3), probe_number: 1 };
        let header = Header { src: life(1), src_incarnation: 0, dst: life(2), message };
        let mut bytes = Vec::new();
        GossipCodec.encode_header(&header, &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(GossipCodec.decode_header(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_message_that_does_not_fit_writes_nothing() {
        let mut short = [0; 5];
        let mut rest = short.as_mut_slice();
        assert!(GossipCodec.encode_member(&Member::alive(life(1)), &mut rest).is_err());
        assert_eq!(rest.len(), 5);
    }

    fn messages() -> Vec<Message<Life>> {
        let (target, origin, probe_number) = (life(4), life(5), 7);
        vec![
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target, probe_number },
            Message::IndirectPing { origin, probe_number },
            Message::IndirectAck { target, probe_number },
            Message::ForwardedAck { origin, probe_number },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::TurnUndead,
        ]
    }

    fn life(boot: u8) -> Life {
        Life { boot: Boot::new([boot; 16]), number: u32::MAX - 7 }
    }
}
