//! A cluster: every slot has a primary, which may be another one a moment later.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::PubSub;
use redis::{ServerError, Value, cmd};
use tokio::time::Instant;

use super::slot::slot;
use super::{Call, Dialer, Origin, Server};
use crate::address::Address;
use crate::error::{Fault, Next};
use crate::reply;

/// The servers of a cluster, and which slots each is thought to have.
///
/// What is thought may be wrong: the server that is asked knows better and says so, having done
/// nothing. Redirections are followed, and teach.
pub(crate) struct Cluster {
    dialer: Dialer,
    seeds: Vec<Address>,
    map: Mutex<Map>,
    /// Held by the one who asks for the slots; when that was last tried.
    asking: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Map {
    servers: HashMap<Address, Arc<Server>>,
    /// The first slot of a range, its last one, and who has it.
    ranges: BTreeMap<u16, (u16, Arc<Server>)>,
    /// What redirections said since.
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
        for _ in 0..REDIRECTIONS {
            let fault = match server.call(call, asks).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            (server, asks) = match (&fault, redirection(&fault)) {
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
        Err(Fault::unsent(TooManyRedirections))
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

    /// Every node of a cluster hears what is published on any.
    pub(super) async fn listen(&self) -> Result<PubSub, Fault> {
        let mut fault = Fault::unsent(NoServer);
        for server in self.primaries().await? {
            match server.listen().await {
                Ok(listening) => return Ok(listening),
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    /// The server of a slot. One that there is no connection to may be gone: the others are asked first,
    /// since there may be no time for that once it has let the caller wait.
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

    /// Asks for the slots, at most once in a while whoever wants to know.
    async fn ask_for_slots(&self) -> Result<(), Fault> {
        let mut asked = self.asking.lock().await;
        if asked.is_some_and(|at| at.elapsed() < ASKED_EVERY) {
            return Ok(());
        }
        let mut known: Vec<_> = self.map().ranges.values().map(|(_, s)| Arc::clone(s)).collect();
        known.extend(self.seeds.iter().map(|seed| self.known(seed.clone())));
        let known = known.iter().map(|server| Box::pin(slots(server)));
        let (slots, _) = select_ok(known).await?;
        self.map().learn(&self.dialer, slots);
        *asked = Some(Instant::now());
        Ok(())
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

    fn learn(&mut self, dialer: &Dialer, slots: Vec<(u16, u16, Address)>) {
        self.moved.clear();
        self.ranges.clear();
        for (first, last, address) in slots {
            let server = Arc::clone(self.known(dialer, address));
            self.ranges.insert(first, (last, server));
        }
        // A server that has no slots any more is let go, with its connections.
        let ranges = &self.ranges;
        self.servers.retain(|_, server| ranges.values().any(|(_, kept)| Arc::ptr_eq(kept, server)));
    }
}

/// The ranges of slots, and the primary of each, as a server has them.
async fn slots(server: &Server) -> Result<Vec<(u16, u16, Address)>, Fault> {
    let question = cmd("CLUSTER").arg("SLOTS").to_owned();
    let asking = server.ask(&question);
    let answer =
        tokio::time::timeout(ANSWERS_WITHIN, asking).await.unwrap_or(Err(Fault::Silent))?;
    let ranges = reply::items(answer).into_iter().filter_map(range).collect::<Vec<_>>();
    match ranges.is_empty() {
        true => Err(Fault::unsent(NoServer)),
        false => Ok(ranges),
    }
}

/// A range is its first slot, its last one, its primary (host, port, id), and the replicas.
fn range(range: Value) -> Option<(u16, u16, Address)> {
    let mut parts = reply::items(range).into_iter();
    let mut slot = || reply::integer(&parts.next()?).and_then(|slot| u16::try_from(slot).ok());
    let (first, last) = (slot()?, slot()?);
    let mut primary = reply::items(parts.next()?).into_iter();
    let host = reply::text(primary.next()?).filter(|host| !host.is_empty() && host != "?")?;
    let port = reply::integer(&primary.next()?).and_then(|port| u16::try_from(port).ok())?;
    Some((first, last, Address::new(host, port)))
}

enum Redirection {
    /// The slot has moved.
    Moved(Address),
    /// The slot is moving, and this key is not here any more.
    Ask(Address),
    /// The slot is moving, or its primary is being replaced.
    Later,
}

fn redirection(fault: &Fault) -> Option<Redirection> {
    let Fault::Refused(why) = fault else {
        return None;
    };
    match (fault.next(false), why.code()) {
        (Next::There, "ASK") => Some(Redirection::Ask(target(why)?)),
        (Next::There, _) => Some(Redirection::Moved(target(why)?)),
        (Next::Later, _) => Some(Redirection::Later),
        _ => None,
    }
}

/// The address in `MOVED 3999 127.0.0.1:6381`.
fn target(why: &ServerError) -> Option<Address> {
    let (_, address) = why.details()?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then_some(Address::new(host, port.parse().ok()?))
}

#[derive(Debug, thiserror::Error)]
#[error("no server of the cluster says who has the slot")]
struct NoServer;

#[derive(Debug, thiserror::Error)]
#[error("the servers of the cluster send each other's callers in circles")]
struct TooManyRedirections;

/// Redirections of one call, at most.
const REDIRECTIONS: usize = 6;

/// How long a server that is asked for the slots may take: another one knows them as well.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);

/// A server that is gone is not replaced sooner than servers notice.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// How long a call waits for a slot that is on its way.
const RESHARDS_WITHIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_slot_is_found() {
        let dialer = Dialer { login: redis::RedisConnectionInfo::default(), tls: None };
        let mut map = Map::default();
        let [one, other] = [Address::new("h", 1), Address::new("h", 2)];
        map.learn(&dialer, vec![(0, 99, one.clone()), (200, 299, other.clone())]);
        let has = |slot| map.server(slot).map(|s| Arc::ptr_eq(&s, &map.servers[&one]));
        assert_eq!(
            [has(0), has(99), has(100), has(250), has(300)],
            [Some(true), Some(true), None, Some(false), None]
        );
    }
}
