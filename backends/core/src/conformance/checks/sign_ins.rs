//! Sign-ins: a request that loaded a record before a sign-in changes nothing after it.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, MINUTE, UnderWay, Visitor, add, answers, applied, json, principal, proven,
    put, replace, rotate, values,
};
use crate::outcome::{Deleted, Deletion, Outcome};
use crate::patch::{Authentication, LoginPolicy, Patch};
use crate::principal::Principal;
use crate::record::Record;
use crate::store::Lookup;

/// A login of another principal increments the number of the sign-in. Other rotations,
/// authentications of the same principal, and writes keep it.
pub async fn another_principals_login_raises_the_sign_in(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let (alice, bob) = (principal("alice"), principal("bob"));
    let mut visitor = service.visitor(&[]).await;
    for (who, expected) in [
        (None, 0),
        (Some(&alice), 1),
        (None, 1),
        (Some(&alice), 1),
        (Some(&bob), 2),
        (Some(&bob), 2),
        (Some(&alice), 3),
    ] {
        for patch in quiet(&service, &mut visitor, who) {
            service.apply(visitor.id, &patch).await;
            visitor.secret = service.snapshot(visitor.id).await.secret;
        }
        let record = service.snapshot(visitor.id).await;
        assert_eq!(record.sign_in, expected, "a login of another principal is a sign-in");
    }
}

/// A record created with a sign-in number keeps it, and the next login continues from it.
pub async fn a_sign_in_continues_the_created_records_number(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    // An `f64` cannot represent this integer. A store that counts with doubles fails here.
    let far = (1 << 53) + 1;
    let visitor = service.stranger();
    let record = Record { sign_in: far, ..service.record_of(visitor.secret, &principal("alice")) };
    applied(service.create(visitor.id, record).await, "a create under a fresh id is applied");
    assert_eq!(service.snapshot(visitor.id).await.sign_in, far, "the number is kept as created");
    service.apply(visitor.id, &within(far, put(&[("n", "1")]))).await;
    let visitor = signed_in(&service, visitor, &principal("bob")).await;
    assert_eq!(service.snapshot(visitor.id).await.sign_in, far + 1, "the next login counts on");
    let late = service.update(visitor.id, &within(far, put(&[("n", "2")]))).await;
    answers!(late, Outcome::Superseded, "the number before is superseded");
}

/// A call that requires another sign-in is superseded and changes nothing, with or without the
/// right proof. A call that requires the current sign-in is applied.
pub async fn what_saw_another_sign_in_changes_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.visitor(&[("n", "1"), ("text", "\"1\"")]).await;
    let visitor = signed_in(&service, visitor, &alice).await;
    let before = service.snapshot(visitor.id).await;
    for other in [0, 2, u64::from(u32::MAX)] {
        for patch in attempts(&service, visitor) {
            for _ in service.nodes() {
                let outcome = service.update(visitor.id, &within(other, patch.clone())).await;
                answers!(outcome, Outcome::Superseded, "another sign-in is superseded");
            }
        }
        for proof in [None, Some(&visitor.proof())] {
            let deletion = Deletion { proof, sign_in: Some(other), ..Deletion::LOGOUT };
            let deleted = service.end(visitor.id, &deletion).await;
            assert_eq!(deleted, Deleted::Superseded, "another sign-in ends nothing");
        }
    }
    assert_eq!(service.snapshot(visitor.id).await, before, "a superseded call changes nothing");
    service.assert_listed(&alice, &[visitor.id]).await;
    service.assert_listed(&principal("mallory"), &[]).await;
    service.apply(visitor.id, &within(1, add("n", 1))).await;
    let proof = visitor.proof();
    let deletion = Deletion { proof: Some(&proof), sign_in: Some(1), ..Deletion::LOGOUT };
    assert_eq!(service.end(visitor.id, &deletion).await, Deleted::Ended, "this sign-in ends it");
    assert!(service.is_absent(visitor.id).await, "and it is gone");
    service.assert_listed(&alice, &[]).await;
}

/// The secret is checked first: a client with a wrong one learns nothing about sign-ins.
pub async fn a_wrong_proof_learns_nothing_of_sign_ins(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[]).await;
    let new = signed_in(&service, old, &principal("alice")).await;
    let thief = Visitor { secret: service.secret(), ..new };
    for seen in [0, 1] {
        for (client, is_known) in [(thief, false), (old, true)] {
            let patch = within(seen, proven(put(&[("n", "1")]), client));
            let outcome = service.update(new.id, &patch).await;
            let proof = client.proof();
            let deletion =
                Deletion { proof: Some(&proof), sign_in: Some(seen), ..Deletion::LOGOUT };
            let deleted = service.end(new.id, &deletion).await;
            match is_known {
                true => {
                    answers!(outcome, Outcome::Superseded, "a replaced secret is superseded");
                    assert_eq!(deleted, Deleted::Superseded, "a replaced secret is superseded");
                }
                false => {
                    answers!(outcome, Outcome::Gone, "a wrong proof finds no record");
                    assert_eq!(deleted, Deleted::Gone, "a wrong proof ends no record");
                }
            }
        }
    }
    assert!(service.opens(new.id, &new.proof()).await, "the session lives on");
}

/// A deletion with the replaced secret is superseded, and the session lives on.
pub async fn a_deletion_with_the_replaced_secret_is_superseded(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[]).await;
    let new = Visitor { secret: service.secret(), ..old };
    service.apply(old.id, &rotate(old, new.secret)).await;
    let proof = old.proof();
    let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
    for _ in service.nodes() {
        let deleted = service.end(old.id, &deletion).await;
        assert_eq!(deleted, Deleted::Superseded, "a replaced secret ends nothing");
    }
    assert!(service.opens(old.id, &new.proof()).await, "the session lives on");
    service.advance(Record::REPLACED_KEPT);
    let deleted = service.end(old.id, &deletion).await;
    assert_eq!(deleted, Deleted::Gone, "a minute later the replaced secret is unknown");
}

/// When a login overtakes writes that saw the previous sign-in, each write is applied before the login
/// or superseded.
pub async fn a_write_is_before_the_login_or_superseded(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[("guarded", "0")]).await;
        let late = [
            within(0, put(&[("plain", "1")])),
            within(0, proven(put(&[("proven", "1")]), visitor)),
            within(0, add("added", 1)),
            within(0, replace("guarded", Some("0"), "1")),
        ];
        let late = late.map(|patch| {
            let service = Arc::clone(&service);
            async move { (service.update(visitor.id, &patch).await, patch) }
        });
        let late = UnderWay::start(polls, late).await;
        let secret = service.secret();
        let login = service.login(visitor, secret, &principal("alice"), LoginPolicy::default());
        let login = late.overtake(service.apply(visitor.id, &login)).await;
        let record_after = service.snapshot(visitor.id).await;
        for (_, (outcome, patch)) in late.finish().await {
            let (key, _) = patch.ops().next().expect("each of them writes one key");
            let is_written = record_after.values.get(key).is_some_and(|value| value == b"1");
            match outcome {
                Outcome::Applied(applied) => {
                    assert!(is_written, "an applied write survives the login");
                    assert!(
                        applied.version < login.version,
                        "an applied write comes before the login"
                    );
                }
                Outcome::Superseded => assert!(!is_written, "a superseded write is not written"),
                other => panic!("a late write is applied or superseded: {other:?}"),
            }
        }
        let last = service.snapshot(visitor.id).await;
        assert_eq!(last.values, record_after.values, "nothing is written after the login");
        assert_eq!((last.secret, last.sign_in), (secret, 1), "nothing undoes the login");
    }
}

/// A deletion that saw the previous sign-in ends the record before the login, or ends nothing.
pub async fn a_deletion_is_before_the_login_or_superseded(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let alice = principal(&format!("alice{polls}"));
        let visitor = service.visitor(&[]).await;
        let deletion = Arc::clone(&service);
        let deletion = async move {
            let within = Deletion { sign_in: Some(0), ..Deletion::LOGOUT };
            deletion.end(visitor.id, &within).await
        };
        let deletion = UnderWay::start(polls, [deletion]).await;
        let login = service.login(visitor, service.secret(), &alice, LoginPolicy::default());
        let login = deletion.overtake(service.update(visitor.id, &login)).await;
        let (_, deleted) = deletion.finish().await.remove(0);
        match (&login, deleted) {
            (Outcome::Applied(_), Deleted::Superseded) => {
                assert!(!service.is_absent(visitor.id).await, "the login's session lives");
                service.assert_listed(&alice, &[visitor.id]).await;
            }
            (Outcome::Gone, Deleted::Ended) => {
                assert!(service.is_absent(visitor.id).await, "the ended record is gone");
                service.assert_listed(&alice, &[]).await;
            }
            other => panic!("a deletion is before the login or superseded: {other:?}"),
        }
    }
}

/// A login that is sent again is `Applied`, although it requires the previous sign-in, and counts
/// once.
pub async fn a_login_sent_again_counts_once(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.visitor(&[]).await;
    let login = service.login(visitor, service.secret(), &alice, LoginPolicy::default());
    let login = within(0, login);
    service.apply(visitor.id, &login).await;
    service.apply(visitor.id, &within(1, put(&[("~later", "1"), ("n", "1")]))).await;
    let before = service.snapshot(visitor.id).await;
    for _ in service.nodes() {
        let outcome = service.update(visitor.id, &login).await;
        applied(outcome, "the record has its hash, so it was applied before");
    }
    assert_eq!(service.snapshot(visitor.id).await, before, "the second time changes nothing");
    assert_eq!(before.sign_in, 1, "it counts once");
    service.assert_listed(&alice, &[visitor.id]).await;
}

/// A login removes exactly the values whose keys begin with `~`, whether the request saw them or not.
pub async fn a_login_removes_even_unseen_pre_auth_values(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let kept = [("cart", "1"), ("a~b", "1"), ("}", "1"), ("%", "1"), ("_", "1")];
    let visitor = service.visitor(&kept).await;
    service.apply(visitor.id, &put(&[("~", "1"), ("~csrf", "1")])).await;
    service.apply(visitor.id, &put(&[("~~", "1"), ("~é", "{}"), ("~%_\\'", "1")])).await;
    service.apply(visitor.id, &add("~count", 1)).await;
    let visitor = signed_in(&service, visitor, &principal("alice")).await;
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.values, values(&kept), "a login removes pre-auth values only");
    service.apply(visitor.id, &put(&[("~csrf", "2")])).await;
    signed_in(&service, visitor, &principal("alice")).await;
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.values, values(&kept), "so does a login of the same principal");
}

/// A login keeps the pre-auth values that its own patch writes. Its counters start from 0.
pub async fn a_login_keeps_pre_auth_values_it_writes(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("~old", "1"), ("~both", "1"), ("~n", "5"), ("n", "5")]).await;
    let mut login =
        service.login(visitor, service.secret(), &principal("alice"), LoginPolicy::default());
    login.put("~both", json("2")).expect("a plain key");
    login.put("~new", json("3")).expect("a plain key");
    login.remove("~gone").expect("a plain key");
    login.add("~n", 2).expect("an addition to a fresh key");
    login.add("n", 2).expect("an addition to a fresh key");
    let done = service.apply(visitor.id, &login).await;
    let mut counters = done.counters;
    counters.sort();
    assert_eq!(counters, [("n".into(), 7), ("~n".into(), 2)], "a removed counter starts from 0");
    let expected = [("n", "7"), ("~both", "2"), ("~n", "2"), ("~new", "3")];
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.values, values(&expected), "a login keeps what it writes itself");
}

/// Limits apply to the values after a login: the ones it removes make room for the ones it writes.
pub async fn a_login_frees_pre_auth_values_at_limits(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let keys = service.node().limits().keys;
    let named = |prefix: &str| {
        let mut patch = Patch::new();
        for n in 0..keys {
            patch.put(&format!("{prefix}{n}"), json("0")).expect("a plain key");
        }
        patch
    };
    service.apply(visitor.id, &named("~")).await;
    let mut login =
        service.login(visitor, service.secret(), &principal("alice"), LoginPolicy::default());
    for (key, _) in named("k").ops() {
        login.put(key, json("1")).expect("a plain key");
    }
    service.apply(visitor.id, &login).await;
    let record = service.snapshot(visitor.id).await;
    assert_eq!(record.values.len(), keys, "a login makes room before it writes");
}

/// Rotations other than a login keep pre-auth values.
pub async fn only_a_login_removes_pre_auth_values(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let mut visitor = service.visitor(&[("~csrf", "1")]).await;
    for patch in quiet(&service, &mut visitor, None) {
        service.apply(visitor.id, &patch).await;
        let record = service.snapshot(visitor.id).await;
        visitor.secret = record.secret;
        assert_eq!(
            record.values.get("~csrf"),
            Some(&b"1"[..]),
            "pre-auth values stay until a login"
        );
    }
}

/// A pre-auth write that a login overtakes leaves no value after the login.
pub async fn no_overtaken_pre_auth_write_survives_a_login(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[("kept", "1")]).await;
        let late = [put(&[("~state", "1")]), proven(add("~tries", 1), visitor)].map(|patch| {
            let (service, patch) = (Arc::clone(&service), within(0, patch));
            async move { service.update(visitor.id, &patch).await }
        });
        let late = UnderWay::start(polls, late).await;
        late.overtake(signed_in(&service, visitor, &principal("alice"))).await;
        for (_, outcome) in late.finish().await {
            answers!(
                outcome,
                Outcome::Applied(_) | Outcome::Superseded,
                "a late write is applied or superseded"
            );
        }
        let record = service.snapshot(visitor.id).await;
        assert_eq!(record.values, values(&[("kept", "1")]), "no pre-auth value survives a login");
    }
}

/// A pre-auth write that overtakes a login leaves no value after the login.
pub async fn no_early_pre_auth_write_survives_a_login(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[("kept", "1")]).await;
        let secret = service.secret();
        let login = service.login(visitor, secret, &principal("alice"), LoginPolicy::default());
        let login = {
            let service = Arc::clone(&service);
            async move { service.apply(visitor.id, &login).await }
        };
        let login = UnderWay::start(polls, [login]).await;
        let write = within(0, put(&[("~state", "1")]));
        let outcome = login.overtake(service.update(visitor.id, &write)).await;
        answers!(
            outcome,
            Outcome::Applied(_) | Outcome::Superseded,
            "a write is applied or superseded"
        );
        login.finish().await;
        let record = service.snapshot(visitor.id).await;
        assert_eq!(record.values, values(&[("kept", "1")]), "no pre-auth value survives a login");
        assert_eq!((record.secret, record.sign_in), (secret, 1), "nothing undoes the login");
    }
}

/// After a login, no node serves a copy from before it.
pub async fn no_copy_outlives_a_login(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let old = service.unseen_visitor(&[("~state", "1")]).await;
        let loads = service.nodes().iter().map(|_| {
            let service = Arc::clone(&service);
            async move { service.load(old.id, Some(&old.proof())).await }
        });
        let loads = UnderWay::start(polls, loads.collect::<Vec<_>>()).await;
        let new = loads.overtake(signed_in_unseen(&service, old, &principal("alice"))).await;
        loads.finish().await;
        for lookup in service.loads(old.id, Some(&old.proof())).await {
            answers!(lookup, Lookup::Superseded, "no copy opens for the replaced secret");
        }
        for lookup in service.loads(new.id, Some(&new.proof())).await {
            let Lookup::Found(found) = lookup else {
                panic!("the new secret opens: {lookup:?}");
            };
            assert_eq!(found.record.sign_in, 1, "every node knows the sign-in");
            assert_eq!(found.record.values.len(), 0, "no copy keeps pre-auth values");
        }
    }
}

/// Returns a write, a touch, rotations with and without an authentication, and a login of `who`, to
/// be applied in this order. Only the login may change the principal.
///
/// Each rotation replaces the secret of the one before.
fn quiet(service: &Fixture, visitor: &mut Visitor, who: Option<&Principal>) -> Vec<Patch> {
    let secrets: [_; 3] = std::array::from_fn(|_| service.secret());
    let at = |n: usize| Visitor { secret: secrets[n], ..*visitor };
    let elevation = service.elevation(LoginPolicy::default());
    let login = Authentication { principal: who.cloned(), ..elevation.clone() };
    vec![
        put(&[("n", "1")]),
        Patch::touch(service.now() + 40 * MINUTE),
        rotate(*visitor, secrets[0]),
        service.authenticate(at(0), secrets[1], elevation),
        service.authenticate(at(1), secrets[2], login),
    ]
}

fn within(sign_in: u64, mut patch: Patch) -> Patch {
    patch.within(sign_in);
    patch
}

/// Signs a visitor in. Returns the visitor with the new secret.
async fn signed_in(service: &Fixture, visitor: Visitor, principal: &Principal) -> Visitor {
    let new = signed_in_unseen(service, visitor, principal).await;
    assert!(service.opens(new.id, &new.proof()).await, "a login opens the record");
    new
}

async fn signed_in_unseen(service: &Fixture, visitor: Visitor, principal: &Principal) -> Visitor {
    let secret = service.secret();
    let login = service.login(visitor, secret, principal, LoginPolicy::default());
    service.apply(visitor.id, &login).await;
    Visitor { secret, ..visitor }
}

/// Returns every kind of patch that a request may send: those that the current sign-in accepts, and
/// those that a later check rejects.
fn attempts(service: &Fixture, client: Visitor) -> Vec<Patch> {
    let (alice, mallory) = (principal("alice"), principal("mallory"));
    let mut clear = Patch::new();
    clear.clear();
    let mut own = Patch::new();
    own.own("mallory".parse().expect("a plain label"));
    let login = |who| service.login(client, service.secret(), who, LoginPolicy::default());
    vec![
        Patch::new(),
        put(&[("n", "2")]),
        proven(put(&[("n", "2")]), client),
        add("n", 1),
        clear,
        Patch::touch(service.now() + 40 * MINUTE),
        proven(Patch::touch(service.now() + 40 * MINUTE), client),
        own,
        replace("n", Some("1"), "2"),
        rotate(client, service.secret()),
        service.authenticate(client, service.secret(), service.elevation(LoginPolicy::default())),
        login(&alice),
        login(&mallory),
        replace("n", Some("9"), "2"),
        add("text", 1),
        put(&[("big", &format!("\"{}\"", "x".repeat(service.node().limits().value_bytes)))]),
    ]
}
