//! Sign-ins, hash keys and endings, on nodes that answer from copies.

use std::time::Duration;

use steadfast_core::conformance::faults::{Call, Fault};
use steadfast_core::{
    Authentication, Change, Deleted, Deletion, EndReason, KeyId, Operate, Outcome, Patch,
    Principal, Proof, Realm, Rehash, RequestHint, Rotation, SecretHash, SessionStore, StoreError,
    Timestamp,
};

use crate::service::{Node, Service, hash, proof, put};

#[tokio::test]
async fn a_request_before_a_sign_in_changes_nothing() {
    for service in [Service::with(2, |node| node.recheck(LONG)), behind()] {
        let id = service.session().await;
        service.nodes[1].write(id, &login()).await;
        let mut late = put("n", 1);
        late.within(0);
        let outcome = service.nodes[0].patch(id, &late).await;
        assert!(matches!(outcome, Outcome::Superseded), "{outcome:?}");
        let deletion = Deletion { sign_in: Some(0), ..Deletion::LOGOUT };
        let deleted = service.nodes[0].delete(id, &deletion).await.unwrap();
        assert_eq!(deleted, Deleted::Superseded);
        assert_eq!(service.kept(id).await.values.get("n"), None);
    }
}

#[tokio::test]
async fn a_sign_in_drops_overtaken_deferred_writes() {
    let service = behind();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    tokio::task::yield_now().await;
    service.backup.heal();
    // Written straight to the backup, to arrive before the first node's next attempt.
    service.nodes[1].write(id, &login()).await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), None);
}

#[tokio::test]
async fn the_backup_judges_hashes_under_unknown_keys() {
    let service = Service::with(1, |node| node.recheck(LONG));
    let id = service.session().await;
    let stranger: Proof = keyed(9).into();
    let (node, before) = (&service.nodes[0], service.calls());
    let lookup = node.load(id, Some(&stranger), &RequestHint::default()).await;
    assert!(matches!(lookup, Err(StoreError::UnknownKey(_))), "{lookup:?}");
    let mut patch = put("n", 1);
    patch.prove(stranger.clone());
    let outcome = node.update(id, &patch, &RequestHint::default()).await;
    assert!(matches!(outcome, Err(StoreError::UnknownKey(_))), "{outcome:?}");
    let deletion = Deletion { proof: Some(&stranger), ..Deletion::LOGOUT };
    let deleted = node.delete(id, &deletion).await;
    assert!(matches!(deleted, Err(StoreError::UnknownKey(_))), "{deleted:?}");
    assert_eq!(service.calls(), before + 3);
    assert_eq!(node.n(id, None).await, None);
    assert_eq!(service.calls(), before + 3, "it costs the session nothing");
}

#[tokio::test]
async fn a_rehash_reaches_the_copy_and_the_backup() {
    for service in [Service::with(2, |node| node.recheck(LONG)), behind()] {
        let id = service.session().await;
        let mut patch = put("n", 1);
        patch.rehash(Rehash { from: vec![hash(0)], to: keyed(0) });
        let seen = service.nodes[0].write(id, &patch).await;
        let before = service.calls();
        let (new, hint) =
            (keyed(0).into(), RequestHint { min_version: seen, ..RequestHint::default() });
        let lookup = service.nodes[0].load(id, Some(&new), &hint).await.unwrap();
        assert!(matches!(lookup, steadfast_core::Lookup::Found(_)), "{lookup:?}");
        service.nodes[0].drain().await.unwrap();
        assert!(service.calls() - before <= 1, "the copy answers");
        let kept = service.kept(id).await;
        assert_eq!((kept.secret, kept.values.get("n")), (keyed(0), Some(&b"1"[..])));
    }
}

#[tokio::test]
async fn listeners_hear_why_a_session_ended() {
    let service = Service::new();
    let id = service.session().await;
    let mut changes = service.nodes[1].changes().unwrap();
    let deletion = Deletion::for_reason(EndReason::Admin);
    service.nodes[0].delete(id, &deletion).await.unwrap();
    assert_eq!(changes.next().await, Some(Change::Ended(id, EndReason::Admin)));
}

#[tokio::test]
async fn a_node_is_ready_while_its_backup_is() {
    let service = Service::new();
    assert!(service.nodes[0].ready().await.is_ok());
    service.backup.set_all(&Fault::Down);
    assert!(service.nodes[0].ready().await.is_err());
}

fn behind() -> Service {
    Service::with(2, |node| node.recheck(LONG).write_behind(Duration::from_secs(5)))
}

/// Returns the sign-in of another user.
fn login() -> Patch {
    let authentication = Authentication {
        at: Timestamp::UNIX_EPOCH,
        absolute_deadline: Timestamp::MAX,
        principal: Some(Principal::new(Realm::default(), "alice").unwrap()),
        facts: None,
        policy: Default::default(),
    };
    let mut patch = Patch::new();
    let rotation = Rotation { hash: hash(1), authentication: Some(authentication) };
    patch.rotate(proof(), rotation);
    patch
}

fn keyed(byte: u8) -> SecretHash {
    SecretHash::from_parts(KeyId::from_parts(7, "k2").unwrap(), [byte; 32])
}

const LONG: Duration = Duration::from_secs(3_600);
