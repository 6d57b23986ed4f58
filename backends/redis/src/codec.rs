//! A record as the fields of a hash.
//!
//! | field | what it is |
//! | --- | --- |
//! | `s` | the secret's hash: the key's id (4 bytes, big-endian) and the digest (32) |
//! | `r` | the hash it replaced, likewise, and behind it until when that is kept |
//! | `n` | the version |
//! | `c`, `t` | when it was created, and when its user proved who they are |
//! | `i`, `a` | the idle and the absolute deadline |
//! | `u` | the principal, `REALM:USER` |
//! | `o`, `f` | the owner's label and fence |
//! | `k`, `z` | how many values there are, and the bytes of their keys and of them |
//! | `w` | in a cluster, the ticket of the login: see [`index`](crate::index) |
//! | `x…` | in a cluster, a mark for the login with this ticket |
//! | `v…` | a value under its key, as its JSON |
//!
//! Numbers are decimals, times milliseconds since 1970. Fields are small on purpose: while none is over
//! 64 bytes, Redis keeps the hash in one piece of memory.

use redis::Value;
use steadfast_core::{
    Facts, KeyId, Limits, Owner, Principal, Realm, Record, Replaced, SecretHash, Timestamp, Values,
    Version,
};

use crate::keys::name;
use crate::reply;

/// The fields of a new record, names and contents in turn.
pub(crate) fn encode(record: &Record) -> Vec<Vec<u8>> {
    let mut fields = Vec::with_capacity(24 + 2 * record.values.len());
    let mut field = |name: &str, content: Vec<u8>| {
        fields.push(name.as_bytes().to_vec());
        fields.push(content);
    };
    field("s", hash(&record.secret).to_vec());
    field("n", decimal(&record.version.0));
    field("c", millis(record.created).into_bytes());
    field("i", millis(record.idle_deadline).into_bytes());
    field("a", millis(record.absolute_deadline).into_bytes());
    field("k", decimal(&record.values.len()));
    field("z", decimal(&record.values.size()));
    if let Some(replaced) = &record.replaced {
        field("r", [&hash(&replaced.hash)[..], millis(replaced.until).as_bytes()].concat());
    }
    if let Some(authenticated) = record.authenticated {
        field("t", millis(authenticated).into_bytes());
    }
    if let Some(principal) = &record.principal {
        field("u", name(principal).into_bytes());
    }
    if let Some(owner) = &record.owner {
        field("o", owner.label.as_str().into());
        field("f", decimal(&owner.fence));
    }
    for (key, value) in record.values.iter() {
        field(&format!("v{key}"), value.to_vec());
    }
    fields
}

/// The record of a hash's fields; `None` if there are none.
pub(crate) fn decode(answer: Value, limits: &Limits) -> Result<Option<Record>, Corrupt> {
    let fields = reply::items(answer);
    // Where there is no record yet, a mark may be all there is.
    let is_mark = |field: &Value| reply::bytes(field).is_some_and(|field| field.starts_with(b"x"));
    match fields.iter().step_by(2).all(is_mark) {
        true => Ok(None),
        false => record(&fields, limits).map(Some),
    }
}

/// A hash as its 36 bytes.
pub(crate) fn hash(hash: &SecretHash) -> [u8; 36] {
    hash.compared()
}

/// A time in milliseconds.
pub(crate) fn millis(time: Timestamp) -> String {
    time.as_millis().to_string()
}

/// The time that a text of milliseconds says.
pub(crate) fn time(text: &[u8]) -> Option<Timestamp> {
    number(text).map(Timestamp::from_millis)
}

pub(crate) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What is kept under an id cannot be read as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    #[error("the field {0:?} is missing or has another form")]
    Field(&'static str),
    #[error("a value has a key or a size that no record has")]
    Value,
    #[error("it is no hash, or a hash without the fields of a record")]
    Form,
}

fn record(fields: &[Value], limits: &Limits) -> Result<Record, Corrupt> {
    let mut own: [Option<&[u8]>; OWN.len()] = [None; OWN.len()];
    let mut values = Vec::with_capacity(fields.len() / 2);
    for pair in fields.chunks_exact(2) {
        let (Some(field), Some(content)) = (reply::bytes(&pair[0]), reply::bytes(&pair[1])) else {
            return Err(Corrupt::Form);
        };
        match field {
            [b'v', key @ ..] => values.push((checked_key(key)?, content)),
            [letter] => {
                if let Some(at) = OWN.iter().position(|own| own == letter) {
                    own[at] = Some(content);
                }
            }
            _ => {}
        }
    }
    let content = |letter: u8| own[OWN.iter().position(|own| *own == letter)?];
    let time_of = |letter, name| content(letter).and_then(time).ok_or(Corrupt::Field(name));
    Ok(Record {
        secret: content(b's').and_then(secret).ok_or(Corrupt::Field("s"))?,
        replaced: optional(content(b'r'), replaced, "r")?,
        version: Version(content(b'n').and_then(number).ok_or(Corrupt::Field("n"))?),
        values: bounded(values, limits)?,
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

fn principal(name: &[u8]) -> Option<Principal> {
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

/// No store wrote more than this, under whatever limits it was configured with before.
fn bounded(values: Vec<(&str, &[u8])>, limits: &Limits) -> Result<Values, Corrupt> {
    let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    let fits =
        values.len() <= limits.keys.max(MOST_KEYS) && bytes <= limits.record_bytes.max(MOST_BYTES);
    fits.then(|| values.into_iter().collect()).ok_or(Corrupt::Value)
}

fn decimal(number: &impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The fields of a record itself that are read.
const OWN: [u8; 10] = *b"srnctiauof";

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
            let back = decode(answer(&encode(&record)), &Limits::default());
            assert_eq!(back, Ok(Some(record)));
        }
    }

    #[test]
    fn no_fields_and_marks_alone_are_no_record() {
        for fields in [&[][..], &[b"x0123".to_vec(), b"again".to_vec()]] {
            assert_eq!(decode(answer(fields), &Limits::default()), Ok(None));
        }
    }

    #[test]
    fn in_06_what_misses_a_field_or_has_junk_in_one_is_corrupt() {
        for name in ["s", "n", "c", "i", "a", "r", "t", "u", "f"] {
            let mut fields = encode(&full());
            let at = fields.iter().position(|field| field == name.as_bytes()).unwrap();
            fields[at + 1] = b"\xffjunk".to_vec();
            assert!(decode(answer(&fields), &Limits::default()).is_err(), "{name}");
        }
        for name in ["s", "n", "c", "i", "a"] {
            let mut fields = encode(&plain());
            let at = fields.iter().position(|field| field == name.as_bytes()).unwrap();
            fields.drain(at..at + 2);
            assert!(decode(answer(&fields), &Limits::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn ds_10_a_record_bomb_is_corrupt() {
        let mut huge = encode(&plain());
        huge.extend([b"vbig".to_vec(), vec![b'1'; MOST_BYTES + 1]]);
        let mut many = encode(&plain());
        many.extend((0..=MOST_KEYS).flat_map(|n| [format!("v{n}").into(), b"1".to_vec()]));
        let mut long = encode(&plain());
        long.extend([vec![b'v'; 1_000], b"1".to_vec()]);
        for fields in [huge, many, long] {
            assert_eq!(decode(answer(&fields), &Limits::default()), Err(Corrupt::Value));
        }
    }

    #[test]
    fn a_time_before_1970_is_a_time() {
        let time = Timestamp::from_millis(-1_500);
        assert_eq!(super::time(millis(time).as_bytes()), Some(time));
    }

    fn plain() -> Record {
        let secret = SecretHash::from_parts(KeyId::from_parts(7, "").unwrap(), [9; 32]);
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
            version: Version(41),
            values: [("cart", b"[1]".as_slice()), ("n", b"-7")].into_iter().collect(),
            authenticated: Some(start),
            principal: Some(Principal::new(Realm::default(), "a:b{c}").unwrap()),
            owner: Some(Box::new(Owner { label, fence: 3 })),
            ..plain()
        }
    }

    fn answer(fields: &[Vec<u8>]) -> Value {
        Value::Array(fields.iter().cloned().map(Value::BulkString).collect())
    }
}
