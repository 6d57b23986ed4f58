//! Does one job with the system's allocator.

use benchmark::measure::{Job, job};

fn main() -> anyhow::Result<()> {
    println!("{}", job::<Job>()?.run()?);
    Ok(())
}
