//! Patches: changes to a record.

use crate::facts::Facts;
use crate::limits::{LimitError, Limits};
use crate::principal::Principal;
use crate::proof::{Proof, Rehash, SecretHash};
use crate::rejection::Rejection;
use crate::route::RouteLabel;
use crate::timestamp::Timestamp;
use crate::values::{PRE_AUTH, RawJson, Values};
use crate::writes::{Counters, Op, Writes};

/// A change to one record, in normal form: an optional `clear`, then one operation per key, then
/// changes to the record as a whole.
///
/// Concurrent patches to different keys never overwrite each other, in any order and on any nodes
/// they are applied. Unsafe combinations cannot be expressed: a principal and an absolute deadline
/// are part of a [`Rotation`], and a rotation requires a proof of the secret it replaces.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    proof: Option<Proof>,
    sign_in: Option<u64>,
    expectations: Vec<(Box<str>, Option<RawJson>)>,
    fence: Option<u64>,
    writes: Writes,
    rotation: Option<Box<Rotation>>,
    rehash: Option<Box<Rehash>>,
    idle_deadline: Option<Timestamp>,
    owner: Option<RouteLabel>,
}

impl Patch {
    /// Creates a patch that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a patch that only moves the idle deadline.
    pub fn touch(idle_deadline: Timestamp) -> Self {
        Self { idle_deadline: Some(idle_deadline), ..Self::default() }
    }

    /// Sets a key to a value.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed.
    pub fn put(&mut self, key: &str, value: RawJson) -> Result<(), LimitError> {
        self.writes.put(key, value)
    }

    /// Removes a key, if present.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed.
    pub fn remove(&mut self, key: &str) -> Result<(), LimitError> {
        self.writes.remove(key)
    }

    /// Adds to a counter. A missing counter starts at 0.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed, when an earlier operation of this patch put a
    /// value that is not an integer, or when the sum overflows.
    pub fn add(&mut self, key: &str, by: i64) -> Result<(), Rejection> {
        self.writes.add(key, by)
    }

    /// Removes all keys, including those put by this patch so far.
    pub fn clear(&mut self) {
        self.writes.clear();
    }

    /// Requires a proof of the record's secret.
    pub fn prove(&mut self, proof: Proof) {
        self.proof = Some(proof);
    }

    /// Requires the record to be in this sign-in: the number that it had when the request loaded
    /// it.
    pub fn within(&mut self, sign_in: u64) {
        self.sign_in = Some(sign_in);
    }

    /// Requires `key` to have exactly this value, or to be absent.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed.
    pub fn expect(&mut self, key: &str, value: Option<RawJson>) -> Result<(), LimitError> {
        Limits::check_key(key)?;
        self.expectations.retain(|(known, _)| **known != *key);
        self.expectations.push((key.into(), value));
        Ok(())
    }

    /// Requires the record's owner to have this fence.
    pub fn fence(&mut self, fence: u64) {
        self.fence = Some(fence);
    }

    /// Replaces the secret, as a compare-and-set on the secret that `proof` proves.
    pub fn rotate(&mut self, proof: Proof, rotation: Rotation) {
        self.proof = Some(proof);
        self.rotation = Some(Box::new(rotation));
    }

    /// Hashes the same secret under a newer key, if the record still has a hash under an older key.
    /// The rest of the patch applies in either case; this is not a rotation.
    pub fn rehash(&mut self, rehash: Rehash) {
        self.rehash = Some(Box::new(rehash));
    }

    /// Returns the patch without its proof, and therefore without its rotation.
    #[must_use]
    pub fn unproven(self) -> Self {
        Self { proof: None, rotation: None, ..self }
    }

    /// Moves the idle deadline. The latest of several requests wins.
    pub fn keep_until(&mut self, idle_deadline: Timestamp) {
        self.idle_deadline = self.idle_deadline.max(Some(idle_deadline));
    }

    /// Makes the node with this label the owner and increments the fence.
    pub fn own(&mut self, label: RouteLabel) {
        self.owner = Some(label);
    }

    /// Returns the required proof.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// Returns the required sign-in.
    pub fn sign_in(&self) -> Option<u64> {
        self.sign_in
    }

    /// Returns the required values, each key once.
    pub fn expectations(&self) -> impl Iterator<Item = (&str, Option<&RawJson>)> {
        self.expectations.iter().map(|(key, value)| (&**key, value.as_ref()))
    }

    /// Returns the required fence.
    pub fn expected_fence(&self) -> Option<u64> {
        self.fence
    }

    /// Returns true if it removes all keys first.
    pub fn is_clear(&self) -> bool {
        self.writes.is_clear()
    }

    /// Returns the operations, sorted by key.
    pub fn ops(&self) -> impl Iterator<Item = (&str, &Op)> {
        self.writes.ops()
    }

    /// Returns the operation on a key.
    pub fn op(&self, key: &str) -> Option<&Op> {
        self.writes.op(key)
    }

    /// Returns the rotation.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_deref()
    }

    /// Returns the move of the secret to a newer key.
    pub fn rehashing(&self) -> Option<&Rehash> {
        self.rehash.as_deref()
    }

    /// Returns true if it removes pre-auth values other than those it puts: a rotation that names a
    /// principal does. Keys of such values begin with [`PRE_AUTH`].
    pub fn clears_pre_auth(&self) -> bool {
        let authentication = self.rotation().and_then(|rotation| rotation.authentication.as_ref());
        authentication.is_some_and(|authentication| authentication.principal.is_some())
    }

    /// Returns true if it replaces the session's facts.
    pub fn brings_facts(&self) -> bool {
        let authentication = self.rotation().and_then(|rotation| rotation.authentication.as_ref());
        authentication.is_some_and(|authentication| authentication.facts.is_some())
    }

    /// Returns the requested idle deadline.
    pub fn idle_deadline(&self) -> Option<Timestamp> {
        self.idle_deadline
    }

    /// Returns the new owner.
    pub fn owner(&self) -> Option<&RouteLabel> {
        self.owner.as_ref()
    }

    /// Returns the changes to values alone.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// Returns true if it changes values.
    pub fn writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Returns true if it changes at most the deadline and the hash key. The version then stays the
    /// same.
    pub fn is_touch(&self) -> bool {
        !self.writes() && self.rotation.is_none() && self.owner.is_none()
    }

    /// Returns true if applying it twice may differ from applying it once.
    pub fn is_once_only(&self) -> bool {
        !self.expectations.is_empty() || self.ops().any(|(_, op)| matches!(op, Op::Add(_)))
    }

    /// Returns true if `values` meet the patch's expectations.
    pub fn is_expected(&self, values: &Values) -> bool {
        self.expectations
            .iter()
            .all(|(key, value)| values.get(key) == value.as_ref().map(RawJson::as_bytes))
    }

    /// Returns true if the patch accepts a record with this fence.
    pub fn is_fenced(&self, fence: u64) -> bool {
        self.fence.is_none_or(|expected| expected == fence)
    }

    /// Replaces every value that it puts.
    ///
    /// # Errors
    ///
    /// Returns the first error of the function.
    pub fn try_map_values<E>(
        mut self,
        mut f: impl FnMut(&str, &RawJson) -> Result<RawJson, E>,
    ) -> Result<Self, E> {
        self.writes.try_map_values(&mut f)?;
        Ok(self)
    }

    /// Checks all values that it puts.
    ///
    /// # Errors
    ///
    /// Returns the first limit that is exceeded.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitError> {
        self.ops().try_for_each(|(_, op)| match op {
            Op::Put(value) => limits.check_value(value.as_bytes()),
            Op::Remove | Op::Add(_) => Ok(()),
        })
    }

    /// Returns the values after the patch, and the counters it added to.
    ///
    /// # Errors
    ///
    /// Returns an error when an addition meets a value that is not an integer, or overflows an
    /// `i64`.
    pub fn merge(&self, values: &Values) -> Result<(Values, Counters), Rejection> {
        // Few records have such values, and packing the others again costs more than a look.
        if self.clears_pre_auth() && values.pre_auth_keys().next().is_some() {
            let kept = values.iter().filter(|(key, _)| !key.starts_with(PRE_AUTH)).collect();
            return self.writes.merge(&kept);
        }
        self.writes.merge(values)
    }
}

impl From<Writes> for Patch {
    /// Returns a patch that only changes values.
    fn from(writes: Writes) -> Self {
        Self { writes, ..Self::default() }
    }
}

/// A new secret, with the changes that require one.
///
/// Signing in without replacing the secret does not compile:
///
/// ```compile_fail,E0063
/// use steadfast_core::{Authentication, Rotation};
///
/// # // Shows FX-09.
/// fn signed_in_without_a_rotation(authentication: Authentication) -> Rotation {
///     Rotation { authentication: Some(authentication) }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The hash of the new secret.
    pub hash: SecretHash,
    /// The authentication, if the user proved their identity.
    pub authentication: Option<Authentication>,
}

/// Proof that a user has authenticated.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// The time of the authentication.
    pub at: Timestamp,
    /// The absolute deadline from now on.
    pub absolute_deadline: Timestamp,
    /// The user; `None` keeps the record's principal.
    pub principal: Option<Principal>,
    /// The facts of the session from now on; `None` keeps the current ones.
    pub facts: Option<Facts>,
    /// The conditions for another session of the principal.
    pub policy: LoginPolicy,
}

/// The conditions under which a principal gets another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginPolicy {
    /// The highest number of sessions of the principal. Default: 1,000.
    pub cap: usize,
    /// The application's epoch for the principal, such as the version of the password. A login
    /// below the minimum that [`delete_all`](crate::SessionStore::delete_all) has set is rejected.
    pub epoch: Option<u64>,
    /// The effect of a login at the cap.
    pub at_cap: AtCap,
}

impl LoginPolicy {
    /// Without an epoch, and so many sessions at most: the oldest end.
    pub const fn capped(cap: usize) -> Self {
        Self { cap, epoch: None, at_cap: AtCap::EndOldest }
    }

    /// True if a principal with this number of other live sessions is refused.
    pub fn refuses(&self, others: usize) -> bool {
        self.at_cap == AtCap::Refuse && others >= self.cap.max(1)
    }
}

impl Default for LoginPolicy {
    fn default() -> Self {
        Self::capped(1_000)
    }
}

/// The effect of the cap on a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtCap {
    /// The sessions with the oldest authentication end, until there is room.
    #[default]
    EndOldest,
    /// The login is rejected, and no session ends.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_removes_earlier_pre_auth_values() {
        let mut patch = Patch::new();
        patch.put("~csrf", 2.into()).unwrap();
        let hash = SecretHash::from_parts(crate::KeyId::NONE, [1; 32]);
        let alice = Principal::new(crate::Realm::default(), "alice").unwrap();
        let authentication = Authentication {
            at: Timestamp::UNIX_EPOCH,
            absolute_deadline: Timestamp::MAX,
            principal: Some(alice),
            facts: None,
            policy: LoginPolicy::default(),
        };
        patch.rotate(hash.into(), Rotation { hash, authentication: Some(authentication) });
        let before = values(&[("cart", "1"), ("~csrf", "1"), ("~unseen", "1")]);
        let (after, _) = patch.merge(&before).unwrap();
        assert_eq!(after, values(&[("cart", "1"), ("~csrf", "2")]));
    }

    fn values(entries: &[(&str, &str)]) -> Values {
        entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect()
    }
}
