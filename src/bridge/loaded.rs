//! The note of what a request loaded. It travels in the record that tower-sessions holds for the request.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use steadfast_core::{PRE_AUTH, Patch, RawJson, Record, RecordId, Timestamp, Values};

use crate::error::Error;

/// The values of a session, as tower-sessions has them.
pub(super) type Data = HashMap<String, Value>;

/// A session as a request loaded it: a save sends what differs.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) record: RecordId,
    /// Identifies the load within this process.
    pub(super) load: u64,
    pub(super) origin: Origin,
    pub(super) sign_in: u64,
    pub(super) principal: Option<String>,
    idle_deadline: i64,
    /// True if a value ends the session before its deadline in the store.
    is_shortened: bool,
    values: HashMap<String, Fingerprint>,
}

/// The origin of a request's session.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    /// The store had it.
    Stored,
    /// The request itself created it.
    Created,
    /// The id was replaced a moment ago, so that the request sees an empty session.
    Superseded,
}

impl Loaded {
    /// A record of the store, and the data that a request sees.
    ///
    /// # Errors
    ///
    /// When a value cannot be decoded.
    pub(super) fn stored(id: RecordId, record: &Record, load: u64) -> Result<(Self, Data), Error> {
        let mut data = decoded(&record.values)?;
        let loaded = Self {
            values: fingerprints(&data),
            ..Self::of_record(id, record, load, Origin::Stored)
        };
        loaded.note_in(&mut data);
        Ok((loaded, data))
    }

    /// A record that the request created from this data.
    pub(super) fn created(id: RecordId, record: &Record, load: u64) -> Self {
        Self::of_record(id, record, load, Origin::Created)
    }

    /// The data of a session whose id was replaced a moment ago.
    pub(super) fn superseded(id: RecordId) -> Data {
        let loaded = Self {
            record: id,
            load: 0,
            origin: Origin::Superseded,
            sign_in: 0,
            principal: None,
            idle_deadline: 0,
            is_shortened: false,
            values: HashMap::new(),
        };
        let mut data = Data::new();
        loaded.note_in(&mut data);
        data
    }

    /// The note in a request's data; `None` after the request cleared its session.
    pub(super) fn of(data: &Data) -> Option<Self> {
        data.get(NOTE).and_then(|note| Self::deserialize(note).ok())
    }

    /// Leaves this note in a request's data.
    pub(super) fn note_in(&self, data: &mut Data) {
        let note = serde_json::to_value(self).expect("its keys are strings");
        data.insert(NOTE.to_owned(), note);
    }

    /// The session after a save of this data.
    pub(super) fn saved(&self, data: &Data, expiry: Timestamp) -> Self {
        Self {
            values: fingerprints(data),
            idle_deadline: self.idle_deadline.max(expiry.as_millis()),
            is_shortened: expiry.as_millis() < self.idle_deadline,
            ..self.clone()
        }
    }

    /// A patch of the keys that the request changed.
    ///
    /// # Errors
    ///
    /// When a key or a value cannot be stored.
    pub(super) fn changes(&self, data: &Data) -> Result<Patch, Error> {
        let mut patch = Patch::new();
        for (key, value) in data.iter().filter(|(key, _)| !is_own(key)) {
            if self.values.get(key) != Some(&fingerprint(value)) {
                patch.put(key, encoded(key, value)?)?;
            }
        }
        for key in self.values.keys().filter(|key| !data.contains_key(*key)) {
            patch.remove(key)?;
        }
        Ok(patch)
    }

    /// A patch that replaces all data of the session, including values that this request has not seen.
    ///
    /// # Errors
    ///
    /// As those of [`changes`](Self::changes).
    pub(super) fn replacement(data: &Data) -> Result<Patch, Error> {
        let mut patch = Patch::new();
        patch.clear();
        for (key, value) in data.iter().filter(|(key, _)| !is_own(key)) {
            patch.put(key, encoded(key, value)?)?;
        }
        Ok(patch)
    }

    /// Adds the end of the session. A store never shortens a life, so an earlier end is a value.
    pub(super) fn expire(&self, patch: &mut Patch, expiry: Timestamp) {
        if expiry.as_millis() < self.idle_deadline {
            return end_early(patch, expiry);
        }
        patch.keep_until(expiry);
        if self.is_shortened {
            end_by_deadline(patch);
        }
    }

    fn of_record(id: RecordId, record: &Record, load: u64, origin: Origin) -> Self {
        Self {
            record: id,
            load,
            origin,
            sign_in: record.sign_in,
            principal: record.principal.as_ref().map(|principal| principal.id().to_owned()),
            idle_deadline: record.idle_deadline.as_millis(),
            is_shortened: record.values.get(EXPIRY).is_some(),
            values: HashMap::new(),
        }
    }
}

/// Puts the values again that a sign-in removes: tower-sessions keeps them.
///
/// # Errors
///
/// As those of [`Loaded::changes`].
pub(super) fn keep_pre_auth(data: &Data, patch: &mut Patch) -> Result<(), Error> {
    for (key, value) in data.iter().filter(|(key, _)| key.starts_with(PRE_AUTH)) {
        patch.put(key, encoded(key, value)?)?;
    }
    Ok(())
}

/// Returns the end of a record's session: its deadline, or an earlier expiry that a request set.
pub(super) fn expiry(record: &Record) -> Timestamp {
    let earlier = record.values.get(EXPIRY).and_then(|json| serde_json::from_slice(json).ok());
    let earlier = earlier.map_or(Timestamp::MAX, Timestamp::from_millis);
    earlier.min(record.deadline())
}

/// Ends a session before its deadline in the store.
pub(super) fn end_early(patch: &mut Patch, expiry: Timestamp) {
    patch.put(EXPIRY, expiry.as_millis().into()).expect("the key is well formed");
}

/// Removes an earlier end.
pub(super) fn end_by_deadline(patch: &mut Patch) {
    patch.remove(EXPIRY).expect("the key is well formed");
}

fn decoded(values: &Values) -> Result<Data, Error> {
    let entries = values.iter().filter(|(key, _)| !is_own(key));
    entries
        .map(|(key, json)| match RawJson::copied(json).decode() {
            Ok(value) => Ok((key.to_owned(), value)),
            Err(source) => Err(Error::Decode { key: key.to_owned(), source }),
        })
        .collect()
}

fn encoded(key: &str, value: &Value) -> Result<RawJson, Error> {
    RawJson::encode(value).map_err(|source| Error::Encode { key: key.to_owned(), source })
}

fn fingerprints(data: &Data) -> HashMap<String, Fingerprint> {
    let values = data.iter().filter(|(key, _)| !is_own(key));
    values.map(|(key, value)| (key.clone(), fingerprint(value))).collect()
}

fn fingerprint(value: &Value) -> Fingerprint {
    // The key of the hash is random and never leaves the process, so a client cannot search for two
    // values with one fingerprint.
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(value)
}

/// Distinguishes the values of a key. Two different values share one with a probability of 2⁻⁶⁴.
type Fingerprint = u64;

/// Returns true if the bridge reserves a key.
fn is_own(key: &str) -> bool {
    [NOTE, EXPIRY].contains(&key)
}

/// The key of the note in a request's data. It is never stored.
const NOTE: &str = "steadfast.loaded";

/// The key of an earlier end in a record, in milliseconds since the Unix epoch.
const EXPIRY: &str = "steadfast.expiry";
