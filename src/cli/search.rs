//! `modelfs search`: models here, and repositories at hubs.
//!
//! Invariant: a hub that fails is told on stderr beside the answers of the others. Not here: what is asked (`library`).

use super::error::Failure;
use super::models::{NO_ANSWER, summary_json, table_of};
use super::output::Output;
use super::table::{Align, Table};
use super::verb_arguments::SearchArguments;
use super::{Context, exit, figures};
use crate::hub::FoundFile;
use crate::library::{FoundAtHub, SearchRequest};
use serde_json::{Value, json};

pub fn run(context: &Context, wanted: &SearchArguments, output: &mut Output) -> Result<u8, Failure> {
    let request = SearchRequest {
        query: wanted.query.join(" "),
        source: wanted.source.clone(),
        model_type: wanted.model_type.clone(),
        base: wanted.base.clone(),
        sort: wanted.sort.clone(),
        limit: wanted.limit,
        cursor: wanted.cursor.clone(),
    };
    let answer = context.library()?.search(&request)?;
    if wanted.json {
        let models = answer.models.iter().map(summary_json);
        output.json(&models.chain(answer.found.iter().map(found_json)).collect())?;
    } else {
        output.table(&table_of(&answer.models))?;
        if !answer.models.is_empty() && !answer.found.is_empty() {
            output.line("")?;
        }
        output.table(&table_of_found(&answer.found))?;
        if answer.models.is_empty() && answer.found.is_empty() {
            context.say(NO_ANSWER);
        }
    }
    output.finish()?;
    for (source, fault) in &answer.failures {
        context.warn(&format!("{}: {}", source.as_str(), fault.what), &fault.remedy);
    }
    if let Some(cursor) = &answer.cursor {
        context.say(&format!("there is more: the same with --cursor {cursor}"));
    }
    Ok(exit::SUCCESS)
}

fn table_of_found(found: &[FoundAtHub]) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("NAME", Align::Left),
        ("TYPE", Align::Left),
        ("BASE", Align::Left),
        ("DOWNLOADS", Align::Right),
        ("LIKES", Align::Right),
        ("UPDATED", Align::Left),
        ("STATE", Align::Left),
    ]);
    for repo in found {
        let count = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let updated = repo.updated.map(figures::time).unwrap_or_default();
        table.row([
            repo.reference.clone(),
            // A hub that names its repositories has the name in the id.
            if repo.reference.ends_with(&repo.name) { String::new() } else { repo.name.clone() },
            repo.model_type.map(|word| word.to_string()).unwrap_or_default(),
            repo.base.clone().unwrap_or_default(),
            count(repo.downloads),
            count(repo.likes),
            updated.split('T').next().unwrap_or_default().to_owned(),
            match (repo.is_here, repo.gated) {
                (true, _) => "here",
                (false, true) => "gated",
                (false, false) => "",
            }
            .to_owned(),
        ]);
    }
    table
}

fn found_json(repo: &FoundAtHub) -> Value {
    let file = |file: &FoundFile| json!({ "name": file.name, "size": file.size_bytes, "sha256": file.sha256.map(|sha256| sha256.to_string()) });
    json!({
        "id": repo.reference,
        "name": repo.name,
        "sources": [repo.source],
        "description": repo.description,
        "creator": repo.creator,
        "type": repo.model_type.map(|word| word.as_str()),
        "base": repo.base,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "tags": repo.tags,
        "license": repo.license,
        "updated": repo.updated.map(figures::time),
        "size": repo.size_bytes,
        "files": repo.files.iter().map(file).collect::<Vec<_>>(),
        "thumbnail": repo.thumbnail,
        "gated": repo.gated,
        "nsfw": repo.adult,
        "nsfw_level": repo.nsfw_level,
        "here": repo.is_here,
    })
}
