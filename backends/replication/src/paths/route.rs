//! The choice of a link for a frame.

use std::collections::BTreeSet;
use std::time::Duration;

use super::horizon::Horizon;
use crate::member::Boot;

/// The time for which a direct link that lost a frame is avoided.
const DETOUR: Duration = Duration::from_secs(1);

/// The boots that this node has a link to.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    open: BTreeSet<Boot>,
    suspected: BTreeSet<Boot>,
}

impl Links {
    pub(super) fn open(&mut self, boot: Boot) {
        self.open.insert(boot);
    }

    pub(super) fn close(&mut self, boot: Boot) {
        self.open.remove(&boot);
    }

    pub(super) fn suspect(&mut self, boot: Boot, is_suspected: bool) {
        if is_suspected {
            self.suspected.insert(boot);
        } else {
            self.suspected.remove(&boot);
        }
    }

    pub(super) fn are_open_to(&self, boot: Boot) -> bool {
        self.open.contains(&boot)
    }

    /// The links that may lead to a boot: the direct one first, then those to members. Suspected
    /// members come last, since they may have closed sockets unnoticed.
    fn towards(&self, to: Boot, horizon: &Horizon) -> Vec<Boot> {
        let relays = self.open.iter().filter(|boot| **boot != to && horizon.lists(**boot));
        let (suspected, mut relays): (Vec<_>, Vec<_>) =
            relays.copied().partition(|boot| self.suspected.contains(boot));
        if !relays.is_empty() {
            // Otherwise the lowest boot relayed everything that any node cannot send directly.
            let offset = usize::from(to.to_bytes()[15]) % relays.len();
            relays.rotate_left(offset);
        }
        let direct = self.open.get(&to).copied();
        direct.into_iter().chain(relays).chain(suspected).collect()
    }
}

/// Chooses one of the links that may lead to a boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    losses: usize,
    lost_at: Duration,
}

impl Route {
    /// The link to use now; `None` without any.
    pub(super) fn link(
        &self,
        to: Boot,
        links: &Links,
        horizon: &Horizon,
        now: Duration,
    ) -> Option<Boot> {
        if links.are_open_to(to) && now.saturating_sub(self.lost_at) >= DETOUR {
            return Some(to);
        }
        let towards = links.towards(to, horizon);
        let turn = self.losses.checked_rem(towards.len())?;
        Some(towards[turn])
    }

    /// A frame to `to` was lost on a link: the next one has its turn.
    pub(super) fn on_loss(&mut self, link: Boot, to: Boot, now: Duration) {
        self.losses = if link == to { 1 } else { self.losses.wrapping_add(1) };
        self.lost_at = now;
    }

    /// A new direct link is as good as any.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
