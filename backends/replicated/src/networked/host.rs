//! A host: a node, and the clients that its balancer sends to it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, select};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use steadfast_core::{Change, Clock, Env, Random, RandomError, SessionStore, Timestamp};

use super::{Setup, World, oracle};
use crate::{OpenError, ReplicatedStore};

pub(super) fn name(n: usize) -> String {
    format!("n{n}")
}

/// Runs until the host crashes.
pub(super) async fn run(n: usize, world: Rc<RefCell<World>>) -> turmoil::Result {
    let (setup, seed) = {
        let mut world = world.borrow_mut();
        world.starts += 1;
        (world.setup, world.seed << 16 | world.starts)
    };
    let store = open(n, setup, seed).await?;
    let running = Running { n, world };
    running.world.borrow_mut().nodes[n] = Some(store.clone());
    let client = |n| oracle::run(&running.world, &store, SmallRng::seed_from_u64(seed << 8 | n));
    let clients = join_all((0..CLIENTS).map(client));
    select(clients, pin!(listen(&running.world, &store))).await;
    oracle::read_everything(&running.world, &store).await;
    running.world.borrow_mut().done += 1;
    // The others may not be done.
    std::future::pending().await
}

/// Counts the links that its node loses, and listens as the middleware would.
async fn listen(world: &RefCell<World>, store: &ReplicatedStore) {
    let mut changes = store.changes().unwrap();
    while let Some(change) = changes.next().await {
        let is_lost = matches!(change, Change::Down | Change::Missed);
        world.borrow_mut().links_lost += u64::from(is_lost);
    }
}

/// Takes its node out of the world when the host crashes.
struct Running {
    n: usize,
    world: Rc<RefCell<World>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.world.borrow_mut().nodes[self.n] = None;
    }
}

/// As `ReplicatedStoreBuilder::open` does it, but for the check that a port without TLS is of loopback.
async fn open(n: usize, setup: Setup, seed: u64) -> Result<ReplicatedStore, OpenError> {
    let env = Env::new(SimulatedClock, SeededRandom(Mutex::new(SmallRng::seed_from_u64(seed))));
    let address = |n| format!("{}:{PORT}", name(n));
    ReplicatedStore::builder()
        .bind(SocketAddr::from(([0, 0, 0, 0], PORT)))
        .advertise(address(n))
        .seeds((0..setup.nodes).map(address))
        .name(name(n).parse().unwrap())
        .cluster("simulated")
        .replication(setup.replication)
        .acknowledgements(setup.acknowledgements)
        .partition(setup.partition)
        .join_timeout(Duration::from_secs(3_600))
        .env(env)
        .open_with(None)
        .await
}

/// The clock of the simulation.
#[derive(Debug)]
pub(super) struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + turmoil::since_epoch().unwrap()
    }
}

#[derive(Debug)]
struct SeededRandom(Mutex<SmallRng>);

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
        Ok(())
    }
}

/// The number of clients that each host serves.
const CLIENTS: u64 = 3;

const PORT: u16 = 7946;
