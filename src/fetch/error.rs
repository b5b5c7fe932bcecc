//! Why a range of a remote file could not be had.
//!
//! Invariant: every variant can be cloned, because all reads that wait for one content get the same answer.

use crate::base::{Fault, FaultKind};
use crate::hub::HubError;
use crate::store::StoreError;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error, Clone)]
#[non_exhaustive]
pub enum FetchError {
    /// What the last hub that was tried said.
    #[error("cannot fetch {name}: {error}")]
    Hub { name: String, error: HubError },
    /// The local disk failed; the fault names the file.
    #[error("{}", .0.what)]
    Store(Fault),
    #[error("nothing arrived of {name} for {}{}", humantime::format_duration(*waited), told(.cause))]
    TimedOut {
        name: String,
        waited: Duration,
        /// The last failure behind the silence.
        cause: Option<Fault>,
    },
    /// No hub is known that has it.
    #[error("no hub is known that has {name}")]
    NoOrigin { name: String },
    /// Every source delivered something else than what was published.
    #[error("the bytes that arrived for {name} do not match its published sha256")]
    Damaged { name: String },
    /// The disk loses bytes as fast as they are fetched.
    #[error("the disk gives back other bytes of {name} than were written")]
    DiskLies { name: String },
    /// It is complete and in the store, but could not be recorded.
    #[error("{name} is complete but could not be recorded: {}", .cause.what)]
    NotRecorded { name: String, cause: Fault },
    /// Another process downloads it.
    #[error("{name} is being downloaded by another modelfs process")]
    Busy { name: String },
    #[error("stopped before {name} was complete")]
    ShutDown { name: String },
    /// A task of ours died.
    #[error("the download of {name} broke off: {what}")]
    Broken { name: String, what: &'static str },
}

fn told(cause: &Option<Fault>) -> String {
    cause.as_ref().map_or_else(String::new, |cause| format!(": {}", cause.what))
}

impl FetchError {
    pub fn fault(&self) -> Fault {
        let (kind, remedy) = match self {
            Self::Hub { error, .. } => {
                let fault = error.fault();
                (fault.kind, fault.remedy)
            }
            Self::Store(fault) => return fault.clone(),
            Self::TimedOut { cause, .. } => {
                let remedy = cause.as_ref().map(|cause| cause.remedy.clone()).filter(|remedy| !remedy.is_empty());
                let usual = || "check the network connection and read it again".to_owned();
                (FaultKind::TimedOut, remedy.unwrap_or_else(usual))
            }
            Self::NoOrigin { .. } => (FaultKind::Gone, "run `modelfs add` with a repository that has it".to_owned()),
            Self::Damaged { .. } => (
                FaultKind::Integrity,
                "fetch it again later or from another source; what arrived is kept in the store's quarantine folder"
                    .to_owned(),
            ),
            Self::DiskLies { .. } => (FaultKind::Integrity, "check the disk and the kernel log".to_owned()),
            Self::NotRecorded { cause, .. } => (cause.kind, cause.remedy.clone()),
            Self::Busy { .. } => (FaultKind::Busy, "wait for the other process, or stop it".to_owned()),
            Self::ShutDown { .. } => (FaultKind::Interrupted, "mount again to continue".to_owned()),
            Self::Broken { .. } => (FaultKind::Internal, "report this, with the log".to_owned()),
        };
        Fault::new(kind, self.to_string(), remedy)
    }
}

impl FetchError {
    /// What lies behind it, without the name of the file.
    pub(super) fn cause(&self) -> Fault {
        match self {
            Self::Hub { error, .. } => error.fault(),
            other => other.fault(),
        }
    }
}

impl From<StoreError> for FetchError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_words() {
        let name = || "x.gguf".to_owned();
        let cause = Some(Fault::new(FaultKind::Unreachable, "cannot reach h: refused", "check the network"));
        let timed_out = FetchError::TimedOut { name: name(), waited: Duration::from_secs(120), cause };
        let fault = timed_out.fault();
        assert_eq!(fault.kind, FaultKind::TimedOut);
        assert_eq!(fault.what, "nothing arrived of x.gguf for 2m: cannot reach h: refused");
        for (error, kind) in [
            (FetchError::Hub { name: name(), error: HubError::Offline }, FaultKind::Offline),
            (FetchError::NoOrigin { name: name() }, FaultKind::Gone),
            (FetchError::Damaged { name: name() }, FaultKind::Integrity),
            (FetchError::Busy { name: name() }, FaultKind::Busy),
        ] {
            let fault = error.fault();
            assert_eq!(fault.kind, kind);
            assert!(fault.what.contains("x.gguf") && !fault.remedy.is_empty(), "{fault}");
        }
    }
}
