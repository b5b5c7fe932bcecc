//! Faults as kernel error numbers. The one place where a `FaultKind` becomes an errno.

use crate::base::FaultKind;
use fuser::Errno;

pub fn errno_of(kind: FaultKind) -> Errno {
    match kind {
        FaultKind::NotFound => Errno::ENOENT,
        FaultKind::Invalid | FaultKind::Ambiguous => Errno::EINVAL,
        FaultKind::Exists => Errno::EEXIST,
        FaultKind::ReadOnly => Errno::EROFS,
        FaultKind::NotPermitted => Errno::EPERM,
        FaultKind::AccessDenied => Errno::EACCES,
        FaultKind::Offline => Errno::ENETDOWN,
        // Not EAGAIN or ETIMEDOUT: applications retry the one at once and for ever, and few know the other from a read.
        FaultKind::Unreachable | FaultKind::TimedOut | FaultKind::RateLimited => Errno::EIO,
        FaultKind::Gone => Errno::ESTALE,
        FaultKind::Integrity => Errno::EBADMSG,
        FaultKind::NoSpace => Errno::ENOSPC,
        FaultKind::Busy => Errno::EBUSY,
        FaultKind::Unsupported => Errno::EOPNOTSUPP,
        FaultKind::NotMounted => Errno::ENOTCONN,
        // Not EINTR: runtimes repeat the call without telling the program, and the answer would not change.
        FaultKind::Interrupted | FaultKind::Internal => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_design() {
        for (kind, code) in [
            (FaultKind::Unreachable, libc::EIO),
            (FaultKind::TimedOut, libc::EIO),
            (FaultKind::Offline, libc::ENETDOWN),
            (FaultKind::AccessDenied, libc::EACCES),
            (FaultKind::Gone, libc::ESTALE),
            (FaultKind::NoSpace, libc::ENOSPC),
            (FaultKind::Integrity, libc::EBADMSG),
            (FaultKind::ReadOnly, libc::EROFS),
            (FaultKind::Invalid, libc::EINVAL),
            (FaultKind::NotPermitted, libc::EPERM),
            (FaultKind::NotFound, libc::ENOENT),
        ] {
            assert_eq!(errno_of(kind).code(), code, "{kind:?}");
        }
    }
}
