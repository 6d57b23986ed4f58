//! The problems that the check at startup detects.

use std::time::Duration;

use steadfast_core::{Deletion, Operate, Revocation, SessionStore, StoreError};
use steadfast_redis::{Address, CheckError, RedisStore, Tls};
use testkit::redis::{Certificates, PASSWORD, Redis, RedisCluster, RedisWithSentinels, USER};

use crate::fixture::{CLUSTER, Visitor, across, behind, builder, on, principal, store, until_ok};

#[tokio::test]
async fn a_passed_check_leaves_no_trace() {
    let server = Redis::start();
    let (sentinels, cluster) = (RedisWithSentinels::start(), RedisCluster::start());
    let stores = [
        store(&server),
        on(&server, builder().split()),
        behind(&sentinels, builder().wait(1, Duration::from_secs(2))),
        across(&cluster, builder()),
    ];
    for store in stores {
        store.check().await.unwrap();
        store.ready().await.unwrap();
    }
    let servers = [&server, &sentinels.servers[0]].into_iter().chain(&cluster.servers[..3]);
    for server in servers {
        assert_eq!(server.ask(&["KEYS", "*"]).list(), []);
    }
}

#[tokio::test]
async fn every_missing_privilege_is_named() {
    let optional = [
        "ping",
        "info",
        "scan",
        "wait",
        "role",
        "select",
        "cluster|slots",
        "asking",
        "pubsub|numsub",
    ];
    let acl = include_str!("../../users.acl");
    let rights = acl.split(' ').filter_map(|word| word.trim().strip_prefix('+'));
    let server = Redis::start();
    let mut missed = 0;
    for right in rights {
        server.ask(&["ACL", "SETUSER", USER, &format!("-{right}")]);
        let store = store(&server);
        match store.check().await {
            Ok(()) => assert!(optional.contains(&right), "{right}"),
            Err(error) => {
                let said = unfit(&error).to_lowercase();
                let names_it = said.contains(&format!("may not call {right}"));
                let names_evaluation =
                    right.starts_with("eval") && said.contains("may not call eval");
                assert!(names_it || names_evaluation, "{right}: {said}");
                missed += 1;
            }
        }
        server.ask(&["ACL", "SETUSER", USER, &format!("+{right}")]);
    }
    assert!(missed >= 19, "{missed}");
    for (rule, again, remedy) in [
        ("resetchannels", "&steadfast:*", "grant &steadfast:"),
        ("resetkeys", "~steadfast:*", "grant ~steadfast:"),
    ] {
        server.ask(&["ACL", "SETUSER", USER, rule]);
        let said = unfit(&store(&server).check().await.unwrap_err());
        assert!(said.contains(remedy), "{said}");
        server.ask(&["ACL", "SETUSER", USER, again]);
    }
    store(&server).check().await.unwrap();
}

#[tokio::test]
async fn a_refused_publish_stops_no_commit() {
    let server = Redis::start();
    let store = store(&server);
    store.check().await.unwrap();
    server.ask(&["ACL", "SETUSER", USER, "resetchannels"]);
    let one = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    let other = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    one.write(&store, 1).await.unwrap();
    assert_eq!(one.counted(&store).await, 1);
    assert!(store.delete(one.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert_eq!(store.delete_all(&principal("alice"), Revocation::LOGOUT).await.unwrap(), 1);
    assert!(!one.is_live(&store).await && !other.is_live(&store).await);
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_server_of_the_wrong_kind_is_reported() {
    let (primary, single) = (Redis::start(), Redis::start());
    let replica = Redis::configured(&format!("replicaof {}", primary.address().replace(':', " ")));
    let sentinels = RedisWithSentinels::start();
    let alone = Redis::configured("cluster-enabled yes\n");
    alone.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until_ok(async || across_one(&alone).check().await).await;
    let sentinel: Address = sentinels.addresses()[0].parse().unwrap();
    let primary_address: Address = primary.address().parse().unwrap();
    let nobody = RedisStore::builder();
    let [name, password] = Redis::ADMINISTRATOR;
    let administered = builder().sentinel_user(name, password);
    for (store, remedy) in [
        (store(&replica), "is a replica: name its primary"),
        (store(&CLUSTER.servers[0]), "redis+cluster:"),
        (store(&alone), "redis+cluster:"),
        (
            builder().cluster(vec![primary_address.clone()]).unwrap(),
            "is not part of a cluster: name it with redis:",
        ),
        (nobody.clone().standalone(sentinel).unwrap(), "redis+sentinel:"),
        (
            administered.sentinel(vec![primary_address.clone()], "sessions").unwrap(),
            "is no sentinel",
        ),
        (nobody.clone().standalone(primary_address.clone()).unwrap(), "demands a password: name"),
        (nobody.user(USER, "wrong").standalone(primary_address).unwrap(), "percent-encoded"),
        (on(&primary, builder().database(99)), "no such database"),
        (on(&single, builder().wait(1, Duration::from_millis(50))), "start replicas"),
    ] {
        let said = unfit(&store.check().await.expect_err(remedy));
        assert!(said.contains(remedy), "{remedy}: {said}");
        assert!(!said.contains('\n') && !said.contains(PASSWORD), "{said}");
    }
}

#[tokio::test]
async fn a_read_only_server_is_reported() {
    let server = Redis::start();
    for (setting, bad, good, remedy) in [
        ("maxmemory", "1", "0", "raise its maxmemory"),
        ("min-replicas-to-write", "1", "0", "lower its min-replicas-to-write"),
    ] {
        server.ask(&["CONFIG", "SET", setting, bad]);
        let said = unfit(&store(&server).check().await.unwrap_err());
        assert!(said.contains(remedy), "{said}");
        assert!(store(&server).ready().await.is_err());
        server.ask(&["CONFIG", "SET", setting, good]);
    }
    store(&server).ready().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_not_a_configuration_error() {
    let mut server = Redis::start();
    server.kill();
    let error = store(&server).check().await.unwrap_err();
    assert!(matches!(error, CheckError::Unavailable(StoreError::Unavailable(_))), "{error:?}");
}

#[tokio::test]
async fn nodes_of_release_0_1_are_reported() {
    let server = Redis::start();
    let prefix = "steadfast:both";
    let earlier = server.ask_without_waiting(&["SUBSCRIBE", &format!("{prefix}:c")]);
    let store = on(&server, builder().prefix(prefix.parse().unwrap()));
    let refused = async || store.check().await.err().ok_or("it passes");
    let (error, _) = until_ok(refused).await;
    assert!(unfit(&error).contains("stop all of them"));
    drop(earlier);
    until_ok(async || store.check().await).await;
}

#[tokio::test]
async fn a_client_certificate_is_presented_on_demand() {
    let certificates = Certificates::of("localhost");
    let server = Redis::with_client_certificates(&certificates);
    let address: Address = server.address().parse().unwrap();
    let address = Address::new("localhost", address.port());
    let dir = certificates.dir();
    let tls = Tls::authorities(certificates.authority()).unwrap();
    let without = builder().tls(tls.clone()).standalone(address.clone()).unwrap();
    let said = chain(&without.check().await.unwrap_err());
    assert!(said.contains("cert"), "{said}");
    let tls = tls.identity(format!("{dir}/server.pem"), format!("{dir}/key.pem")).unwrap();
    builder().tls(tls).standalone(address).unwrap().check().await.unwrap();
}

#[tokio::test]
async fn tls_and_its_lack_are_told_apart() {
    let certificates = Certificates::of("localhost");
    let (with, without) = (Redis::with_tls(&certificates), Redis::start());
    let said = chain(&store(&with).check().await.unwrap_err());
    assert!(said.contains("rediss:"), "{said}");
    let tls = Tls::authorities(certificates.authority()).unwrap();
    let said = chain(&on(&without, builder().tls(tls)).check().await.unwrap_err());
    assert!(said.contains("redis:"), "{said}");
    let other = Tls::authorities(Certificates::of("localhost").authority()).unwrap();
    let said = chain(&on(&with, builder().tls(other)).check().await.unwrap_err());
    assert!(said.contains("name its authority with ca"), "{said}");
}

fn across_one(server: &Redis) -> RedisStore {
    builder().cluster(vec![server.address().parse().unwrap()]).unwrap()
}

#[track_caller]
fn unfit(error: &CheckError) -> String {
    assert!(matches!(error, CheckError::Unfit { .. }), "{error:?}");
    error.to_string()
}

/// Formats an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
