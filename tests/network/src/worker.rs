//! Runs cases sequentially, with a store and a proxy of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use steadfast_core::{Record, SessionStore};
use testkit::faults::{Fault, FaultProxy, Heard};
use testkit::within;
use tokio::time::sleep;

use crate::case::{Case, Situation};
use crate::deployment::{Deployment, Space};
use crate::report::Report;
use crate::scene::{Answer, Operation, Scene, World, record};
use crate::verdict::Effect;

/// A store behind a proxy, and one that is connected to the server directly.
pub struct Worker {
    deployment: Arc<Deployment>,
    direct: Arc<dyn SessionStore>,
    wire: FaultProxy,
    store: Option<Arc<dyn SessionStore>>,
}

impl Worker {
    pub async fn start(deployment: &Arc<Deployment>, direct: &Arc<dyn SessionStore>) -> Self {
        let wire = FaultProxy::start(&deployment.address()).await;
        let (deployment, direct) = (Arc::clone(deployment), Arc::clone(direct));
        Self { deployment, direct, wire, store: None }
    }

    /// Records the conversation of a call that does not fail.
    pub async fn listen(&mut self, situation: Situation, operation: Operation) -> Heard {
        let scene = Scene::prepare(&*self.direct, operation).await;
        let store = self.store(situation, operation).await;
        let answer = scene.call(&*store).await;
        assert!(answer.is_definite(), "{operation}: {answer:?}");
        scene.clear(&*self.direct).await;
        let mut heard = self.wire.heard();
        assert_eq!(heard.len(), 1, "a call takes one connection");
        heard.remove(0)
    }

    /// Runs a case. Repeats it if the call used another connection than the one that should fail,
    /// because a store may close a connection at any time. Also repeats it if the call was too
    /// early: on a busy machine, the proxy or the store may not have closed the idle connection
    /// yet.
    pub async fn run(&mut self, case: Case) -> Report {
        for _ in 0..TRIES_PER_STORE {
            let report = self.attempt(case).await;
            if (report.was_reached || report.verdict.is_err()) && !report.was_too_soon {
                return report;
            }
        }
        self.attempt(case).await
    }

    async fn attempt(&mut self, case: Case) -> Report {
        let Case { situation, operation, failure, conversation, direction, after, .. } = case;
        let scene = Scene::prepare(&*self.direct, operation).await;
        let before = scene.before();
        let store = self.store(situation, operation).await;
        let action = failure.action(operation);
        self.wire.arm(Fault { conversation, direction, after, action });
        if situation == Situation::Idle {
            // The store notices as soon as its task runs.
            sleep(SHORT_PAUSE).await;
        }
        let start = Instant::now();
        let answer = scene.call(&*store).await;
        let took = start.elapsed();
        let was_reached = self.wire.lift();
        let told = Told { case, answer, took };
        let checked = self.check(&scene, &*store, &told, &before).await;
        scene.clear(&*self.direct).await;

        if checked.is_err() {
            self.store = None;
        }
        let was_retried = checked.as_ref().is_ok_and(|(_, tries)| *tries > 1);
        let verdict = checked.map(|(effect, _)| effect);
        let failed = !told.answer.is_definite();
        let was_too_soon = told.may_be_too_soon();
        Report { case, verdict, was_reached, failed, took, was_retried, was_too_soon }
    }

    /// Checks the caller's answer and the next call. Returns the effect of the call, and the number
    /// of attempts of the next one.
    async fn check(
        &self,
        scene: &Scene,
        store: &dyn SessionStore,
        told: &Told,
        before: &World,
    ) -> Result<(Effect, u32), String> {
        let mut effect = self.judge(scene, told, before).await?;
        told.is_in_time()?;
        told.is_answered_if_idle()?;
        let tries = self.next_call(scene, store).await?;
        if told.case.failure.is_late() {
            effect = self.judge_late(scene, told, before, effect).await?;
        }
        Ok((effect, tries))
    }

    async fn judge(&self, scene: &Scene, told: &Told, before: &World) -> Result<Effect, String> {
        let start = Instant::now();
        loop {
            let found = scene.observe(&*self.direct).await;
            match scene.judge(&told.answer, before, &found) {
                // A call without an answer may be in progress at the moment.
                Err(_) if !told.answer.is_definite() && start.elapsed() < SETTLES_WITHIN => {
                    sleep(SHORT_PAUSE).await;
                }
                verdict => return verdict,
            }
        }
    }

    /// Repeats the check after all late bytes have arrived. An outcome that a caller knows cannot
    /// change any more.
    async fn judge_late(
        &self,
        scene: &Scene,
        told: &Told,
        before: &World,
        effect: Effect,
    ) -> Result<Effect, String> {
        if !told.answer.is_definite() {
            self.wire.settled().await;
            sleep(SHORT_PAUSE).await;
            return self.judge(scene, told, before).await;
        }
        let found = scene.observe(&*self.direct).await;
        let expected = scene.overwrite(&*self.direct, &found).await;
        self.wire.settled().await;
        sleep(SHORT_PAUSE).await;
        let found = scene.observe(&*self.direct).await;
        match found == expected {
            true => Ok(effect),
            false => Err(format!("late bytes changed {}", expected.difference(&found))),
        }
    }

    /// Checks that a later call finds the records as they are. Returns the number of its attempts.
    async fn next_call(&self, scene: &Scene, store: &dyn SessionStore) -> Result<u32, String> {
        let (start, mut tries) = (Instant::now(), 0);
        loop {
            tries += 1;
            match scene.next_call(store).await {
                // The first call may be in progress at the moment.
                Ok(found) if found == self.observe(scene).await => return Ok(tries),
                Ok(found) if start.elapsed() > SETTLES_WITHIN => {
                    return Err(format!("the next call found {found:?}"));
                }
                Ok(_) => {}
                Err(error) if start.elapsed() > RECOVERS_WITHIN => {
                    return Err(format!("the next call failed: {error:?}"));
                }
                Err(_) => sleep(SHORT_PAUSE).await,
            }
        }
    }

    async fn observe(&self, scene: &Scene) -> Option<Record> {
        record(&*self.direct, scene.id()).await.expect("the server can be reached")
    }

    /// Returns a store in the situation of the case.
    async fn store(&mut self, situation: Situation, operation: Operation) -> Arc<dyn SessionStore> {
        match situation {
            Situation::Cold => self.fresh().await,
            Situation::Warm | Situation::Idle => self.warm(operation).await,
        }
    }

    /// Returns a store without a connection.
    async fn fresh(&mut self) -> Arc<dyn SessionStore> {
        self.store = None;
        let store = self.deployment.store(self.wire.address(), Space(0)).await;
        // Closes the connections that the store opened to check the server.
        within(self.wire.end_all()).await;
        sleep(SHORT_PAUSE).await;
        store
    }

    /// Returns a store with one connection that has made such calls before.
    async fn warm(&mut self, operation: Operation) -> Arc<dyn SessionStore> {
        for attempt in 1..=TRIES {
            let kept = self.store.take().filter(|_| attempt % TRIES_PER_STORE != 0);
            let store = match kept {
                Some(store) => store,
                None => self.fresh().await,
            };
            self.wire.mark().await;
            let is_answered = Scene::warm_up(&*store, operation).await;
            let is_alone = self.wire.heard().len() == 1;
            self.store = Some(Arc::clone(&store));
            if is_answered && is_alone && self.wire.mark().await == 1 {
                return store;
            }
        }
        panic!("failed to prepare a connection for {operation}");
    }
}

/// The caller's answer in a case, and its duration.
struct Told {
    case: Case,
    answer: Answer,
    took: Duration,
}

impl Told {
    fn is_in_time(&self) -> Result<(), String> {
        let within = self.case.operation.deadline() + MARGIN;
        match self.took <= within {
            true => Ok(()),
            false => Err(format!("the answer took {:?}", self.took)),
        }
    }

    /// Returns true if the connection may have ended during the call instead of before it.
    fn may_be_too_soon(&self) -> bool {
        let failed = matches!(self.answer, Answer::Failed(_));
        failed && self.case.situation == Situation::Idle
    }

    /// Checks that a connection known to be closed does not fail the call.
    fn is_answered_if_idle(&self) -> Result<(), String> {
        match (self.case.situation, &self.answer) {
            (Situation::Idle, Answer::Failed(error)) => {
                Err(format!("a closed idle connection failed the call: {error:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// A margin for steps without a round trip.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// A margin for a machine that is busy with other cases.
const MARGIN: Duration = Duration::from_secs(5);

/// The time that a server may spend on a call that its client abandoned.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// The time within which the next call has to succeed.
const RECOVERS_WITHIN: Duration = Duration::from_secs(5);

/// The number of attempts to prepare a store for a case.
const TRIES: u32 = 40;

/// The number of attempts after which another store is used.
const TRIES_PER_STORE: u32 = 5;
