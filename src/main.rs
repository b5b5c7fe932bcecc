//! The `modelfs` command. Everything is in the library's `cli` module, so that it can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    modelfs::cli::run()
}
