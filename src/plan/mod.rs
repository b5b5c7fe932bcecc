//! Decisions without deeds: which ranges to fetch next, how far to read ahead, when a probe becomes a load,
//! which stream is worth replacing, how many of them a file is worth, which place is asked,
//! what of a file goes together.
//!
//! Pure: given what is here, what is under way and what is asked for, the answer is a list of ranges. Not here: sockets,
//! files, threads, time.

mod geometry;
mod next;
mod preference;
mod promotion;
mod straggler;
mod tensors;
mod tracker;
mod width;

pub use geometry::Geometry;
pub use next::{Limits, Planner, Purpose, Running, Step};
pub use preference::{Candidate, Errand, Figures, prefer};
pub use promotion::Promotion;
pub use straggler::{Stage, Stragglers, Stream};
pub use tensors::Tensors;
pub use tracker::Trackers;
pub use width::Width;
