//! The `modelfs` command: words typed → library calls → text or JSON.
//!
//! Data goes to stdout, everything else to stderr; a reader that goes away is a success. Invariants: every verb ends in
//! one exit code of `exit`; nothing here prints a token. Not here: what the verbs do (`library`), settings (`config`).

#![expect(dead_code, reason = "the verbs that use the rest arrive with the library's use cases")]

mod arguments;
mod completions;
mod error;
mod exit;
mod figures;
mod output;
mod settings_view;
mod table;
mod trace;

use crate::config::{Environment, Overrides, Places, Settings};
use arguments::{Arguments, Verb};
use clap::Parser;
use error::Failure;
use output::Output;
use std::io::{self, Write};
use std::process::ExitCode;

/// What every verb is given.
struct Context {
    settings: Settings,
    quiet: bool,
}

/// Runs the process's command line to its end.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come here too. A closed pipe leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::SUCCESS });
        }
    };
    match execute(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(report(&failure)),
    }
}

fn execute(arguments: Arguments) -> Result<u8, Failure> {
    let mut output = Output::stdout();
    if let Verb::Completions(wanted) = &arguments.verb {
        // Needs no settings, so that a broken settings file does not break a shell's start.
        return completions::write(wanted, &mut output);
    }
    let overrides = overrides(&arguments);
    let settings = Settings::load(&overrides, &Environment::from_process(), Places::from_process())
        .map_err(|error| Failure::Fault(error.fault()))?;
    trace::to_stderr(&settings, arguments.global.verbose)?;
    let context = Context { settings, quiet: arguments.global.quiet };
    match &arguments.verb {
        Verb::Config(wanted) => settings_view::run(&context, wanted, &mut output),
        Verb::Completions(wanted) => completions::write(wanted, &mut output),
    }
}

fn overrides(arguments: &Arguments) -> Overrides {
    let global = &arguments.global;
    let mut overrides = Overrides {
        store: global.store.clone(),
        config: global.config.clone(),
        offline: global.offline,
        log_format: global.log_format.map(Into::into),
        ..Overrides::default()
    };
    arguments.verb.override_settings(&mut overrides);
    overrides
}

/// Says on stderr what went wrong and answers the exit code.
fn report(failure: &Failure) -> u8 {
    // When stderr is closed too, the code is all that is left.
    match failure {
        Failure::ReaderGone => exit::SUCCESS,
        Failure::Output(error) => {
            let _ = writeln!(io::stderr(), "error: cannot write the output: {error}");
            exit::FAILURE
        }
        Failure::Fault(fault) => {
            let _ = writeln!(io::stderr(), "error: {}", fault.what);
            if !fault.remedy.is_empty() {
                let _ = writeln!(io::stderr(), "hint: {}", fault.remedy);
            }
            exit::of_fault(fault.kind)
        }
    }
}
