//! Deadlines: the calls that move them, and the calls that do not.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, HOUR, MINUTE, SECOND, UnderWay, Visitor, applied, at_once, principal, put,
    rotate,
};
use crate::facts::Facts;
use crate::lifetime::Lifetime;
use crate::patch::{Authentication, LoginPolicy, Patch};
use crate::record::Record;

/// A touch moves the idle deadline and nothing else, not even the version.
pub async fn a_touch_moves_only_the_idle_deadline(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "1")]).await;
    let before = service.snapshot(visitor.id).await;
    service.advance(20 * MINUTE);
    let until = service.now() + 30 * MINUTE;
    service.apply(visitor.id, &Patch::touch(until)).await;
    let expected = Record { idle_deadline: until, ..before };
    assert_eq!(service.snapshot(visitor.id).await, expected, "a touch moves a deadline only");
    service.advance(29 * MINUTE);
    assert!(service.opens(visitor.id, &visitor.proof()).await, "every node knows the touch");
}

/// The latest deadline of several touches wins, in any order of arrival.
pub async fn of_several_touches_the_latest_counts(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[]).await;
        let start = service.snapshot(visitor.id).await.idle_deadline;
        let touches = (1..=16).rev().map(|n| {
            let service = Arc::clone(&service);
            async move { service.apply(visitor.id, &Patch::touch(start + n * SECOND)).await }
        });
        let touches = UnderWay::start(polls, touches).await;
        touches.overtake(service.apply(visitor.id, &Patch::touch(start + 60 * SECOND))).await;
        touches.finish().await;
        let kept = service.snapshot(visitor.id).await.idle_deadline;
        assert_eq!(kept, start + 60 * SECOND, "of several touches the latest counts");
    }
}

/// Concurrent touches and patches do not undo each other.
pub async fn touches_and_patches_keep_each_other(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let start = service.snapshot(visitor.id).await.idle_deadline;
    at_once((1..=32_u32).map(|n| {
        let service = Arc::clone(&service);
        let patch = match n % 2 {
            0 => Patch::touch(start + n * SECOND),
            _ => put(&[(&format!("k{n}"), "1")]),
        };
        async move { service.apply(visitor.id, &patch).await }
    }))
    .await;
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.idle_deadline, start + 32 * SECOND, "a patch undoes no touch");
    assert_eq!(record.values.len(), 16, "a touch undoes no patch");
}

/// No patch moves the idle deadline past the absolute one.
pub async fn a_touch_never_passes_the_absolute_deadline(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let absolute = service.snapshot(visitor.id).await.absolute_deadline;
    service.apply(visitor.id, &Patch::touch(absolute + HOUR)).await;
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.idle_deadline, absolute, "a touch stops at the absolute deadline");
    assert_eq!(record.absolute_deadline, absolute, "and does not move it");
    service.advance(8 * HOUR);
    assert!(service.is_absent(visitor.id).await, "the absolute deadline ends the session");
}

/// Only an authentication moves the absolute deadline. Touches, writes and plain rotations do not.
pub async fn the_absolute_deadline_moves_with_an_authentication_only(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let first = service.visitor(&[]).await;
    let absolute = service.snapshot(first.id).await.absolute_deadline;
    service.advance(10 * MINUTE);
    let (second, third) = (service.secret(), service.secret());
    for mut patch in [Patch::new(), put(&[("n", "1")]), rotate(first, second)] {
        patch.keep_until(absolute + HOUR);
        service.apply(first.id, &patch).await;
        let kept = service.snapshot(first.id).await.absolute_deadline;
        assert_eq!(kept, absolute, "nothing but an authentication moves it");
    }
    let second = Visitor { secret: second, ..first };
    let login = service.login(second, third, &principal("alice"), LoginPolicy::default());
    service.apply(first.id, &login).await;
    let record = service.snapshot(first.id).await;
    assert_eq!(record.absolute_deadline, absolute + 10 * MINUTE, "an authentication restarts it");
    assert_eq!(record.authenticated, Some(service.now()), "and is remembered");
}

/// If a record's facts contain an idle lifetime, no patch moves the idle deadline further.
pub async fn no_patch_outlasts_the_records_idle_lifetime(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for blind in [false, true] {
        let visitor = service.stranger();
        let until = service.now() + 5 * MINUTE;
        let record = Record { facts: own_idle_life(), ..service.record(visitor.secret) };
        let outcome = service.create(visitor.id, Record { idle_deadline: until, ..record }).await;
        applied(outcome, "a create under a fresh id is applied");
        service.advance(MINUTE);
        let mut patch = put(&[("n", "1")]);
        patch.keep_until(service.now() + 30 * MINUTE);
        if blind {
            patch.prove(visitor.proof());
        }
        service.apply(visitor.id, &patch).await;
        service.apply(visitor.id, &Patch::touch(service.now() + HOUR)).await;
        let kept = service.snapshot(visitor.id).await.idle_deadline;
        assert_eq!(kept, until + MINUTE, "a session's own idle life bounds every patch");
        service.advance(5 * MINUTE);
        assert!(service.is_absent(visitor.id).await, "and its session ends in time");
    }
}

/// A login that sets a shorter idle lifetime also shortens a later deadline.
pub async fn a_login_shortens_the_idle_life(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    service.apply(visitor.id, &Patch::touch(service.now() + HOUR)).await;
    let authentication = Authentication {
        principal: Some(principal("alice")),
        facts: Some(own_idle_life()),
        ..service.elevation(LoginPolicy::default())
    };
    let mut login = service.authenticate(visitor, service.secret(), authentication);
    login.keep_until(service.now() + 30 * MINUTE);
    service.apply(visitor.id, &login).await;
    let kept = service.snapshot(visitor.id).await.idle_deadline;
    assert_eq!(kept, service.now() + 5 * MINUTE, "a login may shorten the idle life");
    service.advance(5 * MINUTE);
    assert!(service.is_absent(visitor.id).await, "and its session ends in time on every node");
}

fn own_idle_life() -> Facts {
    let lifetime = Lifetime::new(5 * MINUTE, 8 * HOUR).expect("a plain lifetime");
    Facts::of(Some(lifetime), None, []).expect("no labels")
}
