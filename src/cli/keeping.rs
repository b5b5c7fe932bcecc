//! `modelfs pin`, `unpin` and `evict`: which files stay on this machine.

use super::error::Failure;
use super::fetch::content_json;
use super::output::Output;
use super::verb_arguments::KeepArguments;
use super::{Context, exit, figures, report};
use crate::library::{ContentInfo, Eviction};
use serde_json::{Value, json};

pub fn pin(context: &Context, wanted: &KeepArguments, pinned: bool, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut all: Vec<ContentInfo> = Vec::new();
    for reference in &wanted.references {
        match library.pin(reference, pinned) {
            Ok(contents) => all.extend(contents),
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&all.iter().map(content_json).collect())?;
    } else if !context.quiet {
        for content in &all {
            let what = if pinned { "is pinned" } else { "is no longer pinned" };
            output.line(format!("{} {what}", content.name))?;
        }
    }
    output.finish()?;
    Ok(code)
}

pub fn evict(context: &Context, wanted: &KeepArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut all = Vec::new();
    for reference in &wanted.references {
        match library.evict(reference) {
            Ok(results) => all.extend(results),
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    let mut told: Vec<Value> = Vec::new();
    for Eviction { content, freed } in &all {
        let mut value = content_json(content);
        match freed {
            Ok(bytes) => {
                value["state"] = json!("remote");
                value["freed_bytes"] = json!(bytes);
                if !wanted.json && !context.quiet {
                    output.line(format!("{}: {} given up", content.name, figures::size(*bytes)))?;
                }
            }
            Err(fault) => {
                value["error"] = json!(fault.to_string());
                code = exit::first(code, report(&fault.clone().into()));
            }
        }
        told.push(value);
    }
    if wanted.json {
        output.json(&Value::from(told))?;
    }
    output.finish()?;
    Ok(code)
}
