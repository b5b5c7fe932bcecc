//! `modelfs add`: registers repositories of hubs, one after the other; one that fails does not stop the rest.

use super::error::Failure;
use super::import::{refused_json, show_refused};
use super::output::Output;
use super::verb_arguments::AddArguments;
use super::{Context, exit, figures, report};
use crate::library::{AddSummary, Gate};
use serde_json::{Value, json};

pub fn run(context: &Context, wanted: &AddArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library_made_if_missing()?;
    let mut code = exit::SUCCESS;
    let mut all = Vec::new();
    for reference in &wanted.references {
        match library.add(reference) {
            Ok(summary) => {
                show_refused(context, &summary.refused);
                if wanted.json {
                    all.push(summary_json(&summary));
                } else if !context.quiet {
                    output.line(summary_text(&summary))?;
                }
            }
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn summary_json(summary: &AddSummary) -> Value {
    json!({
        "repo": summary.repo,
        "commit": summary.commit,
        "path": summary.path,
        "files": summary.file_count,
        "size": summary.total_bytes,
        "bytes_present": summary.resident_bytes,
        "models": summary.model_count,
        "known": summary.known_count,
        "gated": summary.gate != Gate::Open,
        "refused": refused_json(&summary.refused),
    })
}

fn summary_text(summary: &AddSummary) -> String {
    let commit: String = summary.commit.chars().take(10).collect();
    let mut text = format!(
        "{}@{commit}: {} ({}), {}",
        summary.repo,
        figures::count(summary.file_count as u64, "file"),
        figures::size(summary.total_bytes),
        figures::count(summary.model_count as u64, "model"),
    );
    if summary.resident_bytes > 0 {
        text.push_str(&format!(", {} here already", figures::size(summary.resident_bytes)));
    }
    if summary.known_count == summary.file_count && summary.file_count > 0 {
        text.push_str(", nothing new");
    }
    text.push_str(&format!("\n  in the mount: {}", summary.path));
    text.push_str(match summary.gate {
        Gate::Open => "",
        Gate::NeedsToken => {
            "\n  gated: reading needs the token (HF_TOKEN, CIVITAI_TOKEN, MODELSCOPE_API_TOKEN) of an account that accepted its terms"
        }
        Gate::HasToken => "\n  gated: reading needs its terms accepted by the account of your token",
    });
    text
}
