//! `modelfs import`: what it will take, the progress, and what became of each file.

use super::enrich_background;
use super::error::Failure;
use super::output::Output;
use super::progress::Progress;
use super::table::{Align, Table, printable};
use super::verb_arguments::ImportArguments;
use super::{Context, exit, figures, interrupt};
use crate::library::{ImportMode, ImportPlan, ImportRequest, ImportSummary, LibraryError, ModeCosts, Refusal};
use serde_json::{Value, json};
use std::time::Instant;

pub fn run(context: &Context, wanted: &ImportArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library_made_if_missing()?;
    let cancel = interrupt::cancel_on_signal();
    let request = ImportRequest {
        paths: wanted.paths.clone(),
        mode: context.settings.import_mode.value,
        leave_symlink: wanted.leave_symlink,
    };
    let plan = library.plan_import(&request, &cancel)?;
    if wanted.dry_run {
        return show_plan(context, &plan, wanted.json, output);
    }
    context.say(&plan_line(&plan));
    if !plan.fits() {
        return Err(LibraryError::DoesNotFit { needed_bytes: plan.cost_bytes(), free_bytes: plan.free_bytes }.into());
    }
    let started = Instant::now();
    let progress = Progress::new(Some(plan.total_bytes), context.quiet);
    let summary = library.import(plan, &progress, &cancel);
    progress.finish();
    let summary = summary?;
    show_refused(context, &summary.refused);
    if wanted.json {
        output.json(&summary_json(&summary))?;
    } else if !context.quiet {
        output.line(summary_text(&summary, started))?;
    }
    output.finish()?;
    if summary.new_count > 0 && !summary.interrupted {
        enrich_background::start(context);
    }
    Ok(match (summary.interrupted, summary.refused.is_empty()) {
        (true, _) => exit::INTERRUPTED,
        (false, true) => exit::SUCCESS,
        (false, false) => exit::FAILURE,
    })
}

fn costs(costs: &ModeCosts) -> [(ImportMode, Option<u64>); 4] {
    [
        (ImportMode::Reflink, costs.reflink),
        (ImportMode::Copy, costs.copy),
        (ImportMode::Move, costs.r#move),
        (ImportMode::Link, costs.link),
    ]
}

/// One sentence before anything is changed.
fn plan_line(plan: &ImportPlan) -> String {
    let others: Vec<String> = costs(&plan.costs)
        .into_iter()
        .filter(|(mode, _)| *mode != plan.mode)
        .map(|(mode, bytes)| match bytes {
            Some(bytes) => format!("{} {}", mode.as_str(), figures::size(bytes)),
            None => format!("{} not possible here", mode.as_str()),
        })
        .collect();
    format!(
        "importing {} ({}) by {}: takes {} of {} free; other modes: {}",
        figures::count(plan.file_count as u64, "file"),
        figures::size(plan.total_bytes),
        plan.mode.as_str(),
        figures::size(plan.cost_bytes()),
        figures::size(plan.free_bytes),
        others.join(", "),
    )
}

fn show_plan(context: &Context, plan: &ImportPlan, as_json: bool, output: &mut Output) -> Result<u8, Failure> {
    show_refused(context, &plan.refused);
    if as_json {
        output.json(&plan_json(plan))?;
    } else {
        output.line(format!(
            "{} to import ({}), {} unchanged, {}, {} ignored, {} refused",
            figures::count(plan.file_count as u64, "file"),
            figures::size(plan.total_bytes),
            plan.unchanged_count,
            figures::count(plan.bundle_count as u64, "bundle"),
            plan.ignored_count,
            plan.refused.len(),
        ))?;
        let mut table = Table::new(&[("MODE", Align::Left), ("TAKES", Align::Right), ("", Align::Left)]);
        for (mode, bytes) in costs(&plan.costs) {
            let note = if mode == plan.mode { "chosen" } else { "" };
            let takes = bytes.map_or("not possible here".to_owned(), figures::size);
            table.row([mode.as_str().to_owned(), takes, note.to_owned()]);
        }
        output.table(&table)?;
        output.line(format!("{} free", figures::size(plan.free_bytes)))?;
    }
    output.finish()?;
    Ok(if plan.fits() { exit::SUCCESS } else { exit::NO_SPACE })
}

fn plan_json(plan: &ImportPlan) -> Value {
    let modes: serde_json::Map<String, Value> =
        costs(&plan.costs).into_iter().map(|(mode, bytes)| (mode.as_str().to_owned(), json!(bytes))).collect();
    json!({
        "mode": plan.mode.as_str(),
        "files": plan.file_count,
        "size": plan.total_bytes,
        "takes_bytes": plan.cost_bytes(),
        "free_bytes": plan.free_bytes,
        "fits": plan.fits(),
        "modes": modes,
        "unchanged": plan.unchanged_count,
        "bundles": plan.bundle_count,
        "ignored": plan.ignored_count,
        "refused": refused_json(&plan.refused),
    })
}

fn summary_json(summary: &ImportSummary) -> Value {
    json!({
        "new": summary.new_count,
        "new_bytes": summary.new_bytes,
        "already_there": summary.already_there_count,
        "saved_bytes": summary.saved_bytes,
        "unchanged": summary.unchanged_count,
        "bundles": summary.bundle_count,
        "ignored": summary.ignored_count,
        "refused": refused_json(&summary.refused),
        "interrupted": summary.interrupted,
    })
}

pub fn refused_json(refused: &[Refusal]) -> Vec<Value> {
    refused
        .iter()
        .map(|refusal| {
            json!({ "path": refusal.path.to_string_lossy(), "reason": refusal.reason, "remedy": refusal.remedy })
        })
        .collect()
}

fn summary_text(summary: &ImportSummary, started: Instant) -> String {
    let mut parts = vec![
        format!("{} new ({})", figures::count(summary.new_count as u64, "file"), figures::size(summary.new_bytes)),
        format!("{} already there ({} saved)", summary.already_there_count, figures::size(summary.saved_bytes)),
        format!("{} unchanged", summary.unchanged_count),
    ];
    if summary.bundle_count > 0 {
        parts.push(figures::count(summary.bundle_count as u64, "bundle"));
    }
    if summary.ignored_count > 0 {
        parts.push(format!("{} ignored (no models)", figures::count(summary.ignored_count as u64, "other file")));
    }
    if !summary.refused.is_empty() {
        parts.push(format!("{} refused", summary.refused.len()));
    }
    let end = if summary.interrupted { "; stopped: run the same command again to go on" } else { "" };
    format!("{}; {}{end}", parts.join(", "), figures::duration(started.elapsed()))
}

/// On stderr, also with `--quiet`: a refused file is an error.
pub fn show_refused(context: &Context, refused: &[Refusal]) {
    for refusal in refused {
        let path = printable(&refusal.path.to_string_lossy());
        let reason = printable(&refusal.reason);
        // Most reasons name the file already.
        let what = if reason.contains(&path) { reason } else { format!("{path} is refused: {reason}") };
        context.warn(&what, &refusal.remedy);
    }
}
