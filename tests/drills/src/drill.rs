//! Drills: the faults that are injected, and how a run injects them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::sleep;

use crate::history::{History, Journal, Run, What};
use crate::load::{Load, Recorder};
use crate::network::Network;
use crate::plan::Plan;
use crate::service::{Launcher, Service};

/// A fault to inject into the nodes of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drill {
    /// Kills a node, and starts it again.
    Kill,
    /// Stops a node for 10 s.
    Stop,
    /// Cuts two nodes off from each other for 10 s.
    Cut,
    /// Cuts the route from one node to another for 10 s. The opposite route stays up.
    OneWay,
    /// Drains and restarts each node in turn.
    Restarts,
    /// Adds two nodes, and removes them again.
    Resize,
    /// Moves a node's clock 2 h ahead, and later 2 min back.
    Clock,
}

/// The load, the duration of each part of a run, and the location of the files.
#[derive(Clone, Debug)]
pub struct Settings {
    pub program: PathBuf,
    pub out: PathBuf,
    pub users: usize,
    pub rate: u64,
    /// Time under load before the fault, and again after its repair.
    pub calm: Duration,
    /// Time for which a killed node stays away.
    pub down: Duration,
    /// Time for which a node is stopped or cut off.
    pub broken: Duration,
}

impl Settings {
    /// Returns settings for 400 users who send 200 requests per second.
    pub fn new(program: PathBuf, out: PathBuf) -> Self {
        let [calm, down, broken] = [3, 4, 10].map(Duration::from_secs);
        Self { program, out, users: 400, rate: 200, calm, down, broken }
    }
}

impl Drill {
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::Stop,
        Self::Cut,
        Self::OneWay,
        Self::Restarts,
        Self::Resize,
        Self::Clock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::OneWay => "one-way",
            Self::Restarts => "restarts",
            Self::Resize => "resize",
            Self::Clock => "clock",
        }
    }

    /// Returns the path of the history of a run.
    pub fn path(self, out: &Path, number: u64) -> PathBuf {
        out.join(self.name()).join(format!("{number:03}.jsonl"))
    }

    /// Returns the numbers of the runs that are not completed yet.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub fn missing(self, out: &Path, runs: u64) -> std::io::Result<Vec<u64>> {
        let mut missing = Vec::new();
        for number in 1..=runs {
            if History::read(&self.path(out, number))?.is_none() {
                missing.push(number);
            }
        }
        Ok(missing)
    }

    /// Performs one run, and writes its history.
    ///
    /// # Errors
    ///
    /// Returns an error if the nodes do not do as instructed. The run is then incomplete.
    pub async fn run(self, number: u64, settings: &Settings) -> anyhow::Result<()> {
        let path = self.path(&settings.out, number);
        let Settings { users, rate, calm, .. } = *settings;
        let run = Run { drill: self.name().to_owned(), number, users, rate };
        let recorder = Arc::new(Recorder::new(Journal::begin(&path, run)?));
        let launcher =
            Launcher { program: settings.program.clone(), base: path.with_extension("") };
        let network = self.cuts_links().then(|| Network::create(NODES)).transpose()?;
        let service = Service::start(launcher, NODES, network).await?;
        let plan = Plan { seed: number, users, rate };
        let load = Load::start(service.balancer(), plan, &recorder).await;
        sleep(calm).await;
        let mut execution = Execution { service, recorder, settings };
        self.inject(number as usize % NODES, &mut execution).await?;
        sleep(calm).await;
        let users = load.finish().await?;
        execution.service.settled().await?;
        users.read_all(&execution.service.running()).await;
        Ok(execution.recorder.complete()?)
    }

    fn cuts_links(self) -> bool {
        matches!(self, Self::Cut | Self::OneWay)
    }

    async fn inject(self, n: usize, execution: &mut Execution<'_>) -> anyhow::Result<()> {
        let other = (n + 1) % NODES;
        match self {
            Self::Kill => execution.kill(n).await,
            Self::Stop => execution.stop(n).await,
            Self::Cut => execution.cut(&[(n, other), (other, n)]).await,
            Self::OneWay => execution.cut(&[(n, other)]).await,
            Self::Restarts => execution.restart_in_turn().await,
            Self::Resize => execution.resize().await,
            Self::Clock => execution.move_clock(n).await,
        }
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Drill {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|drill| drill.name() == name) {
            Some(drill) => Ok(drill),
            None => bail!("unknown drill {name:?}"),
        }
    }
}

/// A service under load, with the recorder of its history.
struct Execution<'s> {
    service: Service,
    recorder: Arc<Recorder>,
    settings: &'s Settings,
}

impl Execution<'_> {
    async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        self.recorder.event(What::Out(n));
        self.service.kill(n).await?;
        sleep(self.settings.down).await;
        self.service.restart(n).await?;
        self.recorder.event(What::Back(n));
        self.service.settled().await
    }

    async fn stop(&mut self, n: usize) -> anyhow::Result<()> {
        self.recorder.event(What::Out(n));
        self.service.signal(n, "STOP")?;
        sleep(self.settings.broken).await;
        self.service.signal(n, "CONT")?;
        self.service.ready(n).await?;
        self.recorder.event(What::Back(n));
        self.service.settled().await
    }

    async fn cut(&mut self, ways: &[(usize, usize)]) -> anyhow::Result<()> {
        let before = self.service.relayed().await;
        for (from, to) in ways {
            self.recorder.event(What::Note(format!("cut {from} to {to}")));
            self.service.network()?.cut(*from, *to)?;
        }
        sleep(self.settings.broken).await;
        let relayed = self.service.relayed().await - before;
        self.recorder.event(What::Note(format!("{relayed} messages relayed")));
        for (from, to) in ways {
            self.service.network()?.repair(*from, *to)?;
        }
        self.recorder.event(What::Note("repaired".to_owned()));
        ensure!(relayed > 0.0, "no message was relayed, so the nodes did not notice the cut");
        self.service.settled().await
    }

    async fn restart_in_turn(&mut self) -> anyhow::Result<()> {
        for n in 0..NODES {
            self.drain(n).await?;
            self.service.restart(n).await?;
            self.service.balancer().enable(n);
            self.recorder.event(What::Back(n));
            self.service.settled().await?;
        }
        Ok(())
    }

    /// Stops sending requests to a node, and terminates it.
    async fn drain(&mut self, n: usize) -> anyhow::Result<()> {
        self.service.balancer().disable(n).await;
        self.recorder.event(What::Out(n));
        self.service.terminate(n).await
    }

    async fn resize(&mut self) -> anyhow::Result<()> {
        for n in [NODES, NODES + 1] {
            self.service.add_node().await?;
            self.recorder.event(What::Note(format!("{n} joined")));
        }
        self.service.settled().await?;
        sleep(self.settings.calm).await;
        for n in [NODES + 1, NODES] {
            self.drain(n).await?;
        }
        self.service.settled().await
    }

    async fn move_clock(&mut self, n: usize) -> anyhow::Result<()> {
        for seconds in [7_200, -120] {
            self.recorder.event(What::Note(format!("clock of {n} by {seconds} s")));
            self.service.advance_clock(n, seconds).await?;
            sleep(self.settings.broken).await;
            self.recorder.event(What::Note(format!("clock of {n} is right again")));
            self.service.advance_clock(n, -seconds).await?;
        }
        Ok(())
    }
}

/// The number of nodes with which a run starts.
const NODES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_completed_is_not_missing() {
        let out = testkit::ports::fresh_directory("drills-missing");
        for number in [1, 2] {
            let run = Run { drill: "kill".to_owned(), number, users: 1, rate: 1 };
            let journal = Journal::begin(&Drill::Kill.path(&out, number), run).unwrap();
            if number == 1 {
                journal.complete().unwrap();
            }
        }
        assert_eq!(Drill::Kill.missing(&out, 3).unwrap(), [2, 3]);
        assert_eq!(Drill::Stop.missing(&out, 1).unwrap(), [1]);
    }

    #[test]
    fn every_drill_is_found_by_its_name() {
        for drill in Drill::ALL {
            assert_eq!(drill.to_string().parse::<Drill>().unwrap(), drill);
        }
        assert!("picnic".parse::<Drill>().is_err());
    }
}
