//! What can be wrong with rules. Invariant: every message names the line, and the rule where there is one.

use crate::base::{Fault, FaultKind};
use thiserror::Error;

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RulesError {
    /// The text is not in the notation of rules.
    #[error("line {line} of the rules: {reason}")]
    Notation { line: usize, reason: String },
    /// A rule reads well and cannot be used.
    #[error("line {line} of the rules, rule `{rule}`: {reason}")]
    Rule { line: usize, rule: String, reason: String },
}

impl RulesError {
    pub fn fault(&self) -> Fault {
        match self {
            Self::Notation { .. } | Self::Rule { .. } => Fault::new(
                FaultKind::Invalid,
                self.to_string(),
                "correct that line, or remove the file to use the shipped rules",
            ),
        }
    }
}
