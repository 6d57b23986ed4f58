//! The labels by which sessions can be found.

use steadfast_core::{Facts, LimitError};

/// The names of the labels by which sessions can be found.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexedLabels(Vec<Box<str>>);

impl IndexedLabels {
    /// Names, at most.
    pub(crate) const MAX: usize = 2;

    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, LimitError> {
        let mut known: Vec<Box<str>> = Vec::new();
        for name in names {
            Facts::of(None, None, [(name, "")])?;
            if !known.iter().any(|known| **known == *name) {
                known.push(name.into());
            }
        }
        match known.len() <= Self::MAX {
            true => Ok(Self(known)),
            false => Err(LimitError::Labels { labels: known.len(), limit: Self::MAX }),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|known| **known == *name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
