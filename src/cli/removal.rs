//! `modelfs rm` and `restore`: models out of sight and back. No file is touched.

use super::error::Failure;
use super::output::Output;
use super::table::printable;
use super::verb_arguments::RemovalArguments;
use super::{Context, exit, report};
use crate::library::{Presence, RemovalChange};
use serde_json::{Value, json};

pub fn run(
    context: &Context,
    wanted: &RemovalArguments,
    presence: Presence,
    output: &mut Output,
) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut all: Vec<Value> = Vec::new();
    for reference in &wanted.references {
        match library.set_presence(reference, presence) {
            Ok(change) if wanted.json => all.push(change_json(&change, presence)),
            Ok(change) => output.line(printable(&sentence(&change, presence)))?,
            // One that fails does not stop the rest; the first failure is the command's.
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn change_json(change: &RemovalChange, presence: Presence) -> Value {
    json!({
        "id": change.id.get(),
        "name": change.name,
        "removed": presence == Presence::Removed,
        "changed": change.is_new,
    })
}

fn sentence(change: &RemovalChange, presence: Presence) -> String {
    let (name, id) = (&change.name, change.id);
    match (presence, change.is_new) {
        (Presence::Removed, true) => format!("{name} is out of sight; `modelfs restore {id}` brings it back"),
        (Presence::Removed, false) => format!("{name} was out of sight already"),
        (Presence::Shown, true) => format!("{name} is back under the names it had"),
        (Presence::Shown, false) => format!("{name} is shown already"),
    }
}
