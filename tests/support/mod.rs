//! What integration tests stand on: a hub on this machine, sample models, and sandboxes with a mount.
#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]

pub mod asking;
pub mod civitai_trouble;
pub mod downloading;
pub mod fake_civitai;
pub mod fake_hub;
pub mod fake_modelscope;
pub mod labelled;
pub mod mounted;
pub mod python;
pub mod samples;
pub mod skip;
pub mod tiny;
pub mod two_origins;
