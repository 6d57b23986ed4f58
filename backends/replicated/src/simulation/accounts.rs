//! Principals whose sessions are listed, capped and ended all at once.

use std::time::Duration;

use steadfast_core::{
    Admission, EndReason, KeyId, Lookup, Outcome, Principal, Realm, Record, RecordId, Rejection,
    SecretHash,
};

use super::calls::Calls;
use super::world::{Answer, Random, World};
use super::{Ran, Setup};
use crate::engine::{Reply, Request};

pub(super) struct Accounts {
    random: Random,
    nodes: u64,
    accounts: Vec<Account>,
    calls: Calls<Call>,
    ran: Ran,
}

struct Account {
    principal: Principal,
    cap: usize,
    sessions: Vec<Session>,
    /// Epochs below this one that were asked for, and those that were confirmed, are refused.
    floor_asked: u64,
    floor: u64,
    /// Revocations under way, and until when one that failed may go on.
    revoking: usize,
    revoking_until: Duration,
}

struct Session {
    id: RecordId,
    state: State,
    /// Whether something may have ended it that was not confirmed.
    is_at_risk: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Creating,
    Live,
    Ended,
    Unknown,
}

struct Call {
    account: usize,
    kind: Kind,
}

enum Kind {
    Login { session: usize, epoch: u64, floor: u64 },
    EndAll { sessions: Vec<usize>, epoch: u64 },
    List { live: Vec<usize>, ended: Vec<RecordId> },
    Load { session: usize, state: State },
}

impl Accounts {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let account = |n: usize| Account {
            principal: Principal::new(Realm::new("sim").unwrap(), &format!("p{n}")).unwrap(),
            cap: [1_000, 3][n % 2],
            sessions: Vec::new(),
            floor_asked: 0,
            floor: 0,
            revoking: 0,
            revoking_until: Duration::ZERO,
        };
        Self {
            random: Random(seed ^ 0xacc0),
            nodes: (setup.nodes + setup.spares) as u64,
            accounts: (0..4).map(account).collect(),
            calls: Calls::default(),
            ran: Ran::default(),
        }
    }

    pub(super) fn ran(&self) -> Ran {
        Ran { calls: self.calls.made, ..self.ran }
    }

    pub(super) fn next(&mut self, world: &mut World) {
        if !self.random.one_in(20) {
            return;
        }
        let at = self.random.below(self.accounts.len() as u64) as usize;
        match self.random.below(20) {
            0..=7 => self.log_in(world, at),
            8 => self.end_all(world, at),
            9..=13 => self.list(world, at),
            _ => self.load(world, at),
        }
    }

    /// Takes an answer, if it is to a call of this kind.
    pub(super) fn hear(&mut self, world: &World, answer: &Answer) -> Result<(), String> {
        let Some(call) = self.calls.answered(answer.id) else {
            return Ok(());
        };
        let told = format!("{:?}", answer.reply);
        let principal = self.accounts[call.account].principal.id().to_owned();
        self.take(world, call, &answer.reply).map_err(|why| {
            format!("{why}: at {:?}, {:?} of {principal}: {told}", world.time, answer.id)
        })
    }

    pub(super) fn check(&mut self, world: &World) -> Result<(), String> {
        for call in self.calls.lost(world) {
            self.unknown(world, &call);
        }
        self.calls.keep_deadlines(world)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.calls.is_empty()
    }

    /// Lists and loads everything, once all is well again.
    pub(super) fn look_at_everything(&mut self, world: &mut World) {
        for at in 0..self.accounts.len() {
            self.list(world, at);
            for session in 0..self.accounts[at].sessions.len() {
                self.load_on(world, at, session);
            }
        }
    }

    fn log_in(&mut self, world: &mut World, at: usize) {
        let bytes =
            (u128::from(self.random.next()) << 64 | u128::from(self.random.next())).to_be_bytes();
        let id = super::session_id(bytes);
        let now = world.now(usize::MAX).wall;
        let is_capped = self.accounts[at].cap < 1_000;
        let account = &mut self.accounts[at];
        // Now and then a login was decided before the last revocation.
        let epoch = account.floor_asked.saturating_sub(u64::from(self.random.one_in(4)));
        let is_at_risk = is_capped || account.revoking > 0 || account.revoking_until > world.time;
        account.sessions.push(Session { id, state: State::Creating, is_at_risk });
        let hash = SecretHash::from_parts(KeyId::NONE, [9; 32]);
        let record = Record {
            principal: Some(account.principal.clone()),
            authenticated: Some(now),
            ..Record::new(hash, now, now + 50 * HOUR, now + 100 * HOUR)
        };
        let admission = Admission { cap: account.cap, epoch: Some(epoch) };
        let request = Request::Create { id, record: record.into(), admission };
        let kind = Kind::Login { session: account.sessions.len() - 1, epoch, floor: account.floor };
        self.put(world, at, kind, request);
    }

    fn end_all(&mut self, world: &mut World, at: usize) {
        let account = &mut self.accounts[at];
        account.floor_asked += 1;
        account.revoking += 1;
        for session in &mut account.sessions {
            session.is_at_risk = true;
        }
        let epoch = account.floor_asked;
        let sessions = account.all(State::Live);
        let principal = account.principal.clone();
        let request = Request::DeleteAll {
            principal,
            except: None,
            epoch: Some(epoch),
            reason: EndReason::Logout,
        };
        self.put(world, at, Kind::EndAll { sessions, epoch }, request);
    }

    fn list(&mut self, world: &mut World, at: usize) {
        let account = &self.accounts[at];
        let live = account.all(State::Live);
        let live = live.into_iter().filter(|n| !account.sessions[*n].is_at_risk).collect();
        let ended = account.all(State::Ended);
        let ended = ended.into_iter().map(|n| account.sessions[n].id).collect();
        let request = Request::List { principal: account.principal.clone() };
        self.put(world, at, Kind::List { live, ended }, request);
    }

    fn load(&mut self, world: &mut World, at: usize) {
        let count = self.accounts[at].sessions.len() as u64;
        if count > 0 {
            let session = self.random.below(count) as usize;
            self.load_on(world, at, session);
        }
    }

    fn load_on(&mut self, world: &mut World, at: usize, session: usize) {
        let Session { id, state, .. } = self.accounts[at].sessions[session];
        let request = Request::Load { id, proof: None, seen: None };
        self.put(world, at, Kind::Load { session, state }, request);
    }

    fn put(&mut self, world: &mut World, account: usize, kind: Kind, request: Request) {
        let node = self.random.below(self.nodes) as usize;
        let within = Duration::from_secs(3);
        let never = self.calls.put(world, node, Call { account, kind }, request, within);
        match never.map(|call| call.kind) {
            Some(Kind::Login { session, .. }) => {
                self.accounts[account].sessions[session].state = State::Unknown;
            }
            Some(Kind::EndAll { .. }) => self.accounts[account].revoking -= 1,
            _ => {}
        }
    }

    fn unknown(&mut self, world: &World, call: &Call) {
        self.ran.failed += 1;
        let account = &mut self.accounts[call.account];
        match call.kind {
            Kind::Login { session, .. } => account.sessions[session].state = State::Unknown,
            Kind::EndAll { .. } => {
                account.revoking -= 1;
                account.revoking_until = world.time + Duration::from_secs(6);
            }
            Kind::List { .. } | Kind::Load { .. } => {}
        }
    }

    fn take(&mut self, world: &World, call: Call, reply: &Reply) -> Result<(), String> {
        if let Reply::Failed(_) | Reply::Refused = reply {
            self.unknown(world, &call);
            return Ok(());
        }
        let account = &mut self.accounts[call.account];
        match (call.kind, reply) {
            (Kind::Login { session, epoch, floor }, Reply::Outcome(outcome)) => {
                account.logged_in(session, epoch, floor, outcome)
            }
            (Kind::EndAll { sessions, epoch }, Reply::Count(_)) => {
                account.revoking -= 1;
                account.floor = account.floor.max(epoch);
                for session in sessions {
                    account.sessions[session].state = State::Ended;
                }
                Ok(())
            }
            (Kind::List { live, ended }, Reply::Listed(listed)) => {
                let listed: Vec<_> = listed.iter().map(|info| info.id).collect();
                account.listed(&live, &ended, &listed)
            }
            (Kind::Load { session, state }, Reply::Lookup(lookup)) => {
                self.ran.reads += 1;
                account.loaded(session, state, matches!(lookup, Lookup::Found(_)))
            }
            _ => Err("that is no answer to the call".to_owned()),
        }
    }
}

impl Account {
    fn all(&self, state: State) -> Vec<usize> {
        (0..self.sessions.len()).filter(|n| self.sessions[*n].state == state).collect()
    }

    fn logged_in(
        &mut self,
        session: usize,
        epoch: u64,
        floor: u64,
        outcome: &Outcome,
    ) -> Result<(), String> {
        match outcome {
            Outcome::Applied(_) if epoch < floor => {
                Err("invariant 5: a login decided before the revocation opens a session".to_owned())
            }
            Outcome::Applied(applied) => {
                self.sessions[session].state = State::Live;
                for ended in self.sessions.iter_mut().filter(|s| applied.ended.contains(&s.id)) {
                    ended.state = State::Ended;
                }
                Ok(())
            }
            Outcome::Rejected(Rejection::BelowFloor) if epoch < self.floor_asked => {
                self.sessions[session].state = State::Unknown;
                Ok(())
            }
            Outcome::Rejected(Rejection::Draining) => {
                self.sessions[session].state = State::Unknown;
                Ok(())
            }
            // It was asked for again when it was done already, and ended by then.
            Outcome::Exists if self.sessions[session].is_at_risk => {
                self.sessions[session].state = State::Ended;
                Ok(())
            }
            _ => Err("a login has no such outcome".to_owned()),
        }
    }

    fn listed(
        &self,
        live: &[usize],
        ended: &[RecordId],
        listed: &[RecordId],
    ) -> Result<(), String> {
        let is_sure = |n: &&usize| {
            let session = &self.sessions[**n];
            session.state == State::Live && !session.is_at_risk
        };
        if let Some(missing) =
            live.iter().filter(is_sure).find(|n| !listed.contains(&self.sessions[**n].id))
        {
            let id = self.sessions[*missing].id;
            return Err(format!("the list of sessions is behind: it lacks {id}"));
        }
        if listed.iter().any(|id| ended.contains(id)) {
            return Err("invariant 5: a session is listed after its end".to_owned());
        }
        Ok(())
    }

    /// `was` is what it was when the read began.
    fn loaded(&self, session: usize, was: State, is_found: bool) -> Result<(), String> {
        let Session { state, is_at_risk, .. } = self.sessions[session];
        if was == State::Ended && is_found {
            return Err("invariant 5: a session lives on after all of them were ended".to_owned());
        }
        if was == State::Live && state == State::Live && !is_at_risk && !is_found {
            return Err("invariant 2: a principal's session is lost".to_owned());
        }
        Ok(())
    }
}

impl Accounts {
    /// Of no principal more sessions live anywhere than it may have.
    pub(super) fn keep_caps(&self, world: &World) -> Result<(), String> {
        for account in &self.accounts {
            let live = account.sessions.iter().filter(|session| world.is_live(session.id)).count();
            if live > account.cap {
                return Err(format!("{} has {live} sessions", account.principal.id()));
            }
        }
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
