//! Hubs are asked about what was imported, in a process of its own that nobody waits for.
//!
//! Invariants: at most one such process for each store; whatever becomes of it, the import stands; offline there is none.
//! Not here: what is asked and kept (`library`).

use super::error::Failure;
use super::trace::{self, ENRICH_LOG};
use super::{Context, enrich, exit, interrupt};
use crate::base::{Fault, FaultKind};
use crate::library::EnrichObserver;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Held while one is running; it lies in the store's folder.
const LOCK_FILE_NAME: &str = "enrich.lock";
/// An import that ends while one is running counts on it, so it looks again before it ends; not for ever, since models
/// that are asked about again each time would keep it running.
const ROUNDS_MAX: usize = 3;

/// Starts one. Its failures are told in its log.
pub fn start(context: &Context) {
    let settings = &context.settings;
    if settings.offline.value || !settings.enriching.after_import.value {
        return;
    }
    match command(context).and_then(|mut command| command.spawn()) {
        Ok(_) => context
            .say("hubs are asked about the new models in the background (`enrich.after_import = false` forbids it)"),
        Err(error) => tracing::warn!("hubs are not asked about what was imported: {error}"),
    }
}

fn command(context: &Context) -> io::Result<Command> {
    let settings = &context.settings;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["enrich", "--background", "--store"]).arg(absolute(&settings.store.value));
    if settings.file_found {
        command.arg("--config").arg(absolute(&settings.file.value));
    }
    command.arg("--log-format").arg(settings.log_format.value.as_str());
    // Another folder could not be unmounted while it runs.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C is meant for what runs in front.
    command.process_group(0);
    Ok(command)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What the process does.
pub fn run(context: &Context) -> Result<u8, Failure> {
    let library = context.library()?;
    let Some(_held) = lock(&context.settings.store.value.join(LOCK_FILE_NAME))? else { return Ok(exit::SUCCESS) };
    trace::to_file(&context.settings, context.verbose, ENRICH_LOG)?;
    let cancel = interrupt::cancel_on_signal();
    for _ in 0..ROUNDS_MAX {
        let done = match library.enrich(&enrich::due(context), &Nobody, &cancel) {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!("{}", error.fault());
                return Err(error.into());
            }
        };
        for (source, fault) in &done.failures {
            tracing::warn!("{}", enrich::about(*source, fault));
        }
        tracing::info!("{} models were asked about in {} requests", done.models.len(), done.request_count);
        if done.models.is_empty() || !done.failures.is_empty() || done.interrupted {
            break;
        }
    }
    Ok(exit::SUCCESS)
}

struct Nobody;

impl EnrichObserver for Nobody {
    fn planned(&self, _contents: usize) {}

    fn answered(&self, _contents: usize) {}
}

/// The lock, or nothing when another process has it. It is given back when the process ends, however it ends.
fn lock(path: &Path) -> Result<Option<File>, Failure> {
    let failed = |error: io::Error| {
        let what = format!("cannot use {}: {error}", path.display());
        Failure::Fault(Fault::new(FaultKind::Internal, what, "make the store's folder writable"))
    };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join(LOCK_FILE_NAME);
        let first = lock(&path).ok().flatten().expect("free");
        assert!(lock(&path).is_ok_and(|second| second.is_none()), "it is held");
        drop(first);
        assert!(lock(&path).is_ok_and(|second| second.is_some()), "free again");
    }
}
