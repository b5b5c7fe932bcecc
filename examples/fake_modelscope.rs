//! The fake ModelScope as a program, for scripts and for trying things by hand.
//!
//! `cargo run --example fake_modelscope -- org/name DIR` serves a folder as a repository until it is killed. Its first
//! line on stdout is `MODELSCOPE_ENDPOINT=…`.
#![allow(dead_code, reason = "it uses its own part of what tests share")]

#[path = "../tests/support/fake_hub/mod.rs"]
mod fake_hub;
#[path = "../tests/support/fake_modelscope.rs"]
mod fake_modelscope;
#[path = "../tests/support/two_origins.rs"]
mod two_origins;

use fake_modelscope::FakeModelScope;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Files of this size and more come from the storage.
const LARGE_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(repo), Some(folder)) = (words.next(), words.next().map(PathBuf::from)) else {
        let _ = writeln!(io::stderr(), "usage: fake_modelscope ORG/NAME DIR");
        return ExitCode::FAILURE;
    };
    match serve(&repo, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(repo: &str, folder: &std::path::Path) -> io::Result<()> {
    let hub = FakeModelScope::start();
    // Its own client takes a failure that comes with 200 for the file.
    hub.missing_status(404);
    for (name, path) in fake_hub::files_below(folder)? {
        let bytes = std::fs::read(path)?;
        let _ = if bytes.len() < LARGE_BYTES { hub.small(repo, &name, bytes) } else { hub.large(repo, &name, bytes) };
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "MODELSCOPE_ENDPOINT={}", hub.origins.endpoint())?;
    stdout.flush()?;
    loop {
        std::thread::park();
    }
}
