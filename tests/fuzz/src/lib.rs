//! What several fuzz targets share: reading their input, and a site to visit.

mod input;
mod site;

pub use input::Input;
pub use site::{Reply, Site};
