//! Where log events go: stderr for commands, a bounded file for what runs in the background.
//!
//! Invariant: the file never takes more than two times `LOG_FILE_BYTES_MAX`. Not here: what is logged.

use super::error::Failure;
use crate::base::{Fault, FaultKind};
use crate::config::{LogFormat, Settings};
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Some ten thousand lines: enough to see a bad night, too little to fill a disk.
const LOG_FILE_BYTES_MAX: u64 = 4 << 20;
/// Names of the files in the store's folder.
pub const MOUNT_LOG: &str = "mount.log";
pub const ENRICH_LOG: &str = "enrich.log";

/// `-v` once shows what is done, twice how, three times everything.
fn filter(settings: &Settings, verbose: u8) -> Result<EnvFilter, Failure> {
    let by_flag = match verbose {
        0 => None,
        1 => Some("modelfs=info"),
        2 => Some("modelfs=debug"),
        _ => Some("trace"),
    };
    let text = by_flag.or(settings.log_filter.value.as_deref()).unwrap_or("warn");
    EnvFilter::try_new(text).map_err(|error| {
        let origin = &settings.log_filter.origin;
        let what = format!("the log filter `{text}` ({origin}) is not understood: {error}");
        Failure::Fault(Fault::new(FaultKind::Invalid, what, "write for example `info` or `modelfs::fetch=debug`"))
    })
}

pub fn to_stderr(settings: &Settings, verbose: u8) -> Result<(), Failure> {
    let filter = filter(settings, verbose)?;
    install(settings.log_format.value, filter, io::stderr, io::stderr().is_terminal());
    Ok(())
}

/// For a process without a terminal. Answers the file's path.
pub fn to_file(settings: &Settings, verbose: u8, name: &str) -> Result<PathBuf, Failure> {
    // A process that nobody watches says a little more of itself.
    let filter = if verbose == 0 && settings.log_filter.value.is_none() {
        EnvFilter::new("modelfs=info,warn")
    } else {
        filter(settings, verbose)?
    };
    let path = settings.store.value.join(name);
    let file = BoundedFile::open(&path).map_err(|error| {
        let what = format!("cannot write the log {}: {error}", path.display());
        Failure::Fault(Fault::new(FaultKind::Internal, what, "make the store's folder writable"))
    })?;
    install(settings.log_format.value, filter, SharedFile(Arc::new(Mutex::new(file))), false);
    Ok(path)
}

fn install<W>(format: LogFormat, filter: EnvFilter, writer: W, colour: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
    // Fails only when another subscriber is there already, as in a test binary: that one stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// A file that starts anew at its limit and keeps one older generation.
struct BoundedFile {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl BoundedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size_bytes })
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size_bytes + bytes.len() as u64 > LOG_FILE_BYTES_MAX && self.size_bytes > 0 {
            self.rotate()?;
        }
        let written = self.file.write(bytes)?;
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The lock is held for one line's write to a local file and nothing else.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<BoundedFile>>);

impl Write for SharedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().flush()
    }
}

impl<'a> MakeWriter<'a> for SharedFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_file_never_grows_past_its_limit() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("mount.log");
        let mut file = BoundedFile::open(&path).expect("opened");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..11 {
            file.write_all(&line).expect("written");
        }
        let size = |path: &Path| fs::metadata(path).expect("there").len();
        assert!(size(&path) <= LOG_FILE_BYTES_MAX);
        assert_eq!(size(&folder.path().join("mount.log.1")), LOG_FILE_BYTES_MAX);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2);
    }

    #[test]
    fn an_existing_log_is_continued() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("mount.log");
        for text in ["one\n", "two\n"] {
            BoundedFile::open(&path).expect("opened").write_all(text.as_bytes()).expect("written");
        }
        assert_eq!(fs::read_to_string(&path).expect("read"), "one\ntwo\n");
    }
}
