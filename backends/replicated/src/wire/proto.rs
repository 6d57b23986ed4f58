//! The format: every message with its tags, in the encoding of Protocol Buffers (proto3).
//!
//! Versions of a service are mixed while it is rolled out, so a released tag keeps its name, its
//! type and its meaning, and is never used again once its field is gone. Versions add fields, whose
//! absence says what was said before, and messages: who does not know a field skips it, at every
//! level, and who does not know the kind of a frame skips the frame. What may not be ignored is not
//! skipped: a `oneof` inside of a frame that holds nothing known. What a version adds to one, it
//! sends only to those whose hello has the feature.
//!
//! What is absent is 0, false or empty. Beyond what Protocol Buffers say,
//!
//! - an id is 16 bytes; a stamp is 12, its time and its node. Numbers in them are big-endian. Several
//!   ids or stamps in one field follow each other.
//! - a hash is 36 to 52 bytes: the fingerprint of the key (4 bytes), the digest (32 bytes), and the
//!   name of the key.
//! - times are milliseconds since 1970, spans are microseconds;
//! - values are JSON by key, and of a key that comes twice, the later one counts.
//!
//! Elements of lists are small in memory, because an empty one takes two bytes of a frame.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

/// The body of a frame.
#[derive(Message)]
pub(crate) struct Frame {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24"
    )]
    pub(crate) kind: Option<Kind>,
}

/// Up to 15, a tag takes one byte; it is for those that are sent often.
#[derive(Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Replicate(Replicate),
    #[prost(message, tag = "2")]
    Ack(Ack),
    #[prost(message, tag = "3")]
    Confirm(Stamped),
    #[prost(message, tag = "4")]
    Lease(Lease),
    #[prost(message, tag = "5")]
    Grant(Grant),
    #[prost(message, tag = "6")]
    Ask(Ask),
    #[prost(message, tag = "7")]
    Reply(Reply),
    #[prost(message, tag = "8")]
    Expired(Ids),
    #[prost(message, tag = "9")]
    Changes(Changes),
    /// For the membership, in a format of its own.
    #[prost(bytes, tag = "10")]
    Gossip(Vec<u8>),
    #[prost(message, tag = "11")]
    Pull(Pull),
    #[prost(message, tag = "12")]
    Pulled(Pulled),
    #[prost(message, tag = "13")]
    Digest(Digest),
    #[prost(message, tag = "14")]
    Unsettled(Ids),
    #[prost(message, tag = "15")]
    Status(Status),
    #[prost(message, tag = "16")]
    Offer(Stamped),
    #[prost(message, tag = "17")]
    Safe(Ids),
    #[prost(message, tag = "18")]
    Want(Ids),
    #[prost(message, tag = "19")]
    Handover(Handover),
    #[prost(message, tag = "20")]
    Stamps(Stamps),
    #[prost(message, tag = "21")]
    Snapshot(Snapshot),
    #[prost(message, tag = "22")]
    Chunk(Chunk),
    #[prost(message, tag = "23")]
    Base(Ballot),
    #[prost(message, tag = "24")]
    Evicted(Stamped),
}

/// What both sides of a link say first, before any frame.
#[derive(Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(uint64, tag = "3")]
    pub(crate) protocol: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) features: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) wall: u64,
    #[prost(string, tag = "6")]
    pub(crate) address: String,
    #[prost(string, repeated, tag = "7")]
    pub(crate) known: Vec<String>,
}

#[derive(Message)]
pub(crate) struct Replicate {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(bytes, tag = "2")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes, tag = "3")]
    pub(crate) prev: Vec<u8>,
    #[prost(oneof = "Replica", tags = "4, 5, 6")]
    pub(crate) change: Option<Replica>,
}

#[derive(Oneof)]
pub(crate) enum Replica {
    #[prost(message, tag = "4")]
    Delta(Delta),
    #[prost(message, tag = "5")]
    Full(Full),
    #[prost(message, tag = "6")]
    Dead(Dead),
}

#[derive(Message)]
pub(crate) struct Delta {
    #[prost(bytes, tag = "1")]
    pub(crate) stamp: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    #[prost(bool, tag = "3")]
    pub(crate) clear: bool,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) put: BTreeMap<String, Vec<u8>>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) removed: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) head: Option<Head>,
    #[prost(sint64, tag = "7")]
    pub(crate) idle_deadline: i64,
}

#[derive(Message)]
pub(crate) struct Full {
    #[prost(message, optional, tag = "1")]
    pub(crate) copy: Option<Copy>,
    #[prost(bool, tag = "2")]
    pub(crate) is_confirmed: bool,
}

#[derive(Message)]
pub(crate) struct Dead {
    #[prost(bytes, tag = "1")]
    pub(crate) stamp: Vec<u8>,
    #[prost(sint64, tag = "2")]
    pub(crate) until: i64,
    #[prost(enumeration = "EndReason", tag = "3")]
    pub(crate) reason: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
pub(crate) enum EndReason {
    Logout = 0,
    Expired = 1,
    Cap = 2,
    Evicted = 3,
    Admin = 4,
    Superseded = 5,
    Shutdown = 6,
}

#[derive(Message)]
pub(crate) struct Copy {
    #[prost(message, optional, tag = "1")]
    pub(crate) record: Option<Record>,
    #[prost(bytes, tag = "2")]
    pub(crate) stamp: Vec<u8>,
    #[prost(bytes, tag = "3")]
    pub(crate) head: Vec<u8>,
    /// The stamps of the values, in the order of their keys.
    #[prost(bytes, tag = "4")]
    pub(crate) written: Vec<u8>,
    /// Stamps by key.
    #[prost(btree_map = "string, bytes", tag = "5")]
    pub(crate) removed: BTreeMap<String, Vec<u8>>,
    #[prost(bytes, tag = "6")]
    pub(crate) floor: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Record {
    #[prost(message, optional, tag = "1")]
    pub(crate) head: Option<Head>,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    #[prost(sint64, tag = "3")]
    pub(crate) idle_deadline: i64,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) values: BTreeMap<String, Vec<u8>>,
}

#[derive(Message)]
pub(crate) struct Head {
    #[prost(bytes, tag = "1")]
    pub(crate) secret: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) replaced: Option<Replaced>,
    #[prost(sint64, tag = "3")]
    pub(crate) created: i64,
    #[prost(sint64, optional, tag = "4")]
    pub(crate) authenticated: Option<i64>,
    #[prost(sint64, tag = "5")]
    pub(crate) absolute_deadline: i64,
    #[prost(message, optional, tag = "6")]
    pub(crate) principal: Option<Principal>,
    #[prost(message, optional, tag = "7")]
    pub(crate) owner: Option<Owner>,
    #[prost(uint64, tag = "8")]
    pub(crate) sign_in: u64,
    #[prost(bytes, tag = "9")]
    pub(crate) facts: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Replaced {
    #[prost(bytes, tag = "1")]
    pub(crate) hash: Vec<u8>,
    #[prost(sint64, tag = "2")]
    pub(crate) until: i64,
}

#[derive(Message)]
pub(crate) struct Principal {
    #[prost(string, tag = "1")]
    pub(crate) realm: String,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
}

#[derive(Message)]
pub(crate) struct Owner {
    #[prost(string, tag = "1")]
    pub(crate) label: String,
    #[prost(uint64, tag = "2")]
    pub(crate) fence: u64,
}

#[derive(Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(oneof = "Answer", tags = "2, 3, 4")]
    pub(crate) answer: Option<Answer>,
}

#[derive(Oneof)]
pub(crate) enum Answer {
    #[prost(message, tag = "2")]
    Held(()),
    #[prost(message, tag = "3")]
    Refused(()),
    #[prost(message, tag = "4")]
    Gap(Box<Held>),
}

#[derive(Message)]
pub(crate) struct Held {
    #[prost(message, optional, tag = "1")]
    pub(crate) kept: Option<Kept>,
    #[prost(message, optional, tag = "2")]
    pub(crate) tentative: Option<Copy>,
}

#[derive(Message)]
pub(crate) struct Kept {
    #[prost(oneof = "Keeping", tags = "1, 2, 3")]
    pub(crate) keeping: Option<Keeping>,
}

#[derive(Oneof)]
pub(crate) enum Keeping {
    #[prost(message, tag = "1")]
    Nothing(()),
    #[prost(message, tag = "2")]
    Live(Box<Copy>),
    #[prost(message, tag = "3")]
    Dead(Box<Dead>),
}

/// Ids, and as many stamps.
#[derive(Message)]
pub(crate) struct Stamped {
    #[prost(bytes, tag = "1")]
    pub(crate) ids: Vec<u8>,
    #[prost(bytes, tag = "2")]
    pub(crate) stamps: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Ids {
    #[prost(bytes, tag = "1")]
    pub(crate) ids: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Lease {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) applied: u64,
}

#[derive(Message)]
pub(crate) struct Grant {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bool, tag = "2")]
    pub(crate) alive: bool,
    #[prost(uint64, tag = "3")]
    pub(crate) data: u64,
}

#[derive(Message)]
pub(crate) struct Ask {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) within: u64,
    #[prost(oneof = "Request", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(crate) request: Option<Request>,
}

#[derive(Oneof)]
pub(crate) enum Request {
    #[prost(message, tag = "3")]
    Create(Create),
    #[prost(message, tag = "4")]
    Load(Load),
    #[prost(message, tag = "5")]
    Update(Update),
    #[prost(message, tag = "6")]
    Delete(Delete),
    #[prost(message, tag = "7")]
    Admit(Login),
    #[prost(message, tag = "8")]
    List(Principal),
    #[prost(message, tag = "9")]
    DeleteAll(DeleteAll),
    #[prost(message, tag = "10")]
    Peek(Listed),
    #[prost(message, tag = "11")]
    End(Listed),
}

#[derive(Message)]
pub(crate) struct Create {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<Record>,
    #[prost(message, optional, tag = "3")]
    pub(crate) admission: Option<Admission>,
}

#[derive(Message)]
pub(crate) struct Admission {
    #[prost(uint64, tag = "1")]
    pub(crate) cap: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) epoch: Option<u64>,
}

#[derive(Message)]
pub(crate) struct Load {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    /// Hashes, the current one first.
    #[prost(bytes, repeated, tag = "2")]
    pub(crate) proof: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) seen: Option<u64>,
}

#[derive(Message)]
pub(crate) struct Update {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) patch: Option<Patch>,
}

#[derive(Message)]
pub(crate) struct Patch {
    /// Hashes, the current one first.
    #[prost(bytes, repeated, tag = "1")]
    pub(crate) proof: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(crate) rotation: Option<Rotation>,
    #[prost(bool, tag = "3")]
    pub(crate) clear: bool,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) put: BTreeMap<String, Vec<u8>>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) removed: Vec<String>,
    #[prost(btree_map = "string, sint64", tag = "6")]
    pub(crate) added: BTreeMap<String, i64>,
    /// Values that are expected.
    #[prost(btree_map = "string, bytes", tag = "7")]
    pub(crate) present: BTreeMap<String, Vec<u8>>,
    /// Keys that are expected to have none.
    #[prost(string, repeated, tag = "8")]
    pub(crate) absent: Vec<String>,
    #[prost(uint64, optional, tag = "9")]
    pub(crate) fence: Option<u64>,
    #[prost(sint64, optional, tag = "10")]
    pub(crate) idle_deadline: Option<i64>,
    #[prost(string, optional, tag = "11")]
    pub(crate) owner: Option<String>,
    /// The sign-in that the request saw.
    #[prost(uint64, optional, tag = "12")]
    pub(crate) within: Option<u64>,
    #[prost(message, optional, tag = "13")]
    pub(crate) rehash: Option<Rehash>,
}

#[derive(Message)]
pub(crate) struct Rehash {
    /// Hashes.
    #[prost(bytes, repeated, tag = "1")]
    pub(crate) from: Vec<Vec<u8>>,
    #[prost(bytes, tag = "2")]
    pub(crate) to: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Rotation {
    #[prost(bytes, tag = "1")]
    pub(crate) hash: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) authentication: Option<Authentication>,
}

#[derive(Message)]
pub(crate) struct Authentication {
    #[prost(sint64, tag = "1")]
    pub(crate) at: i64,
    #[prost(sint64, tag = "2")]
    pub(crate) absolute_deadline: i64,
    #[prost(message, optional, tag = "3")]
    pub(crate) principal: Option<Principal>,
    #[prost(message, optional, tag = "4")]
    pub(crate) admission: Option<Admission>,
    #[prost(bytes, optional, tag = "5")]
    pub(crate) facts: Option<Vec<u8>>,
}

#[derive(Message)]
pub(crate) struct Delete {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    /// Hashes, the current one first.
    #[prost(bytes, repeated, tag = "2")]
    pub(crate) proof: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) sign_in: Option<u64>,
    #[prost(enumeration = "EndReason", tag = "4")]
    pub(crate) reason: i32,
}

#[derive(Message)]
pub(crate) struct Login {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) principal: Option<Principal>,
    #[prost(sint64, tag = "3")]
    pub(crate) until: i64,
    #[prost(message, optional, tag = "4")]
    pub(crate) admission: Option<Admission>,
}

#[derive(Message)]
pub(crate) struct DeleteAll {
    #[prost(message, optional, tag = "1")]
    pub(crate) principal: Option<Principal>,
    #[prost(bytes, optional, tag = "2")]
    pub(crate) except: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) epoch: Option<u64>,
    #[prost(enumeration = "EndReason", tag = "4")]
    pub(crate) reason: i32,
}

/// A session in the list of a principal.
#[derive(Message)]
pub(crate) struct Listed {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) principal: Option<Principal>,
    /// Why it ends, if it is to.
    #[prost(enumeration = "EndReason", tag = "3")]
    pub(crate) reason: i32,
}

#[derive(Message)]
pub(crate) struct Reply {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(oneof = "Said", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub(crate) said: Option<Said>,
}

#[derive(Oneof)]
pub(crate) enum Said {
    #[prost(message, tag = "2")]
    Outcome(Outcome),
    #[prost(message, tag = "3")]
    Lookup(Lookup),
    #[prost(bool, tag = "4")]
    Ended(bool),
    #[prost(bytes, tag = "5")]
    Admitted(Vec<u8>),
    #[prost(message, tag = "6")]
    BelowFloor(()),
    #[prost(message, tag = "7")]
    Listed(Sessions),
    #[prost(uint64, tag = "8")]
    Count(u64),
    #[prost(message, tag = "9")]
    Peeked(Peeked),
    #[prost(message, tag = "10")]
    Refused(()),
    #[prost(enumeration = "Failure", tag = "11")]
    Failed(i32),
    /// To a delete: the record lives on, and is not the caller's any more.
    #[prost(message, tag = "12")]
    Superseded(()),
    /// The key that a record's hash names, and that the caller does not have.
    #[prost(message, tag = "13")]
    UnknownKey(HashKey),
}

#[derive(Message)]
pub(crate) struct HashKey {
    #[prost(fixed32, tag = "1")]
    pub(crate) print: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

#[derive(Message)]
pub(crate) struct Outcome {
    #[prost(oneof = "Came", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) came: Option<Came>,
}

#[derive(Oneof)]
pub(crate) enum Came {
    #[prost(message, tag = "1")]
    Applied(Applied),
    #[prost(message, tag = "2")]
    Exists(()),
    #[prost(message, tag = "3")]
    Gone(()),
    #[prost(message, tag = "4")]
    Superseded(()),
    #[prost(message, tag = "5")]
    Conflict(()),
    #[prost(message, tag = "6")]
    Rejected(Rejection),
}

#[derive(Message)]
pub(crate) struct Applied {
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
    #[prost(btree_map = "string, sint64", tag = "2")]
    pub(crate) counters: BTreeMap<String, i64>,
    #[prost(bytes, tag = "3")]
    pub(crate) ended: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub(crate) carry: Option<Carry>,
    #[prost(bool, tag = "5")]
    pub(crate) degraded: bool,
}

#[derive(Message)]
pub(crate) struct Carry {
    #[prost(string, repeated, tag = "1")]
    pub(crate) routes: Vec<String>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) version: Option<u64>,
}

#[derive(Message)]
pub(crate) struct Rejection {
    #[prost(oneof = "Why", tags = "1, 2, 3, 4, 5")]
    pub(crate) why: Option<Why>,
}

#[derive(Oneof)]
pub(crate) enum Why {
    #[prost(message, tag = "1")]
    Limit(Limit),
    /// A key.
    #[prost(string, tag = "2")]
    NotAnInteger(String),
    /// A key.
    #[prost(string, tag = "3")]
    Overflow(String),
    #[prost(message, tag = "4")]
    BelowFloor(()),
    #[prost(message, tag = "5")]
    Draining(()),
}

#[derive(Message)]
pub(crate) struct Limit {
    #[prost(enumeration = "Limited", tag = "1")]
    pub(crate) limited: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) is: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
pub(crate) enum Limited {
    Record = 0,
    Key = 1,
    Keys = 2,
    Value = 3,
    Depth = 4,
    Facts = 5,
}

#[derive(Message)]
pub(crate) struct Lookup {
    #[prost(oneof = "Seen", tags = "1, 2, 3")]
    pub(crate) seen: Option<Seen>,
}

#[derive(Oneof)]
pub(crate) enum Seen {
    #[prost(message, tag = "1")]
    Found(Box<Found>),
    #[prost(message, tag = "2")]
    Superseded(()),
    #[prost(enumeration = "Absence", tag = "3")]
    Absent(i32),
}

#[derive(Message)]
pub(crate) struct Found {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) record: Option<Record>,
    #[prost(message, optional, tag = "3")]
    pub(crate) carry: Option<Carry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
pub(crate) enum Absence {
    Unknown = 0,
    Expired = 1,
    Lost = 2,
}

#[derive(Message)]
pub(crate) struct Sessions {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sessions: Vec<Session>,
}

#[derive(Message)]
pub(crate) struct Peeked {
    #[prost(message, optional, tag = "1")]
    pub(crate) session: Option<Session>,
}

#[derive(Message)]
pub(crate) struct Session {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(sint64, tag = "2")]
    pub(crate) created: i64,
    #[prost(sint64, optional, tag = "3")]
    pub(crate) authenticated: Option<i64>,
    #[prost(sint64, tag = "4")]
    pub(crate) deadline: i64,
    #[prost(sint64, optional, tag = "5")]
    pub(crate) idle_deadline: Option<i64>,
    #[prost(bytes, tag = "6")]
    pub(crate) facts: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
pub(crate) enum Failure {
    NoMajority = 0,
    Unacknowledged = 1,
    Unreachable = 2,
    Moving = 3,
    NotConfirmed = 4,
    Timeout = 5,
}

#[derive(Message)]
pub(crate) struct Changes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) changes: Vec<Change>,
}

#[derive(Message)]
pub(crate) struct Change {
    #[prost(oneof = "Changed", tags = "1, 2, 3")]
    pub(crate) changed: Option<Changed>,
    /// Whether a patch began another sign-in.
    #[prost(bool, tag = "4")]
    pub(crate) is_sign_in: bool,
    /// Why it ended, if it did.
    #[prost(enumeration = "EndReason", tag = "5")]
    pub(crate) reason: i32,
}

#[derive(Oneof)]
pub(crate) enum Changed {
    #[prost(message, tag = "1")]
    Patched(Patched),
    /// An id.
    #[prost(bytes, tag = "2")]
    Ended(Vec<u8>),
    #[prost(message, tag = "3")]
    Missed(()),
}

#[derive(Message)]
pub(crate) struct Patched {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
}

#[derive(Message)]
pub(crate) struct Pull {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes, tag = "2")]
    pub(crate) id: Vec<u8>,
}

#[derive(Message)]
pub(crate) struct Pulled {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes, tag = "2")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(crate) held: Option<Held>,
}

#[derive(Message)]
pub(crate) struct Handover {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) held: Option<Held>,
}

#[derive(Message)]
pub(crate) struct Digest {
    #[prost(bytes, tag = "1")]
    pub(crate) from: Vec<u8>,
    #[prost(bytes, optional, tag = "2")]
    pub(crate) to: Option<Vec<u8>>,
    #[prost(fixed64, tag = "3")]
    pub(crate) sum: u64,
}

#[derive(Message)]
pub(crate) struct Stamps {
    #[prost(bytes, tag = "1")]
    pub(crate) from: Vec<u8>,
    #[prost(bytes, optional, tag = "2")]
    pub(crate) to: Option<Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    pub(crate) stamps: Option<Stamped>,
    #[prost(bool, tag = "4")]
    pub(crate) is_answer: bool,
}

#[derive(Message)]
pub(crate) struct Snapshot {
    #[prost(fixed64, tag = "1")]
    pub(crate) view: u64,
    #[prost(bytes, optional, tag = "2")]
    pub(crate) after: Option<Vec<u8>>,
}

#[derive(Message)]
pub(crate) struct Chunk {
    #[prost(fixed64, tag = "1")]
    pub(crate) view: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) records: Vec<Part>,
    #[prost(bytes, optional, tag = "3")]
    pub(crate) next: Option<Vec<u8>>,
}

#[derive(Message)]
pub(crate) struct Part {
    #[prost(bytes, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) kept: Option<Kept>,
}

#[derive(Message)]
pub(crate) struct Status {
    #[prost(uint64, tag = "1")]
    pub(crate) incarnation: u64,
    #[prost(bool, tag = "2")]
    pub(crate) complete: bool,
    #[prost(bool, tag = "3")]
    pub(crate) draining: bool,
    #[prost(message, optional, tag = "4")]
    pub(crate) base: Option<Base>,
    #[prost(fixed64, tag = "5")]
    pub(crate) view: u64,
    #[prost(bool, tag = "6")]
    pub(crate) settled: bool,
    #[prost(message, repeated, tag = "7")]
    pub(crate) down: Vec<Member>,
    #[prost(bool, tag = "8")]
    pub(crate) listens: bool,
    #[prost(bool, tag = "9")]
    pub(crate) leaving: bool,
}

#[derive(Message)]
pub(crate) struct Base {
    #[prost(fixed64, tag = "1")]
    pub(crate) lineage: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) members: Vec<Member>,
}

#[derive(Message)]
pub(crate) struct Member {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
}

#[derive(Message)]
pub(crate) struct Ballot {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) ballot: u64,
    #[prost(oneof = "Step", tags = "3, 4, 5, 6")]
    pub(crate) step: Option<Step>,
}

#[derive(Oneof)]
pub(crate) enum Step {
    #[prost(message, tag = "3")]
    Prepare(()),
    #[prost(message, tag = "4")]
    Promise(Promise),
    #[prost(message, tag = "5")]
    Accept(Base),
    #[prost(message, tag = "6")]
    Accepted(()),
}

#[derive(Message)]
pub(crate) struct Promise {
    #[prost(message, optional, tag = "1")]
    pub(crate) accepted: Option<Bid>,
}

/// A base under the ballot in which it was accepted.
#[derive(Message)]
pub(crate) struct Bid {
    #[prost(uint64, tag = "1")]
    pub(crate) ballot: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) base: Option<Base>,
}
