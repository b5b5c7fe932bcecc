//! A progress bar on stderr for jobs that read many bytes; nothing where stderr is no terminal.

use crate::library::ImportObserver;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::path::Path;

/// Often enough to look alive, seldom enough to cost nothing.
const DRAWS_PER_S: u8 = 8;

pub struct Progress {
    bar: ProgressBar,
    finished_bytes_known: bool,
}

impl Progress {
    /// `total_bytes`: `None` when it is not known before.
    pub fn new(total_bytes: Option<u64>, quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), finished_bytes_known: false };
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S);
        let bar = ProgressBar::with_draw_target(total_bytes, target);
        let template = match total_bytes {
            Some(_) => {
                "{bar:24} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}  {wide_msg}"
            }
            None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {wide_msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates above are valid"));
        Self { bar, finished_bytes_known: total_bytes.is_some() }
    }

    pub fn finish(&self) {
        if self.finished_bytes_known {
            self.bar.set_message("");
        }
        self.bar.finish_and_clear();
    }
}

impl ImportObserver for Progress {
    fn advanced(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn finished(&self, path: &Path) {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        self.bar.set_message(super::table::printable(&name));
    }
}
