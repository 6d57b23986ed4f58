//! The sessions of a principal: listed, capped, ended together.
//!
//! On one server a login is one script, from the look at the floor to the last session that the cap
//! ends. In a cluster the index is in another slot than most records that it lists, so a login takes
//! two steps: it is *enlisted* under a ticket of its own, then made. What comes between finds it:
//!
//! - A revocation ends what is the principal's by then, and leaves a *mark* for every ticket that is
//!   not: a login that finds its mark starts again, behind the revocation and above its floor.
//! - A login over the cap takes the place of the oldest ones *in the index*, in one step, ends them,
//!   and is made only then. One that is ended before it was made finds a mark and ends itself.
//!
//! A mark is a field beside the record's own, and opens or changes nothing. So a login that shows a
//! wrong proof has an entry for a moment, and touches no record: neither a stranger's, nor, for want of
//! one that is theirs, anybody's.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::{Value, cmd};
use std::time::Duration;

use steadfast_core::{
    Admission, Patch, Principal, Record, RecordId, Rejection, SessionInfo, StoreError, Timestamp,
};

use crate::codec::{millis, time};
use crate::connection::Call;
use crate::keys::{hex, name};
use crate::made::{Made, Unexpected};
use crate::reply;
use crate::request::{MARGIN_MILLIS, Terms, admitted};
use crate::script::Answer;
use crate::sessions::{Change, Sessions};

/// A login of a principal.
pub(crate) struct Login {
    pub(crate) id: RecordId,
    pub(crate) name: String,
    pub(crate) at: Timestamp,
    pub(crate) absolute_deadline: Timestamp,
    pub(crate) admission: Admission,
}

impl Login {
    pub(crate) fn by(id: RecordId, record: &Record, admission: Admission) -> Option<Self> {
        Some(Self {
            id,
            name: name(record.principal.as_ref()?),
            at: record.authenticated.unwrap_or(record.created),
            absolute_deadline: record.absolute_deadline,
            admission,
        })
    }

    pub(crate) fn of(id: RecordId, patch: &Patch) -> Option<Self> {
        let authentication = patch.rotation()?.authentication.as_ref()?;
        Some(Self {
            id,
            name: name(authentication.principal.as_ref()?),
            at: authentication.at,
            absolute_deadline: authentication.absolute_deadline,
            admission: authentication.admission,
        })
    }

    pub(crate) fn principal(patch: &Patch) -> Option<&Principal> {
        patch.rotation()?.authentication.as_ref()?.principal.as_ref()
    }
}

impl Sessions {
    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let name = name(principal);
        if self.servers.are_many() {
            return self.list_apart(&name).await;
        }
        let index = self.prefix.index(&name);
        let mut call = self.scripts.list.on(&[&index]);
        call.arg(self.prefix.as_str()).arg(millis(self.env.now())).arg(&name);
        let answer = self.servers.call(index.as_bytes(), &call.repeatable()).await?;
        let infos = reply::items(answer).into_iter().map(info);
        infos.collect::<Option<_>>().ok_or_else(unexpected)
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> Result<u64, StoreError> {
        let name = name(principal);
        if self.servers.are_many() {
            return self.delete_all_apart(&name, except, epoch).await;
        }
        let index = self.prefix.index(&name);
        let mut call = self.scripts.revoke.on(&[&index]);
        call.arg(self.prefix.as_str()).arg(millis(self.env.now())).arg(&name);
        call.arg(except.map(hex).unwrap_or_default()).optional(epoch).number(FLOOR_KEPT_MILLIS);
        let answer = self.servers.call(index.as_bytes(), &call.once().on(self.copies)).await?;
        let ended = reply::integer(&answer).and_then(|ended| ended.try_into().ok());
        ended.ok_or_else(unexpected)
    }

    /// Enlists a login, makes it, and tidies up behind it.
    pub(crate) async fn log_in(
        &self,
        login: &Login,
        change: &Change<'_>,
    ) -> Result<Made, StoreError> {
        for _ in 0..ATTEMPTS {
            let ticket = self.ticket()?;
            let listed = match self.enlist(login, &ticket, change).await? {
                Enlisted::Listed(listed) => listed,
                Enlisted::Refused(made) => return Ok(made),
            };
            let ended = self.finish(&login.name, &listed.victims, Mark::Ended).await?;
            let terms = Terms { ticket: &ticket, only_asks: false };
            let mut made = self.make(login.id, change, terms).await?;
            let own = Entry { id: login.id, ticket };
            let obsolete = match &mut made {
                // Whoever proved the secret before this one comes too late.
                Made::Applied { applied, .. } => {
                    applied.ended.extend(ended);
                    listed.earlier
                }
                Made::Again => vec![own],
                // Sent twice, it may have been made all the same.
                _ if self.is_made(&login.name, &own).await? => Vec::new(),
                _ => vec![own],
            };
            self.strike(&login.name, listed.victims.iter().chain(&obsolete)).await;
            if !matches!(made, Made::Again) {
                return Ok(made);
            }
        }
        Err(StoreError::busy(RevokedAgain))
    }

    /// Takes a session that is the principal's no more off the list, in a cluster. What stays is
    /// pruned when it is read, so that it is no error if this fails.
    pub(crate) async fn unlist(&self, name: &str, id: RecordId, ticket: &str) {
        if self.servers.are_many() && !name.is_empty() {
            self.strike(name, [&Entry { id, ticket: ticket.to_owned() }]).await;
        }
    }

    async fn list_apart(&self, name: &str) -> Result<Vec<SessionInfo>, StoreError> {
        let listed = self.listed(name).await?;
        let ids = by_id(listed.iter().map(|(entry, _)| entry));
        let looks = join_all(ids.keys().map(|id| self.look(name, *id))).await;
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for ((_, entries), look) in ids.into_iter().zip(looks) {
            match look? {
                Look::Live(info) => live.push(info),
                Look::Dead => dead.extend(entries),
                Look::Unknown => {}
            }
        }
        self.strike(name, dead).await;
        Ok(live)
    }

    async fn delete_all_apart(
        &self,
        name: &str,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> Result<u64, StoreError> {
        let index = self.prefix.index(name);
        let mut call = self.scripts.entries.on(&[&index]);
        call.optional(epoch).number(FLOOR_KEPT_MILLIS);
        let call = call.repeatable().on(self.copies);
        let answer = self.servers.call(index.as_bytes(), &call).await?;
        let listed = entries(answer).into_iter().map(|(entry, _)| entry);
        let listed: Vec<_> = listed.filter(|entry| Some(entry.id) != except).collect();
        let ended = self.finish(name, &listed, Mark::Again).await?;
        self.strike(name, &listed).await;
        Ok(ended.len() as u64)
    }

    /// Lists a login, and takes the place of the oldest ones. Before it does that, and before it is
    /// refused for its epoch, it is asked what else stands in its way.
    async fn enlist(
        &self,
        login: &Login,
        ticket: &str,
        change: &Change<'_>,
    ) -> Result<Enlisted, StoreError> {
        let mut answer = self.try_to_enlist(login, ticket, None).await?;
        if answer.word == "full" {
            match self.ask(login.id, change).await? {
                Made::Fine => {}
                made => return Ok(Enlisted::Refused(made)),
            }
            let listed = answer.value().map(entries).unwrap_or_default();
            let dead = self.dead(login, listed).await?;
            answer = self.try_to_enlist(login, ticket, Some(&dead)).await?;
        }
        match answer.word.as_str() {
            "floor" => match self.ask(login.id, change).await? {
                Made::Fine => Ok(Enlisted::Refused(Made::rejected(Rejection::BelowFloor))),
                made => Ok(Enlisted::Refused(made)),
            },
            "listed" => Listed::of(&mut answer).map(Enlisted::Listed).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// What stands in the way of a change beside the index.
    async fn ask(&self, id: RecordId, change: &Change<'_>) -> Result<Made, StoreError> {
        self.make(id, change, Terms { ticket: "", only_asks: true }).await
    }

    async fn try_to_enlist(
        &self,
        login: &Login,
        ticket: &str,
        dead: Option<&[Entry]>,
    ) -> Result<Answer, StoreError> {
        let index = self.prefix.index(&login.name);
        let mut call = self.scripts.enlist.on(&[&index]);
        call.arg(millis(self.env.now())).number(MARGIN_MILLIS).arg(hex(login.id)).arg(ticket);
        call.arg(millis(login.at)).arg(millis(login.absolute_deadline));
        admitted(&mut call, login.admission);
        call.flag(dead.is_some()).all(dead.unwrap_or_default().iter().map(ToString::to_string));
        self.run(&index, call.repeatable().on(self.copies)).await
    }

    /// Which entries have nothing behind them any more. An entry whose record is not the principal's
    /// may be that of a login under way; after a while it is told to start again.
    async fn dead(
        &self,
        login: &Login,
        listed: Vec<(Entry, Timestamp)>,
    ) -> Result<Vec<Entry>, StoreError> {
        let now = self.env.now();
        let ids = by_id(listed.iter().map(|(entry, _)| entry));
        let looks = join_all(ids.keys().map(|id| self.look(&login.name, *id))).await;
        let mut dead = Vec::new();
        let mut stale = Vec::new();
        for ((id, entries), look) in ids.into_iter().zip(looks) {
            let is_old = |entry: &&Entry| {
                let since = listed.iter().find(|(listed, _)| listed == *entry).map(|(_, at)| *at);
                since.is_some_and(|since| now.since(since) > UNDER_WAY)
            };
            match look? {
                Look::Live(_) => {}
                Look::Dead => dead.extend(entries),
                Look::Unknown if id == login.id => {}
                Look::Unknown => stale.extend(entries.into_iter().filter(is_old)),
            }
        }
        let stale: Vec<_> = stale.into_iter().cloned().collect();
        self.finish(&login.name, &stale, Mark::Again).await?;
        Ok(dead.into_iter().cloned().chain(stale).collect())
    }

    /// Ends what is the principal's of these, and marks what is not. Says which live ones it ended.
    async fn finish(
        &self,
        name: &str,
        entries: &[Entry],
        mark: Mark,
    ) -> Result<Vec<RecordId>, StoreError> {
        let finished = join_all(entries.iter().map(|entry| self.finish_one(name, entry, mark)));
        let mut ended = Vec::new();
        for (entry, said) in entries.iter().zip(finished.await) {
            if said? == "ended" {
                ended.push(entry.id);
            }
        }
        Ok(ended)
    }

    async fn finish_one(
        &self,
        name: &str,
        entry: &Entry,
        mark: Mark,
    ) -> Result<String, StoreError> {
        let record = self.prefix.record(entry.id);
        let mut call = self.scripts.finish.on(&[&record]);
        self.address(&mut call, entry.id);
        call.arg(name).arg(&entry.ticket).arg(mark.word()).number(MARK_KEPT_MILLIS);
        let answer = self.servers.call(record.as_bytes(), &call.once().on(self.copies)).await?;
        reply::text(answer).ok_or_else(unexpected)
    }

    async fn strike<'e>(&self, name: &str, entries: impl IntoIterator<Item = &'e Entry>) {
        let entries: Vec<_> = entries.into_iter().map(ToString::to_string).collect();
        if entries.is_empty() {
            return;
        }
        let index = self.prefix.index(name);
        let command = cmd("HDEL").arg(&index).arg(entries).to_owned();
        if let Err(fault) = self.servers.call(index.as_bytes(), &Call::repeatable(&command)).await {
            let error = StoreError::from(fault);
            tracing::debug!(target: "steadfast", %error, "an entry of an index stays for a while");
        }
    }

    async fn listed(&self, name: &str) -> Result<Vec<(Entry, Timestamp)>, StoreError> {
        let index = self.prefix.index(name);
        let command = cmd("HGETALL").arg(&index).to_owned();
        Ok(entries(self.servers.call(index.as_bytes(), &Call::repeatable(&command)).await?))
    }

    /// Whether a record is the principal's by the login of this entry.
    async fn is_made(&self, name: &str, entry: &Entry) -> Result<bool, StoreError> {
        let key = self.prefix.record(entry.id);
        let command = cmd("HMGET").arg(&key).arg(&["u", "w"]).to_owned();
        let answer = self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await?;
        Ok(reply::texts(answer) == [name, &entry.ticket])
    }

    async fn look(&self, name: &str, id: RecordId) -> Result<Look, StoreError> {
        let key = self.prefix.record(id);
        let command = cmd("HMGET").arg(&key).arg(&["u", "c", "t", "i", "a"]).to_owned();
        let answer = match self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await {
            Err(fault) if fault.is_wrong_type() => return Ok(Look::Unknown),
            answer => answer?,
        };
        let mut fields = reply::items(answer);
        if fields.is_empty() || reply::bytes(&fields[0]) != Some(name.as_bytes()) {
            return Ok(Look::Unknown);
        }
        fields[0] = Value::BulkString(hex(id).into());
        let info = info(Value::Array(fields));
        Ok(match info.filter(|info| self.env.now() < info.deadline.into()) {
            Some(info) => Look::Live(info),
            None => Look::Dead,
        })
    }

    fn ticket(&self) -> Result<String, StoreError> {
        let mut bytes = [0; 8];
        self.env.fill(&mut bytes)?;
        Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
    }
}

/// A record and a login's ticket, as an index lists them: 32 digits and 16.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: RecordId,
    ticket: String,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", hex(self.id), self.ticket)
    }
}

impl std::str::FromStr for Entry {
    type Err = Unexpected;

    fn from_str(text: &str) -> Result<Self, Unexpected> {
        let (id, ticket) = text.split_at_checked(32).ok_or(Unexpected)?;
        Ok(Self { id: id.parse().map_err(|_| Unexpected)?, ticket: ticket.to_owned() })
    }
}

/// A login in the index, and what it displaces.
struct Listed {
    /// Whose place it takes.
    victims: Vec<Entry>,
    /// What the same record was listed under before.
    earlier: Vec<Entry>,
}

impl Listed {
    fn of(answer: &mut Answer) -> Option<Self> {
        let (victims, earlier) = answer.texts().zip(answer.texts())?;
        Some(Self { victims: parsed(&victims)?, earlier: parsed(&earlier)? })
    }
}

enum Enlisted {
    Listed(Listed),
    Refused(Made),
}

/// What a login that is not made yet is told.
#[derive(Clone, Copy)]
enum Mark {
    Again,
    Ended,
}

impl Mark {
    const fn word(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::Ended => "ended",
        }
    }
}

/// What stands behind an entry.
enum Look {
    Live(SessionInfo),
    /// It was the principal's, and has expired.
    Dead,
    /// Nothing of the principal's: not yet, or not any more.
    Unknown,
}

/// The entries of an index, and when each was authenticated.
fn entries(answer: Value) -> Vec<(Entry, Timestamp)> {
    let pair = |pair: &[String]| {
        let at = pair[1].split(':').next()?;
        Some((pair[0].parse().ok()?, time(at.as_bytes())?))
    };
    reply::texts(answer).chunks_exact(2).filter_map(pair).collect()
}

fn parsed(texts: &[String]) -> Option<Vec<Entry>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}

fn by_id<'e>(entries: impl Iterator<Item = &'e Entry>) -> BTreeMap<RecordId, Vec<&'e Entry>> {
    let mut by_id: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in entries {
        by_id.entry(entry.id).or_default().push(entry);
    }
    by_id
}

/// An id, and when it was created, authenticated, and ends.
fn info(fields: Value) -> Option<SessionInfo> {
    let fields = reply::items(fields);
    let [id, created, authenticated, idle, absolute] = fields.as_slice() else {
        return None;
    };
    let time = |value: &Value| time(reply::bytes(value)?);
    Some(SessionInfo {
        id: std::str::from_utf8(reply::bytes(id)?).ok()?.parse().ok()?,
        created: time(created)?.into(),
        authenticated: time(authenticated).map(Into::into),
        deadline: time(idle)?.min(time(absolute)?).into(),
    })
}

fn unexpected() -> StoreError {
    StoreError::refused(Unexpected)
}

#[derive(Debug, thiserror::Error)]
#[error("the principal was revoked again and again during the login")]
struct RevokedAgain;

/// How often a login starts again before it gives up.
const ATTEMPTS: usize = 8;

/// How long a login may be under way before another one may tell it to start again.
const UNDER_WAY: Duration = Duration::from_secs(5 * 60);

/// How long a mark is kept: longer than any login is under way.
const MARK_KEPT_MILLIS: u64 = 60 * 60 * 1_000;

/// How long a floor is kept: the day that is promised, and one for clocks that run at another speed.
const FLOOR_KEPT_MILLIS: u64 = 48 * 60 * 60 * 1_000;
