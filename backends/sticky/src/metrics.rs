//! What an operator sees of a node with a backup.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use steadfast_core::RouteLabel;

/// How a node does.
pub(crate) struct Figures {
    pub(crate) is_feed_up: bool,
    /// Since they were last shown.
    pub(crate) feed_gaps: u64,
    pub(crate) copies: u64,
    /// `None` if nothing goes behind.
    pub(crate) queued: Option<usize>,
}

impl Figures {
    pub(crate) fn show(&self, node: &RouteLabel) {
        describe();
        let node = || node.as_str().to_owned();
        gauge!("steadfast_feed_up", "node" => node()).set(f64::from(u8::from(self.is_feed_up)));
        counter!("steadfast_feed_gaps_total", "node" => node()).increment(self.feed_gaps);
        gauge!("steadfast_local_copies", "node" => node()).set(self.copies as f64);
        if let Some(queued) = self.queued {
            gauge!("steadfast_write_behind_queued", "node" => node()).set(queued as f64);
            // From the start on, so that its first rise is seen as one.
            counter!("steadfast_write_behind_lost_total", "node" => node()).increment(0);
        }
    }
}

/// Each time, since the recorder may be younger than the store.
fn describe() {
    describe_gauge!("steadfast_feed_up", "Whether the backup tells this node of changes");
    describe_counter!(
        "steadfast_feed_gaps_total",
        "How often changes may have been missed, because the feed was cut"
    );
    describe_gauge!("steadfast_local_copies", "Sessions of which this node has a copy");
    describe_gauge!(
        "steadfast_write_behind_queued",
        "Acknowledged writes that the backup does not have yet"
    );
    describe_counter!(
        "steadfast_write_behind_lost_total",
        "Acknowledged writes that the backup will never have"
    );
}
