//! Writes a set of sample model files: `cargo run --example samples -- DIR`.
//!
//! They look like a user's folders: ComfyUI, the web UI of A1111, a Hugging Face cache, some models in two of them.
//! With `--count N` it writes N tiny distinct LoRA files instead, for measuring how things grow.

#[path = "../tests/support/fake_hub/mod.rs"]
mod fake_hub;
#[path = "../tests/support/samples/mod.rs"]
mod samples;

use clap::Parser;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Writes sample model files with real tensor names and shapes.")]
struct Arguments {
    /// Folder to write into
    directory: PathBuf,
    /// Write this many tiny distinct LoRA files instead
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// Write every sample into this one folder, without the folders of applications
    #[arg(long, conflicts_with = "count")]
    flat: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let written = match arguments.count {
        Some(count) => samples::write_tiny_loras(&arguments.directory, count),
        None if arguments.flat => samples::write_flat(&arguments.directory).map(drop),
        None => samples::write_applications(&arguments.directory).map(drop),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot write into {}: {error}", arguments.directory.display());
            ExitCode::FAILURE
        }
    }
}
