//! `modelfs trust` and `untrust`: who may hand out pickles that run code.

use super::error::Failure;
use super::output::Output;
use super::table::printable;
use super::verb_arguments::TrustArguments;
use super::{Context, exit, report};
use crate::base::Safety;
use crate::library::TrustChange;
use serde_json::{Value, json};

pub fn run(context: &Context, wanted: &TrustArguments, trusted: bool, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut all: Vec<Value> = Vec::new();
    for reference in &wanted.references {
        match library.set_trusted(reference, trusted) {
            Ok(change) if wanted.json => all.push(change_json(&change, trusted)),
            Ok(change) => output.line(printable(&sentence(&change, trusted)))?,
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    if wanted.json {
        output.json(&Value::from(all))?;
    }
    output.finish()?;
    Ok(code)
}

fn change_json(change: &TrustChange, trusted: bool) -> Value {
    json!({
        "name": change.name,
        "safety": change.safety.map(Safety::as_str),
        "trusted": trusted,
        "changed": change.is_new,
    })
}

fn sentence(change: &TrustChange, trusted: bool) -> String {
    let name = &change.name;
    let needs_it = change.safety.is_some_and(|safety| safety != Safety::Safe);
    match (trusted, needs_it) {
        (true, true) => format!("{name} is handed out from now on, whatever it runs when it is loaded"),
        (true, false) => format!("{name} is trusted; it was handed out already, as far as it is known"),
        (false, true) => format!("{name} is withheld: programs that have it open keep it"),
        (false, false) => format!("{name} is not trusted; it is handed out, because it only holds data"),
    }
}
