//! Gossip as bytes. Whatever comes in is bounded by the packet that it is read from.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

use crate::placement::Name;

/// A node that gossips: of two lives of one name, the later one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) name: Name,
    pub(super) number: u64,
}

impl Identity for Life {
    type Addr = Name;

    /// Whom the others took for dead lives on as another one.
    fn renew(&self) -> Option<Self> {
        let number = self.number.checked_add(1)?;
        Some(Self { name: self.name.clone(), number })
    }

    fn addr(&self) -> Name {
        self.name.clone()
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.number > other.number
    }
}

/// What a peer sent is no gossip.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GossipError {
    /// It cannot be read.
    #[error("{len} bytes of gossip cannot be read")]
    Unreadable { len: usize },
    /// Another node than the one at the other end says that it sent this.
    #[error("gossip of {name:?} came from another node")]
    Foreign { name: Name },
    /// It makes no sense.
    #[error("gossip that nobody sends")]
    Refused(#[source] foca::Error),
    /// It is longer than a packet may be.
    #[error("gossip of {len} bytes does not fit")]
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
    let name = life.name.as_str().as_bytes();
    out.put_u8(name.len() as u8);
    out.put_slice(name);
    out.put_u64(life.number);
}

fn take_life(buf: &mut impl Buf) -> Option<Life> {
    let mut name = [0; MAX_NAME];
    let len = usize::from(buf.try_get_u8().ok()?);
    let name = name.get_mut(..len)?;
    buf.try_copy_to_slice(name).ok()?;
    let name = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some(Life { name, number: buf.try_get_u64().ok()? })
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

/// The longest name, in bytes.
const MAX_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_again() {
        for message in messages() {
            let header = Header { src: life("a"), src_incarnation: 3, dst: life("b"), message };
            let mut bytes = Vec::new();
            GossipCodec.encode_header(&header, &mut bytes).unwrap();
            assert_eq!(GossipCodec.decode_header(bytes.as_slice()).unwrap(), header);
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let (member, mut bytes) = (Member::new(life("c"), 9, state), Vec::new());
            GossipCodec.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(GossipCodec.decode_member(bytes.as_slice()).unwrap(), member);
        }
    }

    #[test]
    fn cl_08_what_is_cut_or_longer_than_a_name_is_refused() {
        let target = life("target");
        let message = Message::PingReq { target, probe_number: 1 };
        let header = Header { src: life("a"), src_incarnation: 0, dst: life("b"), message };
        let mut bytes = Vec::new();
        GossipCodec.encode_header(&header, &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(GossipCodec.decode_header(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(GossipCodec.decode_header([&[33][..], &[b'a'; 99]].concat().as_slice()).is_err());
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer_as_it_was() {
        let mut short = [0; 5];
        let mut rest = short.as_mut_slice();
        assert!(GossipCodec.encode_member(&Member::alive(life("a")), &mut rest).is_err());
        assert_eq!(rest.len(), 5);
    }

    fn messages() -> Vec<Message<Life>> {
        let (target, origin, probe_number) = (life("t"), life("o"), 7);
        vec![
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: target.clone(), probe_number },
            Message::IndirectPing { origin: origin.clone(), probe_number },
            Message::IndirectAck { target, probe_number },
            Message::ForwardedAck { origin, probe_number },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::TurnUndead,
        ]
    }

    fn life(name: &str) -> Life {
        Life { name: name.parse().unwrap(), number: u64::MAX - 7 }
    }
}
