//! Principals: the index of sessions, the cap, and ending all sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, HOUR, MINUTE, SECOND, UnderWay, Visitor, answers, applied, at_once,
    principal,
};
use crate::facts::Facts;
use crate::outcome::Outcome;
use crate::patch::{AtCap, Authentication, LoginPolicy};
use crate::principal::{Principal, Realm};
use crate::record::Record;
use crate::rejection::Rejection;
use crate::store::SessionInfo;
use crate::token::RecordId;

/// A list shows exactly the live sessions of its principal, on every node.
pub async fn a_list_shows_live_sessions_only(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let (alice, bob) = (principal("alice"), principal("bob"));
    let admin = Realm::new("admin").expect("a plain name");
    let namesake = Principal::new(admin, "alice").expect("a plain name");
    let idle = service.member(&alice).await;
    service.advance(20 * MINUTE);
    let (created, deleted) = (service.member(&alice).await, service.member(&alice).await);
    let signed_in = logged_in(&service, &alice, LoginPolicy::default()).await;
    service.member(&namesake).await;
    let of_bob = service.member(&bob).await;
    service.visitor(&[]).await;
    service.delete(deleted.id, None).await;
    service.assert_listed(&alice, &[idle.id, created.id, signed_in.id]).await;
    service.advance(10 * MINUTE);
    service.assert_listed(&alice, &[created.id, signed_in.id]).await;
    service.assert_listed(&bob, &[of_bob.id]).await;
}

/// A list shows the same times and facts as the records.
pub async fn a_list_says_what_the_record_says(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let visitor = service.visitor(&[]).await;
    service.advance(MINUTE);
    let facts = Facts::of(None, Some(true), [("device", "Firefox on Linux")]);
    let authentication = Authentication {
        principal: Some(alice.clone()),
        facts: Some(facts.expect("a plain label")),
        ..service.elevation(LoginPolicy::default())
    };
    let mut login = service.authenticate(visitor, service.secret(), authentication);
    login.keep_until(service.now() + 45 * MINUTE);
    service.apply(visitor.id, &login).await;
    let record = service.snapshot(visitor.id).await;
    let listed = service.node().list(&alice).await.expect("a healthy store lists");
    assert_eq!(listed, [SessionInfo::of(visitor.id, &record)], "a list says what is so");
}

/// A login as another principal moves the session to that principal's list.
pub async fn a_login_as_another_principal_changes_lists(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let (alice, bob) = (principal("alice"), principal("bob"));
    let visitor = logged_in(&service, &alice, LoginPolicy::default()).await;
    service.assert_listed(&alice, &[visitor.id]).await;
    log_in(&service, visitor, &bob, LoginPolicy::default()).await;
    service.assert_listed(&alice, &[]).await;
    service.assert_listed(&bob, &[visitor.id]).await;
    assert_eq!(service.delete_all(&alice, None, None).await, 0, "it is no session of the first");
    assert!(!service.is_absent(visitor.id).await, "and does not end with theirs");
}

/// `delete_all` ends exactly the sessions of the principal, on every node.
pub async fn a_delete_all_ends_only_its_principals_sessions(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let (alice, bob) = (principal("alice"), principal("bob"));
    let of_bob = service.member(&bob).await;
    let mut of_alice = vec![service.member(&alice).await, service.member(&alice).await];
    of_alice.push(logged_in(&service, &alice, LoginPolicy::default()).await);
    assert_eq!(service.delete_all(&alice, None, None).await, 3, "it says how many it ended");
    for visitor in of_alice {
        assert!(service.is_absent(visitor.id).await, "every one of them ended");
    }
    service.assert_listed(&alice, &[]).await;
    service.assert_listed(&bob, &[of_bob.id]).await;
    let again = service.member(&alice).await;
    service.assert_listed(&alice, &[again.id]).await;
}

/// `delete_all` keeps the excepted session.
pub async fn a_delete_all_leaves_the_excepted_session(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let kept = service.member(&alice).await;
    let (one, other) = (service.member(&alice).await, service.member(&alice).await);
    let ended = service.delete_all(&alice, Some(kept.id), None).await;
    assert_eq!(ended, 2, "it says how many it ended");
    for visitor in [one, other] {
        assert!(service.is_absent(visitor.id).await, "every other one ended");
    }
    service.assert_listed(&alice, &[kept.id]).await;
}

/// A login that runs during `delete_all` is ended by it, or comes after it.
pub async fn a_delete_all_ends_or_precedes_concurrent_logins(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    for polls in HELD_AFTER {
        let alice = principal(&format!("alice{polls}"));
        let kept = service.member(&alice).await;
        let logins = logins(&service, &alice, 5, LoginPolicy::default()).await;
        let logins = UnderWay::start(polls, logins).await;
        logins.overtake(service.delete_all(&alice, Some(kept.id), None)).await;
        let mut live = vec![kept.id];
        for (early, (visitor, outcome)) in logins.finish().await {
            let is_live = !service.is_absent(visitor.id).await;
            answers!(outcome, Outcome::Applied(_) | Outcome::Gone, "a login is applied or ended");
            assert!(!(early && is_live), "a login that was applied before is ended");
            live.extend(is_live.then_some(visitor.id));
        }
        service.assert_listed(&alice, &live).await;
        let ended = service.delete_all(&alice, None, None).await;
        assert_eq!(ended, live.len() as u64, "the index is never behind");
        for id in live {
            assert!(service.is_absent(id).await, "the index is never behind");
        }
    }
}

/// A login below the minimum epoch, or without an epoch where there is a minimum, changes nothing.
pub async fn a_floor_rejects_logins_below_it(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let (alice, bob) = (principal("alice"), principal("bob"));
    service.delete_all(&alice, None, Some(5)).await;
    for epoch in [None, Some(0), Some(4)] {
        assert_below_floor(&service, &alice, epoch).await;
    }
    for epoch in [5, 6] {
        logged_in(&service, &alice, policy(Some(epoch))).await;
    }
    logged_in(&service, &bob, policy(None)).await;
    service.delete_all(&alice, None, Some(3)).await;
    service.delete_all(&alice, None, None).await;
    assert_below_floor(&service, &alice, Some(4)).await;
    service.delete_all(&alice, None, Some(6)).await;
    assert_below_floor(&service, &alice, Some(5)).await;
}

/// A minimum epoch lasts at least a day, even if the principal has no sessions or never had any.
pub async fn a_floor_lasts_for_a_day(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    service.delete_all(&alice, None, Some(5)).await;
    for _ in 0..23 {
        service.advance(HOUR);
        service.node().collect().await.expect("a healthy store collects");
    }
    assert_below_floor(&service, &alice, Some(4)).await;
    assert_below_floor(&service, &alice, None).await;
}

/// A login below the minimum epoch that runs while the minimum is set is rejected or ended.
pub async fn a_floor_holds_against_logins_under_way(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    for polls in HELD_AFTER {
        let alice = principal(&format!("alice{polls}"));
        let logins = logins(&service, &alice, 5, policy(Some(1))).await;
        let logins = UnderWay::start(polls, logins).await;
        logins.overtake(service.delete_all(&alice, None, Some(2))).await;
        for (_, (_, outcome)) in logins.finish().await {
            answers!(
                outcome,
                Outcome::Applied(_) | Outcome::Gone | Outcome::Rejected(Rejection::StaleEpoch),
                "a login below the floor is ended or rejected"
            );
        }
        service.assert_listed(&alice, &[]).await;
        assert_eq!(service.delete_all(&alice, None, None).await, 0, "none is left");
    }
}

/// With any number of concurrent logins, at most `cap` sessions are live at any moment, and each
/// session that the cap ended is named exactly once.
pub async fn the_cap_holds_under_parallel_logins(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let capped = LoginPolicy::capped(5);
    let logins = logins(&service, &alice, 50, capped).await;
    let watched = tokio::spawn(watch_cap(Arc::clone(&service), alice.clone(), capped.cap));
    let outcomes = at_once(logins).await;
    watched.abort();
    if let Err(error) = watched.await {
        assert!(error.is_cancelled(), "the cap holds at every moment");
    }
    let all: BTreeSet<_> = outcomes.iter().map(|(visitor, _)| visitor.id).collect();
    let ended = outcomes.into_iter().flat_map(|(_, outcome)| {
        applied(outcome, "a login over the cap is applied, and another ends").ended
    });
    let ended: Vec<_> = ended.collect();
    let named: BTreeSet<_> = ended.iter().copied().collect();
    assert_eq!(named.len(), ended.len(), "what a cap ended is named once");
    let live: Vec<_> = all.difference(&named).copied().collect();
    assert_eq!(live.len(), capped.cap, "a cap ends no more than it must");
    service.assert_listed(&alice, &live).await;
    for id in named {
        assert!(service.is_absent(id).await, "what is named as ended is ended");
    }
}

/// The cap ends the session with the oldest authentication, which need not be the oldest session.
pub async fn the_cap_ends_the_oldest_by_authentication(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let capped = LoginPolicy::capped(2);
    let first = logged_in(&service, &alice, capped).await;
    service.advance(SECOND);
    let second = logged_in(&service, &alice, capped).await;
    service.advance(SECOND);
    let (_, ended) = log_in(&service, first, &alice, capped).await;
    assert_eq!(ended, [], "a session that signs in again counts once");
    service.advance(SECOND);
    let third = service.visitor(&[]).await;
    let (_, ended) = log_in(&service, third, &alice, capped).await;
    assert_eq!(ended, [second.id], "the oldest by authentication ends");
    assert!(service.is_absent(second.id).await, "what is named as ended is ended");
    service.advance(SECOND);
    let fourth = service.stranger();
    let record = service.record_of(fourth.secret, &alice);
    let outcome = service.admit(fourth.id, record, capped).await;
    let ended = applied(outcome, "a create over the cap is applied").ended;
    assert_eq!(ended, [first.id], "a cap counts created records too");
    service.assert_listed(&alice, &[third.id, fourth.id]).await;
}

/// An elevation is an authentication: it makes the session the newest for the cap.
pub async fn the_cap_counts_elevations(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let capped = LoginPolicy::capped(2);
    let first = logged_in(&service, &alice, capped).await;
    service.advance(SECOND);
    let second = logged_in(&service, &alice, capped).await;
    service.advance(SECOND);
    let elevation = service.elevation(LoginPolicy::default());
    let elevation = service.authenticate(first, service.secret(), elevation);
    let done = service.apply(first.id, &elevation).await;
    assert_eq!(done.ended, [], "an elevation ends no session");
    service.advance(SECOND);
    let third = service.visitor(&[]).await;
    let (_, ended) = log_in(&service, third, &alice, capped).await;
    assert_eq!(ended, [second.id], "an elevation is an authentication");
    service.assert_listed(&alice, &[first.id, third.id]).await;
}

/// The cap is exact. Below it no session ends; above it the session with the oldest authentication
/// ends, even after sessions were authenticated again, deleted or expired.
pub async fn a_full_cap_is_exact(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let (alice, cap) = (principal("alice"), subject.largest_cap());
    let capped = LoginPolicy::capped(cap);
    let mut oldest_first = Vec::new();
    for ages in (1..=cap as u32).rev().collect::<Vec<_>>().chunks(50) {
        at_once(ages.iter().map(|age| {
            let service = Arc::clone(&service);
            let visitor = service.stranger();
            oldest_first.push(visitor);
            let record = service.record_of(visitor.secret, &alice);
            let record = Record { authenticated: Some(service.now() - SECOND * *age), ..record };
            async move { service.admit(visitor.id, record, capped).await }
        }))
        .await;
    }
    service.advance(SECOND);
    // An authentication makes a session the newest, and a deletion makes room.
    let again = oldest_first.remove(1);
    let (_, ended) = log_in(&service, again, &alice, capped).await;
    assert_eq!(ended, [], "a session that signs in again counts once");
    service.delete(oldest_first.remove(cap / 2).id, None).await;
    for expected in [None, Some(oldest_first[0].id), Some(oldest_first[1].id)] {
        service.advance(SECOND);
        let visitor = service.visitor(&[]).await;
        let (_, ended) = log_in(&service, visitor, &alice, capped).await;
        assert_eq!(ended, Vec::from_iter(expected), "the cap ends the oldest, and no other");
    }
    assert_eq!(service.list(&alice).await.len(), cap, "the cap is exact");
}

/// Expired and deleted sessions do not count against the cap and are not named as ended.
pub async fn the_cap_counts_live_sessions_only(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let capped = LoginPolicy::capped(2);
    logged_in(&service, &alice, capped).await;
    service.advance(30 * MINUTE);
    let deleted = logged_in(&service, &alice, capped).await;
    service.delete(deleted.id, None).await;
    let mut live = Vec::new();
    for _ in 0..2 {
        service.advance(SECOND);
        let visitor = service.visitor(&[]).await;
        let (_, ended) = log_in(&service, visitor, &alice, capped).await;
        assert_eq!(ended, [], "a cap counts live sessions only");
        live.push(visitor.id);
    }
    service.assert_listed(&alice, &live).await;
}

/// Where a login at the cap is to be refused, it is rejected whole, and nothing ends for it.
pub async fn a_login_at_a_refusing_cap_is_refused(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let refused = LoginPolicy { at_cap: AtCap::Refuse, ..LoginPolicy::capped(2) };
    let first = logged_in(&service, &alice, refused).await;
    service.advance(20 * MINUTE);
    let second = logged_in(&service, &alice, refused).await;
    let visitor = service.visitor(&[]).await;
    assert_at_cap(&service, visitor, &alice, refused).await;
    let (again, ended) = log_in(&service, second, &alice, refused).await;
    assert_eq!(ended, [], "a session that is theirs already counts once");
    service.assert_listed(&alice, &[first.id, second.id]).await;
    service.advance(10 * MINUTE);
    assert_eq!(log_in(&service, visitor, &alice, refused).await.1, [], "an expired one is no more");
    service.delete(again.id, None).await;
    let third = logged_in(&service, &alice, refused).await;
    service.assert_listed(&alice, &[visitor.id, third.id]).await;
    let (_, ended) = log_in(&service, third, &principal("bob"), refused).await;
    assert_eq!(ended, [], "another principal has sessions of their own");
}

async fn assert_at_cap(
    service: &Arc<Fixture>,
    visitor: Visitor,
    alice: &Principal,
    refused: LoginPolicy,
) {
    let before = service.snapshot(visitor.id).await;
    let login = service.login(visitor, service.secret(), alice, refused);
    answers!(
        service.update(visitor.id, &login).await,
        Outcome::Rejected(Rejection::AtCap),
        "a login at the cap is refused"
    );
    assert_eq!(service.snapshot(visitor.id).await, before, "a refused login changes nothing");
    let stranger = service.stranger();
    let record = service.record_of(stranger.secret, alice);
    answers!(
        service.admit(stranger.id, record, refused).await,
        Outcome::Rejected(Rejection::AtCap),
        "a create at the cap is refused"
    );
    assert!(service.is_absent(stranger.id).await, "a refused create leaves nothing");
}

/// However many sign in at once, exactly as many as may be are admitted, and the others refused.
pub async fn a_refusing_cap_holds_under_parallel_logins(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    let refused = LoginPolicy { at_cap: AtCap::Refuse, ..LoginPolicy::capped(5) };
    let mut live = Vec::new();
    for (visitor, outcome) in at_once(logins(&service, &alice, 30, refused).await).await {
        match outcome {
            Outcome::Applied(applied) => {
                assert_eq!(applied.ended, [], "nothing ends where logins are refused");
                live.push(visitor.id);
            }
            outcome => {
                let refused = Outcome::Rejected(Rejection::AtCap);
                assert_eq!(format!("{outcome:?}"), format!("{refused:?}"), "it says why");
            }
        }
    }
    assert_eq!(live.len(), 5, "as many are admitted as may be");
    service.assert_listed(&alice, &live).await;
}

async fn watch_cap(service: Arc<Fixture>, principal: Principal, cap: usize) {
    loop {
        let live = service.list(&principal).await.len();
        assert!(live <= cap, "the cap holds at every moment: {live} are live");
        tokio::task::yield_now().await;
    }
}

/// Returns logins of separate visitors, not started yet.
async fn logins(
    service: &Arc<Fixture>,
    principal: &Principal,
    count: usize,
    policy: LoginPolicy,
) -> Vec<impl Future<Output = (Visitor, Outcome)> + Send + 'static> {
    let mut logins = Vec::new();
    for _ in 0..count {
        let visitor = service.visitor(&[]).await;
        let login = service.login(visitor, service.secret(), principal, policy);
        let service = Arc::clone(service);
        logins.push(async move { (visitor, service.update(visitor.id, &login).await) });
    }
    logins
}

async fn logged_in(service: &Fixture, principal: &Principal, policy: LoginPolicy) -> Visitor {
    let visitor = service.visitor(&[]).await;
    log_in(service, visitor, principal, policy).await.0
}

/// Signs a visitor in. Returns the visitor with the new secret, and the sessions that the cap
/// ended.
async fn log_in(
    service: &Fixture,
    visitor: Visitor,
    principal: &Principal,
    policy: LoginPolicy,
) -> (Visitor, Vec<RecordId>) {
    let record = service.authoritative(visitor.id).await.expect("a live record");
    let visitor = Visitor { secret: record.secret, ..visitor };
    let secret = service.secret();
    let login = service.login(visitor, secret, principal, policy);
    let ended = service.apply(visitor.id, &login).await.ended;
    let visitor = Visitor { secret, ..visitor };
    assert!(service.opens(visitor.id, &visitor.proof()).await, "a login opens the record");
    (visitor, ended)
}

/// Asserts that a login and a create below the minimum epoch are rejected and change nothing.
async fn assert_below_floor(service: &Fixture, principal: &Principal, epoch: Option<u64>) {
    let visitor = service.visitor(&[("n", "1")]).await;
    let before: Record = service.snapshot(visitor.id).await;
    let mut login = service.login(visitor, service.secret(), principal, policy(epoch));
    login.put("n", crate::RawJson::from(2)).expect("a plain key");
    let stale_epoch = service.update(visitor.id, &login).await;
    answers!(stale_epoch, Outcome::Rejected(Rejection::StaleEpoch), "a floor rejects logins");
    assert_eq!(service.snapshot(visitor.id).await, before, "a login is rejected whole");

    let created = service.stranger();
    let record = service.record_of(created.secret, principal);
    let stale_epoch = service.admit(created.id, record, policy(epoch)).await;
    answers!(stale_epoch, Outcome::Rejected(Rejection::StaleEpoch), "a floor rejects creates");
    assert!(service.is_absent(created.id).await, "what is rejected is not stored");
}

fn policy(epoch: Option<u64>) -> LoginPolicy {
    LoginPolicy { epoch, ..LoginPolicy::default() }
}
