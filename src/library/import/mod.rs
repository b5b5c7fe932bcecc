//! Taking files and folders of this machine into the store.
//!
//! Three steps: `planning` looks and changes nothing; `running` reads, hashes and publishes with several threads;
//! `committing` writes the rows of what is published, in batches. Invariants: a file is published before its row is
//! written and its source is removed after that, so that a crash leaves a file without a row at worst, which the next
//! import takes up. Not here: bytes (`store`), names in the tree (`shelf`), verdicts (`classify`).

mod bundles;
mod committing;
mod grouping;
pub(super) mod orphans;
mod planning;
mod running;
mod work;

pub(super) use planning::plan;
pub(super) use running::run;
pub(super) use work::Work;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
