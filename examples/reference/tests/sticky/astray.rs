//! A balancer that does not follow the routes shows.

use testkit::eventually;

use crate::service::Service;

#[tokio::test]
async fn a_balancer_that_ignores_routes_is_reported() {
    let mut service = Service::start("cookie").await;
    let astray = include_str!("../../../sticky/haproxy/cookie.cfg");
    let haproxy = service.haproxy(&astray.replace("cookie __Host-id-route", "")).await;
    let client = haproxy.client();
    client.post("/incr").await.ok();
    let start = tokio::time::Instant::now();
    let ended = start + std::time::Duration::from_secs(10);
    while tokio::time::Instant::now() < ended {
        // Each comes to another node than the answer before named.
        client.get("/peek").await.ok();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let metrics = service.node("n1").client().get("/metrics").await.ok().body;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}\n{metrics}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(value(r#"steadfast_astray_share{node="n1"}"#) > 0.5);
    let misrouted = value(r#"steadfast_routes_total{route="misrouted"}"#);
    assert_eq!(service.node("n1").told("/events").await["misrouted"].as_f64(), Some(misrouted));
    let said = service.stop("n1").await;
    assert_eq!(said.matches("does the balancer route by the label").count(), 1, "{said}");
}

#[tokio::test]
async fn a_balancer_that_follows_them_does_not() {
    let service = Service::start("cookie").await;
    let haproxy = service.haproxy(include_str!("../../../sticky/haproxy/cookie.cfg")).await;
    let client = haproxy.client();
    client.post("/incr").await.ok();
    for _ in 0..100 {
        client.get("/peek").await.ok();
    }
    let label = client.peek().await["node"].as_str().unwrap().to_owned();
    eventually(async || {
        let metrics = service.node(&label).client().get("/metrics").await.ok().body;
        metrics.contains(r#"steadfast_routes_total{route="hit"} 101"#)
            && !metrics.contains(r#"steadfast_routes_total{route="misrouted"}"#)
    })
    .await;
}
