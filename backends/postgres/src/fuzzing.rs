//! What the fuzz targets reach. No part of the interface: it changes with what it shows.

use steadfast_core::Values;

use crate::rows;

/// The values in a row's object of them.
pub fn values(object: &str) -> Option<Values> {
    rows::values(object).ok()
}
