//! Operation: owners, collection, scans and the change feed.

use std::sync::Arc;
use std::time::Duration;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, MINUTE, SECOND, UnderWay, answers, principal, put,
};
use crate::error::StoreError;
use crate::operate::{Operate, Scan, Store};
use crate::outcome::{Deletion, EndReason, Outcome, Revocation};
use crate::patch::{LoginPolicy, Patch};
use crate::route::RouteLabel;
use crate::store::{Change, ChangeStream};
use crate::token::RecordId;
use crate::version::Version;

/// A takeover requires the current fence and increments it. One that requires an earlier fence gets
/// `Conflict`.
pub async fn an_owner_changes_only_under_the_expected_fence(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    if service.moves_records() {
        return;
    }
    let visitor = service.visitor(&[]).await;
    service.apply(visitor.id, &take_over("n1", 0)).await;
    service.apply(visitor.id, &take_over("n2", 1)).await;
    let mut write = put(&[("n", "1")]);
    write.fence(1);
    for late in [take_over("n3", 1), write.clone()] {
        let outcome = service.update(visitor.id, &late).await;
        answers!(outcome, Outcome::Conflict, "a write under an earlier fence is a conflict");
    }
    write.fence(2);
    service.apply(visitor.id, &write).await;
    let record = service.authoritative(visitor.id).await.expect("a live record");
    let owner = record.owner.expect("the record has an owner");
    assert_eq!((owner.label, owner.fence), (label("n2"), 2), "the last takeover counts");
}

/// Exactly one of several concurrent takeovers that require the same fence is `Applied`.
pub async fn of_takeovers_at_once_one_is_applied(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    if service.moves_records() {
        return;
    }
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[]).await;
        let calls = (0..4).map(|n| {
            let service = Arc::clone(&service);
            let patch = take_over(&format!("n{n}"), 0);
            async move { service.update(visitor.id, &patch).await }
        });
        let outcomes = UnderWay::start(polls, calls).await.finish().await;
        let applied = |(_, outcome): &&(bool, Outcome)| matches!(outcome, Outcome::Applied(_));
        assert_eq!(outcomes.iter().filter(applied).count(), 1, "a fence lets one pass");
        let record = service.authoritative(visitor.id).await.expect("a live record");
        assert_eq!(record.fence(), 1, "the fence was raised once");
    }
}

/// A healthy store is ready, and collecting keeps live records.
pub async fn collecting_leaves_live_records_alone(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let expired = service.visitor(&[]).await;
    service.advance(20 * MINUTE);
    let live = service.visitor(&[("n", "1")]).await;
    service.advance(10 * MINUTE);
    for node in service.nodes() {
        assert!(becomes_ready(node.as_ref()).await, "a healthy store is ready");
        node.collect().await.expect("a healthy store collects");
    }
    assert!(service.opens(live.id, &live.proof()).await, "a live record is not collected");
    assert!(service.is_absent(expired.id).await, "an expired record stays gone");
}

/// A scan shows each record once, in pages in the order of ids, or is `Unsupported`.
pub async fn a_scan_shows_every_record_once(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(service.visitor(&[("n", "1")]).await.id);
    }
    ids.sort();
    let mut seen = Vec::new();
    for node in service.nodes() {
        match node.scan(None, 1).await {
            Err(StoreError::Unsupported(_)) => return,
            first => drop(first.expect("a healthy store scans")),
        }
        seen.extend(pages(node).await);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ids, "a scan shows every record that is kept");
}

/// Statistics count the stored records, or are `Unsupported`.
pub async fn statistics_count_what_is_kept(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for _ in 0..3 {
        service.visitor(&[("n", "1")]).await;
    }
    let mut most = 0;
    for node in service.nodes() {
        match node.stats().await {
            Err(StoreError::Unsupported(_)) => return,
            stats => most += stats.expect("a healthy store counts").records,
        }
    }
    assert!(most >= 3, "every record is counted by a node that keeps it: {most}");
}

/// A change feed reports patches, with their versions, and ends to every node.
pub async fn changes_tell_of_patches_and_ends(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let mut streams: Vec<_> = service.nodes().iter().filter_map(|node| node.changes()).collect();
    let visitor = service.visitor(&[]).await;
    let version = service.apply(visitor.id, &put(&[("n", "1")])).await.version;
    for stream in &mut streams {
        let told = |change| is_patch(change, visitor.id, version);
        assert!(tells(stream, told).await, "a change stream tells of a patch");
    }
    service.delete(visitor.id, None).await;
    for stream in &mut streams {
        let told = |change| change == Change::Ended(visitor.id, EndReason::Logout);
        assert!(tells(stream, told).await, "a change stream tells of an end");
    }
}

/// A change feed reports a login that changes the principal as a sign-in, and any other login as a
/// patch.
pub async fn changes_tell_of_sign_ins(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let mut streams: Vec<_> = service.nodes().iter().filter_map(|node| node.changes()).collect();
    let mut visitor = service.visitor(&[]).await;
    for (who, is_another) in [("alice", true), ("alice", false), ("bob", true)] {
        let secret = service.secret();
        let login = service.login(visitor, secret, &principal(who), LoginPolicy::default());
        let version = service.apply(visitor.id, &login).await.version;
        visitor.secret = secret;
        for stream in &mut streams {
            let told = |change| match change {
                Change::SignedIn(id, told) if id == visitor.id && told >= version => {
                    assert!(is_another, "a login of the same principal is no sign-in");
                    true
                }
                _ => !is_another && is_patch(change, visitor.id, version),
            };
            assert!(tells(stream, told).await, "a change stream tells of a login");
        }
    }
}

/// A change feed reports the reason why each session ended.
pub async fn changes_tell_why_a_session_ended(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let mut streams: Vec<_> = service.nodes().iter().filter_map(|node| node.changes()).collect();
    for reason in EndReason::ALL {
        let visitor = service.visitor(&[]).await;
        service.end(visitor.id, &Deletion::for_reason(reason)).await;
        assert_told(&mut streams, visitor.id, reason).await;
    }
}

/// A change feed reports the reasons of sessions ended together and of a session ended by a cap.
pub async fn changes_tell_why_a_principals_sessions_ended(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let mut streams: Vec<_> = service.nodes().iter().filter_map(|node| node.changes()).collect();
    for reason in [EndReason::Logout, EndReason::Admin] {
        let alice = principal("alice");
        let visitor = service.member(&alice).await;
        let revocation = Revocation::for_reason(reason);
        let ended = service.node().delete_all(&alice, revocation).await;
        assert_eq!(ended.expect("a healthy store ends them"), 1, "one session was live");
        assert_told(&mut streams, visitor.id, reason).await;
    }
    let bob = principal("bob");
    let oldest = service.member(&bob).await;
    service.advance(SECOND);
    let newest = service.stranger();
    let capped = LoginPolicy::capped(1);
    service.admit(newest.id, service.record_of(newest.secret, &bob), capped).await;
    assert_told(&mut streams, oldest.id, EndReason::Cap).await;
}

/// Returns all ids that a node lists, two per page.
async fn pages(node: &Arc<dyn crate::Store>) -> Vec<RecordId> {
    let mut seen: Vec<RecordId> = Vec::new();
    let mut after = None;
    loop {
        let Scan { records, next } = node.scan(after, 2).await.expect("a healthy store scans");
        assert!(records.len() <= 2, "a page has at most as many records as asked for");
        seen.extend(records.iter().map(|scanned| scanned.id));
        assert!(seen.is_sorted_by(|a, b| a < b), "a scan is in the order of ids");
        assert!(records.iter().all(|s| s.record.is_some()), "a healthy record can be read");
        match next {
            Some(_) => after = next,
            None => return seen,
        }
    }
}

fn is_patch(change: Change, id: RecordId, at_least: Version) -> bool {
    matches!(change, Change::Patched(told, version) if told == id && version >= at_least)
}

/// Asserts that each stream that reports the end of the session gives this reason.
async fn assert_told(streams: &mut [ChangeStream], id: RecordId, expected: EndReason) {
    for stream in streams {
        let told = |change| match change {
            Change::Ended(told, reason) if told == id => {
                assert_eq!(reason, expected, "a change stream says why a session ended");
                true
            }
            _ => false,
        };
        assert!(tells(stream, told).await, "a change stream tells of an end");
    }
}

/// Returns whether a stream soon reports the wanted change, or that it missed changes.
async fn tells(stream: &mut ChangeStream, wanted: impl Fn(Change) -> bool) -> bool {
    let told = async {
        while let Some(change) = stream.next().await {
            if matches!(change, Change::Missed) || wanted(change) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(TOLD_WITHIN, told).await.unwrap_or(false)
}

/// Returns whether a store is soon ready: other nodes must first notice a node that just joined.
async fn becomes_ready(node: &dyn Store) -> bool {
    let ready = async {
        while node.ready().await.is_err() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(READY_WITHIN, ready).await.is_ok()
}

fn take_over(owner: &str, fence: u64) -> Patch {
    let mut patch = Patch::new();
    patch.fence(fence);
    patch.own(label(owner));
    patch
}

fn label(name: &str) -> RouteLabel {
    name.parse().expect("a plain label")
}

/// The time within which a change is reported. It may cross a network, and the answer to a call
/// does not wait for it.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

const READY_WITHIN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(20);
