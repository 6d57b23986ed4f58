//! Counts, logs and reports what a layer did to sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use steadfast_core::{Applied, EndReason, Event, Facts, Principal, RecordId, Version};
use tracing::Instrument;

use crate::events::{Actor, SessionEvent, SessionEventKind};
use crate::layer_state::LayerState;
use crate::store_client::Purpose;

impl LayerState {
    pub(crate) fn created(&self, session: RecordId, user: Option<&Principal>) {
        Event::Created.emit(Some(session));
        self.tell(user, || {
            let kind = SessionEventKind::Created { session };
            (format!("{session}.created"), kind)
        });
    }

    /// Reports that another user signed in to a session.
    pub(crate) fn superseded(&self, session: RecordId, user: &Principal, version: Version) {
        self.tell(Some(user), || {
            let by = Actor::Session(session);
            let kind = SessionEventKind::Ended { session, reason: EndReason::Superseded, by };
            (format!("{session}.{}.ended", version.0), kind)
        });
    }

    pub(crate) fn rotated(&self, session: RecordId, user: Option<&Principal>, version: Version) {
        self.tell(user, || {
            let kind = SessionEventKind::Rotated { session };
            (format!("{session}.{}.rotated", version.0), kind)
        });
    }

    /// Reports a sign-in, as soon as it is known which labels are new, and the sessions that the cap ended.
    pub(crate) fn signed_in(
        self: &Arc<Self>,
        session: RecordId,
        user: &Principal,
        facts: &Facts,
        applied: &Applied,
    ) {
        for ended in &applied.ended {
            Event::Capacity.emit(Some(*ended));
        }
        if self.listener.is_none() {
            return;
        }
        self.over_the_cap(user, &applied.ended);
        let version = applied.version.0;
        let signed_in = move |new_labels| {
            let kind = SessionEventKind::SignedIn { session, new_labels };
            (format!("{session}.{version}.signed_in"), kind)
        };
        let labels: BTreeSet<_> = facts.labels().map(owned).collect();
        if labels.is_empty() {
            return self.tell(Some(user), || signed_in(Some(Vec::new())));
        }
        let (layer, user) = (Arc::clone(self), user.clone());
        let told = async move {
            let new = layer.new_labels(session, &user, labels).await;
            layer.tell(Some(&user), || signed_in(new));
        };
        self.tasks.spawn(told.in_current_span());
    }

    pub(crate) fn ended(
        &self,
        session: RecordId,
        user: Option<&Principal>,
        reason: EndReason,
        by: &Actor,
    ) {
        Event::Logout.emit(Some(session));
        self.tell_ended(session, user, reason, by);
    }

    /// Reports what a sign-in ended at the cap, unless the store keeps such endings to be reported at least
    /// once.
    fn over_the_cap(&self, user: &Principal, ended: &[RecordId]) {
        if !ended.is_empty() && self.client.store.endings().is_none() {
            for session in ended {
                self.tell_ended(*session, Some(user), EndReason::Cap, &Actor::System);
            }
        }
    }

    fn tell_ended(
        &self,
        session: RecordId,
        user: Option<&Principal>,
        reason: EndReason,
        by: &Actor,
    ) {
        self.tell(user, || {
            let kind = SessionEventKind::Ended { session, reason, by: by.clone() };
            (format!("{session}.ended"), kind)
        });
    }

    pub(crate) fn all_ended(
        &self,
        user: &Principal,
        count: u64,
        except: Option<RecordId>,
        reason: EndReason,
        by: &Actor,
    ) {
        let Ok(once) = RecordId::random(self.client.store.env()) else { return };
        self.tell(Some(user), || {
            let kind = SessionEventKind::AllEnded { count, except, reason, by: by.clone() };
            (format!("{once}.all_ended"), kind)
        });
    }

    fn tell(&self, user: Option<&Principal>, event: impl FnOnce() -> (String, SessionEventKind)) {
        if let Some(listener) = &self.listener {
            let (id, kind) = event();
            let at = self.client.store.env().now().into();
            let realm = Some(self.realm.clone());
            listener.tell(&SessionEvent { id, at, realm, user: user.cloned(), kind });
        }
    }

    async fn new_labels(
        &self,
        session: RecordId,
        user: &Principal,
        mut labels: BTreeSet<(String, String)>,
    ) -> Option<Vec<(String, String)>> {
        let listed = self.client.list(user, Purpose::Use).await.ok()?;
        for other in self.bounded(listed).iter().filter(|info| info.id != session) {
            for label in other.facts.labels() {
                labels.remove(&owned(label));
            }
        }
        Some(labels.into_iter().collect())
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
