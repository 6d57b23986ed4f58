//! Entry points for the fuzz targets. They are not part of the public API and may change at any
//! time.

use steadfast_core::Values;

use crate::rows;

/// Decodes the values in a row's JSON object.
pub fn values(object: &str) -> Option<Values> {
    rows::values(object).ok()
}
