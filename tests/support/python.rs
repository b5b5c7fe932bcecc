//! The scripts that use the formats' own libraries, run with the Python that `scripts/test` prepares.

use super::skip::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `MODELFS_TEST_PYTHON` with a script of this folder, or nothing, told on stderr, where it is not set.
pub fn script(name: &str) -> Option<Command> {
    let Some(python) = std::env::var_os("MODELFS_TEST_PYTHON") else {
        skipped(
            name,
            "MODELFS_TEST_PYTHON is not set; scripts/test prepares a Python with numpy, safetensors and gguf",
        );
        return None;
    };
    let mut command = Command::new(python);
    command.arg("-B").arg(path(name));
    Some(command)
}

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}

/// Runs it to its end and gives its stdout; panics with its stderr when it fails.
#[track_caller]
pub fn run(mut command: Command) -> String {
    let output = command.output().expect("the interpreter of MODELFS_TEST_PYTHON starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
