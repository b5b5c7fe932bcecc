//! Says that a test did not run. Invariant: it is seen also when the test passes, because nothing captures it.

use std::io::Write as _;

/// A line on the real stderr: `eprintln!` in a test that passes is thrown away by the harness.
pub fn skipped(what: &str, reason: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {reason}");
}
