//! The metrics of a node with a backup.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use steadfast_core::RouteLabel;

/// The metrics of a node.
pub(crate) struct Figures {
    pub(crate) is_feed_up: bool,
    /// Gaps since the last publication.
    pub(crate) feed_gaps: u64,
    pub(crate) copies: u64,
    /// `None` without write-behind.
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
            // Registered at 0, so that the first increase is visible as one.
            counter!("steadfast_write_behind_lost_total", "node" => node()).increment(0);
        }
    }
}

/// Called with every publication, because the recorder may be installed after the store was built.
fn describe() {
    describe_gauge!("steadfast_feed_up", "1 while the backup reports changes to this node");
    describe_counter!(
        "steadfast_feed_gaps_total",
        "Times at which changes may have been missed because the feed was cut"
    );
    describe_gauge!("steadfast_local_copies", "Sessions with a local copy on this node");
    describe_gauge!(
        "steadfast_write_behind_queued",
        "Acknowledged writes that the backup lacks so far"
    );
    describe_counter!("steadfast_write_behind_lost_total", "Acknowledged writes that were lost");
}
