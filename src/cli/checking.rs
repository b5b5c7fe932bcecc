//! `modelfs hash`, `verify` and `doctor`: what files are, whether they are whole, and what is wrong with this machine.

use super::error::Failure;
use super::output::Output;
use super::progress::Progress;
use super::table::printable;
use super::verb_arguments::{HashArguments, VerifyArguments};
use super::{Context, exit, figures, interrupt, report};
use crate::config::{Chosen, TokenState};
use crate::fuse;
use crate::library::{Check, CheckStatus, Hashed, Library};
use serde_json::{Value, json};

pub fn hash(context: &Context, wanted: &HashArguments, output: &mut Output) -> Result<u8, Failure> {
    let total = wanted.files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    let progress = Progress::new(Some(total), context.quiet);
    let mut code = exit::SUCCESS;
    let mut all = Vec::new();
    for path in &wanted.files {
        let hashed = Library::hash(path, &progress).and_then(|hashed| {
            if wanted.write {
                Library::write_sidecar(&hashed)?;
            }
            Ok(hashed)
        });
        match hashed {
            Ok(hashed) if wanted.json => all.push(hashed_json(&hashed)),
            Ok(hashed) => write_hashed(&hashed, output)?,
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    progress.finish();
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn hashed_json(hashed: &Hashed) -> Value {
    json!({
        "path": hashed.path.to_string_lossy(),
        "size": hashed.size_bytes,
        "sha256": hashed.sha256.to_string(),
        "blake3": hashed.blake3.to_string(),
        "crc32": hashed.crc32,
        "autov1": hashed.autov1,
        "autov2": hashed.autov2,
        "autov3": hashed.autov3,
    })
}

fn write_hashed(hashed: &Hashed, output: &mut Output) -> Result<(), Failure> {
    output.line(printable(&hashed.path.to_string_lossy()))?;
    let (sha256, blake3) = (hashed.sha256.to_string(), hashed.blake3.to_string());
    let rows = [
        ("sha256", Some(&sha256)),
        ("blake3", Some(&blake3)),
        ("crc32", Some(&hashed.crc32)),
        ("autov1", hashed.autov1.as_ref()),
        ("autov2", Some(&hashed.autov2)),
        ("autov3", hashed.autov3.as_ref()),
    ];
    for (name, value) in rows {
        // Small files have no AutoV1, and only safetensors have an AutoV3.
        if let Some(value) = value {
            output.line(format!("  {name:<7} {value}"))?;
        }
    }
    Ok(())
}

pub fn verify(context: &Context, wanted: &VerifyArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let cancel = interrupt::cancel_on_signal();
    let progress = Progress::new(None, context.quiet);
    let summary = library.verify(&wanted.references, &progress, &cancel);
    progress.finish();
    let summary = summary?;
    if wanted.json {
        let findings: Vec<Value> = summary
            .findings
            .iter()
            .map(|finding| json!({ "subject": finding.subject, "what": finding.what, "remedy": finding.remedy }))
            .collect();
        output.json(&json!({
            "files": summary.checked_count,
            "bytes": summary.checked_bytes,
            "findings": findings,
            "interrupted": summary.interrupted,
        }))?;
    } else {
        for finding in &summary.findings {
            output.line(format!("{}: {}", printable(&finding.subject), printable(&finding.what)))?;
            if !finding.remedy.is_empty() {
                output.line(format!("  hint: {}", printable(&finding.remedy)))?;
            }
        }
        output.line(format!(
            "{} read ({}), {}{}",
            figures::count(summary.checked_count, "file"),
            figures::size(summary.checked_bytes),
            if summary.findings.is_empty() {
                "nothing wrong".to_owned()
            } else {
                figures::count(summary.findings.len() as u64, "finding")
            },
            if summary.interrupted { "; stopped before the end" } else { "" },
        ))?;
    }
    output.finish()?;
    Ok(match (summary.findings.is_empty(), summary.interrupted) {
        (false, _) => exit::INTEGRITY,
        (true, true) => exit::INTERRUPTED,
        (true, false) => exit::SUCCESS,
    })
}

pub fn doctor(context: &Context, as_json: bool, output: &mut Output) -> Result<u8, Failure> {
    let settings = &context.settings;
    let mut checks = fuse::checks(&settings.mount_point.value);
    checks.extend(Library::checks(&settings.store.value));
    checks.push(network_check(context));
    for (hub, variable, state) in [
        ("Hugging Face", "HF_TOKEN", &settings.hf_token),
        ("Civitai", "CIVITAI_TOKEN", &settings.civitai_token),
        ("ModelScope", "MODELSCOPE_API_TOKEN", &settings.modelscope_token),
    ] {
        checks.push(token_check(hub, variable, state));
    }
    let broken = checks.iter().any(|check| check.status == CheckStatus::Broken);
    if as_json {
        output.json(&checks.iter().map(check_json).collect())?;
    } else {
        for check in &checks {
            let mark = match check.status {
                CheckStatus::Fine => "ok    ",
                CheckStatus::Notice => "notice",
                CheckStatus::Broken => "BROKEN",
            };
            output.line(format!("{mark}  {}: {}", check.name, printable(&check.finding)))?;
            if !check.remedy.is_empty() {
                output.line(format!("        hint: {}", printable(&check.remedy)))?;
            }
        }
    }
    output.finish()?;
    Ok(if broken { exit::FAILURE } else { exit::SUCCESS })
}

fn network_check(context: &Context) -> Check {
    let settings = &context.settings;
    let finding = if settings.offline.value {
        format!("switched off ({})", settings.offline.origin)
    } else {
        let hubs = [
            ("Hugging Face", &settings.hf_endpoint),
            ("Civitai", &settings.civitai_endpoint),
            ("ModelScope", &settings.modelscope_endpoint),
        ];
        let place =
            |(name, chosen): &(&str, &Chosen<String>)| format!("{name} at {} ({})", chosen.value, chosen.origin);
        hubs.iter().map(place).collect::<Vec<_>>().join(", ")
    };
    Check { name: "network".to_owned(), status: CheckStatus::Fine, finding, remedy: String::new() }
}

/// Whether there is a token and where from, never the token.
fn token_check(hub: &str, variable: &str, state: &TokenState) -> Check {
    let (status, finding, remedy) = match state {
        TokenState::Absent => (
            CheckStatus::Fine,
            "none: only what is public".to_owned(),
            format!("for what needs an account set {variable}"),
        ),
        TokenState::Found { origin, exposed: true, .. } => (
            CheckStatus::Notice,
            format!("found in {origin}, which other users can read"),
            format!("chmod 600 {origin}"),
        ),
        TokenState::Found { origin, .. } => {
            (CheckStatus::Fine, format!("found in {origin} (not shown)"), String::new())
        }
        TokenState::Unusable { origin, reason } => (
            CheckStatus::Broken,
            format!("{origin} cannot be used: {reason}"),
            format!("set {variable} to the token of your account, or unset it"),
        ),
        TokenState::Disabled => {
            (CheckStatus::Fine, "not sent, because HF_HUB_DISABLE_IMPLICIT_TOKEN says so".to_owned(), String::new())
        }
    };
    Check { name: format!("{hub} token"), status, finding, remedy }
}

fn check_json(check: &Check) -> Value {
    let status = match check.status {
        CheckStatus::Fine => "fine",
        CheckStatus::Notice => "notice",
        CheckStatus::Broken => "broken",
    };
    json!({ "name": check.name, "status": status, "finding": check.finding, "remedy": check.remedy })
}
