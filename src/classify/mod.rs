//! Evidence → verdict, with confidence and reasons.
//!
//! Pure; rules are data. Not here: reading files (`formats`), remembering verdicts (`catalog`).

mod verdict;

pub use verdict::{Evidence, Method, Reason, Verdict};
