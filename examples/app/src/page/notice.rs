//! The fate of the session after a node was stopped.

use serde::Deserialize;

use super::{View, escape};

/// The last order to a node, and the session that the page showed before it.
#[derive(Default, Deserialize)]
pub(crate) struct Change {
    stopped: Option<String>,
    started: Option<String>,
    session: Option<String>,
}

impl View<'_> {
    pub(super) fn notice(&self) -> String {
        let Change { stopped, started, session } = &self.change;
        let is_known = |label: &&String| self.nodes.iter().any(|node| node.label == **label);
        if let Some(label) = started.as_ref().filter(is_known) {
            let label = escape(label);
            return note("", &format!("<p><strong>{label} runs again.</strong></p>"));
        }
        let Some(label) = stopped.as_ref().filter(is_known) else {
            return String::new();
        };
        let event = self.event(label);
        let survived = session.as_ref().map(|session| *session == self.handle.to_string());
        match survived {
            Some(true) => note("good", &format!("{event}{}", self.survived())),
            Some(false) => note("bad", &format!("{event}{}", self.lost())),
            None => note("", &event),
        }
    }

    fn event(&self, stopped: &str) -> String {
        let is_up = self.nodes.iter().any(|node| node.label == stopped && node.is_up);
        let again = if is_up { " and started again" } else { "" };
        let (stopped, node) = (escape(stopped), escape(self.node));
        format!("<p><strong>{stopped} was stopped{again}.</strong> {node} serves you now.</p>")
    }

    fn survived(&self) -> String {
        let user = match self.user {
            Some(user) => format!("You are still signed in as {}", escape(user)),
            None => "You are still the same visitor".to_owned(),
        };
        let basket = match self.cart.len() {
            0 => "the basket is still empty".to_owned(),
            1 => "the basket still has 1 tea".to_owned(),
            teas => format!("the basket still has {teas} teas"),
        };
        let why = self.strategy.survives;
        format!("<p><strong>Your session survived.</strong> {user}, and {basket}. {why}</p>")
    }

    fn lost(&self) -> String {
        let why = self.strategy.lost;
        format!(
            "<p><strong>Your session is gone.</strong> You start again as a new visitor, with an empty \
             basket. {why}</p>"
        )
    }
}

fn note(class: &str, text: &str) -> String {
    format!("<section class=\"note {class}\" role=\"status\">{text}</section>")
}
