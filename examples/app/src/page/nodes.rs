//! The nodes, and the places that hold the session.

use example_balancer::NodeState;

use super::{View, escape};

impl View<'_> {
    pub(super) fn places(&self) -> String {
        let tiles: String = self.nodes.iter().map(|node| self.tile(node)).collect();
        let tiles =
            if tiles.is_empty() { tiles } else { format!("<ul class=\"nodes\">{tiles}</ul>") };
        let hint = if self.nodes.is_empty() { "" } else { HINT };
        format!(
            "<section class=\"card wide\" id=\"places\"><h2>Where your session is</h2>
            <p>{}</p>{tiles}{}{hint}</section>",
            self.holding(),
            self.beside(),
        )
    }

    /// A sentence such as `n1 (owner) and n2 (backup) hold your session.`
    fn holding(&self) -> String {
        let nodes = self.holders.iter().zip(self.strategy.roles);
        let nodes = nodes.map(|(label, role)| format!("{} ({role})", escape(label)));
        let holders: Vec<_> = nodes
            .chain(self.strategy.beside.map(|store| capital(store, self.holders.is_empty())))
            .collect();
        let verb = if holders.len() == 1 { "holds" } else { "hold" };
        format!("{} {verb} your session.", holders.join(" and "))
    }

    fn tile(&self, node: &NodeState) -> String {
        let label = escape(&node.label);
        let role = self.role(&node.label);
        let serves = node.label == self.node;
        let mut tags = String::new();
        for tag in [
            (!node.is_up).then_some("stopped"),
            serves.then_some("served this page"),
            role.filter(|_| node.is_up),
        ] {
            tags.extend(tag.map(|tag| format!(" <span class=\"tag\">{tag}</span>")));
        }
        let holds = if role.is_some() && node.is_up { " holds" } else { "" };
        let is_down = if node.is_up { "" } else { " down" };
        format!(
            "<li class=\"tile{holds}{is_down}\"><p class=\"tags\"><strong>{label}</strong>{tags}</p>{}</li>",
            self.order(node, serves)
        )
    }

    fn role(&self, label: &str) -> Option<&'static str> {
        let place = self.holders.iter().position(|holder| holder == label)?;
        self.strategy.roles.get(place).copied()
    }

    /// The form that stops or starts a node.
    fn order(&self, node: &NodeState, serves: bool) -> String {
        let label = escape(&node.label);
        let is_last = self.nodes.iter().filter(|node| node.is_up).count() == 1;
        let (order, says) = match (node.is_up, serves) {
            (true, _) if is_last => ("stop", "Restart this node".to_owned()),
            (true, true) => ("stop", "Stop this node".to_owned()),
            (true, false) => ("stop", format!("Stop {label}")),
            (false, _) => ("start", format!("Start {label}")),
        };
        format!(
            "<form method=\"post\" action=\"/nodes/{label}/{order}\">
            <input type=\"hidden\" name=\"session\" value=\"{}\">
            <button class=\"{order}\">{says}</button></form>",
            self.handle,
        )
    }

    fn beside(&self) -> String {
        let tile = |store| {
            format!(
                "<div class=\"tile holds beside\"><p class=\"tags\"><strong>{}</strong> <span class=\"tag\">every session</span></p></div>",
                capital(store, true),
            )
        };
        self.strategy.beside.map(tile).unwrap_or_default()
    }
}

/// A text, with a capital letter where it begins a sentence.
fn capital(text: &str, begins: bool) -> String {
    match text.split_at_checked(1) {
        Some((first, rest)) if begins => first.to_uppercase() + rest,
        _ => text.to_owned(),
    }
}

const HINT: &str = "<p class=\"hint\">Stopping ends a node without warning: it hands nothing on. \
                    Then see what became of your session.</p>";
