//! What the scripts are told, in the order in which they take it.

use steadfast_core::{Admission, Limits, Op, Patch, Proof, RawJson, Record, Timestamp};

use crate::codec::{encode, hash, millis};
use crate::script::Invocation;

/// On which terms a change is made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms<'t> {
    /// Under which ticket: of a login in a cluster.
    pub(crate) ticket: &'t str,
    /// Not at all: it is only asked what would stand in its way beside what the caller knows.
    pub(crate) only_asks: bool,
}

/// The record, and on which terms the principal of this name gets another one.
pub(crate) fn new_record(
    call: &mut Invocation<'_>,
    record: &Record,
    name: &str,
    admission: Admission,
    terms: Terms<'_>,
) {
    let mut fields = encode(record);
    if !terms.ticket.is_empty() {
        fields.extend([b"w".to_vec(), terms.ticket.into()]);
    }
    call.number(MARGIN_MILLIS).flag(terms.only_asks).all(fields).arg(hash(&record.secret));
    call.arg(millis(record.idle_deadline)).arg(millis(record.absolute_deadline));
    call.number(record.version.0).arg(name);
    if !name.is_empty() {
        call.arg(millis(record.authenticated.unwrap_or(record.created)));
        admitted(call, admission);
        call.arg(terms.ticket);
    }
}

/// Everything of a patch but its rotation; what is only asked about carries no values.
pub(crate) fn patch(call: &mut Invocation<'_>, patch: &Patch, limits: &Limits, only_asks: bool) {
    call.number(MARGIN_MILLIS).flag(only_asks).flag(patch.is_clear());
    call.all(patch.proof().into_iter().flat_map(Proof::hashes).map(hash));
    call.all(patch.expectations().flat_map(|(key, value)| expectation(key, value)));
    call.optional(patch.expected_fence());
    call.all(patch.ops().filter(|_| !only_asks).flat_map(|(key, op)| operation(key, op)));
    call.count(limits.keys).count(limits.record_bytes);
    call.arg(patch.idle_deadline().map(millis).unwrap_or_default());
    call.arg(patch.owner().map_or("", |label| label.as_str()));
}

/// The new secret, and the principal of this name.
pub(crate) fn rotation(
    call: &mut Invocation<'_>,
    patch: &Patch,
    name: &str,
    now: Timestamp,
    ticket: &str,
) {
    let Some(rotation) = patch.rotation() else {
        call.arg("");
        return;
    };
    call.arg(hash(&rotation.hash)).arg(millis(now + Record::REPLACED_KEPT));
    let Some(authentication) = &rotation.authentication else {
        call.arg("").arg("").arg("").arg("").arg("").arg("");
        return;
    };
    call.arg(millis(authentication.at)).arg(millis(authentication.absolute_deadline)).arg(name);
    admitted(call, authentication.admission);
    call.arg(ticket);
}

pub(crate) fn admitted(call: &mut Invocation<'_>, admission: Admission) {
    call.count(admission.cap).optional(admission.epoch);
}

/// The key, whether something is there, and what.
fn expectation<'p>(key: &'p str, value: Option<&'p RawJson>) -> [&'p [u8]; 3] {
    match value {
        Some(value) => [key.as_bytes(), b"1", value.as_bytes()],
        None => [key.as_bytes(), b"0", b""],
    }
}

fn operation(key: &str, op: &Op) -> [Vec<u8>; 3] {
    let (name, value) = match op {
        Op::Put(value) => ("put", value.as_bytes().to_vec()),
        Op::Remove => ("remove", Vec::new()),
        Op::Add(by) => ("add", by.to_string().into_bytes()),
    };
    [name.into(), key.into(), value]
}

/// How long a record is kept behind its deadline: clocks differ, and a deadline is the application's.
pub(crate) const MARGIN_MILLIS: u64 = 60 * 60 * 1_000;
