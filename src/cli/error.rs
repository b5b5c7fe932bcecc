//! How a verb can fail. Invariant: a reader that closed the pipe is told apart from a disk that cannot be written.

use crate::base::Fault;
use crate::library::LibraryError;
use std::io;

#[derive(Debug)]
pub enum Failure {
    Fault(Fault),
    /// A query that cannot be read: its text, and a line that points at the place.
    Query {
        fault: Fault,
        shown: String,
    },
    /// `modelfs ls | head`: whoever reads has enough.
    ReaderGone,
    /// stdout cannot be written for another reason (a full disk behind a redirection).
    Output(io::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Self {
        let fault = error.fault();
        match error {
            LibraryError::Query { text, error } => Self::Query { fault, shown: error.under(&text) },
            _ => Self::Fault(fault),
        }
    }
}

/// Only for errors of writing to stdout: every other one has a `Fault` that names its file.
pub fn from_output(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe { Failure::ReaderGone } else { Failure::Output(error) }
}
