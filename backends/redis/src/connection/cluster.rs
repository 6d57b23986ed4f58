//! A cluster. Each slot has a primary, which may change at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{ServerError, Value, cmd};
use tokio::time::Instant;

use super::slot::slot;
use super::{Dialer, Origin, Server};
use crate::address::Address;
use crate::error::{Fault, Next};
use crate::reply;
use crate::script::Call;

/// The servers of a cluster, and the presumed server of each slot.
///
/// The presumption may be wrong. A server that does not have a slot does nothing and redirects, and
/// redirections update the slots.
pub(crate) struct Cluster {
    dialer: Dialer,
    seeds: Vec<Address>,
    map: Mutex<Map>,
    /// Locked by the caller that asks for the slots. Contains the time of the last attempt.
    asking: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Map {
    servers: HashMap<Address, Arc<Server>>,
    /// The last slot and the server of each range, by its first slot.
    ranges: BTreeMap<u16, (u16, Arc<Server>)>,
    /// The slots that redirections have moved since.
    moved: HashMap<u16, Arc<Server>>,
}

impl Cluster {
    pub(super) fn new(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self { dialer, seeds, map: Mutex::default(), asking: tokio::sync::Mutex::new(None) }
    }

    pub(super) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Value, Fault> {
        let slot = slot(key);
        let mut server = self.server(slot).await?;
        let (mut asks, mut is_second_try) = (false, false);
        let mut redirections = 0;
        loop {
            let fault = match server.call(call, asks).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            redirections += 1;
            if redirections == REDIRECTIONS {
                return Err(fault);
            }
            (server, asks) = match (&fault, redirection(&fault, &server)) {
                (_, Some(Redirection::Moved(to))) => (self.moved(slot, to), false),
                (_, Some(Redirection::Ask(to))) => (self.known(to), true),
                (_, Some(Redirection::Later)) => {
                    tokio::time::sleep(RESHARDS_WITHIN).await;
                    (server, false)
                }
                (Fault::Unsent(_), None) if !is_second_try => {
                    is_second_try = true;
                    (self.server_anew(slot).await?, false)
                }
                _ if !is_second_try && fault.next(call.is_repeatable) == Next::Elsewhere => {
                    is_second_try = true;
                    (self.server_anew(slot).await?, false)
                }
                _ => return Err(fault),
            };
        }
    }

    /// Returns true if a server is presumed to have a key.
    pub(super) fn may_have(&self, key: &[u8], server: &Arc<Server>) -> bool {
        self.map().server(slot(key)).is_some_and(|known| Arc::ptr_eq(&known, server))
    }

    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Fault> {
        self.ask_for_slots().await?;
        let map = self.map();
        let mut primaries: Vec<Arc<Server>> = Vec::new();
        for (_, server) in map.ranges.values() {
            if primaries.iter().all(|known| !Arc::ptr_eq(known, server)) {
                primaries.push(Arc::clone(server));
            }
        }
        Ok(primaries)
    }

    /// Returns the server of a slot. If there is no open connection to it, it may be gone. The
    /// other servers are then asked first, because waiting for a dead server could use up the
    /// caller's deadline.
    async fn server(&self, slot: u16) -> Result<Arc<Server>, Fault> {
        let known = self.map().server(slot);
        match known {
            Some(server) if server.is_open() => Ok(server),
            _ => self.server_anew(slot).await,
        }
    }

    async fn server_anew(&self, slot: u16) -> Result<Arc<Server>, Fault> {
        self.ask_for_slots().await?;
        self.map().server(slot).ok_or_else(|| Fault::unsent(NoServer))
    }

    fn moved(&self, slot: u16, to: Address) -> Arc<Server> {
        let server = self.known(to);
        self.map().moved.insert(slot, Arc::clone(&server));
        server
    }

    fn known(&self, address: Address) -> Arc<Server> {
        Arc::clone(self.map().known(&self.dialer, address))
    }

    /// Asks for the slots, at most once per interval for all callers.
    async fn ask_for_slots(&self) -> Result<(), Fault> {
        let mut asked = self.asking.lock().await;
        if asked.is_some_and(|at| at.elapsed() < ASKED_EVERY) {
            return Ok(());
        }
        let view = self.believed_view().await?;
        self.map().learn(&self.dialer, view);
        *asked = Some(Instant::now());
        Ok(())
    }

    /// Asks the known servers, and those that they name, until most primaries of one view agree on
    /// it. A server that was cut off from the others keeps reporting an old view.
    async fn believed_view(&self) -> Result<View, Fault> {
        let (mut votes, mut fault) = (Votes::default(), Fault::unsent(NoServer));
        let mut asking = FuturesUnordered::new();
        let mut asked: Vec<Arc<Server>> = Vec::new();
        let primaries: Vec<_> = self.map().ranges.values().map(|(_, s)| Arc::clone(s)).collect();
        let seeds = self.seeds.iter().map(|seed| self.known(seed.clone()));
        let mut next: Vec<_> = primaries.into_iter().chain(seeds).collect();
        loop {
            for server in next.drain(..) {
                if asked.iter().all(|known| !Arc::ptr_eq(known, &server)) {
                    asked.push(Arc::clone(&server));
                    asking.push(async move { view(&server).await });
                }
            }
            match asking.next().await {
                Some(Ok((view, voter))) => {
                    next.extend(view.primaries().map(|address| self.known(address.clone())));
                    if let Some(view) = votes.count(view, voter) {
                        return Ok(view);
                    }
                }
                Some(Err(why)) => fault = why,
                None => return votes.most().ok_or(fault),
            }
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn server(&self, slot: u16) -> Option<Arc<Server>> {
        if let Some(server) = self.moved.get(&slot) {
            return Some(Arc::clone(server));
        }
        let (_, (last, server)) = self.ranges.range(..=slot).next_back()?;
        (slot <= *last).then(|| Arc::clone(server))
    }

    fn known(&mut self, dialer: &Dialer, address: Address) -> &Arc<Server> {
        let origin = |address: &Address| Origin::Fixed(dialer.clone(), address.clone().into());
        self.servers
            .entry(address)
            .or_insert_with_key(|address| Arc::new(Server::new(origin(address))))
    }

    fn learn(&mut self, dialer: &Dialer, view: View) {
        self.moved.clear();
        self.ranges.clear();
        for Range { first, last, primary, .. } in view.0 {
            let server = Arc::clone(self.known(dialer, primary));
            self.ranges.insert(first, (last, server));
        }
        // Drops servers without slots, and their connections.
        let ranges = &self.ranges;
        self.servers.retain(|_, server| ranges.values().any(|(_, kept)| Arc::ptr_eq(kept, server)));
    }
}

/// The slots according to one server.
#[derive(Clone, Debug)]
struct View(Vec<Range>);

#[derive(Clone, Debug)]
struct Range {
    first: u16,
    last: u16,
    primary: Address,
    /// The primary's id in the cluster. Its address may depend on the server that is asked.
    id: String,
}

impl View {
    fn primaries(&self) -> impl Iterator<Item = &Address> {
        self.0.iter().map(|range| &range.primary)
    }

    fn is_same(&self, other: &Self) -> bool {
        let known = |view: &Self| {
            let range = |range: &Range| (range.first, range.last, range.id.clone());
            view.0.iter().map(range).collect::<BTreeSet<_>>()
        };
        known(self) == known(other)
    }
}

/// Counts the servers that agree on each view.
#[derive(Default)]
struct Votes(Vec<(View, usize)>);

impl Votes {
    /// Counts a view. Returns it once most of its primaries agree. Views of replicas, and of
    /// primaries that the view does not name, only suggest servers to ask.
    fn count(&mut self, view: View, voter: Voter) -> Option<View> {
        let at = match self.0.iter().position(|(counted, _)| counted.is_same(&view)) {
            Some(at) => at,
            None => {
                self.0.push((view, 0));
                self.0.len() - 1
            }
        };
        let (view, votes) = &mut self.0[at];
        *votes += usize::from(voter == Voter::Primary);
        let primaries: BTreeSet<_> = view.0.iter().map(|range| &range.id).collect();
        (2 * *votes > primaries.len()).then(|| view.clone())
    }

    /// Returns the most common view, if no view has a majority.
    fn most(self) -> Option<View> {
        self.0.into_iter().rev().max_by_key(|(_, votes)| *votes).map(|(view, _)| view)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voter {
    /// One of the primaries in the view.
    Primary,
    Other,
}

/// Asks a server for the ranges of slots and their primaries.
async fn view(server: &Server) -> Result<(View, Voter), Fault> {
    let question = cmd("CLUSTER").arg("SLOTS").to_owned();
    let asking = server.ask(&question);
    let answer =
        tokio::time::timeout(ANSWERS_WITHIN, asking).await.unwrap_or(Err(Fault::Silent))?;
    let range = |answer| range(answer, server.host());
    let ranges = reply::items(answer).into_iter().filter_map(range).collect::<Vec<_>>();
    if ranges.is_empty() {
        return Err(Fault::unsent(NoServer));
    }
    let is_named = ranges.iter().any(|range| server.is_at(&range.primary));
    Ok((View(ranges), if is_named { Voter::Primary } else { Voter::Other }))
}

/// Parses a range: its first slot, last slot, primary (host, port, id, more), and replicas. A
/// primary without a host is on the host of the asked server.
fn range(answer: Value, asked: &str) -> Option<Range> {
    let mut parts = reply::items(answer).into_iter();
    let mut slot = || reply::integer(&parts.next()?).and_then(|slot| u16::try_from(slot).ok());
    let (first, last) = (slot()?, slot()?);
    let mut primary = reply::items(parts.next()?).into_iter();
    let host = primary.next().and_then(reply::text);
    let port = reply::integer(&primary.next()?).and_then(|port| u16::try_from(port).ok())?;
    let id = reply::text(primary.next()?)?;
    let more = primary.next().map(reply::texts).unwrap_or_default();
    let ip = more.chunks_exact(2).find(|pair| pair[0] == "ip").map(|pair| pair[1].clone());
    let host = host.into_iter().chain(ip).find(|host| !host.is_empty() && host != "?");
    let primary = Address::new(host.unwrap_or_else(|| asked.to_owned()), port);
    Some(Range { first, last, primary, id })
}

enum Redirection {
    /// The slot has moved.
    Moved(Address),
    /// The slot is being migrated, and this key has already left.
    Ask(Address),
    /// The slot is being migrated, or its primary is being replaced.
    Later,
}

fn redirection(fault: &Fault, from: &Server) -> Option<Redirection> {
    let Fault::Refused(why) = fault else {
        return None;
    };
    match (fault.next(false), why.code()) {
        (Next::There, "ASK") => Some(Redirection::Ask(target(why, from.host())?)),
        (Next::There, _) => Some(Redirection::Moved(target(why, from.host())?)),
        (Next::Later, _) => Some(Redirection::Later),
        _ => None,
    }
}

/// Parses the address in `MOVED 3999 127.0.0.1:6381`. Without a host, it is on the host of the
/// asked server.
fn target(why: &ServerError, asked: &str) -> Option<Address> {
    let (_, address) = why.details()?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let host = if host.is_empty() || host == "?" { asked } else { host };
    Some(Address::new(host, port.parse().ok()?))
}

#[derive(Debug, thiserror::Error)]
#[error("no server of the cluster knows the primary of the slot")]
struct NoServer;

/// The highest number of redirections per call.
const REDIRECTIONS: usize = 6;

/// The time that a server may take to report the slots. Any other server can report them too.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);

/// The interval between questions for the slots. Servers take longer to notice a failure.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// The pause before a call is repeated for a slot that is being migrated.
const RESHARDS_WITHIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_slot_is_found() {
        let dialer = Dialer { login: redis::RedisConnectionInfo::default(), tls: None };
        let mut map = Map::default();
        map.learn(&dialer, seen(&[(0, 99, "a"), (200, 299, "b")]));
        let one = &map.servers[&Address::new("a", 1)];
        let has = |slot| map.server(slot).map(|server| Arc::ptr_eq(&server, one));
        assert_eq!(
            [has(0), has(99), has(100), has(250), has(300)],
            [Some(true), Some(true), None, Some(false), None]
        );
    }

    #[test]
    fn a_view_needs_a_majority_of_its_primaries() {
        let before = seen(&[(0, 99, "a"), (100, 199, "b"), (200, 299, "c")]);
        let now = seen(&[(0, 99, "d"), (100, 199, "b"), (200, 299, "c")]);
        let mut votes = Votes::default();
        assert!(
            votes.count(before.clone(), Voter::Primary).is_none(),
            "one that was cut off has it"
        );
        assert!(votes.count(before, Voter::Other).is_none(), "and has another name");
        assert!(votes.count(now.clone(), Voter::Primary).is_none());
        let believed = votes.count(now.clone(), Voter::Primary);
        assert!(believed.is_some_and(|view| view.is_same(&now)));
        assert!(votes.most().is_some_and(|view| view.is_same(&now)));
        let alone = seen(&[(0, 299, "a")]);
        assert!(Votes::default().count(alone, Voter::Primary).is_some());
    }

    #[test]
    fn a_missing_host_means_the_asked_server() {
        let text = |text: &str| Value::BulkString(text.into());
        let range_of = |host: Value, more: &[&str]| {
            let more = Value::Array(more.iter().copied().map(text).collect());
            let primary = Value::Array(vec![host, Value::Int(7), text("id"), more]);
            let answer = Value::Array(vec![Value::Int(0), Value::Int(99), primary]);
            range(answer, "asked").map(|range| range.primary)
        };
        for (host, more, expected) in [
            (text("h"), &[][..], "h"),
            (text(""), &[], "asked"),
            (Value::Nil, &[], "asked"),
            (text("?"), &[], "asked"),
            (text("?"), &["ip", "10.0.0.1"], "10.0.0.1"),
        ] {
            assert_eq!(range_of(host, more), Some(Address::new(expected, 7)));
        }
        for (wire, host) in [("-MOVED 3999 :7\r\n", "asked"), ("-ASK 3999 [::1]:7\r\n", "::1")] {
            let Ok(Value::ServerError(why)) = redis::parse_redis_value(wire.as_bytes()) else {
                panic!("{wire} is an error");
            };
            assert_eq!(target(&why, "asked"), Some(Address::new(host, 7)));
        }
    }

    /// Creates a view of ranges, each with a primary whose id is also its host.
    fn seen(ranges: &[(u16, u16, &str)]) -> View {
        let range = |(first, last, name): &(u16, u16, &str)| Range {
            first: *first,
            last: *last,
            primary: Address::new(*name, 1),
            id: (*name).to_owned(),
        };
        View(ranges.iter().map(range).collect())
    }
}
