//! The encoding of a record as the fields of a hash.
//!
//! | field | content |
//! | --- | --- |
//! | `.` | the parts of the record that are not values, packed |
//! | `v…` | a value under its key, as JSON |
//! | `x!` | what is left of a session that the cap ended: see [`endings`](crate::endings) |
//! | `x…` | in a cluster, a mark for the login with this ticket: see [`index`](crate::index) |
//!
//! The packed field contains, in this order and big-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 2 | the format |
//! | 8 | the version |
//! | 8 each | the idle and the absolute deadline, the times of creation and of authentication (the least number: never) |
//! | 8 each | the sign-in, the owner's fence |
//! | 4 each | the number of values, and the bytes of all keys and values |
//! | 1 + n | the secret's hash: the key's fingerprint (4 bytes), the digest (32), the key's name |
//! | 1 + n | the replaced hash, after the time until which it is kept (8 bytes); or nothing |
//! | 2 + n | the principal, `REALM:USER`; or nothing |
//! | 1 + n | in a cluster, the ticket of the login |
//! | 1 + n | the owner's label; or nothing |
//! | the rest | the facts |
//!
//! Times are milliseconds since 1970. Everything before the facts keeps its place in later formats,
//! so that a node with this format can delete, list and end records of later ones. Additions of a
//! later format are part of the facts, or fields with other names.
//!
//! Format 1, that of release 0.1, has a field for each of these. It is still read, and the next
//! patch of the record writes the packed form.

use redis::Value;
use steadfast_core::{
    Event, Facts, KeyId, Limits, Owner, Principal, Realm, Record, RecordId, Replaced, SecretHash,
    SessionInfo, StoreError, Timestamp, Values, Version,
};

use crate::keys::name;
use crate::reply;

/// The name of the packed field.
pub(crate) const OWN: &str = ".";

/// Packs the parts of a new record that are not values, with the ticket of its login.
pub(crate) fn encode(record: &Record, ticket: &str) -> Vec<u8> {
    let mut packed = Packed::default();
    packed.u16(record.format()).u64(record.version.0);
    packed.time(record.idle_deadline).time(record.absolute_deadline).time(record.created);
    packed.maybe_time(record.authenticated).u64(record.sign_in).u64(record.fence());
    packed.u32(record.values.len()).u32(record.values.size());
    packed.short(&record.secret.to_bytes());
    packed.short(&record.replaced.as_deref().map(encode_replaced).unwrap_or_default());
    packed.long(record.principal.as_ref().map(name).unwrap_or_default().as_bytes());
    packed.short(ticket.as_bytes());
    let owner = record.owner.as_ref().map_or("", |owner| owner.label.as_str());
    packed.short(owner.as_bytes()).bytes(record.facts.as_bytes());
    packed.0
}

fn encode_replaced(replaced: &Replaced) -> Vec<u8> {
    [&replaced.until.as_millis().to_be_bytes()[..], &replaced.hash.to_bytes()].concat()
}

/// Packs bytes for a script or for the packed field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed(pub(crate) Vec<u8>);

impl Packed {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    pub(crate) fn flag(&mut self, is_so: bool) -> &mut Self {
        self.u8(is_so.into())
    }

    pub(crate) fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Appends a count. No count exceeds 32 bits.
    pub(crate) fn u32(&mut self, number: usize) -> &mut Self {
        self.bytes(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes())
    }

    pub(crate) fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn millis(&mut self, millis: i64) -> &mut Self {
        self.bytes(&millis.to_be_bytes())
    }

    pub(crate) fn time(&mut self, time: Timestamp) -> &mut Self {
        self.millis(time.as_millis())
    }

    pub(crate) fn maybe_time(&mut self, time: Option<Timestamp>) -> &mut Self {
        self.millis(time.map_or(i64::MIN, Timestamp::as_millis))
    }

    /// Appends up to 255 bytes after their length.
    pub(crate) fn short(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u8::try_from(bytes.len()).expect("at most 255 bytes");
        self.u8(length).bytes(bytes)
    }

    /// Appends up to 65,535 bytes after their length.
    pub(crate) fn long(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
        self.u16(length).bytes(bytes)
    }

    /// Appends bytes after their length.
    pub(crate) fn huge(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len()).bytes(bytes)
    }
}

/// Unpacks bytes. A malformed part yields `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked<'b>(pub(crate) &'b [u8]);

impl<'b> Unpacked<'b> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?)).ok()
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub(crate) fn millis(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        self.millis().map(Timestamp::from_millis)
    }

    pub(crate) fn maybe_time(&mut self) -> Option<Option<Timestamp>> {
        let millis = self.millis()?;
        Some((millis != i64::MIN).then(|| Timestamp::from_millis(millis)))
    }

    pub(crate) fn short(&mut self) -> Option<&'b [u8]> {
        let count = self.u8()?;
        self.bytes(count.into())
    }

    pub(crate) fn long(&mut self) -> Option<&'b [u8]> {
        let count = self.u16()?;
        self.bytes(count.into())
    }

    pub(crate) fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.long()?).ok()
    }
}

/// A record without its values, in this format or a later one.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) record: Record,
    pub(crate) format: u16,
    /// The number of bytes of all keys and values.
    pub(crate) bytes: usize,
    pub(crate) ticket: String,
}

impl Head {
    /// Unpacks the packed field.
    pub(crate) fn unpack(packed: &[u8]) -> Option<Self> {
        let mut from = Unpacked(packed);
        let (format, version) = (from.u16()?, Version(from.u64()?));
        let (idle_deadline, absolute_deadline) = (from.time()?, from.time()?);
        let (created, authenticated) = (from.time()?, from.maybe_time()?);
        let (sign_in, fence) = (from.u64()?, from.u64()?);
        let (_, bytes) = (from.u32()?, from.u32()?);
        let secret = SecretHash::from_bytes(from.short()?)?;
        let replaced = match from.short()? {
            [] => None,
            packed => Some(unpack_replaced(packed)?),
        };
        let principal = match from.long()? {
            [] => None,
            name => Some(principal(name)?),
        };
        let ticket = std::str::from_utf8(from.short()?).ok()?.to_owned();
        let owner = match from.short()? {
            [] => None,
            label => Some(std::str::from_utf8(label).ok()?.parse().ok()?),
        };
        let record = Record {
            secret,
            replaced,
            version,
            values: Values::new(),
            created,
            authenticated,
            idle_deadline,
            absolute_deadline,
            principal,
            sign_in,
            facts: Facts::new(from.0).ok()?,
            owner: owner.map(|label| Box::new(Owner { label, fence })),
        };
        Some(Self { record, format, bytes, ticket })
    }

    /// Reads the fields [`HEAD`] in either format. Returns `None` if there is no record.
    pub(crate) fn of(fields: &[Value]) -> Option<Self> {
        let content = |at: usize| fields.get(at).and_then(reply::bytes);
        if let Some(packed) = content(0) {
            return Self::unpack(packed);
        }
        let mut own = [None; FORMAT_1.len()];
        for (at, slot) in own.iter_mut().enumerate() {
            *slot = content(at + 1);
        }
        let bytes = content(1 + FORMAT_1.len()).and_then(number)?;
        let ticket =
            content(2 + FORMAT_1.len()).and_then(|ticket| std::str::from_utf8(ticket).ok());
        let record = record_of_format_1(&own, Values::new()).ok()?;
        Some(Self { record, format: 1, bytes, ticket: ticket.unwrap_or_default().to_owned() })
    }

    pub(crate) fn is_of(&self, principal: &str) -> bool {
        self.record.principal.as_ref().is_some_and(|own| name(own) == principal)
    }

    pub(crate) fn info(&self, id: steadfast_core::RecordId) -> SessionInfo {
        SessionInfo::of(id, &self.record)
    }
}

/// The fields of a record without its values, in either format.
pub(crate) const HEAD: [&str; 3 + FORMAT_1.len()] =
    [OWN, "s", "r", "n", "c", "t", "i", "a", "u", "o", "f", "z", "w"];

fn unpack_replaced(packed: &[u8]) -> Option<Box<Replaced>> {
    let mut from = Unpacked(packed);
    let until = from.time()?;
    Some(Box::new(Replaced { hash: SecretHash::from_bytes(from.0)?, until }))
}

/// Decodes the fields of a hash. Returns `None` if it contains no record.
pub(crate) fn decode(answer: Value, limits: &Limits) -> Result<Option<Record>, Unreadable> {
    let fields = reply::items(answer);
    let mut packed = None;
    let mut own = [None; FORMAT_1.len()];
    let mut values = Vec::with_capacity(fields.len() / 2);
    // A mark may precede its record. A hash with only marks is not a corrupt record.
    let mut is_empty = true;
    for pair in fields.chunks_exact(2) {
        let (Some(field), Some(content)) = (reply::bytes(&pair[0]), reply::bytes(&pair[1])) else {
            return Err(Corrupt::Form.into());
        };
        is_empty &= field.starts_with(b"x");
        match field {
            [b'v', key @ ..] => values.push((key, content)),
            [b'.'] => packed = Some(content),
            [letter] => {
                if let Some(at) = FORMAT_1.iter().position(|own| own == letter) {
                    own[at] = Some(content);
                }
            }
            _ => {}
        }
    }
    if is_empty {
        return Ok(None);
    }
    let Some(packed) = packed else {
        let values = bounded(values, limits)?;
        return Ok(Some(record_of_format_1(&own, values)?));
    };
    let head = Head::unpack(packed).ok_or(Corrupt::Form)?;
    if head.format > Record::FORMAT {
        return Err(Unreadable::Newer(Box::new(head)));
    }
    Ok(Some(Record { values: bounded(values, limits)?, ..head.record }))
}

/// The reason why a record cannot be decoded.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Corrupt(Corrupt),
    /// It was written by a later release. The head can be read in any case.
    Newer(Box<Head>),
}

impl From<Corrupt> for Unreadable {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Returns the error for a corrupt record, and reports the event.
pub(crate) fn corrupt(id: RecordId, why: Corrupt) -> StoreError {
    Event::CorruptRecord.emit(Some(id));
    StoreError::corrupt(why)
}

/// Returns the error for a record in an unknown format.
pub(crate) fn newer(found: u16) -> StoreError {
    StoreError::NewerFormat { found, known: Record::FORMAT }
}

pub(crate) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The data under an id cannot be decoded as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    #[error("the field {0:?} is missing or malformed")]
    Field(&'static str),
    #[error("a key or value exceeds the limits of any record")]
    Value,
    #[error("the key is not a hash with the fields of a record")]
    Form,
}

/// The fields of format 1 that make up a record.
const FORMAT_1: [u8; 10] = *b"srnctiauof";

fn record_of_format_1(
    own: &[Option<&[u8]>; FORMAT_1.len()],
    values: Values,
) -> Result<Record, Corrupt> {
    let content = |letter: u8| own[FORMAT_1.iter().position(|own| *own == letter)?];
    let time_of = |letter, name| content(letter).and_then(time).ok_or(Corrupt::Field(name));
    Ok(Record {
        secret: content(b's').and_then(secret).ok_or(Corrupt::Field("s"))?,
        replaced: optional(content(b'r'), replaced, "r")?,
        version: Version(content(b'n').and_then(number).ok_or(Corrupt::Field("n"))?),
        values,
        created: time_of(b'c', "c")?,
        authenticated: optional(content(b't'), time, "t")?,
        idle_deadline: time_of(b'i', "i")?,
        absolute_deadline: time_of(b'a', "a")?,
        principal: optional(content(b'u'), principal, "u")?,
        sign_in: 0,
        facts: Facts::default(),
        owner: optional(content(b'o').zip(content(b'f')), owner, "o")?,
    })
}

/// Parses a time in milliseconds.
fn time(text: &[u8]) -> Option<Timestamp> {
    number(text).map(Timestamp::from_millis)
}

fn optional<C, T>(
    content: Option<C>,
    read: impl Fn(C) -> Option<T>,
    name: &'static str,
) -> Result<Option<T>, Corrupt> {
    content.map(|content| read(content).ok_or(Corrupt::Field(name))).transpose()
}

fn secret(bytes: &[u8]) -> Option<SecretHash> {
    let (key, digest) = bytes.split_first_chunk()?;
    Some(SecretHash::from_parts(
        KeyId::from_parts(u32::from_be_bytes(*key), "")?,
        digest.try_into().ok()?,
    ))
}

fn replaced(bytes: &[u8]) -> Option<Box<Replaced>> {
    let (hash, until) = bytes.split_at_checked(36)?;
    Some(Box::new(Replaced { hash: secret(hash)?, until: time(until)? }))
}

/// Parses the name of a principal.
pub(crate) fn principal(name: &[u8]) -> Option<Principal> {
    let (realm, id) = std::str::from_utf8(name).ok()?.split_once(':')?;
    Principal::new(Realm::new(realm).ok()?, id).ok()
}

fn owner((label, fence): (&[u8], &[u8])) -> Option<Box<Owner>> {
    let label = std::str::from_utf8(label).ok()?.parse().ok()?;
    Some(Box::new(Owner { label, fence: number(fence)? }))
}

fn checked_key(key: &[u8]) -> Result<&str, Corrupt> {
    let key = std::str::from_utf8(key).map_err(|_| Corrupt::Value)?;
    Limits::check_key(key).map_err(|_| Corrupt::Value)?;
    Ok(key)
}

/// Rejects values that no store could have written, under any limits that may have been configured
/// earlier. Sealed values are longer than the limits count, by less than half.
fn bounded(values: Vec<(&[u8], &[u8])>, limits: &Limits) -> Result<Values, Corrupt> {
    let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    let most_bytes = limits.record_bytes.saturating_mul(2).max(MOST_BYTES);
    let fits = values.len() <= limits.keys.max(MOST_KEYS) && bytes <= most_bytes;
    if !fits {
        return Err(Corrupt::Value);
    }
    let checked = |(key, value)| Ok((checked_key(key)?, value));
    values.into_iter().map(checked).collect::<Result<Vec<_>, _>>().map(Values::from_iter)
}

const MOST_KEYS: usize = 1_024;
const MOST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast_core::RouteLabel;

    use super::*;

    #[test]
    fn a_record_survives_the_round_trip() {
        for record in [plain(), full()] {
            let back = decode(answer(&fields(&record)), &Limits::default());
            assert_eq!(back.unwrap(), Some(record.clone()));
            let head = Head::unpack(&encode(&record, "ticket")).unwrap();
            assert_eq!((head.ticket.as_str(), head.bytes), ("ticket", record.values.size()));
        }
    }

    #[test]
    fn no_fields_and_marks_alone_are_no_record() {
        for fields in [&[][..], &[b"x0123".to_vec(), b"again".to_vec()]] {
            assert_eq!(decode(answer(fields), &Limits::default()).unwrap(), None);
        }
    }

    /// Shows IN-06.
    #[test]
    fn a_truncated_or_missing_field_is_corrupt() {
        let whole = fields(&full());
        for length in 0..whole[1].len() - full().facts.as_bytes().len() {
            let mut cut = whole.clone();
            cut[1].truncate(length);
            assert!(decode(answer(&cut), &Limits::default()).is_err(), "{length}");
        }
        assert!(decode(answer(&whole[2..]), &Limits::default()).is_err());
    }

    #[test]
    fn the_head_of_a_later_format_is_readable() {
        let mut later = fields(&full());
        later[1][..2].copy_from_slice(&[0xff, 0xff]);
        match decode(answer(&later), &Limits::default()) {
            Err(Unreadable::Newer(head)) => {
                assert_eq!(head.format, 0xffff);
                assert!(head.is_of("session:a:b{c}"));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Shows DS-10.
    #[test]
    fn a_record_bomb_is_corrupt() {
        let bomb = |more: Vec<Vec<u8>>| [fields(&plain()), more].concat();
        for fields in [
            bomb(vec![b"vbig".to_vec(), vec![b'1'; MOST_BYTES + 1]]),
            bomb((0..=MOST_KEYS).flat_map(|n| [format!("v{n}").into(), b"1".to_vec()]).collect()),
            bomb(vec![vec![b'v'; 1_000], b"1".to_vec()]),
        ] {
            let decoded = decode(answer(&fields), &Limits::default());
            assert!(matches!(decoded, Err(Unreadable::Corrupt(Corrupt::Value))));
        }
    }

    fn plain() -> Record {
        let secret = SecretHash::from_parts(KeyId::from_parts(7, "k1").unwrap(), [9; 32]);
        let start = Timestamp::UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
        let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
        Record::new(secret, start, later(30), later(480))
    }

    fn full() -> Record {
        let start = plain().created;
        let replaced = SecretHash::from_parts(KeyId::NONE, [8; 32]);
        let label: RouteLabel = "n1".parse().unwrap();
        Record {
            replaced: Some(Box::new(Replaced { hash: replaced, until: start })),
            version: Version(u64::MAX - 1),
            values: [("cart", b"[1]".as_slice()), ("n", b"-7")].into_iter().collect(),
            authenticated: Some(start),
            principal: Some(Principal::new(Realm::default(), "a:b{c}").unwrap()),
            sign_in: 3,
            facts: Facts::new(*b"facts \0").unwrap(),
            owner: Some(Box::new(Owner { label, fence: 3 })),
            ..plain()
        }
    }

    fn fields(record: &Record) -> Vec<Vec<u8>> {
        let values = record.values.iter();
        let values = values.flat_map(|(key, value)| [format!("v{key}").into(), value.to_vec()]);
        [OWN.into(), encode(record, "")].into_iter().chain(values).collect()
    }

    fn answer(fields: &[Vec<u8>]) -> Value {
        Value::Array(fields.iter().cloned().map(Value::BulkString).collect())
    }
}
