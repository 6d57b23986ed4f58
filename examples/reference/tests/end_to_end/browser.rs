//! A journey in a real Chromium, driven over WebDriver. Needs the Debian package `chromium-driver`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use testkit::client::{exchange, request};
use testkit::{Server, eventually, within};

#[tokio::test]
async fn a_user_manages_sessions_in_a_browser() {
    let server = Server::start(&["--profile", "host"]).await;
    let driver = Driver::start("journey").await;
    let (laptop, phone) = (driver.browser(&server).await, driver.browser(&server).await);

    laptop.sign_in("Alice & <b>co</b>").await;
    phone.sign_in("Alice & <b>co</b>").await;
    laptop.reload().await;
    laptop.lists(2).await;
    laptop.shows("li:first-child .this", "this one").await;

    laptop.click("li:nth-child(2) button").await;
    laptop.lists(1).await;
    phone.reload().await;
    phone.shows("h1", "You are not signed in.").await;

    phone.sign_in("Alice & <b>co</b>").await;
    laptop.reload().await;
    laptop.lists(2).await;
    laptop.click("form[action='/logout-others'] button").await;
    laptop.lists(1).await;
    phone.reload().await;
    phone.shows("h1", "You are not signed in.").await;

    phone.sign_in("Alice & <b>co</b>").await;
    phone.click("form[action='/logout-all'] button").await;
    phone.shows("h1", "You are not signed in.").await;
    laptop.reload().await;
    laptop.shows("h1", "You are not signed in.").await;
    laptop.shows("#visits", "1").await;
}

#[tokio::test]
async fn a_remembered_sign_in_survives_a_browser_restart() {
    let server = Server::start(&["--profile", "host"]).await;
    let driver = Driver::start("restart").await;
    for remembers in [true, false] {
        let profile = if remembers { "remembered" } else { "forgotten" };
        let browser = driver.browser_in(&server, Some(profile)).await;
        if remembers {
            browser.click("input[name='persistent']").await;
        }
        browser.sign_in("alice").await;
        browser.shows("li strong", "Chrome on Linux").await;
        browser.close().await;
        let browser = driver.browser_in(&server, Some(profile)).await;
        let greeting = if remembers { "Hello, alice." } else { "You are not signed in." };
        browser.shows("h1", greeting).await;
    }
}

#[tokio::test]
async fn scripts_and_other_sites_cannot_read_the_session() {
    let server = Server::start(&["--profile", "host"]).await;
    let driver = Driver::start("guards").await;
    let browser = driver.browser(&server).await;
    browser.sign_in("alice").await;
    let cookies = browser.ask("GET", "cookie", json!(null)).await;
    assert_eq!(
        (&cookies[0]["name"], &cookies[0]["sameSite"]),
        (&json!("__Host-id"), &json!("Lax"))
    );
    let script = json!({ "script": "return document.cookie", "args": [] });
    assert_eq!(browser.ask("POST", "execute/sync", script).await, "");

    let target = format!("{}/logout", browser.home);
    let form = format!("<form method=post action='{target}'><button>x</button></form>");
    browser.open(&format!("data:text/html,{form}")).await;
    browser.click("button").await;
    browser.shows("h1", "That did not work.").await;
    browser.open(&browser.home).await;
    browser.shows("h1", "Hello, alice.").await;
}

/// The program that drives browsers.
struct Driver {
    address: String,
    directory: PathBuf,
    _process: Child,
}

impl Driver {
    /// Keeps the files of browsers in a directory of this name, until the next run.
    async fn start(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let mut program = Command::new("chromedriver");
        program.args(["--port=0"]).env("TMPDIR", &directory);
        program.kill_on_drop(true).stdout(Stdio::piped());
        let mut process = program.spawn().expect("the Debian package chromium-driver is installed");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        loop {
            let line = within(lines.next_line()).await.unwrap().expect("it says its port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let address = format!("127.0.0.1:{}", port.trim_end_matches('.'));
                return Self { address, directory, _process: process };
            }
        }
    }

    /// A browser with a profile of its own, on the page of the server.
    async fn browser(&self, server: &Server) -> Browser {
        self.browser_in(server, None).await
    }

    /// The same with a profile that is kept under a name, where one is given.
    async fn browser_in(&self, server: &Server, profile: Option<&str>) -> Browser {
        let kept = profile.map(|name| self.directory.join(name).display().to_string());
        let kept = kept.map(|directory| format!("--user-data-dir={directory}"));
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=900,800",
            // It ends with the driver.
            "--remote-debugging-pipe",
        ];
        let args: Vec<_> = args.map(str::to_owned).into_iter().chain(kept).collect();
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": { "args": args } } });
        let session =
            webdriver(&self.address, "POST", "/session", json!({ "capabilities": wanted }));
        let session = session.await["sessionId"].as_str().unwrap().to_owned();
        let home = server.address.replace("127.0.0.1", "http://localhost");
        let browser = Browser { driver: self.address.clone(), session, home };
        browser.open(&browser.home).await;
        browser
    }
}

/// A browser, and what a user does with it.
struct Browser {
    driver: String,
    session: String,
    home: String,
}

impl Browser {
    async fn open(&self, url: &str) {
        self.ask("POST", "url", json!({ "url": url })).await;
    }

    async fn reload(&self) {
        self.ask("POST", "refresh", json!({})).await;
    }

    /// Closes the browser, as its user does.
    async fn close(self) {
        webdriver(&self.driver, "DELETE", &format!("/session/{}", self.session), json!(null)).await;
    }

    async fn sign_in(&self, name: &str) {
        let field = self.find("#u").await.expect("the page has the field");
        self.ask("POST", &format!("element/{field}/value"), json!({ "text": name })).await;
        self.click("form[action='/login'] button").await;
        self.shows("h1", &format!("Hello, {name}.")).await;
    }

    /// Clicks, and waits for nothing: what comes of it is to be waited for by what it shows.
    async fn click(&self, selector: &str) {
        let element = self.find(selector).await.unwrap_or_else(|| panic!("no {selector}"));
        self.ask("POST", &format!("element/{element}/click"), json!({})).await;
    }

    /// Waits until an element shows a text.
    async fn shows(&self, selector: &str, text: &str) {
        eventually(async || self.text(selector).await.as_deref() == Some(text)).await;
    }

    /// Waits until the page lists as many sessions.
    async fn lists(&self, sessions: usize) {
        let query = json!({ "using": "css selector", "value": "li" });
        let count = async || {
            let found = self.ask("POST", "elements", query.clone()).await;
            found.as_array().map(Vec::len)
        };
        eventually(async || count().await == Some(sessions)).await;
    }

    async fn text(&self, selector: &str) -> Option<String> {
        let element = self.find(selector).await?;
        let text = self.ask("GET", &format!("element/{element}/text"), json!(null)).await;
        text.as_str().map(str::to_owned)
    }

    async fn find(&self, selector: &str) -> Option<String> {
        let query = json!({ "using": "css selector", "value": selector });
        let element = self.ask("POST", "element", query).await;
        element[ELEMENT].as_str().map(str::to_owned)
    }

    async fn ask(&self, method: &str, command: &str, body: Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        webdriver(&self.driver, method, &path, body).await
    }
}

async fn webdriver(driver: &str, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("content-type", "application/json")];
    exchange(driver, request(method, path, &headers, &body)).await.json()["value"].take()
}

/// The name of an element reference in WebDriver (W3C WebDriver, 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
