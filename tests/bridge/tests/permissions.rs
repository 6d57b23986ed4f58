//! axum-login's example of permissions, over every store: three nodes, concurrent requests of a user, and
//! sign-outs in between.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod site;

use bridge::{Client, Service};
use futures_util::future::join_all;
use site::Site;

macro_rules! over {
    ($($store:ident),+) => {
        $(mod $store {
            use crate::Service;

            #[tokio::test(flavor = "multi_thread")]
            async fn the_example_does_what_its_test_demands() {
                crate::example(Service::$store().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn no_update_is_lost_and_no_logout_undone() {
                crate::load(Service::$store().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn users_are_listed_and_ended() {
                crate::administration(Service::$store().await).await;
            }
        })+
    };
}

over!(memory, sticky, redis, postgres, replicated);

/// The steps of `permissions_example` in axum-login's own tests.
async fn example(service: Service) {
    let site = Site::over(&service.bridges(), 0);
    let client = site.client();
    assert_eq!(client.get("/").await.location(), "/login?next=%2F");
    assert!(client.sign_in("ferris", "bogus").await.body.contains("Invalid credentials."));
    assert!(!client.has_cookie());
    assert_eq!(client.sign_in("ferris", "hunter42").await.location(), "/");
    assert!(client.has_cookie());
    assert_eq!(client.get("/").await.body, "protected: ferris");
    assert_eq!(client.get("/restricted").await.location(), "/login?next=%2Frestricted");
    assert_eq!(client.sign_in("admin", "hunter42").await.location(), "/");
    assert_eq!(client.get("/restricted").await.body, "restricted: admin");
    assert_eq!(client.get("/logout").await.location(), "/login");
    assert!(!client.has_cookie());
    assert_eq!(client.get("/restricted").await.location(), "/login?next=%2Frestricted");
}

async fn load(service: Service) {
    let site = Site::over(&service.bridges(), USERS * AT_ONCE);
    let clients: Vec<_> = (0..USERS).map(|_| site.client()).collect();
    let lost: usize = join_all(clients.iter().map(lost)).await.into_iter().sum();
    let (refused, undone) = undone(&site, &clients).await;
    let updates = USERS * AT_ONCE;
    println!("{updates} updates: {lost} lost; {USERS} logouts: {undone} undone");
    assert_eq!((lost, undone, refused), (0, 0, updates));
}

/// Counts the lost acknowledged updates of a user whose pages write concurrently.
async fn lost(client: &Client) -> usize {
    client.sign_in("ferris", "hunter42").await;
    let paths: Vec<_> = (0..AT_ONCE).map(|n| format!("/note?key=note{n}")).collect();
    let notes = join_all(paths.iter().map(|path| client.get(path))).await;
    let acknowledged = notes.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(acknowledged, AT_ONCE);
    acknowledged - client.get("/notes").await.body.parse::<usize>().unwrap()
}

/// Counts the refused late writes and the undone sign-outs of users who sign out while their
/// pages are about to write.
async fn undone(site: &Site, clients: &[Client]) -> (usize, usize) {
    let copies: Vec<_> = clients.iter().map(Client::fork).collect();
    let late = clients.iter().flat_map(|client| (0..AT_ONCE).map(|_| client.get("/late")));
    let logouts = async {
        site.pass().await;
        for client in clients {
            assert_eq!(client.get("/logout").await.location(), "/login");
        }
        site.pass().await;
    };
    let (late, ()) = tokio::join!(join_all(late), logouts);
    let refused = late.iter().filter(|reply| reply.status == 500 && !reply.sets_a_cookie());
    let mut undone = 0;
    for client in copies.iter().flat_map(|copy| [copy.fork(), copy.fork(), copy.fork()]) {
        undone += usize::from(client.get("/").await.status == 200);
    }
    for client in clients {
        undone += usize::from(client.get("/").await.status == 200);
    }
    (refused.count(), undone)
}

async fn administration(service: Service) {
    let bridges = service.bridges();
    let site = Site::over(&bridges, 0);
    let clients = [site.client(), site.client(), site.client()];
    for client in &clients {
        client.sign_in("admin", "hunter42").await;
    }
    let sessions = bridges[0].list(site::ADMIN).await.unwrap();
    assert_eq!(sessions.len(), 3);
    assert!(bridges[0].end(sessions[0].id).await.unwrap());
    assert_eq!(bridges[0].end_all(site::ADMIN).await.unwrap(), 2);
    for client in &clients {
        assert_eq!(client.get("/").await.location(), "/login?next=%2F");
    }
}

/// The actions of a browser on this site.
trait Browser {
    fn sign_in(&self, name: &str, password: &str) -> impl Future<Output = bridge::Reply>;
}

impl Browser for Client {
    async fn sign_in(&self, name: &str, password: &str) -> bridge::Reply {
        self.post("/login", &format!("username={name}&password={password}")).await
    }
}

const USERS: usize = 12;
const AT_ONCE: usize = 8;
