//! The tables of sessions on a server.

use super::Results;
use super::table::{decimal, header, ratio, row, table, thousands};
use crate::cases::Case;
use crate::measure::wire::Wire;
use crate::peers::{REMOTE, Remote};

pub(super) fn of(results: &Results) -> String {
    let wire = |of: fn(&Wire) -> f64| {
        move |peer: &Remote, case: Case| results.wire.get(peer.name)?.get(&case).map(of)
    };
    let trips = wire(|wire| wire.round_trips);
    let commands = wire(|wire| wire.commands);
    let bytes = wire(|wire| wire.sent + wire.received);
    let instructions = |peer: &Remote, case| results.remote_over_pass_through(peer, case);
    [
        by_case("Round trips of a request to its server", trips, decimal),
        by_case("Commands, or statements, of a request", commands, decimal),
        by_case("Bytes on the wire for a request, both ways", bytes, whole),
        by_case("Instructions with a server, over the pass-through layer", instructions, thousands),
        distance(results),
    ]
    .concat()
}

fn by_case(
    title: &str,
    of: impl Fn(&Remote, Case) -> Option<f64>,
    cell: fn(Option<f64>) -> String,
) -> String {
    let cells = |peer: &Remote| row(peer.name, Case::REMOTE.map(|case| cell(of(peer, case))));
    table(title, &header(&Case::REMOTE), &REMOTE.iter().map(cells).collect::<Vec<_>>())
}

fn distance(results: &Results) -> String {
    let of = |peer: &Remote| ratio(results.distance.get(peer.name).copied());
    let rows: Vec<_> = REMOTE.iter().map(|peer| row(peer.name, [of(peer)])).collect();
    let title = "Time of a read, as a multiple of the driver's own HGETALL or SELECT";
    table(title, &header(&[Case::Read]), &rows)
}

fn whole(figure: Option<f64>) -> String {
    figure.map_or_else(|| decimal(None), |figure| format!("{figure:.0}"))
}
