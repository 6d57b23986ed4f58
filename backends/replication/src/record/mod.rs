//! Records as nodes hold them: with the stamps of their parts, and the number of their last write.

mod copy;
mod delta;
mod held;
mod list;
mod stamp;

pub use self::copy::Copy;
pub use self::delta::{Delta, Head};
pub use self::held::{Entry, Held, Kept, Revision, Tombstone, Unreported};
pub use self::list::{Displaced, Floor, List, ListChange, ListEntry, ListStep};
pub use self::stamp::Stamp;
