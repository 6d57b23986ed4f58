//! The arguments of scripts, packed in the order in which the scripts read them.

use steadfast_core::{
    AtCap, Authentication, Deletion, EndReason, Facts, Limits, LoginPolicy, Op, Patch, Proof,
    RawJson, Record, SecretHash, Timestamp,
};

use crate::codec::{Packed, encode};

/// The circumstances of a change.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoginContext<'t> {
    /// True if the index is on another server than the record may be.
    pub(crate) is_split: bool,
    /// The ticket of a login in a cluster.
    pub(crate) ticket: &'t str,
    /// True to only ask whether the change would be applied, apart from the index.
    pub(crate) only_asks: bool,
}

/// Packs a new record, and the conditions under which its principal gets another session.
pub(crate) fn new_record(
    to: &mut Packed,
    record: &Record,
    name: &str,
    policy: LoginPolicy,
    context: LoginContext<'_>,
) {
    to.flag(context.only_asks).flag(context.is_split).huge(&encode(record, context.ticket));
    to.u32(record.values.len());
    for (key, value) in record.values.iter() {
        to.short(key.as_bytes()).huge(value);
    }
    to.long(name.as_bytes()).time(record.authenticated.unwrap_or(record.created));
    admitted(to, policy);
    to.short(context.ticket.as_bytes());
}

/// Packs a patch. A patch that only asks has no values.
pub(crate) fn patch(
    to: &mut Packed,
    patch: &Patch,
    name: &str,
    limits: &Limits,
    context: LoginContext<'_>,
) {
    to.flag(context.only_asks).flag(context.is_split).flag(patch.is_clear());
    to.u32(limits.keys).u32(limits.record_bytes);
    maybe(to, patch.sign_in());
    maybe(to, patch.expected_fence());
    to.maybe_time(patch.idle_deadline());
    proof(to, patch.proof());
    let rehash = patch.rehashing();
    hashes(to, rehash.into_iter().flat_map(|rehash| &rehash.from));
    to.short(&rehash.map(|rehash| rehash.to.to_bytes()).unwrap_or_default());
    to.short(patch.owner().map_or("", |label| label.as_str()).as_bytes());
    to.short(&patch.rotation().map(|rotation| rotation.hash.to_bytes()).unwrap_or_default());
    if let Some(rotation) = patch.rotation() {
        to.flag(rotation.authentication.is_some());
        if let Some(authenticated) = &rotation.authentication {
            authentication(to, authenticated, name, context);
        }
    }
    let expectations: Vec<_> = patch.expectations().collect();
    to.u32(expectations.len());
    for (key, value) in expectations {
        to.short(key.as_bytes()).flag(value.is_some());
        to.huge(value.map(RawJson::as_bytes).unwrap_or_default());
    }
    let ops: Vec<_> = patch.ops().filter(|_| !context.only_asks).collect();
    to.u32(ops.len());
    ops.into_iter().for_each(|(key, op)| operation(to, key, op));
}

pub(crate) fn deletion(to: &mut Packed, deletion: &Deletion<'_>, name: &str) {
    proof(to, deletion.proof);
    maybe(to, deletion.sign_in);
    to.u8(letter(deletion.reason)).long(name.as_bytes());
}

pub(crate) fn admitted(to: &mut Packed, policy: LoginPolicy) {
    to.u32(policy.cap).flag(policy.at_cap == AtCap::Refuse);
    epoch(to, policy.epoch);
}

/// Packs an epoch as a decimal number, or nothing.
pub(crate) fn epoch(to: &mut Packed, epoch: Option<u64>) {
    to.short(epoch.map(|epoch| epoch.to_string()).unwrap_or_default().as_bytes());
}

/// Returns the letter for a reason in a message.
pub(crate) fn letter(reason: EndReason) -> u8 {
    let known = REASONS.iter().find(|(known, _)| *known == reason);
    known.map_or(b'l', |(_, letter)| *letter)
}

/// Returns the reason for a letter.
pub(crate) fn reason(letter: u8) -> Option<EndReason> {
    REASONS.iter().find(|(_, known)| *known == letter).map(|(reason, _)| *reason)
}

fn authentication(to: &mut Packed, given: &Authentication, name: &str, context: LoginContext<'_>) {
    to.time(given.at).time(given.absolute_deadline).flag(given.facts.is_some());
    to.long(given.facts.as_ref().map(Facts::as_bytes).unwrap_or_default());
    to.u16(given.facts.as_ref().map_or(0, format)).long(name.as_bytes());
    admitted(to, given.policy);
    to.short(context.ticket.as_bytes());
}

/// Returns the oldest format that can hold these facts.
fn format(facts: &Facts) -> u16 {
    let hash = SecretHash::from_parts(steadfast_core::KeyId::NONE, [0; 32]);
    let never = Timestamp::UNIX_EPOCH;
    Record { facts: facts.clone(), ..Record::new(hash, never, never, never) }.format()
}

fn operation(to: &mut Packed, key: &str, op: &Op) {
    let (kind, value) = match op {
        Op::Put(value) => (b'p', value.as_bytes()),
        Op::Remove => (b'r', &[][..]),
        Op::Add(by) => (b'a', &by.to_string().into_bytes()[..]),
    };
    to.u8(kind).short(key.as_bytes()).huge(value);
}

fn proof(to: &mut Packed, proof: Option<&Proof>) {
    hashes(to, proof.into_iter().flat_map(Proof::hashes));
}

/// Packs the compared parts of hashes.
fn hashes<'h>(to: &mut Packed, hashes: impl Iterator<Item = &'h SecretHash>) {
    to.long(&hashes.map(SecretHash::compared).collect::<Vec<_>>().concat());
}

/// Packs a number as 8 bytes, or nothing.
fn maybe(to: &mut Packed, number: Option<u64>) {
    to.short(number.map(u64::to_be_bytes).as_ref().map_or(&[], |bytes| &bytes[..]));
}

const REASONS: [(EndReason, u8); 7] = [
    (EndReason::Logout, b'l'),
    (EndReason::Expired, b'x'),
    (EndReason::Cap, b'c'),
    (EndReason::Evicted, b'v'),
    (EndReason::Admin, b'a'),
    (EndReason::Superseded, b's'),
    (EndReason::Shutdown, b'd'),
];

/// The time that a record is kept after its deadline. The deadline is judged by the application's
/// clock, which may differ from the server's.
pub(crate) const MARGIN_MILLIS: u64 = 60 * 60 * 1_000;

/// The same, in a store that keeps endings: the time in which a session that expired can be
/// reported.
pub(crate) const KEPT_MILLIS: u64 = 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_letter_of_its_own() {
        for known in EndReason::ALL {
            assert_eq!(reason(letter(known)), Some(known));
        }
    }
}
