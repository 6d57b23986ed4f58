//! Cancellation: a call that is dropped at any await took full effect or none.

use crate::conformance::Subject;
use crate::conformance::fixture::{
    ENOUGH_POLLS, Fixture, Visitor, answers, applied, cut, principal, put, rotate, values,
};
use crate::outcome::Outcome;
use crate::patch::{LoginPolicy, Patch};
use crate::record::Record;
use crate::store::{Lookup, RequestHint};

/// A dropped create stored the whole record, including its index entry, or nothing.
pub async fn a_dropped_create_is_whole_or_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in 0..ENOUGH_POLLS {
        let alice = principal(&format!("alice{polls}"));
        let visitor = service.stranger();
        let record = Record {
            values: values(&[("a", "1"), ("b", "1")]),
            ..service.record_of(visitor.secret, &alice)
        };
        let done = cut(polls, service.create(visitor.id, record.clone())).await;
        if let Some(kept) = service.authoritative(visitor.id).await {
            assert_eq!(kept.values, record.values, "a create is whole or nothing");
            service.assert_listed(&alice, &[visitor.id]).await;
        }
        let again = service.create(visitor.id, record).await;
        applied(again, "a create that was not confirmed can be sent again");
        service.assert_listed(&alice, &[visitor.id]).await;
        if done.is_some() {
            return;
        }
    }
    panic!("a create completes");
}

/// A dropped patch wrote all of its keys and counters, or none.
pub async fn a_dropped_patch_is_whole_or_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in 0..ENOUGH_POLLS {
        let visitor = service.visitor(&[("a", "1"), ("n", "1"), ("old", "1")]).await;
        let mut patch = put(&[("a", "2"), ("b", "2")]);
        patch.add("n", 1).expect("an addition to a fresh key");
        patch.remove("old").expect("a plain key");
        let done = cut(polls, service.update(visitor.id, &patch)).await;
        let before = values(&[("a", "1"), ("n", "1"), ("old", "1")]);
        let after = values(&[("a", "2"), ("b", "2"), ("n", "2")]);
        let kept = service.snapshot(visitor.id).await.values;
        assert!(kept == after || kept == before, "a patch is whole or nothing: {kept:?}");
        assert!(done.is_none() || kept == after, "a patch that was confirmed is done");
        still_works(&service, visitor).await;
        if done.is_some() {
            return;
        }
    }
    panic!("an update completes");
}

/// A dropped login replaced the secret, set the principal and wrote the values, or did nothing.
pub async fn a_dropped_login_is_whole_or_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in 0..ENOUGH_POLLS {
        let alice = principal(&format!("alice{polls}"));
        let old = service.visitor(&[("a", "1")]).await;
        let secret = service.secret();
        let mut login = service.login(old, secret, &alice, LoginPolicy::default());
        login.put("a", crate::RawJson::from(2)).expect("a plain key");
        let done = cut(polls, service.update(old.id, &login)).await;
        let record = service.snapshot(old.id).await;
        let happened = record.secret == secret;
        assert!(happened || done.is_none(), "a login that was confirmed is done");
        assert_eq!(record.principal.is_some(), happened, "a login is whole or nothing");
        let kept = if happened { "2" } else { "1" };
        assert_eq!(record.values, values(&[("a", kept)]), "a login is whole or nothing");
        if happened {
            service.assert_listed(&alice, &[old.id]).await;
        }
        applied(service.update(old.id, &login).await, "a login can be sent again");
        service.assert_listed(&alice, &[old.id]).await;
        if done.is_some() {
            return;
        }
    }
    panic!("a login completes");
}

/// A dropped rotation left exactly one live secret, the old or the new one.
pub async fn a_dropped_rotation_leaves_one_secret(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in 0..ENOUGH_POLLS {
        let old = service.visitor(&[]).await;
        let secret = service.secret();
        let new = Visitor { secret, ..old };
        let rotation = rotate(old, secret);
        let done = cut(polls, service.update(old.id, &rotation)).await;
        applied(service.update(old.id, &rotation).await, "a rotation can be sent again");
        let by_old = service.load(old.id, Some(&old.proof())).await;
        answers!(by_old, Lookup::Superseded, "a rotation sent again has replaced the secret");
        assert!(service.opens(old.id, &new.proof()).await, "and the new one opens");
        if done.is_some() {
            return;
        }
    }
    panic!("a rotation completes");
}

/// A dropped delete ended the record, including its index entry, or left it whole.
pub async fn a_dropped_delete_is_whole_or_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in 0..ENOUGH_POLLS {
        let alice = principal(&format!("alice{polls}"));
        let visitor = service.member(&alice).await;
        let before = service.snapshot(visitor.id).await;
        let done = cut(polls, service.delete(visitor.id, None)).await;
        match service.authoritative(visitor.id).await {
            Some(kept) => assert_eq!(kept.secret, before.secret, "a delete is whole or nothing"),
            None => service.assert_listed(&alice, &[]).await,
        }
        service.delete(visitor.id, None).await;
        assert!(service.is_absent(visitor.id).await, "a delete can be sent again");
        service.assert_listed(&alice, &[]).await;
        if done.is_some() {
            return;
        }
    }
    panic!("a delete completes");
}

/// A dropped `delete_all` ends each record entirely or not at all, and finishes when it is sent
/// again.
pub async fn a_dropped_delete_all_can_be_sent_again(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    for polls in 0..ENOUGH_POLLS {
        let alice = principal(&format!("alice{polls}"));
        let members = [service.member(&alice).await, service.member(&alice).await];
        let done = cut(polls, service.delete_all(&alice, None, Some(1))).await;
        for member in members {
            let outcome = service.update(member.id, &put(&[("n", "1")])).await;
            answers!(outcome, Outcome::Applied(_) | Outcome::Gone, "a record is whole or gone");
        }
        service.delete_all(&alice, None, Some(1)).await;
        for member in members {
            assert!(service.is_absent(member.id).await, "it ends all of them in the end");
        }
        service.assert_listed(&alice, &[]).await;
        if done.is_some() {
            return;
        }
    }
    panic!("a delete_all completes");
}

/// A dropped load does not obstruct the next one.
pub async fn a_dropped_load_changes_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("a", "1")]).await;
    for polls in 0..ENOUGH_POLLS {
        for node in service.nodes() {
            let _ = cut(polls, node.load(visitor.id, None, &RequestHint::default())).await;
        }
        let done = cut(polls, service.load(visitor.id, Some(&visitor.proof()))).await;
        assert!(service.opens(visitor.id, &visitor.proof()).await, "the next load works");
        if done.is_some() {
            still_works(&service, visitor).await;
            return;
        }
    }
    panic!("a load completes");
}

async fn still_works(service: &Fixture, visitor: Visitor) {
    let mut patch: Patch = put(&[("later", "1")]);
    patch.prove(visitor.proof());
    service.apply(visitor.id, &patch).await;
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept.get("later"), Some(&b"1"[..]), "the store still works");
    assert!(service.delete(visitor.id, None).await, "the store still works");
    assert!(service.is_absent(visitor.id).await, "the store still works");
}
