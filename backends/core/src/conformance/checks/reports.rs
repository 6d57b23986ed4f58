//! Reports of sessions that ended without a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::conformance::Subject;
use crate::conformance::fixture::{Fixture, HOUR, MINUTE, SECOND, principal, put};
use crate::endings::{CLAIMED_FOR, Ending, Endings};
use crate::outcome::{Deletion, EndReason, Revocation};
use crate::patch::{LoginPolicy, Patch};
use crate::token::RecordId;

/// An expired session is claimed by one node, with its user and its deadline, and not any more once it is
/// acknowledged.
pub async fn an_expired_session_is_reported_until_acknowledged(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let Some(queues) = queues(&service) else {
        return;
    };
    let visitor = service.visitor(&[("n", "1")]).await;
    let alice = principal("alice");
    let member = service.member(&alice).await;
    let deadline = service.authoritative(visitor.id).await.expect("a live record").deadline();
    service.advance(30 * MINUTE);
    let expected =
        vec![ending(visitor.id, None, deadline), ending(member.id, Some(alice), deadline)];
    let reported = report(&service, &queues, expected.len()).await;
    assert_eq!(reported, by_id(expected), "what expired is claimed, once");
    let ids: Vec<_> = reported.into_keys().collect();
    acknowledge(&queues, &ids).await;
    service.advance(CLAIMED_FOR + HOUR);
    assert_nothing_is_reported(&service, &queues).await;
    acknowledge(&queues, &ids).await;
}

/// A session that a sign-in ended at the cap is claimed, with the reason.
pub async fn a_session_over_the_cap_is_reported(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let Some(queues) = queues(&service) else {
        return;
    };
    let bob = principal("bob");
    let oldest = service.member(&bob).await;
    service.advance(SECOND);
    let newest = service.stranger();
    let record = service.record_of(newest.secret, &bob);
    service.admit(newest.id, record, LoginPolicy::capped(1)).await;
    let reported = report(&service, &queues, 1).await;
    let expected = Ending { reason: EndReason::Cap, ..ending(oldest.id, Some(bob), service.now()) };
    assert_eq!(reported, by_id([expected]), "what the cap ended is claimed");
    acknowledge(&queues, &[oldest.id]).await;
    service.advance(CLAIMED_FOR);
    assert_nothing_is_reported(&service, &queues).await;
}

/// An ending that was claimed and not acknowledged can be claimed again once the claim lapses, and not before.
pub async fn a_claim_lapses_unless_acknowledged(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let Some(queues) = queues(&service) else {
        return;
    };
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(service.visitor(&[]).await.id);
    }
    ids.sort();
    service.advance(HOUR);
    let first = report(&service, &queues, ids.len()).await;
    assert!(first.keys().eq(&ids), "all of them are claimed");
    acknowledge(&queues, &ids[..2]).await;
    service.advance(CLAIMED_FOR - SECOND);
    assert_nothing_is_reported(&service, &queues).await;
    service.advance(SECOND);
    let second = report(&service, &queues, ids.len() - 2).await;
    assert!(second.keys().eq(&ids[2..]), "the others are claimed again");
    acknowledge(&queues, &ids).await;
    service.advance(CLAIMED_FOR);
    assert_nothing_is_reported(&service, &queues).await;
}

/// The caller that ended a session knows of it, so the queue does not contain it.
pub async fn what_a_request_ended_is_not_reported(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let Some(queues) = queues(&service) else {
        return;
    };
    for reason in [EndReason::Logout, EndReason::Admin] {
        let visitor = service.visitor(&[]).await;
        service.end(visitor.id, &Deletion::for_reason(reason)).await;
    }
    if service.has_index() {
        let carol = principal("carol");
        service.member(&carol).await;
        let ended = service.node().delete_all(&carol, Revocation::LOGOUT).await;
        assert_eq!(ended.expect("a healthy store ends them"), 1, "one session was live");
    }
    service.advance(HOUR);
    assert_nothing_is_reported(&service, &queues).await;
    service.advance(9 * HOUR);
    assert_nothing_is_reported(&service, &queues).await;
}

/// A session that was used is not reported at its former deadline, but at its next one.
pub async fn an_extended_session_is_not_reported(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let Some(queues) = queues(&service) else {
        return;
    };
    let visitor = service.visitor(&[]).await;
    service.advance(20 * MINUTE);
    service.apply(visitor.id, &Patch::touch(service.now() + 30 * MINUTE)).await;
    service.apply(visitor.id, &put(&[("n", "1")])).await;
    service.advance(20 * MINUTE);
    assert_nothing_is_reported(&service, &queues).await;
    assert!(service.opens(visitor.id, &visitor.proof()).await, "it is live");
    let deadline = service.authoritative(visitor.id).await.expect("a live record").deadline();
    service.advance(10 * MINUTE);
    let reported = report(&service, &queues, 1).await;
    assert_eq!(reported, by_id([ending(visitor.id, None, deadline)]), "it ended at last");
}

type Queues = Vec<Arc<dyn Endings>>;
type Reported = BTreeMap<RecordId, Ending>;

/// Returns the queue of each node, if the store keeps endings.
fn queues(service: &Fixture) -> Option<Queues> {
    let queues: Queues = service.nodes().iter().filter_map(|node| node.endings()).collect();
    assert!(
        queues.is_empty() || queues.len() == service.nodes().len(),
        "all nodes keep endings, or none"
    );
    (!queues.is_empty()).then_some(queues)
}

fn ending(
    id: RecordId,
    principal: Option<crate::Principal>,
    at: crate::timestamp::Timestamp,
) -> Ending {
    Ending { id, principal, reason: EndReason::Expired, at }
}

fn by_id(endings: impl IntoIterator<Item = Ending>) -> Reported {
    endings.into_iter().map(|ending| (ending.id, ending)).collect()
}

/// Claims until there are this many endings. A store may take a moment after a collection.
async fn report(service: &Fixture, queues: &Queues, count: usize) -> Reported {
    let mut reported = Reported::new();
    for _ in 0..PATIENCE {
        claim_all(service, queues, &mut reported).await;
        if reported.len() >= count {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    // More than expected is wrong, too.
    claim_all(service, queues, &mut reported).await;
    reported
}

async fn assert_nothing_is_reported(service: &Fixture, queues: &Queues) {
    let mut reported = Reported::new();
    for _ in 0..3 {
        claim_all(service, queues, &mut reported).await;
        assert!(reported.is_empty(), "nothing is to be claimed: {reported:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Claims on every node until there is nothing left. Asserts that no ending is claimed twice.
async fn claim_all(service: &Fixture, queues: &Queues, reported: &mut Reported) {
    for node in service.nodes() {
        node.collect().await.expect("a healthy store collects");
    }
    for queue in queues {
        loop {
            let claimed = queue.claim(2).await.expect("a healthy store answers a claim");
            assert!(claimed.len() <= 2, "a claim has at most as many endings as asked for");
            if claimed.is_empty() {
                break;
            }
            for ending in claimed {
                let twice = reported.insert(ending.id, ending);
                assert_eq!(twice, None, "an ending is claimed by one caller at a time");
            }
        }
    }
}

/// Acknowledges through the last node, whichever claimed them.
async fn acknowledge(queues: &Queues, ids: &[RecordId]) {
    let queue = queues.last().expect("a service has at least one node");
    queue.acknowledge(ids).await.expect("a healthy store acknowledges");
}

const PATIENCE: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);
