//! Requests that race with the end of their session on another node.

use crate::service::Service;

/// A request that had loaded its session, or had not, writes after another node ended it.
pub async fn no_write_outlives_a_logout(service: &Service) {
    for (gate, load) in [("loaded", 1), ("blind", 0)] {
        for mode in ["write", "incr", "read", "cycle"] {
            let client = service.node(0).member("alice").await;
            let stolen = client.fork();
            let gate = format!("{gate}-{mode}");
            let path = format!("/gate?g={gate}&mode={mode}&load={load}");
            let slow = stolen.at(service.node(1));
            let held = tokio::spawn(async move { slow.send("POST", &path, &[], "").await });
            service.node(1).waiting(&gate, 1).await;

            let old = client.fork();
            client.post("/logout").await.ok();
            service.node(1).order(&format!("/gate/release?g={gate}")).await;
            let reply = held.await.unwrap();
            let minted = reply.set_cookies().iter().any(|line| line.starts_with("__Host-id="));
            assert!(load == 0 || !minted, "{gate}: {reply:?}");
            assert!(service.users(&old).await.iter().all(Option::is_none), "{gate}");
            assert!(service.users(&stolen).await.iter().all(Option::is_none), "{gate}");
        }
    }
}
