//! `modelfs app`: whose layouts are mounted.

use super::error::Failure;
use super::output::Output;
use super::table::{Align, Table};
use super::verb_arguments::AppVerb;
use super::{Context, exit, figures};
use crate::library::{AppInfo, Library, LibraryError};
use serde_json::{Value, json};

pub fn run(context: &Context, verb: &AppVerb, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library_made_if_missing()?;
    match verb {
        AppVerb::List(wanted) => list(&library.apps()?, wanted.json, output)?,
        AppVerb::Show { name, json } => show(&find(&library, name)?, *json, output)?,
        AppVerb::Enable { name } => switch(context, &library, name, true)?,
        AppVerb::Disable { name } => switch(context, &library, name, false)?,
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

fn find(library: &Library, name: &str) -> Result<AppInfo, LibraryError> {
    let found = library.apps()?.into_iter().find(|app| app.name == name);
    found.ok_or_else(|| LibraryError::UnknownApp { name: name.to_owned() })
}

fn switch(context: &Context, library: &Library, name: &str, enabled: bool) -> Result<(), Failure> {
    let changed = library.set_app_enabled(name, enabled)?;
    let state = if enabled { "enabled" } else { "disabled" };
    context.say(&if changed { format!("{name} is {state}") } else { format!("{name} was {state} already") });
    Ok(())
}

fn list(apps: &[AppInfo], as_json: bool, output: &mut Output) -> Result<(), Failure> {
    if as_json {
        return output.json(&apps.iter().map(app_json).collect());
    }
    let mut table =
        Table::new(&[("APP", Align::Left), ("NAME", Align::Left), ("MOUNTED", Align::Left), ("FOLDERS", Align::Right)]);
    for app in apps {
        let mounted = if app.enabled { "yes" } else { "no" };
        table.row([app.name.clone(), app.display_name.clone(), mounted.to_owned(), app.folders.len().to_string()]);
    }
    output.table(&table)
}

fn show(app: &AppInfo, as_json: bool, output: &mut Output) -> Result<(), Failure> {
    if as_json {
        return output.json(&app_json(app));
    }
    let state = if app.enabled { "mounted" } else { "not mounted" };
    output.line(format!("{} ({state}), {}", app.display_name, figures::count(app.folders.len() as u64, "folder")))?;
    let mut table = Table::new(&[("FOLDER", Align::Left), ("HOLDS", Align::Left)]);
    for (folder, model_type) in &app.folders {
        let holds = model_type.map_or("(kept empty)", |word| word.as_str());
        table.row([folder.clone(), holds.to_owned()]);
    }
    output.table(&table)
}

fn app_json(app: &AppInfo) -> Value {
    let folders: Vec<Value> = app
        .folders
        .iter()
        .map(|(folder, model_type)| json!({ "path": folder, "type": model_type.map(|word| word.as_str()) }))
        .collect();
    json!({ "name": app.name, "display_name": app.display_name, "enabled": app.enabled, "folders": folders })
}
