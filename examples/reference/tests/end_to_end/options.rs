//! Tests of the program's start and end.

use testkit::server::{program, refusal};
use testkit::{Server, within};

#[tokio::test]
async fn a_wrong_option_is_one_clear_line() {
    for (options, says) in [
        (&["--nonsense", "1"][..], "unknown option \"--nonsense\""),
        (&["redis://u:hunter2@h"], "options begin with --"),
        (&["--node"], "--node needs a value"),
        (&["--node", "a b"], "--node (STEADFAST_NODE) wants 1 to 32"),
        (&["--profile", "x"], "wants host, domain, partitioned or dev"),
        (&["--idle", "x"], "--idle (STEADFAST_IDLE) wants a whole number of seconds"),
        (&["--idle", "0"], "--idle and --absolute cannot be"),
        (&["--idle", "100", "--absolute", "99"], "--idle and --absolute cannot be"),
        (&["--absolute", "18446744073709551615"], "--idle and --absolute cannot be"),
        (&["--visitor-idle", "x"], "--visitor-idle (STEADFAST_VISITOR_IDLE) wants a whole number"),
        (&["--visitor-idle", "0"], "--visitor-idle cannot be"),
        (&["--at-cap", "x"], "--at-cap wants end-oldest or refuse"),
        (&["--max-per-principal", "0"], "wants a whole number from 1"),
        (&["--key", "hunter2"], "a key has the form NAME=HEX"),
        (&["--key", "k1=hunter2"], "the key \"k1\" is not in hexadecimal digits"),
        (&["--key", "k1=00ff"], "a hash key of 2 bytes is too short"),
        (&["--seal", "hunter2"], "invalid --seal: a key has the form NAME=HEX"),
        (&["--seal", "k1=00ff"], "a seal key of 2 bytes: expected 32 random bytes"),
        (&["--shutdown", "x"], "--shutdown (STEADFAST_SHUTDOWN) wants a whole number of seconds"),
        (
            &["--report-events", "x"],
            "--report-events (STEADFAST_REPORT_EVENTS) wants a whole number",
        ),
        (&["--on-outage", "stale"], "--on-outage \"stale\" is not there"),
        (&["--store", "nonsense://u:hunter2@h"], "unknown scheme \"nonsense\""),
        (&["--store=memory:?x=hunter2"], "has no setting \"x\""),
        (&["--store", "@/nowhere"], "/nowhere"),
        (&["--listen", "nowhere"], "cannot listen on nowhere"),
        (&["--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"], "not on loopback"),
        (&["--listen", "127.0.0.1:0", "--control", "[::]:0"], "not on loopback"),
    ] {
        let said = refusal(program(options)).await;
        assert!(said.starts_with("reference: ") && said.contains(says), "{options:?}: {said}");
        assert!(said.ends_with('\n') && said.lines().count() == 1, "{options:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn each_option_has_an_environment_variable() {
    for (variable, value, says) in [
        ("STEADFAST_STORE", "nonsense:", "scheme"),
        ("STEADFAST_LISTEN", "nowhere", "cannot listen"),
        ("STEADFAST_NODE", "a b", "STEADFAST_NODE"),
        ("STEADFAST_PROFILE", "x", "STEADFAST_PROFILE"),
        ("STEADFAST_IDLE", "x", "STEADFAST_IDLE"),
        ("STEADFAST_ABSOLUTE", "x", "STEADFAST_ABSOLUTE"),
        ("STEADFAST_MAX_PER_PRINCIPAL", "x", "STEADFAST_MAX_PER_PRINCIPAL"),
        ("STEADFAST_ON_OUTAGE", "x", "--on-outage"),
        ("STEADFAST_CONTROL", "8.8.8.8:1", "loopback"),
    ] {
        let mut program = program(&[]);
        program.env("STEADFAST_LISTEN", "127.0.0.1:0").env(variable, value);
        let said = refusal(program).await;
        assert!(said.contains(says), "{variable}: {said}");
    }
}

#[tokio::test]
async fn the_command_line_counts_more_than_the_environment() {
    let mut program = program(&["--node=fine", "--store", "nonsense:"]);
    program.env("STEADFAST_NODE", "a b");
    assert!(refusal(program).await.contains("nonsense"));
}

#[tokio::test]
async fn help_lists_every_option() {
    let help = within(program(&["--help"]).output()).await.unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for option in ["listen", "store", "node", "profile", "idle", "absolute", "control"] {
        assert!(text.contains(&format!("--{option} ")), "{text}");
    }
}

#[tokio::test]
async fn a_file_may_hold_the_store_url() {
    let path = std::env::temp_dir().join(format!("reference-store-{}", std::process::id()));
    std::fs::write(&path, "memory:?anonymous-records=1\n").unwrap();
    let server = Server::start(&["--store", &format!("@{}", path.display())]).await;
    std::fs::remove_file(path).unwrap();
    for _ in 0..3 {
        server.client().post("/incr").await.ok();
    }
    assert_eq!(server.told("/stats").await["records"], 1);
}

#[tokio::test]
async fn the_profile_decides_what_the_cookie_looks_like() {
    for (profile, cookie) in [
        ("host", "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ("domain", "__Secure-id=; Path=/; Domain=example.org; Secure; HttpOnly; SameSite=Lax"),
        ("partitioned", "__Host-id=; Path=/; Secure; HttpOnly; SameSite=None; Partitioned"),
        ("dev", "id-dev=; Path=/; HttpOnly; SameSite=Lax"),
    ] {
        let server = Server::start(&["--profile", profile]).await;
        let reply = server.client().post("/incr").await.ok();
        let (name, rest) = reply.set_cookies()[0].split_once('=').unwrap();
        let (token, attributes) = rest.split_once(';').unwrap();
        assert_eq!((token.len(), format!("{name}=;{attributes}").as_str()), (64, cookie));
    }
}

#[tokio::test]
async fn the_oldest_session_over_the_cap_ends() {
    let server = Server::start(&["--max-per-principal", "1"]).await;
    let first = server.member("alice").await;
    server.order("/clock/advance?s=1").await;
    let second = server.member("alice").await;
    assert_eq!((first.user().await, second.user().await), (None, Some("alice".to_owned())));
}

#[tokio::test]
async fn a_session_ends_at_its_absolute_lifetime() {
    let server = Server::start(&["--idle", "60", "--absolute", "100", "--on-outage", "503"]).await;
    let client = server.member("alice").await;
    for (seconds, user) in [(50, Some("alice")), (49, Some("alice")), (1, None)] {
        server.order(&format!("/clock/advance?s={seconds}")).await;
        assert_eq!(client.user().await.as_deref(), user);
    }
}

#[tokio::test]
async fn sigterm_ends_it_after_the_requests_under_way() {
    let server = Server::start(&[]).await;
    let held = server.client().spawn("POST", "/gate?g=a&mode=login&u=alice");
    server.waiting("a", 1).await;
    server.signal("TERM");
    server.order("/gate/release?g=a").await;
    let reply = held.await.unwrap().ok();
    assert_eq!(reply.set_cookies().len(), 1);
    assert!(server.ended().await.0.success());
}

#[tokio::test]
async fn sigterm_ends_an_idle_server_at_once() {
    let server = Server::without_control(&[]).await;
    server.client().get("/ping").await.ok();
    server.signal("TERM");
    assert!(server.ended().await.0.success());
}

#[tokio::test]
async fn the_host_profile_hints_at_plain_http_once() {
    for (profile, hints) in [("host", 1), ("dev", 0)] {
        let server = Server::without_control(&["--profile", profile]).await;
        server.signal("TERM");
        let (_, said) = server.ended().await;
        assert_eq!(said.matches("hint: ").count(), hints, "{profile}: {said}");
    }
}
