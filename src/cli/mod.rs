//! The `modelfs` command: words typed → library calls → text or JSON.
//!
//! Data goes to stdout, everything else to stderr; a reader that goes away is a success. Invariants: every verb ends in
//! one exit code of `exit`; nothing here prints a token. Not here: what the verbs do (`library`), settings (`config`).

mod add;
mod apps;
mod arguments;
mod checking;
mod classify;
mod clock;
mod completions;
mod downloads;
mod enrich;
mod enrich_background;
mod error;
mod exit;
mod fetch;
mod figures;
mod import;
mod interrupt;
mod keeping;
mod memory;
mod models;
mod mount;
mod output;
mod progress;
mod removal;
mod search;
mod serving;
mod settings_view;
mod table;
mod trace;
mod trust;
mod verb_arguments;

use crate::base::Fault;
use crate::config::{Environment, Overrides, Places, Settings};
use crate::hub::HubOptions;
use crate::library::{Library, LibraryError, LibraryOptions, Presence};
use arguments::{Arguments, Verb};
use clap::Parser;
use clock::SystemClock;
use error::Failure;
use output::Output;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// What every verb is given.
struct Context {
    settings: Settings,
    quiet: bool,
    /// How often `-v` was given.
    verbose: u8,
}

impl Context {
    /// The store that is there.
    fn library(&self) -> Result<Library, LibraryError> {
        let settings = &self.settings;
        let options = LibraryOptions {
            store_root: settings.store.value.clone(),
            hubs: HubOptions {
                hf_endpoint: settings.hf_endpoint.value.clone(),
                hf_token: settings.hf_token.token().cloned(),
                offline: settings.offline.value,
                civitai_endpoint: settings.civitai_endpoint.value.clone(),
                civitai_token: settings.civitai_token.token().cloned(),
                modelscope_endpoint: settings.modelscope_endpoint.value.clone(),
                modelscope_token: settings.modelscope_token.token().cloned(),
                order: settings.sources_order.value.clone(),
                mirrors: settings.sources_mirrors.value.clone(),
                ..HubOptions::default()
            },
            promote_after_bytes: settings.promote_after_bytes.value,
            read_timeout: settings.read_timeout.value,
            cache_limit_bytes: Some(settings.limits.cache_limit_bytes.value).filter(|bytes| *bytes > 0),
            min_free_bytes: settings.limits.min_free_bytes.value,
            rate_bytes_max: Some(settings.limits.rate_bytes_max.value).filter(|bytes| *bytes > 0),
            confidence_min: settings.classify_threshold.value,
            streams: usize::try_from(settings.limits.streams.value).expect("checked to be small"),
        };
        Library::open(options, Arc::new(SystemClock))
    }

    /// For verbs that a first user starts with.
    fn library_made_if_missing(&self) -> Result<Library, LibraryError> {
        let root = &self.settings.store.value;
        if Library::create(root, &SystemClock)? {
            self.say(&format!("made a new store in {}", root.display()));
        }
        self.library()
    }

    /// A sentence for a person, on stderr.
    fn say(&self, text: &str) {
        if !self.quiet {
            // Nobody reads it when stderr is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Something went wrong that does not stop the rest.
    fn warn(&self, what: &str, remedy: &str) {
        let _ = writeln!(io::stderr(), "warning: {what}");
        if !remedy.is_empty() {
            let _ = writeln!(io::stderr(), "hint: {remedy}");
        }
    }
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
    let verbose = arguments.global.verbose;
    // What runs in the background logs to a file, and only one place can be chosen in a process.
    match &arguments.verb {
        Verb::Mount(wanted) if wanted.detached => {}
        Verb::Enrich(wanted) if wanted.background => {}
        _ => trace::to_stderr(&settings, verbose)?,
    }
    let context = Context { settings, quiet: arguments.global.quiet, verbose };
    run_verb(&context, &arguments.verb, &mut output)
}

fn run_verb(context: &Context, verb: &Verb, output: &mut Output) -> Result<u8, Failure> {
    match verb {
        Verb::Init => init(context, output),
        Verb::Import(wanted) => import::run(context, wanted, output),
        Verb::Add(wanted) => add::run(context, wanted, output),
        Verb::Fetch(wanted) => fetch::run(context, wanted, output),
        Verb::Ps(wanted) => downloads::ps(context, wanted, output),
        Verb::Cancel(wanted) => downloads::cancel(context, wanted, output),
        Verb::Pin(wanted) => keeping::pin(context, wanted, true, output),
        Verb::Unpin(wanted) => keeping::pin(context, wanted, false, output),
        Verb::Evict(wanted) => keeping::evict(context, wanted, output),
        Verb::Mount(wanted) => mount::mount(context, wanted, output),
        Verb::Unmount(_) => mount::unmount(context),
        Verb::Ls(wanted) => models::list(context, wanted, output),
        Verb::Search(wanted) => search::run(context, wanted, output),
        Verb::Info(wanted) => models::info(context, wanted, output),
        Verb::Classify(wanted) => classify::run(context, wanted, output),
        Verb::Enrich(wanted) if wanted.background => enrich_background::run(context),
        Verb::Enrich(wanted) => enrich::run(context, wanted, output),
        Verb::Tag(wanted) => classify::tag(context, wanted, output),
        Verb::Trust(wanted) => trust::run(context, wanted, true, output),
        Verb::Untrust(wanted) => trust::run(context, wanted, false, output),
        Verb::Rm(wanted) => removal::run(context, wanted, Presence::Removed, output),
        Verb::Restore(wanted) => removal::run(context, wanted, Presence::Shown, output),
        Verb::Hash(wanted) => checking::hash(context, wanted, output),
        Verb::App(wanted) => apps::run(context, &wanted.verb, output),
        Verb::Stats(wanted) => models::stats(context, wanted.json, output),
        Verb::Verify(wanted) => checking::verify(context, wanted, output),
        Verb::Doctor(wanted) => checking::doctor(context, wanted.json, output),
        Verb::Config(wanted) => settings_view::run(context, wanted, output),
        Verb::Completions(wanted) => completions::write(wanted, output),
    }
}

fn init(context: &Context, output: &mut Output) -> Result<u8, Failure> {
    let root = &context.settings.store.value;
    let is_new = Library::create(root, &SystemClock)?;
    let what = if is_new { "made a new store in" } else { "there is a store already in" };
    output.line(format!("{what} {}", root.display()))?;
    output.finish()?;
    Ok(exit::SUCCESS)
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
        Failure::Query { fault, shown } => tell(fault, shown),
        Failure::Fault(fault) => tell(fault, ""),
    }
}

/// `shown` stands between what happened and what to do, line by line.
fn tell(fault: &Fault, shown: &str) -> u8 {
    let _ = writeln!(io::stderr(), "error: {}", table::printable(&fault.what));
    for line in shown.lines() {
        let _ = writeln!(io::stderr(), "  {}", table::printable(line));
    }
    if !fault.remedy.is_empty() {
        let _ = writeln!(io::stderr(), "hint: {}", fault.remedy);
    }
    exit::of_fault(fault.kind)
}
