//! TLS is verified, and there is no fallback.

use steadfast_core::{Operate, StoreError};
use steadfast_redis::{Address, RedisStore, Tls};
use testkit::redis::{Certificates, Redis};

use crate::fixture::{Visitor, builder};

/// Shows ST-10.
#[tokio::test]
async fn a_verified_server_is_spoken_to() {
    let certificates = Certificates::of("localhost");
    let server = Redis::with_tls(&certificates);
    let store = on(&server, "localhost", &certificates);
    let visitor = Visitor::arrive(&store).await;
    assert!(visitor.is_live(&store).await);
}

/// Shows ST-10.
#[tokio::test]
async fn another_authority_or_name_is_refused() {
    let certificates = Certificates::of("localhost");
    let server = Redis::with_tls(&certificates);
    let others = Certificates::of("localhost");
    for store in [on(&server, "localhost", &others), on(&server, "127.0.0.1", &certificates)] {
        let refused = store.ready().await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
}

/// Shows ST-10.
#[tokio::test]
async fn a_server_without_tls_gets_no_plaintext() {
    let certificates = Certificates::of("localhost");
    let server = Redis::start();
    let monitor = server.monitor();
    let store = on(&server, "localhost", &certificates);
    assert!(matches!(store.ready().await, Err(StoreError::Unavailable(_))));
    assert_eq!(server.seen(monitor), Vec::<String>::new());
}

fn on(server: &Redis, name: &str, trusted: &Certificates) -> RedisStore {
    let address: Address = server.address().parse().unwrap();
    let tls = Tls::authorities(trusted.authority()).unwrap();
    builder().tls(tls).standalone(Address::new(name, address.port())).unwrap()
}
