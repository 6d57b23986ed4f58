//! The index of a principal's sessions: lists, caps and revocations.
//!
//! The index is a sorted set; see `index.lua`. On a single server, a login is one script, from the
//! check of the minimum epoch to the last session that the cap ends. A script must name all keys it
//! touches. A login at the cap is therefore first told which records may have to end, and then
//! repeated with their keys.
//!
//! In a cluster, the index is in another slot than most of its records, so a login takes two steps:
//! it *reserves* an entry with a ticket of its own, then changes the record. Concurrent operations
//! find that entry:
//!
//! - A revocation ends the records that belong to the principal by then. For every other entry it
//!   leaves a *mark* on the record. A login that finds its mark starts again, after the revocation
//!   and subject to its minimum epoch.
//! - A login over the cap replaces the oldest entries *of the index* in one step, then ends their
//!   records, and only then changes its own record. A login that is displaced before its second
//!   step finds a mark and ends its own session.
//!
//! A mark is a separate field of the record and changes nothing else. A login with a wrong proof
//! therefore only leaves a short-lived index entry; it never changes a record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::cmd;
use steadfast_core::{
    EndReason, Facts, Principal, RecordId, Rejection, Revocation, SessionInfo, StoreError,
    Timestamp,
};

use crate::change::{Change, Login};
use crate::changes::UNSTAMPED;
use crate::codec::{HEAD, Head, Packed, Unpacked};
use crate::keys::{hex, name};
use crate::outcome::{Left, ScriptOutcome};
use crate::reply;
use crate::request::{LoginContext, admitted, epoch, letter};
use crate::script::Call;
use crate::script_reply::{ScriptReply, Unexpected, unexpected};
use crate::sessions::Sessions;

impl Sessions {
    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let name = name(principal);
        if self.servers.is_split() {
            return self.list_apart(&name).await;
        }
        let ids = self.entries(&name, None).await?.into_iter().map(|entry| entry.id);
        self.look_at(&name, &ids.collect::<Vec<_>>()).await
    }

    /// Removes stale entries from the index. Returns whether there were any.
    pub(crate) async fn prune(&self, name: &str) -> Result<bool, StoreError> {
        let ids: Vec<_> = self.entries(name, None).await?.iter().map(|entry| entry.id).collect();
        Ok(self.look_at(name, &ids).await?.len() < ids.len())
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let name = name(principal);
        let listed = self.entries(&name, revocation.epoch).await?;
        let listed: Vec<_> =
            listed.into_iter().filter(|entry| Some(entry.id) != revocation.except).collect();
        if self.servers.is_split() {
            let ended = self.resolve(&name, &listed, Mark::Again, revocation.reason).await?;
            self.remove_entries(&name, &listed).await;
            return Ok(ended.len() as u64);
        }
        let mut count = 0;
        for ids in listed.chunks(PAGE) {
            count += self.revoke(&name, ids, revocation.reason).await?;
        }
        Ok(count)
    }

    /// Ends the listed sessions that belong to the principal, on one server.
    async fn revoke(
        &self,
        name: &str,
        listed: &[Entry],
        reason: EndReason,
    ) -> Result<u64, StoreError> {
        let numbered = self.changes.number(&self.env)?;
        let mut args = self.args(numbered.stamp());
        args.long(name.as_bytes()).u8(letter(reason));
        let ids: Vec<_> = listed.iter().map(|entry| entry.id).collect();
        let keys = self.keys_of_list(name, &ids);
        let call = self.scripts().revoke.on(&keys, &args);
        let mut answer = self.run(&keys[0], call.once().on(self.copies)).await?;
        numbered.settle(answer.was_told());
        answer.take(Unpacked::u32).map(|count| count as u64).ok_or_else(unexpected)
    }

    /// Loads listed sessions on one server, and removes entries whose session has ended or has
    /// another principal.
    async fn look_at(&self, name: &str, ids: &[RecordId]) -> Result<Vec<SessionInfo>, StoreError> {
        let mut live = Vec::new();
        for ids in ids.chunks(PAGE) {
            let mut args = self.args(UNSTAMPED);
            args.long(name.as_bytes());
            let keys = self.keys_of_list(name, ids);
            let call = self.scripts().look.on(&keys, &args);
            let mut answer = self.run(&keys[0], call.repeatable()).await?;
            while answer.word == b'l' && answer.has_more() {
                live.push(answer.take(info).ok_or_else(unexpected)?);
            }
        }
        Ok(live)
    }

    fn keys_of_list(&self, name: &str, ids: &[RecordId]) -> Vec<String> {
        let records = ids.iter().map(|id| self.prefix.record(*id));
        std::iter::once(self.prefix.index(name)).chain(records).collect()
    }

    /// Returns the entries of the index, after raising the minimum epoch in the same step.
    async fn entries(&self, name: &str, floor: Option<u64>) -> Result<Vec<Entry>, StoreError> {
        let index = self.prefix.index(name);
        for _ in 0..2 {
            let mut args = self.args(UNSTAMPED);
            epoch(&mut args, floor);
            args.millis(FLOOR_KEPT_MILLIS);
            let call = self.scripts().entries.on(&[&index], &args);
            let copies = self.copies.filter(|_| floor.is_some());
            let mut answer = self.run(&index, call.repeatable().on(copies)).await?;
            if answer.word != b'C' {
                return parsed(&answer.texts().ok_or_else(unexpected)?);
            }
            self.convert(name).await?;
        }
        Err(unexpected())
    }

    /// Converts an index of an older form.
    pub(crate) async fn convert(&self, name: &str) -> Result<(), StoreError> {
        let index = self.prefix.index(name);
        let call = self.scripts().convert.on(&[&index], &self.args(UNSTAMPED));
        self.run(&index, call.repeatable()).await.map(drop)
    }

    /// Removes the entry of a session that left a principal. A failure is harmless: stale entries
    /// are removed when the list is read.
    pub(crate) async fn unlist(&self, id: RecordId, left: &Left) {
        if left.name.is_empty() {
            return;
        }
        if self.servers.is_split() {
            let entry = Entry { id, ticket: left.ticket.clone() };
            return self.remove_entries(&left.name, [&entry]).await;
        }
        if let Err(error) = self.look_at(&left.name, &[id]).await {
            not_unlisted(&error);
        }
    }

    /// Moves a session up in a cluster's index after an elevation. The patch does not name the
    /// principal, so the record is loaded.
    pub(crate) async fn relist(&self, id: RecordId) {
        if let Err(error) = self.try_to_relist(id).await {
            tracing::debug!(target: "steadfast", %error, "failed to index an elevation");
        }
    }

    async fn try_to_relist(&self, id: RecordId) -> Result<(), StoreError> {
        let Some(Head { record, ticket, .. }) = self.head(id).await? else {
            return Ok(());
        };
        let (Some(principal), Some(at)) = (&record.principal, record.authenticated) else {
            return Ok(());
        };
        let index = self.prefix.index(&name(principal));
        let entry = Entry { id, ticket }.to_string();
        let command = cmd("ZADD").arg(&index).arg("XX").arg(at.as_millis()).arg(entry).to_owned();
        let call = Call::repeatable(&command).on(self.copies);
        Ok(self.servers.call(index.as_bytes(), &call).await.map(drop)?)
    }

    /// Checks possibly stale entries in the background after a login, so that they do not
    /// accumulate if the list is never read.
    pub(crate) fn prune_behind(self: &Arc<Self>, name: &str, stale: &[String]) {
        let Ok(stale) = parsed(stale) else {
            return;
        };
        if stale.is_empty() {
            return;
        }
        let (sessions, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let pruned = if sessions.servers.is_split() {
                sessions.prune_apart(&name, &stale).await
            } else {
                let ids: Vec<_> = stale.iter().map(|entry| entry.id).collect();
                sessions.look_at(&name, &ids).await.map(drop)
            };
            pruned.unwrap_or_else(|error| not_unlisted(&error));
        });
    }

    /// Makes a login in a cluster: reserves its entry, changes the record, and cleans up.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        login: &Login,
        change: &Change<'_>,
    ) -> Result<ScriptOutcome, StoreError> {
        for _ in 0..ATTEMPTS {
            let own = Entry { id: login.id, ticket: self.ticket()? };
            let listed = match self.reserve(login, &own, change).await? {
                Reservation::Listed(listed) => listed,
                Reservation::Refused(made) => return Ok(made),
            };
            let ended =
                self.resolve(&login.name, &listed.victims, Mark::Ended, EndReason::Cap).await?;
            self.make_due(&ended).await;
            let context = LoginContext { ticket: &own.ticket, ..LoginContext::default() };
            let mut made = self.make(login.id, change, context).await?;
            let obsolete = match &mut made {
                // From now on, writes with the previous secret are superseded, so the entry can
                // stay.
                ScriptOutcome::Applied { applied, .. } => {
                    applied.ended.extend(ended);
                    None
                }
                ScriptOutcome::Retry => Some(own),
                // If the login was sent twice, the first attempt may have succeeded.
                _ if self.is_made(&login.name, &own).await? => None,
                _ => Some(own),
            };
            self.remove_entries(&login.name, listed.victims.iter().chain(&obsolete)).await;
            self.prune_behind(&login.name, &listed.stale);
            if !matches!(made, ScriptOutcome::Retry) {
                return Ok(made);
            }
        }
        Err(StoreError::busy(RevokedAgain))
    }

    async fn list_apart(&self, name: &str) -> Result<Vec<SessionInfo>, StoreError> {
        let listed = self.entries(name, None).await?;
        let ids = by_id(&listed);
        let looks = join_all(ids.keys().map(|id| self.look(name, *id))).await;
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for ((_, entries), look) in ids.into_iter().zip(looks) {
            match look? {
                Look::Live(info) => live.push(info),
                Look::Dead => dead.extend(entries),
                Look::Unknown => {}
            }
        }
        self.remove_entries(name, dead).await;
        Ok(live)
    }

    /// Reserves an entry for a login and displaces the oldest ones. Before that, and before a
    /// rejection for the epoch, it asks whether the login would otherwise be applied.
    async fn reserve(
        &self,
        login: &Login,
        own: &Entry,
        change: &Change<'_>,
    ) -> Result<Reservation, StoreError> {
        let (mut looked, mut is_pruned) = (None, false);
        for _ in 0..ATTEMPTS {
            let mut answer = self.try_to_reserve(login, own, looked.as_ref()).await?;
            match answer.word {
                b'l' => {
                    return Listed::of(&mut answer).map(Reservation::Listed).ok_or_else(unexpected);
                }
                b'C' => self.convert(&login.name).await?,
                b'R' if is_pruned => {
                    return Ok(Reservation::Refused(ScriptOutcome::rejected(Rejection::AtCap)));
                }
                // An entry may have been left behind by a session that expired early.
                b'R' => {
                    self.list_apart(&login.name).await?;
                    is_pruned = true;
                }
                b'F' => {
                    return Ok(Reservation::Refused(match self.ask(login.id, change).await? {
                        ScriptOutcome::WouldApply(_) => {
                            ScriptOutcome::rejected(Rejection::StaleEpoch)
                        }
                        made => made,
                    }));
                }
                b'L' => {
                    let before = match self.ask(login.id, change).await? {
                        ScriptOutcome::WouldApply(before) => before,
                        made => return Ok(Reservation::Refused(made)),
                    };
                    let unsure = unsure(&mut answer).ok_or_else(unexpected)?;
                    let mut found = self.look_again(&login.name, unsure).await?;
                    // An existing entry of the same record is replaced, so it does not count
                    // against the cap.
                    let has_entry = before.name == login.name;
                    let own = Entry { id: login.id, ticket: before.ticket };
                    found.own = has_entry.then_some(own);
                    looked = Some(found);
                }
                _ => return Err(unexpected()),
            }
        }
        Err(StoreError::busy(RevokedAgain))
    }

    /// Asks whether a change would be applied, apart from the index.
    async fn ask(&self, id: RecordId, change: &Change<'_>) -> Result<ScriptOutcome, StoreError> {
        self.make(id, change, LoginContext { only_asks: true, ..LoginContext::default() }).await
    }

    async fn try_to_reserve(
        &self,
        login: &Login,
        own: &Entry,
        looked: Option<&Looked>,
    ) -> Result<ScriptReply, StoreError> {
        let index = self.prefix.index(&login.name);
        let mut args = self.args(UNSTAMPED);
        let before = looked.and_then(|looked| looked.own.as_ref());
        args.short(own.to_string().as_bytes());
        args.short(before.map(ToString::to_string).unwrap_or_default().as_bytes());
        args.time(login.at).time(login.absolute_deadline).time(login.ends);
        admitted(&mut args, login.policy);
        args.flag(looked.is_some());
        looked.unwrap_or(&Looked::default()).pack(&mut args);
        let call = self.scripts().reserve.on(&[&index], &args);
        self.run(&index, call.repeatable().on(self.copies)).await
    }

    /// Finds entries without a session. If the record does not belong to the principal, a login may
    /// be in progress. After a grace period, that login has to start again.
    async fn look_again(
        &self,
        name: &str,
        unsure: Vec<(Entry, Timestamp)>,
    ) -> Result<Looked, StoreError> {
        let now = self.env.now();
        let looks = join_all(unsure.iter().map(|(entry, _)| self.look(name, entry.id))).await;
        let (mut found, mut given_up) = (Looked::default(), Vec::new());
        for ((entry, since), look) in unsure.into_iter().zip(looks) {
            match look? {
                Look::Live(info) => found.alive.push((entry, info.deadline.into())),
                Look::Dead => found.dead.push(entry),
                Look::Unknown if now.since(since) > UNDER_WAY => given_up.push(entry),
                Look::Unknown => found.alive.push((entry, now + Duration::from_secs(1))),
            }
        }
        self.resolve(name, &given_up, Mark::Again, EndReason::Logout).await?;
        found.dead.extend(given_up);
        Ok(found)
    }

    async fn prune_apart(&self, name: &str, stale: &[Entry]) -> Result<(), StoreError> {
        let looks = join_all(stale.iter().map(|entry| self.look(name, entry.id))).await;
        let mut dead = Vec::new();
        for (entry, look) in stale.iter().zip(looks) {
            if matches!(look?, Look::Dead) {
                dead.push(entry);
            }
        }
        self.remove_entries(name, dead).await;
        Ok(())
    }

    /// Ends the records that belong to the principal and marks the others. Returns the live ones
    /// that it ended.
    async fn resolve(
        &self,
        name: &str,
        entries: &[Entry],
        mark: Mark,
        reason: EndReason,
    ) -> Result<Vec<RecordId>, StoreError> {
        let resolved =
            join_all(entries.iter().map(|entry| self.resolve_one(name, entry, mark, reason)));
        let mut ended = Vec::new();
        for (entry, was_live) in entries.iter().zip(resolved.await) {
            if was_live? {
                ended.push(entry.id);
            }
        }
        Ok(ended)
    }

    async fn resolve_one(
        &self,
        name: &str,
        entry: &Entry,
        mark: Mark,
        reason: EndReason,
    ) -> Result<bool, StoreError> {
        let record = self.prefix.record(entry.id);
        let numbered = self.changes.number(&self.env)?;
        let mut args = self.args(numbered.stamp());
        args.long(name.as_bytes()).short(entry.ticket.as_bytes()).short(mark.word());
        args.millis(MARK_KEPT_MILLIS).u8(letter(reason));
        let call = self.scripts().resolve.on(&[&record], &args);
        let mut answer = self.run(&record, call.once().on(self.copies)).await?;
        numbered.settle(answer.was_told());
        Ok(answer.word == b'E')
    }

    async fn remove_entries<'e>(&self, name: &str, entries: impl IntoIterator<Item = &'e Entry>) {
        let members = |entry: &Entry| ["", "D", "V"].map(|part| format!("{part}{entry}"));
        let members: Vec<_> = entries.into_iter().flat_map(members).collect();
        let index = self.prefix.index(name);
        for members in members.chunks(3 * PAGE) {
            let command = cmd("ZREM").arg(&index).arg(members).to_owned();
            let call = Call::repeatable(&command);
            if let Err(fault) = self.servers.call(index.as_bytes(), &call).await {
                not_unlisted(&fault.into());
            }
        }
    }

    /// Returns true if the record belongs to the principal through the login of this entry.
    async fn is_made(&self, name: &str, entry: &Entry) -> Result<bool, StoreError> {
        let head = self.head(entry.id).await?;
        Ok(head.is_some_and(|head| head.is_of(name) && head.ticket == entry.ticket))
    }

    async fn look(&self, name: &str, id: RecordId) -> Result<Look, StoreError> {
        let now = self.env.now();
        Ok(match self.head(id).await?.filter(|head| head.is_of(name)) {
            Some(head) if head.record.is_expired(now) => Look::Dead,
            Some(head) => Look::Live(head.info(id)),
            None => Look::Unknown,
        })
    }

    async fn head(&self, id: RecordId) -> Result<Option<Head>, StoreError> {
        let key = self.prefix.record(id);
        let command = cmd("HMGET").arg(&key).arg(&HEAD).to_owned();
        match self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await {
            Err(fault) if fault.is_wrong_type() => Ok(None),
            answer => Ok(Head::of(&reply::items(answer?))),
        }
    }

    fn ticket(&self) -> Result<String, StoreError> {
        let mut bytes = [0; 8];
        self.env.fill(&mut bytes)?;
        Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
    }
}

/// An entry of an index: a record's id, in 32 digits, and in a cluster the ticket of the login, in
/// 16.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: RecordId,
    ticket: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", hex(self.id), self.ticket)
    }
}

impl FromStr for Entry {
    type Err = Unexpected;

    fn from_str(text: &str) -> Result<Self, Unexpected> {
        let (id, ticket) = text.split_at_checked(32).ok_or(Unexpected)?;
        Ok(Self { id: id.parse().map_err(|_| Unexpected)?, ticket: ticket.to_owned() })
    }
}

/// A login's entry in the index, the entries it displaced, and possibly stale ones.
struct Listed {
    victims: Vec<Entry>,
    stale: Vec<String>,
}

impl Listed {
    fn of(answer: &mut ScriptReply) -> Option<Self> {
        Some(Self { victims: parsed(&answer.texts()?).ok()?, stale: answer.texts()? })
    }
}

enum Reservation {
    Listed(Listed),
    Refused(ScriptOutcome),
}

/// The fate of possibly stale entries.
#[derive(Default)]
struct Looked {
    own: Option<Entry>,
    dead: Vec<Entry>,
    /// Entries that are live or in progress, and until when at least.
    alive: Vec<(Entry, Timestamp)>,
}

impl Looked {
    fn pack(&self, to: &mut Packed) {
        to.u32(self.dead.len());
        for entry in &self.dead {
            to.short(entry.to_string().as_bytes());
        }
        to.u32(self.alive.len());
        for (entry, until) in &self.alive {
            to.short(entry.to_string().as_bytes()).time(*until);
        }
    }
}

/// The order to a login whose record was not changed yet.
#[derive(Clone, Copy)]
enum Mark {
    Again,
    Ended,
}

impl Mark {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Again => b"again",
            Self::Ended => b"ended",
        }
    }
}

/// The state of the record behind an entry.
enum Look {
    Live(SessionInfo),
    /// The record belongs to the principal but has expired.
    Dead,
    /// The record does not belong to the principal, or not yet.
    Unknown,
}

/// Parses entries with their times of authentication.
fn unsure(answer: &mut ScriptReply) -> Option<Vec<(Entry, Timestamp)>> {
    let count = answer.take(Unpacked::u32)?;
    let entry = |from: &mut Unpacked<'_>| Some((from.text()?.parse().ok()?, from.time()?));
    (0..count).map(|_| answer.take(entry)).collect()
}

fn parsed(texts: &[String]) -> Result<Vec<Entry>, StoreError> {
    texts.iter().map(|text| text.parse().map_err(StoreError::refused)).collect()
}

fn by_id(entries: &[Entry]) -> BTreeMap<RecordId, Vec<&Entry>> {
    let mut by_id: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in entries {
        by_id.entry(entry.id).or_default().push(entry);
    }
    by_id
}

/// Parses an id, the times of creation and authentication, the deadlines, and the facts.
fn info(from: &mut Unpacked<'_>) -> Option<SessionInfo> {
    let id = std::str::from_utf8(from.bytes(32)?).ok()?.parse().ok()?;
    let info = SessionInfo::new(id, from.time()?, from.maybe_time()?, from.time()?);
    Some(info.with_facts(from.time()?, Facts::new(from.long()?).ok()?))
}

fn not_unlisted(error: &StoreError) {
    tracing::debug!(target: "steadfast", %error, "failed to remove an index entry; it will expire");
}

#[derive(Debug, thiserror::Error)]
#[error("the principal was revoked repeatedly during the login")]
struct RevokedAgain;

/// The number of attempts of a login.
const ATTEMPTS: usize = 32;

/// The number of records that one script reads.
const PAGE: usize = 500;

/// The time after which a login in progress may be restarted.
const UNDER_WAY: Duration = Duration::from_secs(5 * 60);

/// The time that a mark is kept: longer than any login takes.
const MARK_KEPT_MILLIS: i64 = 60 * 60 * 1_000;

/// The time that a minimum epoch is kept: the promised day, and another one as a margin for
/// differing clocks.
const FLOOR_KEPT_MILLIS: i64 = 48 * 60 * 60 * 1_000;
