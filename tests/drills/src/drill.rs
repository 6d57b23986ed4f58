//! What is done to the nodes, and a run of it.

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
use crate::service::{Service, Site};

/// What is done to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drill {
    /// A node is killed, and started again.
    Kill,
    /// A node stands still for 10 s.
    Stop,
    /// Two nodes do not reach each other for 10 s.
    Cut,
    /// A node does not reach another one for 10 s, which reaches it.
    OneWay,
    /// Each node drains and is started again, one after the other.
    Restarts,
    /// Two nodes join, and leave again.
    Resize,
    /// A node's clock jumps 2 h ahead, and later 2 min behind.
    Clock,
}

/// How much load there is, how long each part of a run takes, and where the files are.
#[derive(Clone, Debug)]
pub struct Settings {
    pub program: PathBuf,
    pub out: PathBuf,
    pub users: usize,
    pub rate: u64,
    /// How long the load runs before a fault, and after the last one was mended.
    pub calm: Duration,
    /// How long a killed node stays away.
    pub down: Duration,
    /// How long a node is stopped or cut off.
    pub broken: Duration,
}

impl Settings {
    /// 400 users with 200 requests per second.
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

    /// Where the history of a run is.
    pub fn path(self, out: &Path, number: u64) -> PathBuf {
        out.join(self.name()).join(format!("{number:03}.jsonl"))
    }

    /// The runs up to a number that were not completed yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn missing(self, out: &Path, runs: u64) -> std::io::Result<Vec<u64>> {
        let mut missing = Vec::new();
        for number in 1..=runs {
            if History::read(&self.path(out, number))?.is_none() {
                missing.push(number);
            }
        }
        Ok(missing)
    }

    /// Runs it, and leaves its history.
    ///
    /// # Errors
    ///
    /// When the nodes do not do what they are told to. The run is not complete then.
    pub async fn run(self, number: u64, settings: &Settings) -> anyhow::Result<()> {
        let path = self.path(&settings.out, number);
        let Settings { users, rate, calm, .. } = *settings;
        let run = Run { drill: self.name().to_owned(), number, users, rate };
        let recorder = Arc::new(Recorder::new(Journal::begin(&path, run)?));
        let site = Site { program: settings.program.clone(), base: path.with_extension("") };
        let network = self.needs_network().then(|| Network::lay(NODES)).transpose()?;
        let service = Service::start(site, NODES, network).await?;
        let plan = Plan { seed: number, users, rate };
        let load = Load::start(service.balancer(), plan, &recorder).await;
        sleep(calm).await;
        let mut scene = Scene { service, recorder, settings };
        self.play(number as usize % NODES, &mut scene).await?;
        sleep(calm).await;
        let witnesses = load.finish().await?;
        scene.service.settled().await?;
        witnesses.look(&scene.service.running()).await;
        Ok(scene.recorder.complete()?)
    }

    fn needs_network(self) -> bool {
        matches!(self, Self::Cut | Self::OneWay)
    }

    async fn play(self, n: usize, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        let other = (n + 1) % NODES;
        match self {
            Self::Kill => scene.kill(n).await,
            Self::Stop => scene.stop(n).await,
            Self::Cut => scene.cut(&[(n, other), (other, n)]).await,
            Self::OneWay => scene.cut(&[(n, other)]).await,
            Self::Restarts => scene.restart_in_turn().await,
            Self::Resize => scene.resize().await,
            Self::Clock => scene.move_clock(n).await,
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
            None => bail!("there is no drill {name:?}"),
        }
    }
}

/// Nodes under load, and what is written down of them.
struct Scene<'s> {
    service: Service,
    recorder: Arc<Recorder>,
    settings: &'s Settings,
}

impl Scene<'_> {
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
            self.service.network()?.mend(*from, *to)?;
        }
        self.recorder.event(What::Note("mended".to_owned()));
        ensure!(relayed > 0.0, "the cut was not noticed");
        self.service.settled().await
    }

    async fn restart_in_turn(&mut self) -> anyhow::Result<()> {
        for n in 0..NODES {
            self.drain(n).await?;
            self.service.restart(n).await?;
            self.service.balancer().put_in(n);
            self.recorder.event(What::Back(n));
            self.service.settled().await?;
        }
        Ok(())
    }

    /// Sends a node no requests any more, and ends it.
    async fn drain(&mut self, n: usize) -> anyhow::Result<()> {
        self.service.balancer().take_out(n).await;
        self.recorder.event(What::Out(n));
        self.service.terminate(n).await
    }

    async fn resize(&mut self) -> anyhow::Result<()> {
        for n in [NODES, NODES + 1] {
            self.service.grow().await?;
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

/// How many nodes a service has at first.
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
