//! Nodes that cannot reach each other for a while, in one direction or in both.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use testkit::{Balancer, Client, Cluster, Load, Policy, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_refuses_while_others_serve() {
    lose_the_third("cut off", ISOLATED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_send_refuses() {
    lose_the_third("not heard", &[(2, 0), (2, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_receive_refuses() {
    lose_the_third("deaf", &[(0, 2), (1, 2)]).await;
}

/// Cuts the last one of three nodes off, while users are at work at all of them.
async fn lose_the_third(drill: &str, ways: &[(usize, usize)]) {
    let cluster = Cluster::start_wired(3, "copies=1").await;
    let load = work(&cluster).await;
    let members = members(&cluster, 6).await;
    let cut = cut(&cluster, ways);
    refuses(&cluster, 2).await;
    let refused = cut.elapsed();
    see(&cluster, &[0, 1], 2.0).await;
    let noticed = cut.elapsed();
    let (of_two, of_the_third) = tokio::join!(
        answers(&cluster, &members, &[0, 1], cut + TEN_SECONDS),
        answers(&cluster, &members, &[2], cut + TEN_SECONDS),
    );
    refuses(&cluster, 2).await;
    eprintln!("{drill}: it refuses after {refused:?}, the others notice after {noticed:?}");
    eprintln!("{drill}: then the two answer {of_two:?}, the third {of_the_third:?}");
    mend(drill, &cluster, load).await;
    assert_eq!(of_the_third.into_keys().collect::<Vec<_>>(), [503]);
    // On a busy machine, an acknowledgement may take longer than the 200 ms it has.
    let refused = of_two.get(&503).copied().unwrap_or_default();
    assert!(20 * refused < of_two.values().sum(), "{of_two:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_two_nodes_loses_nothing() {
    let cluster = Cluster::start_wired(3, "copies=1").await;
    let load = work(&cluster).await;
    let members = members(&cluster, 12).await;
    let cut = cut(&cluster, &[(1, 2), (2, 1)]);
    let answers = answers(&cluster, &members, &[0, 1, 2], cut + TEN_SECONDS).await;
    eprintln!("one pair cut: meanwhile they answer {answers:?}");
    mend("one pair cut", &cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_serves_no_ended_session() {
    let cluster = Cluster::start_wired(3, "copies=1").await;
    let members = members(&cluster, 36).await;
    let (before, after) = members.split_at(18);
    cut(&cluster, ISOLATED);
    let mut ended = join_all(before.iter().map(|member| member.end(&cluster))).await;
    let at_once = ended.iter().filter(|ended| ended.tries == 1).count();
    see(&cluster, &[0, 1], 2.0).await;
    ended.extend(join_all(after.iter().map(|member| member.end(&cluster))).await);
    let slowest = ended.iter().map(|ended| ended.took).max().unwrap_or_default();
    eprintln!("ends and new secrets before the cut is noticed: {at_once} of 18 with one try");
    eprintln!("ends and new secrets during a cut: none that was confirmed took over {slowest:?}");
    cluster.wires().mend();
    for node in 0..3 {
        for ended in &ended {
            ended.assert_dead(&cluster, node).await;
        }
    }
    // A new secret may have missed its acknowledgements on a busy machine.
    let (early, late) = ended.split_at(18);
    let early = early.iter().filter(|ended| !is_held_by(&ended.old, "n3"));
    let mut logouts = early.chain(late).filter(|ended| ended.path == "/logout");
    assert!(logouts.all(|ended| ended.tries == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_beyond_a_cut_brings_nothing_back() {
    let settings = ["copies=1", "copies=1&partition=degrade"];
    join_all(settings.map(async |settings| {
        let cluster = Cluster::start_wired(3, settings).await;
        let members = members(&cluster, 12).await;
        cut(&cluster, ISOLATED);
        see(&cluster, &[0, 1], 2.0).await;
        let ended = join_all(members.iter().map(|member| member.log_out(&cluster, 0))).await;
        let written = write_at(&cluster, 2, &ended, Instant::now() + Duration::from_secs(1)).await;
        cluster.wires().mend();
        let after = write_at(&cluster, 2, &ended, Instant::now() + Duration::from_secs(2)).await;
        eprintln!("{settings}: writes to what was ended: {written:?}, after it {after:?}");
        for node in 0..3 {
            for ended in &ended {
                ended.assert_dead(&cluster, node).await;
            }
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn degraded_sides_serve_and_merge() {
    let cluster = Cluster::start_wired(3, "copies=1&partition=degrade").await;
    let mut members = members(&cluster, 36).await;
    // Whose session is on both sides.
    members.retain(|member| is_held_by(&member.client, "n3"));
    let (leaving, staying) = members.split_at(6);
    let cut = cut(&cluster, ISOLATED);
    see(&cluster, &[0, 1], 2.0).await;
    see(&cluster, &[2], 1.0).await;
    eprintln!("degrade: noticed after {:?}", cut.elapsed());
    let until = Instant::now() + Duration::from_secs(3);
    tokio::join!(
        join_all(members.iter().map(|member| member.count(&cluster, 1, "ours", until))),
        join_all(members.iter().map(|member| member.count(&cluster, 2, "theirs", until))),
    );
    let ended = join_all(leaving.iter().map(|member| member.log_out(&cluster, 0))).await;
    write_at(&cluster, 2, &ended, Instant::now() + Duration::from_secs(1)).await;
    cluster.wires().mend();
    let mended = Instant::now();
    agree(&cluster).await;
    let agreed = mended.elapsed();
    eprintln!("degrade: agreed {agreed:?} after it");
    cluster.at_rest(2).await;
    for node in 0..3 {
        for ended in &ended {
            ended.assert_dead(&cluster, node).await;
        }
        for member in staying {
            member.assert_counted(&cluster, node).await;
        }
    }
    assert!(agreed < AGREES_WITHIN, "{agreed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_backup_delays_a_write_briefly() {
    let cluster = Cluster::start(3, "copies=1").await;
    let client = held_by(&cluster, "n1.n2").await;
    cluster.pause(1);
    let (paused, mut statuses, mut slowest) = (Instant::now(), Vec::new(), Duration::ZERO);
    while paused.elapsed() < Duration::from_secs(4) {
        let started = Instant::now();
        let reply = client.send("POST", "/put", &[], &statuses.len().to_string()).await;
        slowest = slowest.max(started.elapsed());
        statuses.push(reply.status.as_u16());
        tokio::time::sleep(PAUSE).await;
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    eprintln!("a backup that stands still: the slowest {slowest:?}, {refused} of them refused");
    cluster.resume(1);
    let last = statuses.iter().rposition(|status| *status == 200).expect("another one took over");
    assert_eq!(last, statuses.len() - 1);
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(slowest < WRITES_WITHIN, "{slowest:?}");
    for node in 0..3 {
        eventually(async || {
            let reply = client.fork().at(cluster.node(node)).get("/peek").await;
            reply.status == 200 && reply.json()["n"] == last
        })
        .await;
    }
    cluster.at_rest(2).await;
}

/// A client with a session that has this route.
async fn held_by(cluster: &Cluster, route: &str) -> Client {
    for n in 0..100 {
        let client = cluster.node(0).member(&format!("user{n}")).await;
        if client.cookie(ROUTE).as_deref() == Some(route) {
            return client;
        }
    }
    panic!("no session came to {route}");
}

/// Users at work at all nodes, for a while already.
async fn work(cluster: &Cluster) -> Load {
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 40, THINKS).await;
    load.rounds(2).await;
    load
}

/// The time at which these links were cut.
fn cut(cluster: &Cluster, ways: &[(usize, usize)]) -> Instant {
    for (from, to) in ways {
        cluster.wires().cut(*from, *to);
    }
    Instant::now()
}

/// Mends the wires, lets the users finish, and sees which confirmed changes are left.
async fn mend(drill: &str, cluster: &Cluster, load: Load) {
    cluster.wires().mend();
    let mended = Instant::now();
    load.rounds(2).await;
    let witnesses = load.finish().await;
    agree(cluster).await;
    let agreed = mended.elapsed();
    cluster.at_rest(2).await;
    let rested = mended.elapsed();
    let verdict = witnesses.judge(&[0, 1, 2]).await;
    eprintln!("{drill}: agreed {agreed:?} after it, at rest {rested:?} after it");
    eprintln!("{drill}: {}", verdict.figures());
    verdict.assert_nothing_lost();
    assert!(agreed < AGREES_WITHIN, "{agreed:?}");
}

/// Waits until two nodes hold the newest copy of each record. Others may still hold an older one, until
/// it is certain that no node needs it.
async fn agree(cluster: &Cluster) {
    let are_two = |copies: &Vec<&Value>| {
        let newest = copies.iter().max_by_key(|copy| copy["version"].as_u64());
        copies.iter().filter(|copy| Some(*copy) == newest).count() >= 2
    };
    eventually(async || cluster.copies().await.records().values().all(are_two)).await;
}

/// Waits until a node takes no clients.
async fn refuses(cluster: &Cluster, node: usize) {
    let client = cluster.node(node).client();
    eventually(async || client.get("/readyz").await.status == 503).await;
}

/// Waits until nodes place records on this many nodes.
async fn see(cluster: &Cluster, nodes: &[usize], members: f64) {
    for node in nodes {
        eventually(async || cluster.figures(*node).await["members"] == members).await;
    }
}

/// A signed-in user.
struct Member {
    name: String,
    number: usize,
    client: Client,
    /// The last number that it wrote, by its key.
    counted: Mutex<BTreeMap<String, u64>>,
}

/// Users who are signed in, some on each node, and whom every node has seen.
async fn members(cluster: &Cluster, count: usize) -> Vec<Member> {
    let member = async |number| {
        let name = format!("member{number}");
        let client = cluster.node(number % 3).client();
        let path = format!("/login?u={name}");
        eventually(async || client.post(&path).await.status == 200).await;
        for node in 0..3 {
            eventually(async || user(cluster, node, &client).await.as_ref() == Some(&name)).await;
        }
        Member { name, number, client, counted: Mutex::default() }
    };
    join_all((0..count).map(member)).await
}

/// Returns the user whom a node sees in a client; `None` also if the node cannot tell.
async fn user(cluster: &Cluster, node: usize, client: &Client) -> Option<String> {
    let reply = client.fork().at(cluster.node(node)).get("/peek").await;
    match reply.status.as_u16() {
        503 => None,
        _ => reply.ok().json()["user"].as_str().map(str::to_owned),
    }
}

/// Counts the statuses of the answers to members who write and read at nodes until then.
async fn answers(
    cluster: &Cluster,
    members: &[Member],
    nodes: &[usize],
    until: Instant,
) -> BTreeMap<u16, usize> {
    let answers = join_all(members.iter().map(|member| member.work(cluster, nodes, until))).await;
    let mut counts = BTreeMap::new();
    for status in answers.concat() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// The same for the old cookies of what was ended, and writes alone.
async fn write_at(
    cluster: &Cluster,
    node: usize,
    ended: &[Ended],
    until: Instant,
) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    while Instant::now() < until {
        let writes = ended.iter().map(async |ended| {
            let old = ended.old.fork().at(cluster.node(node));
            old.send("POST", "/put", &[], "1").await.status.as_u16()
        });
        for status in join_all(writes).await {
            *counts.entry(status).or_default() += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    counts
}

impl Member {
    async fn work(&self, cluster: &Cluster, nodes: &[usize], until: Instant) -> Vec<u16> {
        let (client, mut answers) = (self.client.fork(), Vec::new());
        for node in nodes.iter().cycle() {
            if Instant::now() >= until {
                break;
            }
            let client = client.at(cluster.node(*node));
            answers.push(client.send("POST", "/put?k=work", &[], "1").await.status.as_u16());
            let peeked = client.get("/peek").await;
            answers.push(peeked.status.as_u16());
            if peeked.status == 200 {
                assert_eq!(peeked.json()["user"], self.name);
            }
            tokio::time::sleep(PAUSE).await;
        }
        answers
    }

    /// Writes growing numbers, each of them until it is taken.
    async fn count(&self, cluster: &Cluster, node: usize, key: &str, until: Instant) {
        let (client, path) = (self.client.fork().at(cluster.node(node)), format!("/put?k={key}"));
        let mut number = 0;
        while Instant::now() < until {
            number += 1;
            let text = number.to_string();
            let is_taken = async || match client.send("POST", &path, &[], &text).await {
                refused if refused.status == 503 => false,
                reply => reply.ok().status == 200,
            };
            eventually(is_taken).await;
            tokio::time::sleep(PAUSE).await;
        }
        self.counted.lock().unwrap().insert(key.to_owned(), number);
    }

    /// A node has the last of the numbers.
    async fn assert_counted(&self, cluster: &Cluster, node: usize) {
        let counted = self.counted.lock().unwrap().clone();
        for (key, number) in counted {
            let client = self.client.fork().at(cluster.node(node));
            let value = client.get(&format!("/get?k={key}")).await.ok().json();
            assert_eq!(value["value"], number, "{key} of {} at {node}", self.name);
        }
    }

    /// Signs out, or has the secret replaced, at the first or the second node, however often that has
    /// to be tried. The third one does not know the old cookie from then on.
    async fn end(&self, cluster: &Cluster) -> Ended {
        let path = ["/logout", "/cycle", "/login?u=another"][self.number / 3 % 3];
        let ended = self.send(cluster, self.number / 9 % 2, path).await;
        for old in ended.replays() {
            assert_eq!(user(cluster, 2, &old).await, None, "{path} of {}", self.name);
        }
        ended
    }

    async fn log_out(&self, cluster: &Cluster, node: usize) -> Ended {
        self.send(cluster, node, "/logout").await
    }

    async fn send(&self, cluster: &Cluster, node: usize, path: &'static str) -> Ended {
        let (old, client) = (self.client.fork(), self.client.at(cluster.node(node)));
        let user = match path {
            "/logout" => None,
            "/cycle" => Some(self.name.clone()),
            _ => Some("another".to_owned()),
        };
        let mut tries = 0;
        loop {
            let started = Instant::now();
            let reply = client.post(path).await;
            let took = started.elapsed();
            tries += 1;
            assert!(took < ENDS_WITHIN, "{path} of {} took {took:?}", self.name);
            if reply.status != 503 {
                reply.ok();
                return Ended { old, path, tries, took, user, client };
            }
            assert!(tries < 100, "{path} of {}: {reply:?}", self.name);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A user whose earlier cookie is no longer valid.
struct Ended {
    old: Client,
    path: &'static str,
    tries: usize,
    /// The duration of the call that succeeded.
    took: Duration,
    /// The user who is signed in instead.
    user: Option<String>,
    client: Client,
}

impl Ended {
    /// The old cookie with the version that was seen, and without it.
    fn replays(&self) -> [Client; 2] {
        let bare = self.old.stranger();
        bare.set_cookie(COOKIE, &self.old.cookie(COOKIE).unwrap());
        [self.old.fork(), bare]
    }

    /// Waits until the node can answer. Then it must not know the old cookie, and must know the new session.
    async fn assert_dead(&self, cluster: &Cluster, node: usize) {
        let knows = async |client: &Client| {
            let client = client.fork().at(cluster.node(node));
            let is_able = async || client.fork().get("/peek").await.status == 200;
            eventually(is_able).await;
            user(cluster, node, &client).await
        };
        for old in self.replays() {
            assert_eq!(knows(&old).await, None, "it lives at {node}");
        }
        assert_eq!(knows(&self.client).await, self.user, "at {node}");
    }
}

/// Returns true if the route of a client names a node as holder.
fn is_held_by(client: &Client, label: &str) -> bool {
    client.cookie(ROUTE).unwrap().split('.').any(|holder| holder == label)
}

/// The last of three nodes is cut off from the others in both directions.
const ISOLATED: &[(usize, usize)] = &[(2, 0), (2, 1), (0, 2), (1, 2)];

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// The pause of a user between two requests, and of a client that only reads.
const THINKS: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// The time for which the holders of a record may differ after a cut.
const AGREES_WITHIN: Duration = Duration::from_secs(5);

/// The longest time for an end or a new secret: the 3 s of its deadline, and some for a busy machine.
const ENDS_WITHIN: Duration = Duration::from_millis(3_500);

/// The longest time for a plain write: the second of its deadline, and some for a busy machine.
const WRITES_WITHIN: Duration = Duration::from_millis(1_500);

/// The cookie with the secret, of the profile `host`.
const COOKIE: &str = "__Host-id";

/// The cookie with the labels of the nodes that hold the session.
const ROUTE: &str = "__Host-id-route";
