//! What can be wrong with settings. Invariant: every message names the file and line, the variable, or the flag.

use crate::base::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the settings file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the settings file {} does not exist", path.display())]
    Missing { path: PathBuf },
    /// A key or value that is not understood.
    #[error("{}:{line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: String },
    /// A value that parses and cannot be used.
    #[error("{}: `{key}` {reason}", path.display())]
    Value { path: PathBuf, key: &'static str, reason: String },
    #[error("the environment variable {name} {reason}")]
    Variable { name: &'static str, reason: String },
    #[error("the home folder is not known")]
    NoHome,
}

impl ConfigError {
    pub fn fault(&self) -> Fault {
        let (kind, remedy) = match self {
            Self::Unreadable { .. } => {
                (FaultKind::AccessDenied, "make the file readable, or name another with --config")
            }
            Self::Missing { .. } => (FaultKind::NotFound, "create it, or leave --config and MODELFS_CONFIG out"),
            Self::Line { .. } | Self::Value { .. } => {
                (FaultKind::Invalid, "correct that line; docs/CONFIGURATION.md lists every key")
            }
            Self::Variable { .. } => (FaultKind::Invalid, "correct the variable or unset it"),
            Self::NoHome => (FaultKind::NotFound, "set HOME, or name everything with --store and --config"),
        };
        Fault::new(kind, self.to_string(), remedy)
    }
}
