//! Writes the labelled set of model files: `cargo run --example fixtures -- DIR`.
//!
//! Every type and base, in the forms in which people have them, with what each is in `labels.tsv`.

#[path = "../tests/support/fake_hub/mod.rs"]
mod fake_hub;
#[path = "../tests/support/labelled/mod.rs"]
mod labelled;
#[path = "../tests/support/samples/mod.rs"]
mod samples;

use clap::Parser;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Writes model files of every type and base, with real tensor names and shapes and no weights.")]
struct Arguments {
    /// Folder to write into
    directory: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let models = labelled::all();
    match labelled::write(&models, &arguments.directory) {
        Ok(()) => {
            let _ = writeln!(io::stderr(), "{} models in {}", models.len(), arguments.directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot write into {}: {error}", arguments.directory.display());
            ExitCode::FAILURE
        }
    }
}
