//! Calls at the owner of their record: one after the other.

use steadfast_core::{
    Admission, Applied, Authentication, Carry, Deleted, Deletion, EndReason, Outcome, Patch,
    Principal, Record, RecordId, Rejection, SessionInfo, StoreError,
};

use super::Engine;
use super::commit::{Change, Then};
use super::entry::Stage;
use super::message::{Failure, Kept, Login, Reply, Request};
use crate::record::{Copy, Delta};

impl Engine {
    /// Goes on with a record, until something is under way or nothing is left to do. A call that is
    /// over at once comes back here: whoever went on with the record first takes the next one, or a
    /// long queue would fill the stack.
    pub(super) fn advance(&mut self, id: RecordId) {
        if self.advancing.insert(id) {
            while self.take_next(id) {}
            self.advancing.remove(&id);
        }
    }

    /// Begins with the next call of a record, and says whether another one may follow.
    fn take_next(&mut self, id: RecordId) -> bool {
        let Some(busy) = self.busy.get_mut(&id).filter(|busy| busy.stage.is_none()) else {
            return false;
        };
        let Some(number) = busy.queue.pop_front() else {
            self.busy.remove(&id);
            return false;
        };
        if !self.calls.contains_key(&number) {
            return true;
        }
        if !self.owns(id) {
            self.reroute(number);
        } else if !self.may_decide() {
            self.wait_for_leave(number);
        } else if self.is_known(id) {
            self.start(number);
        } else {
            self.busy(id).queue.push_front(number);
            self.consult(id);
        }
        true
    }

    /// Whether this node, as the owner, may decide by what it has.
    pub(super) fn is_known(&self, id: RecordId) -> bool {
        let absent = self.busy.get(&id).and_then(|busy| busy.absent);
        let since = self.table.get(&id).map_or(absent.unwrap_or(1), |entry| entry.sure);
        self.is_sure(id, since) || !self.config.keeps(super::Rule::TakeOver)
    }

    fn start(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        match call.request.clone() {
            Request::Create { id, record, admission } => {
                self.create(number, id, *record, admission);
            }
            Request::Load { .. } => self.read(number),
            Request::Update { id, patch } => self.update(number, id, &patch),
            Request::Delete { id, proof, sign_in, reason } => {
                let deletion = Deletion { proof: proof.as_ref(), sign_in, reason };
                self.delete(number, id, &deletion);
            }
            Request::Peek { id, principal } => {
                let reply = Reply::Peeked(self.owned_by(id, &principal));
                self.answer(number, reply);
            }
            Request::End { id, principal, reason } => self.end(number, id, &principal, reason),
            request @ (Request::Admit(_) | Request::List { .. } | Request::DeleteAll { .. }) => {
                self.begin_procedure(number, &request);
            }
        }
    }

    fn create(&mut self, number: u64, id: RecordId, record: Record, admission: Admission) {
        match self.kept(id) {
            Kept::Live(there) if !there.record.is_expired(self.now.wall) => {
                let same = there.record.secret == record.secret;
                let applied = self.applied(id, there);
                let outcome = if same { Outcome::Applied(applied) } else { Outcome::Exists };
                return self.answer(number, Reply::Outcome(outcome));
            }
            Kept::Dead { .. } => return self.answer(number, Reply::Outcome(Outcome::Exists)),
            Kept::Live(_) | Kept::Nothing => {}
        }
        if let Err(limit) = self.config.limits.check_values(&record.values) {
            let outcome = Outcome::Rejected(limit.into());
            return self.answer(number, Reply::Outcome(outcome));
        }
        match record.principal.clone() {
            Some(principal) => {
                let until = record.absolute_deadline;
                self.ask_admission(number, Login { id, principal, until, admission });
            }
            None => self.place(number, id, record, Vec::new()),
        }
    }

    fn place(&mut self, number: u64, id: RecordId, record: Record, ended: Vec<RecordId>) {
        let copy = Copy::new(record, self.stamps.stamp(self.now.wall));
        let then = Then::Apply { call: number, counters: Vec::new(), ended };
        self.commit(id, Change::Whole(copy), false, then);
    }

    fn update(&mut self, number: u64, id: RecordId, patch: &Patch) {
        let Some(copy) = self.live(id) else {
            return self.answer(number, Reply::Outcome(Outcome::Gone));
        };
        if let Err(refusal) = copy.record.apply(patch, self.now.wall, &self.config.limits) {
            return self.answer(number, Reply::refused(refusal));
        }
        match login_of(id, patch, &copy.record) {
            Some(login) => self.ask_admission(number, login),
            None => self.patch(number, id, patch, Vec::new()),
        }
    }

    fn patch(&mut self, number: u64, id: RecordId, patch: &Patch, ended: Vec<RecordId>) {
        let Some(copy) = self.live(id).cloned() else {
            return self.answer(number, Reply::Outcome(Outcome::Gone));
        };
        let patched = match copy.record.apply(patch, self.now.wall, &self.config.limits) {
            Ok(patched) => patched,
            Err(refusal) => return self.answer(number, Reply::refused(refusal)),
        };
        let mut record = patched.record;
        if record == *copy.record {
            let applied = self.applied(id, &copy);
            return self.answer(number, Reply::Outcome(Outcome::Applied(applied)));
        }
        // A touch is a change like others, so that no crash shortens a life, but for its version.
        if record.version != copy.record.version
            && let Some(entry) = self.table.get(&id)
        {
            record.version = entry.next_version(record.version);
        }
        let stamp = self.stamps.stamp(self.now.wall);
        let delta = Delta::of(patch, &copy.record, &record, stamp);
        let everywhere = patch.rotation().is_some() && delta.replaces_secret_of(&copy.record);
        let then = Then::Apply { call: number, counters: patched.counters, ended };
        self.commit(id, Change::Part(copy.changed(&delta), delta), everywhere, then);
    }

    fn delete(&mut self, number: u64, id: RecordId, deletion: &Deletion<'_>) {
        let now = self.now.wall;
        let Some(copy) = self.live(id).filter(|copy| !copy.record.is_expired(now)) else {
            return self.confirm_end(number, id, deletion.reason);
        };
        match copy.record.delete(deletion, now) {
            Ok(Deleted::Ended) => {
                self.bury(id, deletion.reason, Then::End { call: number, was_live: true });
            }
            Ok(deleted) => self.answer(number, Reply::Ended(deleted)),
            Err(StoreError::UnknownKey(key)) => {
                self.answer(number, Reply::Failed(Failure::UnknownKey(key)));
            }
            Err(_) => self.answer(number, Reply::Failed(Failure::Moving)),
        }
    }

    fn end(&mut self, number: u64, id: RecordId, principal: &Principal, reason: EndReason) {
        match self.owned_by(id, principal) {
            Some(_) => self.bury(id, reason, Then::End { call: number, was_live: true }),
            None => self.confirm_end(number, id, reason),
        }
    }

    /// A record that is dead here may still be readable elsewhere: then its end goes on. One that
    /// expired here may not have by another clock.
    fn confirm_end(&mut self, number: u64, id: RecordId, reason: EndReason) {
        let is_over = match self.kept(id) {
            Kept::Dead { .. } => self.is_dead_everywhere(id),
            Kept::Live(copy) => !copy.record.is_expired(self.now.wall),
            Kept::Nothing => true,
        };
        if is_over {
            return self.answer(number, Reply::Ended(Deleted::Gone));
        }
        let reason = if self.live(id).is_some() { EndReason::Expired } else { reason };
        self.bury(id, reason, Then::End { call: number, was_live: false });
    }

    fn bury(&mut self, id: RecordId, reason: EndReason, then: Then) {
        let absolute = self.live(id).map_or(self.now.wall, |copy| copy.record.absolute_deadline);
        let change = match self.kept(id) {
            Kept::Dead { stamp, until, reason } => {
                Change::End { stamp: *stamp, until: *until, reason: *reason }
            }
            _ => {
                let stamp = self.stamps.stamp(self.now.wall);
                Change::End { stamp, until: self.tombstone_until(absolute), reason }
            }
        };
        self.commit(id, change, true, then);
    }

    /// Whoever waits to write to a record whose end is under way need not wait for it.
    pub(super) fn answer_to_dead(&mut self, id: RecordId) {
        let Some(busy) = self.busy.get_mut(&id) else {
            return;
        };
        if !matches!(&busy.stage, Some(Stage::Commit(commit)) if commit.is_end()) {
            return;
        }
        let calls = &self.calls;
        let is_write = |number: &u64| {
            calls.get(number).is_some_and(|call| matches!(call.request, Request::Update { .. }))
        };
        let writes: Vec<_> = busy.queue.iter().copied().filter(is_write).collect();
        busy.queue.retain(|number| !writes.contains(number));
        for number in writes {
            self.answer(number, Reply::Outcome(Outcome::Gone));
        }
    }

    fn owned_by(&self, id: RecordId, principal: &Principal) -> Option<SessionInfo> {
        let record = &self.live(id)?.record;
        let is_owned = record.principal.as_ref() == Some(principal);
        (is_owned && !record.is_expired(self.now.wall)).then(|| SessionInfo::of(id, record))
    }

    /// Has the session listed before it becomes the principal's, so that the list is never behind.
    fn ask_admission(&mut self, number: u64, login: Login) {
        let id = login.id;
        let attempt = self.number();
        self.busy(id).stage = Some(Stage::Admit { call: number, attempt });
        self.call_step(id, attempt, Request::Admit(Box::new(login)));
    }

    /// Whether a list ends or looks at a session that waits to be listed: it is not the principal's
    /// yet, so the list goes first, and the session asks anew.
    pub(super) fn overtake(&mut self, id: RecordId) {
        let Some(busy) = self.busy.get_mut(&id) else {
            return;
        };
        let (Some(Stage::Admit { call, .. }), Some(first)) = (&busy.stage, busy.queue.front())
        else {
            return;
        };
        let call = *call;
        if self.calls.get(first).is_some_and(|first| first.request.is_from_list()) {
            busy.stage = None;
            busy.queue.insert(1, call);
        }
    }

    /// The answer to a step of what is under way with a record.
    pub(super) fn step_done(&mut self, id: RecordId, number: u64, reply: Reply) {
        match self.busy.get(&id).and_then(|busy| busy.stage.as_ref()) {
            Some(Stage::Admit { call, attempt }) if number == *attempt => {
                let call = *call;
                self.busy(id).stage = None;
                self.admitted(call, id, reply);
                self.advance(id);
            }
            Some(Stage::Index(_)) => self.procedure_step(id, number, reply),
            _ => {}
        }
    }

    fn admitted(&mut self, number: u64, id: RecordId, reply: Reply) {
        let ended = match reply {
            Reply::Admitted(ended) => ended,
            Reply::BelowFloor => {
                let outcome = Outcome::Rejected(Rejection::BelowFloor);
                return self.answer(number, Reply::Outcome(outcome));
            }
            Reply::Failed(failure) => return self.answer(number, Reply::Failed(failure)),
            _ => return self.answer(number, Reply::Failed(Failure::Moving)),
        };
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        match call.request.clone() {
            Request::Create { record, .. } => self.place(number, id, *record, ended),
            Request::Update { patch, .. } => self.patch(number, id, &patch, ended),
            _ => {}
        }
    }

    /// What is under way with a record that has another owner now.
    pub(super) fn step_down(&mut self, id: RecordId) {
        let Some(busy) = self.busy.remove(&id) else {
            return;
        };
        match busy.stage {
            Some(Stage::Commit(commit)) => self.abandon(id, *commit),
            Some(Stage::Admit { call, .. }) => self.route(call),
            Some(Stage::Index(procedure)) => self.route(procedure.call),
            Some(Stage::Consult(_)) | None => {}
        }
        for number in busy.queue {
            self.reroute(number);
        }
    }

    /// The answer of a call that was applied, at a copy.
    pub(super) fn applied(&self, id: RecordId, copy: &Copy) -> Applied {
        let version = copy.record.version;
        Applied { carry: self.carry(id, copy), ..Applied::at(version) }
    }

    pub(super) fn carry(&self, id: RecordId, copy: &Copy) -> Carry {
        let mut routes = self.view.placement.holders(id);
        routes.truncate(2);
        Carry { routes, version: Some(copy.record.version) }
    }
}

/// The login in a patch, unless the record has its secret already: then it was sent twice.
fn login_of(id: RecordId, patch: &Patch, record: &Record) -> Option<Login> {
    let rotation = patch.rotation().filter(|rotation| rotation.hash != record.secret)?;
    let Authentication { absolute_deadline, principal, admission, .. } =
        rotation.authentication.as_ref()?;
    Some(Login {
        id,
        principal: principal.clone()?,
        until: *absolute_deadline,
        admission: *admission,
    })
}
