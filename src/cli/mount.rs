//! `modelfs mount` and `unmount`: in the terminal, or in a process of its own that says when the tree can be used.
//!
//! Invariant: the command succeeds only after the mounted tree answers. Not here: mounting itself (`fuse`).

use super::error::Failure;
use super::output::Output;
use super::verb_arguments::MountArguments;
use super::{Context, exit, memory, trace};
use crate::base::{Fault, FaultKind};
use crate::fuse::{self, MountOptions};
use crate::library::Mounted;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What the detached process writes to its stdout once the tree can be used.
const READY: &str = "ready";
/// Reading a catalog of a million models takes seconds; longer means that something hangs.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest error text that is passed on from the detached process.
const ERROR_BYTES_MAX: u64 = 64 << 10;

pub fn mount(context: &Context, wanted: &MountArguments, output: &mut Output) -> Result<u8, Failure> {
    if wanted.foreground { in_foreground(context, wanted) } else { in_background(context, output) }
}

pub fn unmount(context: &Context) -> Result<u8, Failure> {
    fuse::unmount(&context.settings.mount_point.value)?;
    context.say(&format!("unmounted {}", context.settings.mount_point.value.display()));
    Ok(exit::SUCCESS)
}

fn in_foreground(context: &Context, wanted: &MountArguments) -> Result<u8, Failure> {
    if wanted.detached {
        // Fails only for the leader of a process group, which a started child is not.
        let _ = rustix::process::setsid();
    }
    memory::keep_little();
    // The log lies in the store, so that comes first.
    let library = context.library_made_if_missing()?;
    if wanted.detached {
        trace::to_file(&context.settings, context.verbose, trace::MOUNT_LOG)?;
    }
    let options = MountOptions {
        mount_point: context.settings.mount_point.value.clone(),
        allow_other: context.settings.allow_other.value,
    };
    let mounted = Mounted::start(&library)?;
    let shown = options.mount_point.display().to_string();
    let served = fuse::serve(&mounted, &options, || {
        if wanted.detached { detach() } else { context.say(&format!("mounted at {shown}; Ctrl-C unmounts")) }
    });
    mounted.stop();
    served?;
    Ok(exit::SUCCESS)
}

/// Tells the waiting command and lets go of its terminal.
fn detach() {
    let mut stdout = io::stdout();
    // A command that was killed meanwhile hears nothing; the mount is there all the same.
    let _ = writeln!(stdout, "{READY}").and_then(|()| stdout.flush());
    let released = std::fs::File::options().read(true).write(true).open("/dev/null").and_then(|null| {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok(())
    });
    if let Err(error) = released {
        tracing::warn!("the terminal could not be released: {error}");
    }
}

fn in_background(context: &Context, output: &mut Output) -> Result<u8, Failure> {
    let point = absolute(&context.settings.mount_point.value);
    let mut child =
        detached(context, &point).and_then(|mut command| command.spawn()).map_err(|error| cannot_start(&error))?;
    let stdout = child.stdout.take().expect("it was asked for");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // The receiver is gone only when it gave up.
        let _ = sender.send(read.is_ok() && line.trim() == READY);
    });
    match receiver.recv_timeout(READY_TIMEOUT) {
        Ok(true) => {
            if !context.quiet {
                output.line(format!("mounted at {} (process {})", point.display(), child.id()))?;
                output.finish()?;
            }
            Ok(exit::SUCCESS)
        }
        Ok(false) => failed(child),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            let what = format!("{} could not be mounted within {} s", point.display(), READY_TIMEOUT.as_secs());
            Err(Fault::new(FaultKind::TimedOut, what, "try `modelfs mount --foreground -v` to see where it stops")
                .into())
        }
    }
}

/// The same settings, given word for word, so that the child needs no guess at them.
fn detached(context: &Context, point: &Path) -> io::Result<Command> {
    let settings = &context.settings;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("mount").arg("--foreground").arg("--detached");
    command.arg("--store").arg(absolute(&settings.store.value));
    if settings.file_found {
        command.arg("--config").arg(absolute(&settings.file.value));
    }
    if settings.offline.value {
        command.arg("--offline");
    }
    if settings.allow_other.value {
        command.arg("--allow-other");
    }
    command.arg("--log-format").arg(settings.log_format.value.as_str());
    for _ in 0..context.verbose {
        command.arg("-v");
    }
    command.arg("--").arg(point);
    // Another folder could not be unmounted while this process runs.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn failed(mut child: Child) -> Result<u8, Failure> {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What could be read is better than nothing.
        let _ = stderr.take(ERROR_BYTES_MAX).read_to_end(&mut text);
    }
    let status = child.wait().map_err(|error| cannot_start(&error))?;
    let _ = io::stderr().write_all(&text);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILURE))
}

fn cannot_start(error: &io::Error) -> Failure {
    let what = format!("cannot start the mount's process: {error}");
    Fault::new(FaultKind::Internal, what, "try `modelfs mount --foreground`").into()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::arguments::Arguments;
    use super::*;
    use crate::config::{Environment, LogFormat, Overrides, Places, Settings};
    use clap::Parser;

    #[test]
    fn the_process_in_the_background_is_given_every_flag() {
        let overrides = Overrides {
            store: Some("/store".into()),
            offline: true,
            log_format: Some(LogFormat::Json),
            mount_point: Some("/mount".into()),
            allow_other: true,
            ..Overrides::default()
        };
        let places = Places { home: "/h".into(), config: "/h/c".into(), data: "/h/d".into(), cache: "/h/k".into() };
        let settings = Settings::load(&overrides, &Environment::default(), Ok(places)).expect("valid");
        let context = Context { settings, quiet: false, verbose: 2 };
        let command = detached(&context, Path::new("/mount")).expect("made");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let arguments = Arguments::try_parse_from(words).expect("they can be typed");
        let given = super::super::overrides(&arguments);
        assert_eq!((given.store, given.offline, given.log_format), (overrides.store, true, overrides.log_format));
        assert_eq!((given.mount_point, given.allow_other), (overrides.mount_point, true));
        assert_eq!(arguments.global.verbose, 2);
    }
}
