//! Helpers of several fuzz targets: a reader of the input, and a site to visit.

mod input;
mod site;

pub use input::Input;
pub use site::{Reply, Site};
