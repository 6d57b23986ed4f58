//! Traffic on the wire: an eavesdropper reads nothing, and tampering is noticed.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::FutureExt;
use steadfast_core::{
    Authentication, Deletion, Env, Keyring, Operate, Outcome, Patch, Principal, Realm, RequestHint,
    Rotation, SessionStore, Token,
};
use steadfast_replicated::{ReplicatedStore, ReplicatedStoreBuilder};

use crate::common::{Pair, Visitor, contains, founder, node, plain, say};
use crate::tap::Harm;

/// Shows CL-04.
#[tokio::test]
async fn tampering_ends_the_link_and_changes_nothing() {
    let clear = recorded_in_the_clear().await.concat();
    let pair = Pair::open(node).await;
    let visitor = Visitor::at(&pair.nodes[0], &[("n", "0"), ("kept", "\"as it was\"")]).await;
    let (mut tried, mut confirmed) = (0, 0);
    let harms = [Harm::Flip, Harm::Drop, Harm::Repeat, Harm::Insert(clear)];
    for harm in harms.iter().cycle().take(3 * harms.len()) {
        let at = &pair.nodes[tried % 2];
        let (_, is_confirmed) = tokio::join!(pair.tap.harm(harm.clone()), visitor.count(at, "n"));
        tried += 1;
        confirmed += usize::from(is_confirmed);
        let counted: usize = pair.agreed(&visitor, "n").await.parse().unwrap();
        assert!((confirmed..=tried).contains(&counted), "{counted} after {harm:?}");
        assert_eq!(pair.agreed(&visitor, "kept").await, "\"as it was\"");
    }
}

/// Shows CL-04.
#[tokio::test]
async fn plaintext_frames_are_rejected() {
    let recorded = recorded_in_the_clear().await;
    let (port, store) = founder(node(0)).await;
    let visitor = Visitor::at(&store, &[("n", "0")]).await;
    let before = store.stats().await.unwrap();
    for frames in recorded {
        assert!(frames.len() > 100, "a peer had something to say");
        let heard = say(port, &frames).await;
        assert!(heard.len() <= ALERT, "{heard:?}");
    }
    assert_eq!(store.stats().await.unwrap(), before);
    assert_eq!(visitor.value(&store, "n").await.unwrap(), "0");
}

/// Shows CL-05.
#[tokio::test]
async fn replayed_traffic_is_rejected() {
    let pair = Pair::open(node).await;
    let [first, second] = &pair.nodes;
    let visitor = Visitor::at(first, &[("n", "0")]).await;
    assert!(visitor.count(second, "n").await);
    let recorded = pair.tap.connections();
    assert!(first.delete(visitor.id(), &Deletion::LOGOUT).await.unwrap().is_ended());
    let before = [first.stats().await.unwrap(), second.stats().await.unwrap()];
    for connection in recorded {
        say(connection.to, &connection.said).await;
        say(connection.to, &connection.answered).await;
    }
    assert_eq!([first.stats().await.unwrap(), second.stats().await.unwrap()], before);
    assert_eq!(visitor.value(first, "n").await, None);
    assert_eq!(visitor.value(second, "n").await, None);
    assert!(first.wait_for(3).now_or_never().is_none(), "nobody joined");
}

/// Shows CL-10.
#[tokio::test]
async fn the_wire_shows_no_token_and_no_value() {
    let (clear, tokens) = overheard(plain).await;
    for bytes in [VALUE, USER] {
        assert!(contains(&clear, bytes.as_bytes()), "the tap hears {bytes}");
    }
    assert!(!tokens.iter().any(|token| gives_away(&clear, token)));
    let (sealed, tokens) = overheard(node).await;
    for bytes in [VALUE, USER, "kept-under"] {
        assert!(!contains(&sealed, bytes.as_bytes()), "{bytes}");
    }
    assert!(!tokens.iter().any(|token| gives_away(&sealed, token)));
    for token in &tokens {
        assert!(!contains(&sealed, token.id().as_bytes()));
        assert!(!contains(
            &sealed,
            Keyring::unkeyed().hash(&Realm::default(), token.secret()).digest()
        ));
    }
}

/// Returns the plain text that peers exchange on each connection.
async fn recorded_in_the_clear() -> Vec<Vec<u8>> {
    let pair = Pair::open(plain).await;
    let visitor = Visitor::at(&pair.nodes[0], &[("n", "0")]).await;
    assert!(visitor.count(&pair.nodes[1], "n").await);
    let connections = pair.tap.connections().into_iter();
    connections.map(|one| one.said).filter(|said| !said.is_empty()).collect()
}

/// All that passes while a session is started, used, signed in to and ended; and its tokens.
async fn overheard(node: impl Fn(usize) -> ReplicatedStoreBuilder) -> (Vec<u8>, Vec<Token>) {
    let pair = Pair::open(node).await;
    let [first, second] = &pair.nodes;
    let visitor = Visitor::at(first, &[("kept-under", &format!("\"{VALUE}\""))]).await;
    assert!(visitor.count(second, "n").await);
    assert!(visitor.value(second, "kept-under").await.is_some());
    let signed_in = Visitor { token: sign_in(&visitor, second).await };
    assert!(signed_in.value(first, "kept-under").await.is_some());
    let user = Principal::new(Realm::default(), USER).unwrap();
    assert_eq!(second.list(&user).await.unwrap().len(), 1);
    assert!(
        second
            .delete(
                signed_in.id(),
                &Deletion { proof: Some(&signed_in.proof()), ..Deletion::LOGOUT }
            )
            .await
            .unwrap()
            .is_ended()
    );
    (pair.tap.heard(), vec![visitor.token, signed_in.token])
}

/// Replaces the secret of a session, for a user.
async fn sign_in(visitor: &Visitor, store: &ReplicatedStore) -> Token {
    let env = Env::system();
    let token = Token::generate(visitor.id(), &env).unwrap();
    let authentication = Authentication {
        at: env.now(),
        absolute_deadline: env.now() + std::time::Duration::from_secs(3_600),
        principal: Some(Principal::new(Realm::default(), USER).unwrap()),
        facts: None,
        policy: Default::default(),
    };
    let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
    let mut patch = Patch::new();
    patch.rotate(visitor.proof(), Rotation { hash, authentication: Some(authentication) });
    let outcome = store.update(visitor.id(), &patch, &RequestHint::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    token
}

/// Returns true if the bytes contain the secret of a token in some encoding.
fn gives_away(heard: &[u8], token: &Token) -> bool {
    let bytes = URL_SAFE_NO_PAD.decode(token.encode().as_bytes()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let secret = &bytes[16..];
    let spellings = [
        token.encode().as_bytes().to_vec(),
        secret.to_vec(),
        hex(secret).into_bytes(),
        hex(secret).to_uppercase().into_bytes(),
        STANDARD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        STANDARD.encode(&bytes).into_bytes(),
    ];
    spellings.iter().any(|spelling| contains(heard, spelling))
}

const VALUE: &str = "a value that nobody else would have";

const USER: &str = "somebody-who-signs-in";

/// The bytes of an alert in the clear.
const ALERT: usize = 7;
