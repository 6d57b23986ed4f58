//! Records of the previous release, and of a later one.

use steadfast_core::{
    Deletion, Keyring, Lookup, ManualClock, Outcome, Patch, Proof, Realm, Record, RecordId,
    Rejection, RequestHint, Revocation, SessionStore, StoreError, Timestamp, Token, Version,
};
use steadfast_redis::RedisStore;
use testkit::redis::{Redis, RedisCluster};

use crate::fixture::{Visitor, across, builder, clock, on, principal};

#[tokio::test]
async fn a_server_serves_records_of_0_1() {
    let fixture = Fixture::of(include_str!("../fixtures/0.1/one-server.txt"));
    let server = Redis::start();
    fixture.restore(|_| &server);
    let (clock, env) = clock();
    let store = on(&server, builder().env(env).prefix("steadfast:old".parse().unwrap()));
    serves(&fixture, &store, &clock).await;
    let keys = server.ask(&["KEYS", "*:r:*"]).list();
    for key in keys {
        assert!(server.ask(&["HGET", &key.text(), "."]).bytes().len() > 36, "rewritten");
        assert_eq!(server.ask(&["HGET", &key.text(), "s"]), testkit::redis::Reply::Nil);
    }
}

#[tokio::test]
async fn a_cluster_serves_records_of_0_1() {
    let fixture = Fixture::of(include_str!("../fixtures/0.1/cluster.txt"));
    let cluster = RedisCluster::start();
    fixture.restore(|key| &cluster.servers[cluster.server_of(key)]);
    let (clock, env) = clock();
    let store = across(&cluster, builder().env(env).prefix("steadfast:old".parse().unwrap()));
    serves(&fixture, &store, &clock).await;
}

/// Runs requests on the data of release 0.1.
async fn serves(fixture: &Fixture, store: &RedisStore, clock: &ManualClock) {
    let visitor = found(store, &fixture.visitor("visitor")).await;
    assert_eq!((visitor.version, visitor.sign_in), (Version(2), 0));
    assert_eq!(visitor.created, Timestamp::from_millis(1_767_225_600_000));
    let value = |key| String::from_utf8(visitor.values.get(key).unwrap().to_vec()).unwrap();
    assert_eq!(value("cart"), "[1,2]");
    assert_eq!(value("text"), "\"a \\u0000 \u{e9} \\\"quoted\\\"\"");
    assert_eq!((value("big"), value("n")), (i64::MAX.to_string(), "5".to_owned()));

    let alice = principal("alice");
    let [one, other] = ["alice-1", "alice-2"].map(|name| fixture.visitor(name));
    assert_eq!(found(store, &one).await.principal, Some(alice.clone()));
    let replaced = fixture.visitor("alice-1-replaced").load(store).await.unwrap();
    assert!(matches!(replaced, Lookup::Superseded), "{replaced:?}");
    let listed = store.list(&alice).await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");

    let keyed = fixture.visitor("keyed");
    let ring = Keyring::keyed("k1", &[1; 32]).unwrap();
    let proof = ring.prove(&Realm::default(), keyed.token.secret());
    let lookup = store.load(keyed.id, Some(&proof), &RequestHint::default()).await.unwrap();
    assert!(matches!(lookup, Lookup::Found(_)), "{lookup:?}");
    let unknown = keyed.load(store).await;
    assert!(matches!(unknown, Err(StoreError::UnknownKey(_))), "{unknown:?}");
    let owned = found(store, &fixture.visitor("owned")).await;
    assert_eq!(
        owned.owner.as_ref().map(|owner| (owner.label.as_str(), owner.fence)),
        Some(("n1", 1))
    );

    let rejected = fixture.visitor("owned").login(store, "bob", Default::default()).0;
    let outcome =
        store.update(owned_id(fixture), &rejected, &RequestHint::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Rejected(Rejection::StaleEpoch)), "{outcome:?}");

    for name in ["visitor", "alice-1", "alice-2", "owned"] {
        let visitor = fixture.visitor(name);
        let before = found(store, &visitor).await;
        visitor.count(store).await.unwrap();
        let after = found(store, &visitor).await;
        assert_eq!(after.version, before.version.next(), "{name}");
        assert_eq!(after.principal, before.principal);
        assert_eq!(
            after.values.len(),
            before.values.len() + usize::from(before.values.get("n").is_none())
        );
    }
    let mut patch = Patch::new();
    patch.prove(proof);
    patch.put("n", 1.into()).unwrap();
    let outcome = store.update(keyed.id, &patch, &RequestHint::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");

    let (login, signed_in) = fixture.visitor("visitor").login(store, "alice", Default::default());
    store.update(signed_in.id, &login, &RequestHint::default()).await.unwrap();
    let signed_in = found(store, &signed_in).await;
    assert_eq!(signed_in.sign_in, 1);
    assert_eq!(signed_in.values.get("~csrf"), None, "a sign-in removes it");
    assert_eq!(store.list(&alice).await.unwrap().len(), 3);
    assert!(store.delete(other.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert_eq!(store.list(&alice).await.unwrap().len(), 2);
    assert_eq!(store.delete_all(&alice, Revocation::LOGOUT).await.unwrap(), 2);
    assert!(matches!(one.load(store).await, Ok(Lookup::Absent(_))));
    clock.advance(std::time::Duration::from_secs(1_800));
    assert!(matches!(keyed.load(store).await, Ok(Lookup::Absent(_))), "it has expired");
}

#[tokio::test]
async fn a_later_format_is_an_error_until_deleted() {
    let server = Redis::start();
    let store = on(&server, builder());
    let visitor = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    visitor.write(&store, 1).await.unwrap();
    let key = server.ask(&["KEYS", "*:r:*"]).list()[0].text();
    let later = Record::FORMAT + 1;
    server.overwrite(&key, ".", 0, &later.to_be_bytes());
    let before = server.dump();
    for error in [
        visitor.load(&store).await.map(drop).unwrap_err(),
        visitor.write(&store, 2).await.map(drop).unwrap_err(),
        store
            .update(visitor.id, &Patch::touch(Timestamp::MAX), &RequestHint::default())
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        let known = Record::FORMAT;
        let is_told = matches!(error, StoreError::NewerFormat { found, known: k } if (found, k) == (later, known));
        assert!(is_told, "{error:?}");
    }
    assert_eq!(server.dump(), before, "it is left as it is");
    assert_eq!(store.list(&principal("alice")).await.unwrap().len(), 1, "its user sees it");
    assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert!(matches!(visitor.load(&store).await, Ok(Lookup::Absent(_))));
}

fn owned_id(fixture: &Fixture) -> RecordId {
    fixture.visitor("owned").id
}

async fn found(store: &RedisStore, visitor: &Visitor) -> std::sync::Arc<Record> {
    let proof: Proof = visitor.proof();
    match store.load(visitor.id, Some(&proof), &RequestHint::default()).await.unwrap() {
        Lookup::Found(found) => found.record,
        other => panic!("{other:?}"),
    }
}

/// Data that release 0.1 left on its servers, and the tokens that open it.
struct Fixture(&'static str);

impl Fixture {
    const fn of(text: &'static str) -> Self {
        Self(text)
    }

    fn visitor(&self, name: &str) -> Visitor {
        let named = |line: &str| {
            let (known, token) = line.strip_prefix("token ")?.split_once(' ')?;
            (known == name).then(|| Token::decode(token.as_bytes()).unwrap())
        };
        let token = self.0.lines().find_map(named).unwrap();
        Visitor { id: token.id(), token }
    }

    fn restore<'s>(&self, server_of: impl Fn(&str) -> &'s Redis) {
        for line in self.0.lines().filter_map(|line| line.strip_prefix("hash ")) {
            let words: Vec<_> = line.split(' ').map(bytes).collect();
            let key = String::from_utf8(words[0].clone()).unwrap();
            let mut command = vec![b"HSET".to_vec()];
            command.extend(words);
            server_of(&key).ask_bytes(&command);
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}
