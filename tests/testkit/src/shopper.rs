//! A visitor of the shop of all examples, as a browser without scripts.

use crate::client::{Client, Reply};
use crate::eventually::within;

/// A visitor of the shop.
pub struct Shopper(Client);

impl Shopper {
    pub fn new(address: &str) -> Self {
        Self(Client::new(address))
    }

    /// The page, which a browser asks for again while the session is out of reach.
    pub async fn page(&self) -> Page {
        self.at("/").await
    }

    /// Signs in, and puts a tea into the basket.
    pub async fn signs_in_with_a_tea(&self) -> Page {
        self.submits("/login", "user=alice").await;
        self.submits("/cart", "item=Assam").await
    }

    /// Submits a form, and follows to the page.
    pub async fn submits(&self, action: &str, fields: &str) -> Page {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        let reply = self.0.send("POST", action, &headers, fields).await;
        assert_eq!(reply.status, 303, "{action}: {reply:?}");
        self.at(reply.header("location").unwrap()).await
    }

    /// Stops or starts a node with the form of a page.
    pub async fn orders(&self, page: &Page, node: &str, order: &str) -> Page {
        let action = format!("/nodes/{node}/{order}");
        let (_, form) = page.html.split_once(&action).expect("the page has the form");
        let (_, handle) = form.split_once("name=\"session\" value=\"").expect("it has a field");
        let (handle, _) = handle.split_once('"').expect("the value ends");
        self.submits(&action, &format!("session={handle}")).await
    }

    /// The nodes of the session's route.
    pub fn route(&self) -> String {
        self.0.cookie("__Host-id-route").expect("an answer names the route")
    }

    async fn at(&self, path: &str) -> Page {
        let page = within(async {
            loop {
                let reply = self.0.get(path).await;
                match reply.status.as_u16() {
                    503 => assert_eq!(reply.header("refresh"), Some("1"), "{reply:?}"),
                    _ => break Page::of(reply.ok()),
                }
            }
        });
        page.await
    }
}

/// A page of the shop.
#[derive(Debug)]
pub struct Page {
    pub html: String,
    /// What a reader sees of it, with single spaces.
    pub text: String,
}

impl Page {
    fn of(reply: Reply) -> Self {
        let parts =
            reply.body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
        let text = parts.collect::<Vec<_>>().join(" ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { html: reply.body, text }
    }

    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(self.text.contains(text), "{text:?} is not on the page: {}", self.text);
    }

    /// The node that served it.
    pub fn node(&self) -> &str {
        let (_, rest) = self.html.split_once("Served by ").expect("the page names the node");
        rest.split('<').next().unwrap()
    }
}
