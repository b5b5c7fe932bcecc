//! `modelfs ps` and `cancel`: what the mounts of this store are downloading.

use super::error::Failure;
use super::output::Output;
use super::serving::{Download, Serving};
use super::table::{Align, Table};
use super::verb_arguments::{CancelArguments, PsArguments};
use super::{Context, exit, figures, interrupt};
use crate::base::{BlobId, Fault, FaultKind};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Often enough to look alive.
const REDRAW: Duration = Duration::from_secs(1);
/// How soon Ctrl-C is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Moves to the upper left corner and clears what is below.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

pub fn ps(context: &Context, wanted: &PsArguments, output: &mut Output) -> Result<u8, Failure> {
    if !wanted.watch || wanted.json {
        show(context, wanted.json, output)?;
        return Ok(exit::SUCCESS);
    }
    let cancel = interrupt::cancel_on_signal();
    while !cancel.is_cancelled() {
        output.bytes(CLEAR)?;
        show(context, false, output)?;
        let drawn = Instant::now();
        while drawn.elapsed() < REDRAW && !cancel.is_cancelled() {
            std::thread::sleep(POLL);
        }
    }
    Ok(exit::SUCCESS)
}

fn show(context: &Context, as_json: bool, output: &mut Output) -> Result<(), Failure> {
    let mut all = Vec::new();
    for serving in mounts(context)? {
        for download in serving.downloads()? {
            all.push((serving.mount_point.display().to_string(), download));
        }
    }
    if as_json {
        let entry = |(mount, download): &(String, Download)| {
            let mut value = download.value.clone();
            value["mount"] = json!(mount);
            value
        };
        output.json(&all.iter().map(entry).collect::<Value>())?;
    } else if all.is_empty() {
        context.say("nothing is being downloaded");
    } else {
        output.table(&table(all.iter().map(|(_, download)| download)))?;
    }
    output.finish()
}

fn table<'a>(downloads: impl Iterator<Item = &'a Download>) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("FILE", Align::Left),
        ("STATE", Align::Left),
        ("PERCENT", Align::Right),
        ("SIZE", Align::Right),
        ("RATE", Align::Right),
        ("ETA", Align::Right),
        ("SOURCE", Align::Left),
        ("ERROR", Align::Left),
    ]);
    for download in downloads {
        table.row([
            download.id.to_string(),
            download.name.clone(),
            download.state.clone(),
            download.progress.clone(),
            figures::size(download.size_bytes),
            download.bytes_per_s.map(|rate| format!("{}/s", figures::size(rate))).unwrap_or_default(),
            download.eta.map(figures::duration).unwrap_or_default(),
            download.source.clone().unwrap_or_default(),
            download.error.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    table
}

fn mounts(context: &Context) -> Result<Vec<Serving>, Failure> {
    let root = &context.settings.store.value;
    let found = Serving::of_store(root);
    if found.is_empty() {
        let what = format!("no mount serves the store {}", root.display());
        return Err(Fault::new(FaultKind::NotMounted, what, "mount it with `modelfs mount`").into());
    }
    Ok(found)
}

pub fn cancel(context: &Context, wanted: &CancelArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    for serving in mounts(context)? {
        let is_meant = |download: &Download| download.id.to_string() == wanted.id || download.name == wanted.id;
        let Some(download) = serving.downloads()?.into_iter().find(is_meant) else { continue };
        let content = library.content(BlobId::new(download.id))?;
        if let Some(path) = content.and_then(|content| content.path) {
            serving.fetch(&path, false)?;
            if !context.quiet {
                output.line(format!("stopped {}; {} % of it is here", download.name, download.progress))?;
            }
            output.finish()?;
            return Ok(exit::SUCCESS);
        }
    }
    let what = format!("no download is called `{}`", wanted.id);
    Err(Fault::new(FaultKind::NotFound, what, "see `modelfs ps`").into())
}
