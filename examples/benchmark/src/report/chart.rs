//! Charts of instructions: one group of bars per case, readable on light and dark backgrounds.

use std::fmt::Write;

use super::{Results, cluster};
use crate::cases::Case;
use crate::measure::cluster::NODES;
use crate::peers::{self, Peer, REMOTE};
use crate::servers::Server;

pub(super) fn of(results: &Results) -> String {
    let peers: Vec<_> = peers::with_sessions().map(Peer::name).collect();
    draw(TITLE, &peers, &CASES.map(|case| (case.name().to_owned(), bars(results, case))))
}

/// Draws the same chart for sessions on a server.
pub(super) fn of_server(results: &Results, server: Server) -> String {
    let peers: Vec<_> = REMOTE.iter().filter(|peer| peer.server == server).collect();
    let of = |peer, case| results.remote_over_pass_through(peer, case).unwrap_or_default().max(0.0);
    let bars = |case| peers.iter().map(|peer| of(peer, case)).collect();
    let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    draw(SERVER, &names, &Case::REMOTE.map(|case| (case.name().to_owned(), bars(case))))
}

/// Draws the bytes of a write between the nodes of a service.
pub(super) fn of_cluster(results: &Results) -> String {
    let bars = |nodes| (format!("{nodes} nodes"), cluster::writes(results, nodes));
    draw(CLUSTER, &MANAGERS, &NODES.map(bars))
}

fn draw(title: &str, peers: &[&str], groups: &[(String, Vec<f64>)]) -> String {
    let longest = groups.iter().flat_map(|(_, bars)| bars).copied().fold(1.0, f64::max);
    let group = BAR * peers.len() + GAP;
    let height = TOP + group * groups.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n{STYLE}<text class=\"title\" x=\"0\" y=\"18\">{title}</text>\n"
    );
    legend(&mut svg, peers);
    for (n, (name, bars)) in groups.iter().enumerate() {
        let top = TOP + n * group;
        label(&mut svg, name, top + BAR * peers.len() / 2 + 4);
        for (peer, figure) in bars.iter().enumerate() {
            let colour = colour(peer, peers.len());
            bar(&mut svg, &colour, top + peer * BAR, *figure, longest);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The last peer is steadfast.
fn colour(peer: usize, peers: usize) -> String {
    if peer + 1 == peers { "own".to_owned() } else { format!("p{peer}") }
}

fn label(svg: &mut String, group: &str, y: usize) {
    let x = LEFT - 10;
    put(svg, format_args!("<text class=\"case\" x=\"{x}\" y=\"{y}\">{group}</text>"));
}

/// Returns the figures of each peer with sessions for a case.
fn bars(results: &Results, case: Case) -> Vec<f64> {
    let of = |peer| results.over_pass_through(peer, results.workload(case)?);
    peers::with_sessions().map(|peer| of(peer).unwrap_or_default().max(0.0)).collect()
}

fn bar(svg: &mut String, colour: &str, y: usize, figure: f64, longest: f64) {
    let width = (figure / longest * (WIDTH - LEFT - RIGHT) as f64).max(1.0);
    put(
        svg,
        format_args!(
            "<rect class=\"{colour}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>\
         <text class=\"figure\" x=\"{:.1}\" y=\"{}\">{:.1}k</text>",
            BAR - 2,
            LEFT as f64 + width + 5.0,
            y + BAR - 5,
            figure / 1_000.0,
        ),
    );
}

fn legend(svg: &mut String, peers: &[&str]) {
    let mut x = 0;
    for (n, name) in peers.iter().enumerate() {
        let colour = colour(n, peers.len());
        put(
            svg,
            format_args!(
                "<rect class=\"{colour}\" x=\"{x}\" y=\"32\" width=\"11\" height=\"11\" rx=\"2\"/>\
                 <text class=\"peer\" x=\"{}\" y=\"42\">{name}</text>",
                x + 16,
            ),
        );
        x += 24 + name.len() * 7;
    }
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a string takes any text");
}

/// `Count` is left out, because it is the same as `Write` for all other peers.
const CASES: [Case; 8] = [
    Case::Anon,
    Case::Untouched,
    Case::Read,
    Case::Write,
    Case::Login,
    Case::New,
    Case::Read4k,
    Case::Write4k,
];

const TITLE: &str = "Instructions of a request, over a pass-through layer: less is better";

const SERVER: &str =
    "Instructions of a request with a server, over a pass-through layer: less is better";

const CLUSTER: &str =
    "Bytes between all nodes for a write of 100 B at its owner, in thousands: less is better";

/// In the order of the figures.
const MANAGERS: [&str; 4] = [
    "Tomcat DeltaManager",
    "Tomcat BackupManager",
    "steadfast, a copy on every node",
    "steadfast, an owner and a backup",
];

const WIDTH: usize = 820;
const LEFT: usize = 84;
const RIGHT: usize = 56;
const TOP: usize = 62;
const BAR: usize = 14;
const GAP: usize = 12;

/// Colours that are visible on both backgrounds. The one of steadfast stands out.
const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.case { text-anchor: end; font-weight: 600 }
.figure { font-size: 11px; fill: #57606a }
.p0 { fill: #8c959f } .p1 { fill: #b1a37c } .p2 { fill: #7a93ac } .own { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .figure { fill: #9198a1 }
  .p0 { fill: #6e7681 } .p1 { fill: #8a7d55 } .p2 { fill: #5a7896 } .own { fill: #3fb950 }
}
</style>
";
