//! Exit codes. Scripts branch on them, so they never change their meaning. The only place that maps a failure to one.

use crate::base::FaultKind;

pub const SUCCESS: u8 = 0;
pub const FAILURE: u8 = 1;
pub const USAGE: u8 = 2;
pub const AUTHENTICATION: u8 = 3;
pub const NOT_FOUND: u8 = 4;
/// Trying again later may help.
pub const NETWORK: u8 = 5;
pub const RATE_LIMITED: u8 = 6;
pub const INTEGRITY: u8 = 7;
pub const NO_SPACE: u8 = 8;
pub const NOT_MOUNTED: u8 = 9;
/// What shells use for a process that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

pub const fn of_fault(kind: FaultKind) -> u8 {
    match kind {
        // A reference that names several things is a command line that has to be typed anew.
        FaultKind::Invalid | FaultKind::Ambiguous => USAGE,
        FaultKind::AccessDenied => AUTHENTICATION,
        FaultKind::NotFound | FaultKind::Gone => NOT_FOUND,
        FaultKind::Offline | FaultKind::Unreachable | FaultKind::TimedOut => NETWORK,
        FaultKind::RateLimited => RATE_LIMITED,
        FaultKind::Integrity => INTEGRITY,
        FaultKind::NoSpace => NO_SPACE,
        FaultKind::NotMounted => NOT_MOUNTED,
        FaultKind::Interrupted => INTERRUPTED,
        FaultKind::Exists
        | FaultKind::ReadOnly
        | FaultKind::NotPermitted
        | FaultKind::Busy
        | FaultKind::Unsupported
        | FaultKind::Internal => FAILURE,
    }
}

/// Of a command with several parts: the first failure is the command's.
pub const fn first(code: u8, next: u8) -> u8 {
    if code == SUCCESS { next } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_is_a_success() {
        for kind in [FaultKind::NotFound, FaultKind::Interrupted, FaultKind::Internal, FaultKind::Exists] {
            assert_ne!(of_fault(kind), SUCCESS, "{kind:?}");
        }
        assert_eq!(of_fault(FaultKind::Integrity), 7);
        assert_eq!(of_fault(FaultKind::NotMounted), 9);
    }
}
