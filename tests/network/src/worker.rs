//! Runs cases one after another, on a store and a wire of its own.

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

/// A store on the far side of a wire, and one that looks at the server itself.
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

    /// What passes where nothing fails.
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

    /// Runs a case, again if the call takes another connection than the one that is to fail: a store may
    /// give one up at any time. Again also where a call came too soon: before the proxy or the store had a
    /// turn to end an idle connection, on a machine that is busy with other cases.
    pub async fn run(&mut self, case: Case) -> Report {
        for _ in 0..A_FEW {
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
            // The store hears of it as soon as it is its turn.
            sleep(A_MOMENT).await;
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

    /// Checks what the caller was told, and how things go on: what became of the call, and how many
    /// tries the next one took.
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
                // Without an answer, it may be happening just now.
                Err(_) if !told.answer.is_definite() && start.elapsed() < SETTLES_WITHIN => {
                    sleep(A_MOMENT).await;
                }
                verdict => return verdict,
            }
        }
    }

    /// The same once everything that was late has arrived. What a caller knows cannot change any more.
    async fn judge_late(
        &self,
        scene: &Scene,
        told: &Told,
        before: &World,
        effect: Effect,
    ) -> Result<Effect, String> {
        if !told.answer.is_definite() {
            self.wire.settled().await;
            sleep(A_MOMENT).await;
            return self.judge(scene, told, before).await;
        }
        let found = scene.observe(&*self.direct).await;
        let expected = scene.overwrite(&*self.direct, &found).await;
        self.wire.settled().await;
        sleep(A_MOMENT).await;
        let found = scene.observe(&*self.direct).await;
        match found == expected {
            true => Ok(effect),
            false => Err(format!("what came late changed {}", expected.difference(&found))),
        }
    }

    /// Whether a request that comes after the call finds what there is, and how many tries it takes.
    async fn next_call(&self, scene: &Scene, store: &dyn SessionStore) -> Result<u32, String> {
        let (start, mut tries) = (Instant::now(), 0);
        loop {
            tries += 1;
            match scene.next_call(store).await {
                // It may be happening just now.
                Ok(found) if found == self.look(scene).await => return Ok(tries),
                Ok(found) if start.elapsed() > SETTLES_WITHIN => {
                    return Err(format!("the next call finds {found:?}"));
                }
                Ok(_) => {}
                Err(error) if start.elapsed() > RECOVERS_WITHIN => {
                    return Err(format!("the next call fails: {error:?}"));
                }
                Err(_) => sleep(A_MOMENT).await,
            }
        }
    }

    async fn look(&self, scene: &Scene) -> Option<Record> {
        record(&*self.direct, scene.id()).await.expect("the server can be reached")
    }

    /// A store in the situation that the call is to find.
    async fn store(&mut self, situation: Situation, operation: Operation) -> Arc<dyn SessionStore> {
        match situation {
            Situation::Cold => self.fresh().await,
            Situation::Warm | Situation::Idle => self.warm(operation).await,
        }
    }

    /// A store without a connection.
    async fn fresh(&mut self) -> Arc<dyn SessionStore> {
        self.store = None;
        let store = self.deployment.store(self.wire.address(), Space(0)).await;
        // What it opened to look at the server.
        within(self.wire.end_all()).await;
        sleep(A_MOMENT).await;
        store
    }

    /// A store whose calls go over one connection, which has made such calls before.
    async fn warm(&mut self, operation: Operation) -> Arc<dyn SessionStore> {
        for attempt in 1..=TRIES {
            let kept = self.store.take().filter(|_| attempt % A_FEW != 0);
            let store = match kept {
                Some(store) => store,
                None => self.fresh().await,
            };
            self.wire.mark().await;
            let is_answered = Scene::rehearse(&*store, operation).await;
            let is_alone = self.wire.heard().len() == 1;
            self.store = Some(Arc::clone(&store));
            if is_answered && is_alone && self.wire.mark().await == 1 {
                return store;
            }
        }
        panic!("{operation} finds no connection");
    }
}

/// What a caller was told of a case, and how long that took.
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
            false => Err(format!("it took {:?}", self.took)),
        }
    }

    /// Whether the connection may have ended during the call rather than before it.
    fn may_be_too_soon(&self) -> bool {
        let failed = matches!(self.answer, Answer::Failed(_));
        failed && self.case.situation == Situation::Idle
    }

    /// A connection that is known to be dead is in nothing's way.
    fn is_answered_if_idle(&self) -> Result<(), String> {
        match (self.case.situation, &self.answer) {
            (Situation::Idle, Answer::Failed(error)) => {
                Err(format!("a dead connection: {error:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// For what takes no round trip.
const A_MOMENT: Duration = Duration::from_millis(20);

/// For a machine that is busy with other cases.
const MARGIN: Duration = Duration::from_secs(5);

/// How long a server may be at work on what its client has given up.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// How long the next call may be tried for.
const RECOVERS_WITHIN: Duration = Duration::from_secs(5);

/// How often a store is asked to get ready for a case.
const TRIES: u32 = 40;

/// After how many tries another store is taken.
const A_FEW: u32 = 5;
