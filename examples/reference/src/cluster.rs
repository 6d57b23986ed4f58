//! The page for operators at `/cluster` of the control port.

use axum::response::{Html, IntoResponse};
use steadfast::store::Description;
use steadfast::store::description::{Cluster, Member, Reach};

use crate::page::{HEADERS, document, escape};

/// The page of a node and its cluster.
pub(crate) fn page(description: &Description) -> impl IntoResponse {
    let cluster = description.cluster.as_ref();
    let body = format!(
        "<h1>{}</h1>{}{}{}{}",
        escape(&description.node),
        problem(description),
        cluster.map(epoch).unwrap_or_default(),
        cluster.map(members).unwrap_or_default(),
        own_part(description),
    );
    (HEADERS.clone(), Html(document("Cluster", &body)))
}

fn problem(description: &Description) -> String {
    let text = match &description.problem {
        Some(problem) => format!("Not ready: {}.", escape(problem)),
        None => "Ready.".to_owned(),
    };
    format!("<p id=\"problem\">{text}</p>")
}

fn epoch(cluster: &Cluster) -> String {
    let epoch = &cluster.epoch;
    let settings = cluster.settings.iter().map(|(name, value)| figure(name, value));
    let rows = [
        figure("Epoch", &epoch.number.to_string()),
        figure("Lineage", short(&epoch.lineage)),
        figure("Protocol", &epoch.protocol.to_string()),
        figure("Without a majority", &cluster.policy),
    ];
    card("Cluster", &format!("<dl>{}</dl>", rows.into_iter().chain(settings).collect::<String>()))
}

fn members(cluster: &Cluster) -> String {
    let members: String = cluster.members.iter().map(member).collect();
    card("Members", &format!("<ul>{members}</ul>"))
}

fn member(member: &Member) -> String {
    let mut said = vec![member.address.clone()];
    said.extend(member.zone.as_ref().map(|zone| format!("zone {zone}")));
    said.push(format!("boot {}", short(&member.boot)));
    said.extend((!member.votes).then(|| "no vote".to_owned()));
    said.extend(member.clock_offset_ms.map(|millis| format!("clock {millis:+} ms")));
    format!(
        "<li><p><b>{}</b><span class=\"this\">{}</span><br><code>{}</code>{}</p></li>",
        escape(&member.name),
        escape(&member.role),
        escape(&said.join(" · ")),
        reach(member.reach.as_ref()),
    )
}

/// Describes the fault on the way to a member; empty if a direct link is open and no node suspects it.
fn reach(reach: Option<&Reach>) -> String {
    let Some(Reach { linked, suspected, suspected_by }) = reach else {
        return "<br>this node".to_owned();
    };
    let mut said = Vec::new();
    said.extend((!linked).then(|| "no direct link".to_owned()));
    said.extend(suspected.as_ref().map(|why| format!("suspected: {why}")));
    if !suspected_by.is_empty() {
        said.push(format!("suspected by {}", suspected_by.join(", ")));
    }
    said.iter().map(|line| format!("<br>{}", escape(line))).collect()
}

fn own_part(description: &Description) -> String {
    let (slots, sync) = (&description.slots, &description.sync);
    let figures = [
        ("Slots served", slots.served),
        ("Slots waiting", slots.waiting),
        ("Slots complete", slots.complete),
        ("Slots filling", slots.filling),
        ("Slots given up", slots.given_up),
        ("Slots unsynced", sync.unsynced_slots),
        ("Copies missing", sync.under_replicated),
        ("Messages relayed", description.traffic.relayed),
        ("Calls open", description.traffic.open_calls),
    ];
    let figures: String =
        figures.iter().map(|(name, value)| figure(name, &value.to_string())).collect();
    let clock = figure("Clock", &format!("{:+} ms", description.clock_offset_ms));
    card("This node", &format!("<dl>{figures}{clock}</dl>"))
}

fn card(title: &str, body: &str) -> String {
    format!("<section class=\"card\"><h2>{title}</h2>{body}</section>")
}

fn figure(name: &str, value: &str) -> String {
    format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
}

/// The first 8 digits, as logs show them.
fn short(digits: &str) -> &str {
    digits.get(..8).unwrap_or(digits)
}
