//! A node and its cluster, in the words of the contract.

use std::collections::BTreeMap;

use steadfast_core::Description;
use steadfast_core::description::{Cluster, Epoch, Lacking, Member, Reach, Slots, Traffic};
use steadfast_replication::description as engine;
use steadfast_replication::figures::{self, Health};
use steadfast_replication::member::{Boot, Name};

use crate::ClusterSettings;

pub(crate) fn node(described: engine::Description, health: &Health) -> Description {
    let traffic = described.traffic;
    Description {
        node: text(&described.name),
        boot: digits(described.boot),
        cluster: described.cluster.map(cluster),
        slots: slots(described.slots),
        sync: Lacking {
            unsynced_slots: health.unsynced as u64,
            under_replicated: health.under_replicated as u64,
        },
        traffic: Traffic { relayed: traffic.relayed, open_calls: traffic.open_calls as u64 },
        clock_offset_ms: described.clock_offset_millis,
        problem: described.problem,
    }
}

fn cluster(described: engine::ClusterDescription) -> Cluster {
    let id = described.epoch;
    let lineage = format!("{:032x}", u128::from_be_bytes(id.lineage.to_bytes()));
    Cluster {
        epoch: Epoch { lineage, number: id.number, protocol: described.protocol },
        settings: settings(&described.settings),
        policy: described.policy.name().to_owned(),
        members: described.members.into_iter().map(member).collect(),
    }
}

fn settings(settings: &ClusterSettings) -> BTreeMap<String, String> {
    let policy = settings.policy.map(|policy| ("partition", policy.name().to_owned()));
    let named = [
        ("copies", settings.replication.to_string()),
        ("acks", settings.acknowledgements.name().to_owned()),
    ];
    named.into_iter().chain(policy).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn member(described: engine::MemberDescription) -> Member {
    Member {
        name: text(&described.name),
        boot: digits(described.boot),
        address: described.address,
        zone: described.zone,
        role: described.role.name().to_owned(),
        votes: described.votes,
        reach: described.reach.as_ref().map(reach),
        clock_offset_ms: described.clock_offset_millis,
    }
}

fn reach(described: &engine::Reach) -> Reach {
    Reach {
        linked: described.is_linked,
        suspected: described.suspected.as_ref().map(ToString::to_string),
        suspected_by: described.suspected_by.iter().map(text).collect(),
    }
}

fn slots(figures: figures::Slots) -> Slots {
    Slots {
        served: figures.served as u64,
        waiting: figures.waiting as u64,
        complete: figures.complete as u64,
        filling: figures.filling as u64,
        given_up: figures.given_up as u64,
    }
}

fn text(name: &Name) -> String {
    name.as_str().to_owned()
}

fn digits(boot: Boot) -> String {
    format!("{:032x}", u128::from_be_bytes(boot.to_bytes()))
}
