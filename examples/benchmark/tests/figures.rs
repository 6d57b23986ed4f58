//! A small run confirms the claims of the tables about steadfast.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use benchmark::cases::Case;
use benchmark::measure::allocations::{self, Allocations};
use benchmark::measure::cluster;
use benchmark::measure::memory::{self, Memory};
use benchmark::measure::overlap::{self, Kept};
use benchmark::measure::wire::{self, Wires};
use benchmark::measure::{CountingJob, Job, ask};
use benchmark::peers::{self, PassThrough, Peer, Steadfast};
use benchmark::report::{Results, write};

#[test]
fn overlapping_requests_lose_nothing() -> Result<()> {
    let kept: BTreeMap<String, Kept> = ask(PROBE, &Job::Overlap(overlap::Plan { requests: 64 }))?;
    let own = &kept[Steadfast.name()];
    assert_eq!((own.keys, own.count), (64, 64));
    Ok(())
}

#[test]
fn no_peer_allocates_less() -> Result<()> {
    let plan = allocations::Plan { requests: 50 };
    let figures: Allocations = ask(COUNTING, &CountingJob::Allocations(plan))?;
    for case in Case::ALL {
        let own = figures[Steadfast.name()][&case];
        let least = peers::with_sessions().map(|peer| figures[peer.name()][&case]);
        assert_eq!(least.fold(own, f64::min), own, "{}", case.name());
    }
    Ok(())
}

#[test]
fn an_untouched_session_allocates_only_its_handle() -> Result<()> {
    let plan = allocations::Plan { requests: 50 };
    let figures: Allocations = ask(COUNTING, &CountingJob::Allocations(plan))?;
    for case in [Case::Anon, Case::Untouched] {
        let over = figures[Steadfast.name()][&case] - figures[PassThrough.name()][&case];
        assert!(over <= 3.0, "{over} for {}", case.name());
    }
    Ok(())
}

#[test]
fn a_request_takes_the_fewest_round_trips() -> Result<()> {
    let wires: Wires = ask(PROBE, &Job::Wire(wire::Plan { requests: 50 }))?;
    for server in ["steadfast Redis", "steadfast PostgreSQL"] {
        let trips = Case::REMOTE.map(|case| (case, wires[server][&case].round_trips));
        assert_eq!(trips, Case::REMOTE.into_iter().zip(ROUND_TRIPS).collect::<Vec<_>>()[..]);
    }
    Ok(())
}

#[test]
fn a_small_session_gives_its_memory_back() -> Result<()> {
    let (peer, lifetime) = (Steadfast.name().to_owned(), Duration::from_secs(3));
    let plan = memory::Plan { peer, sessions: 2_000, lifetime };
    let memory: Memory = ask(COUNTING, &CountingJob::Memory(plan))?;
    assert!(memory.live <= 480.0 && memory.expired <= 5.0, "{memory:?}");
    Ok(())
}

#[test]
fn nodes_exchange_little_traffic() -> Result<()> {
    let plan = cluster::Plan { requests: 200, idle: Duration::from_secs(6), sessions: 200 };
    let traffic = cluster::traffic(PROBE, plan, 3, Some(1))?;
    assert!(traffic.small_write <= 450.0 && traffic.idle <= 5_000.0, "{traffic:?}");
    assert!(traffic.read <= 50.0, "a backup answers by itself: {traffic:?}");
    let memory = cluster::memory(PROBE, COUNTING, plan, Some(1))?;
    assert!(memory.other.is_some_and(|other| other <= memory.owner / 20.0), "{memory:?}");
    Ok(())
}

#[test]
fn results_with_missing_figures_are_written() -> Result<()> {
    let place = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty");
    let table = write(&Results::default(), &place)?;
    assert!(table.contains(Steadfast.name()));
    assert_eq!(std::fs::read_to_string(place.join("table.md"))?, table);
    assert!(std::fs::read_to_string(place.join("chart.svg"))?.starts_with("<svg"));
    Ok(())
}

/// In the order of [`Case::REMOTE`].
const ROUND_TRIPS: [f64; 9] = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0];

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const COUNTING: &str = env!("CARGO_BIN_EXE_counting");
