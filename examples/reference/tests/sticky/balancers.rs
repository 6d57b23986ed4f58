//! Each configuration that is shipped, run by the balancer it is for.

use testkit::{Client, eventually};

use crate::service::{Service, node, stranger, until_strangers};

/// A configuration that is shipped.
macro_rules! config {
    ($path:literal) => {
        include_str!(concat!("../../../sticky/", $path))
    };
}
pub(crate) use config;

#[tokio::test]
async fn haproxy_follows_the_cookie_with_the_route() {
    let mut service = Service::start("cookie").await;
    let haproxy = service.haproxy(config!("haproxy/cookie.cfg")).await;
    follows(&mut service, &haproxy.client(), Drains::AndIsNoticed).await;
}

#[tokio::test]
async fn haproxy_follows_the_suffix_of_the_token() {
    let mut service = Service::start("suffix").await;
    let haproxy = service.haproxy(config!("haproxy/suffix.cfg")).await;
    follows(&mut service, &haproxy.client(), Drains::AndIsNoticed).await;
}

#[tokio::test]
async fn haproxy_follows_the_second_label_after_a_failure() {
    let mut service = Service::start("suffix").await;
    let haproxy = service.haproxy(config!("haproxy/suffix.cfg")).await;
    let alice = member(&haproxy.client(), "alice").await;
    let token = alice.cookie("__Host-id").unwrap();
    let ranked = format!("{}.n1.n3", token.split('.').next().unwrap());
    let asking = || {
        let asking = alice.fork();
        asking.set_cookie("__Host-id", &ranked);
        asking
    };
    assert_eq!(node(&asking()).await, "n1");
    service.kill("n1").await;
    // Until HAProxy knows that the node is down, a request that finds it gone goes to any other.
    eventually(async || {
        let mut nodes = Vec::new();
        for _ in 0..5 {
            nodes.push(node(&asking()).await);
        }
        nodes == ["n3"; 5]
    })
    .await;
    assert_eq!(asking().user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn haproxy_keeps_the_route_in_a_table() {
    let mut service = Service::start("none").await;
    let haproxy = service.haproxy(config!("haproxy/stick-table.cfg")).await;
    keeps(&mut service, &haproxy.client()).await;
}

#[tokio::test]
async fn a_new_address_behind_haproxy_stays_signed_in() {
    let mut service = Service::start("none").await;
    let haproxy = service.haproxy(config!("haproxy/source.cfg")).await;
    moves_with_its_address(&haproxy.client()).await;
    keeps(&mut service, &haproxy.client()).await;
}

#[tokio::test]
async fn nginx_follows_the_cookie_with_the_route() {
    let mut service = Service::start("cookie").await;
    let nginx = service.nginx(config!("nginx/route.conf")).await;
    follows(&mut service, &nginx.client(), Drains::Unnoticed).await;
}

#[tokio::test]
async fn a_new_address_behind_nginx_stays_signed_in() {
    let mut service = Service::start("none").await;
    let nginx = service.nginx(config!("nginx/ip_hash.conf")).await;
    moves_with_its_address(&nginx.client()).await;
    keeps(&mut service, &nginx.client()).await;
}

/// True if the balancer checks the health of nodes.
#[derive(PartialEq)]
enum Drains {
    AndIsNoticed,
    Unnoticed,
}

/// A balancer that goes by the labels: a client stays, moves once when its node is killed, does not
/// move back, and moves when its node drains.
async fn follows(service: &mut Service, balancer: &Client, drains: Drains) {
    let alice = member(balancer, "alice").await;
    let first = stays(&alice).await;

    service.kill(&first).await;
    let second = moves_once(&alice).await;
    assert_ne!(second, first);

    service.restart(&first).await;
    until_strangers(balancer, &first, true).await;
    assert_eq!(stays(&alice).await, second, "it does not bounce");

    let drained = service.node(&second).order("/drain").await;
    assert!(drained["moved"].as_u64().unwrap() >= 1 && drained["lost"] == 0, "{drained}");
    assert_eq!(service.node(&second).client().get("/readyz").await.status, 404);
    assert_eq!(alice.post("/incr").await.ok().json()["value"], 4);
    // A route after the token is set by an answer that saw the token to be current.
    alice.peek().await;
    let third = stays(&alice).await;
    assert_ne!(third, second, "the answer of a node that drains names another");
    if drains == Drains::AndIsNoticed {
        until_strangers(balancer, &second, false).await;
    }
    service.stop(&second).await;
    assert_eq!(stays(&alice).await, third);
    assert_eq!(alice.post("/incr").await.ok().json()["value"], 5);
}

/// A balancer that goes by something of its own: a client stays, and goes on elsewhere when its node
/// is killed or drained.
async fn keeps(service: &mut Service, balancer: &Client) {
    let alice = member(balancer, "alice").await;
    let first = stays(&alice).await;
    assert!(!alice.cookies().contains("route"), "{}", alice.cookies());
    service.kill(&first).await;
    let second = moves_once(&alice).await;
    assert_ne!(second, first);
    service.restart(&first).await;
    assert_eq!(alice.user().await.as_deref(), Some("alice"));

    let last = node(&alice).await;
    service.node(&last).order("/drain").await;
    assert_eq!(alice.post("/incr").await.ok().json()["value"], 4, "it is served to the end");
    service.stop(&last).await;
    assert_eq!(alice.post("/incr").await.ok().json()["value"], 5);
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

/// A client whose address changes comes to another node sooner or later.
async fn moves_with_its_address(balancer: &Client) {
    let alice = member(balancer, "alice").await;
    let first = stays(&alice).await;
    let mut elsewhere = 0;
    for n in 0..20 {
        let roaming = alice.from(&format!("127.0.{}.9", 10 + n));
        assert_eq!(roaming.user().await.as_deref(), Some("alice"));
        elsewhere += u32::from(node(&roaming).await != first);
    }
    assert!(elsewhere > 0, "another address, another node");
}

/// A user who signed in and counted to 3.
async fn member(balancer: &Client, user: &str) -> Client {
    let client = stranger(balancer, 7);
    client.post(&format!("/login?u={user}")).await.ok();
    for n in 1..=3 {
        assert_eq!(client.post("/incr").await.ok().json()["value"], n);
    }
    client
}

/// The one node that serves a client, and knows it.
async fn stays(client: &Client) -> String {
    let label = node(client).await;
    for _ in 0..5 {
        assert_eq!(client.user().await.as_deref(), Some("alice"));
        assert_eq!(node(client).await, label);
    }
    label
}

/// The node that a client is served by once there is one, and from then on.
async fn moves_once(client: &Client) -> String {
    eventually(async || client.get("/peek").await.status == 200).await;
    assert_eq!(client.peek().await["n"], 3);
    stays(client).await
}
