//! Finds the ends of messages in the bytes of a conversation.

use crate::faults::Direction;

/// The protocol of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Redis,
    Postgres,
    RedisOverTls,
    PostgresOverTls,
}

/// The offsets in one direction at which a message ends, 0 among them: every place between two
/// messages. `is_new` says that the bytes are the first of their connection.
pub fn boundaries(
    protocol: Protocol,
    direction: Direction,
    bytes: &[u8],
    is_new: bool,
) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(length) = message(protocol, direction, bytes, ends[ends.len() - 1], is_new) {
        ends.push(ends[ends.len() - 1] + length);
    }
    ends
}

/// The length of the message that begins at an offset, unless it is cut off.
fn message(
    protocol: Protocol,
    direction: Direction,
    bytes: &[u8],
    start: usize,
    is_new: bool,
) -> Option<usize> {
    let rest = &bytes[start..];
    let is_first = is_new && start == 0;
    let length = match (protocol, direction) {
        (Protocol::Redis, _) => resp(rest)?,
        // A request for TLS, and the answer to it.
        (Protocol::PostgresOverTls, Direction::ToServer) if is_first => 8,
        (Protocol::PostgresOverTls, Direction::ToClient) if is_first => 1,
        (Protocol::RedisOverTls | Protocol::PostgresOverTls, _) => {
            5 + usize::from(u16::from_be_bytes(rest.get(3..5)?.try_into().ok()?))
        }
        // The first message of a client has no type.
        (Protocol::Postgres, Direction::ToServer) if is_first => word(rest, 0)?,
        (Protocol::Postgres, _) => 1 + word(rest, 1)?,
    };
    (length <= rest.len()).then_some(length)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(word)).ok()
}

/// The length of a value of Redis' protocol.
fn resp(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")? + 2;
    let count = || {
        let count = std::str::from_utf8(&bytes[1..line - 2]).ok()?;
        Some(usize::try_from(count.parse::<i64>().ok()?).unwrap_or(0))
    };
    let items = match bytes[0] {
        b'$' | b'!' | b'=' if bytes[1] != b'-' => return Some(line + count()? + 2),
        b'*' | b'>' | b'~' => count()?,
        b'%' | b'|' => 2 * count()?,
        _ => 0,
    };
    (0..items).try_fold(line, |end, _| Some(end + resp(bytes.get(end..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToServer};

    #[test]
    fn commands_and_replies_of_redis_are_told_apart() {
        let sent = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI";
        assert_eq!(boundaries(Protocol::Redis, ToServer, sent, false), [0, 20, 34]);
        let back = b"$-1\r\n*3\r\n:1\r\n*0\r\n$0\r\n\r\n+OK\r\n-ERR no\r\n";
        assert_eq!(boundaries(Protocol::Redis, ToClient, back, true), [0, 5, 23, 28, 37]);
    }

    #[test]
    fn the_first_message_to_postgres_has_no_type() {
        let sent = b"\0\0\0\x09\0\x03\0\0\0X\0\0\0\x04";
        assert_eq!(boundaries(Protocol::Postgres, ToServer, sent, true), [0, 9, 14]);
        assert_eq!(boundaries(Protocol::Postgres, ToClient, b"Z\0\0\0\x05I", false), [0, 6]);
    }

    #[test]
    fn records_of_tls_follow_the_request_for_it() {
        let sent = b"\0\0\0\x08\x04\xd2\x16\x2f\x16\x03\x01\0\x02ab";
        assert_eq!(boundaries(Protocol::PostgresOverTls, ToServer, sent, true), [0, 8, 15]);
        let back = b"\x17\x03\x03\0\x01a\x17\x03\x03\0\x02ab";
        assert_eq!(boundaries(Protocol::RedisOverTls, ToClient, back, true), [0, 6, 13]);
    }
}
