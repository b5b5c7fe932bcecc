//! `modelfs enrich`: what hubs know about models, and what became of asking.

use super::error::Failure;
use super::output::Output;
use super::table::printable;
use super::verb_arguments::EnrichArguments;
use super::{Context, exit, figures, interrupt, report};
use crate::base::Fault;
use crate::library::{EnrichObserver, EnrichRequest, EnrichSummary, Enriched, HubFacts, Outcome};
use crate::tree::Source;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::{self, IsTerminal};

/// Letters of a description that are shown to a person; JSON has all of it.
const DESCRIPTION_CHARS_SHOWN: usize = 300;
/// A bar that counts models moves once with each request.
const DRAWS_PER_S: u8 = 4;

/// A bar on stderr that counts models; nothing where stderr is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
        let template = "{bar:24} {pos}/{len} models asked about";
        bar.set_style(ProgressStyle::with_template(template).expect("the template above is valid"));
        Self(bar)
    }
}

impl EnrichObserver for Bar {
    fn planned(&self, contents: usize) {
        self.0.set_length(contents as u64);
    }

    fn answered(&self, contents: usize) {
        self.0.inc(contents as u64);
    }
}

/// About everything that was not answered yet.
pub fn due(context: &Context) -> EnrichRequest {
    let enriching = &context.settings.enriching;
    EnrichRequest {
        references: Vec::new(),
        again: false,
        spacing: enriching.spacing.value,
        unknown_for: enriching.unknown_for.value,
    }
}

pub fn run(context: &Context, wanted: &EnrichArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let cancel = interrupt::cancel_on_signal();
    let request = EnrichRequest { references: wanted.references.clone(), again: wanted.again, ..due(context) };
    let bar = Bar::new(context.quiet);
    let done = library.enrich(&request, &bar, &cancel);
    bar.0.finish_and_clear();
    let done = done?;
    let mut code = exit::SUCCESS;
    for (source, fault) in &done.failures {
        code = exit::first(code, report(&about(*source, fault).into()));
    }
    if wanted.json {
        output.json(&summary_json(&done))?;
    } else if !context.quiet {
        write_summary(&done, output)?;
    }
    output.finish()?;
    Ok(if done.interrupted { exit::INTERRUPTED } else { code })
}

/// Most failures name a host only.
pub fn about(source: Source, fault: &Fault) -> Fault {
    Fault::new(fault.kind, format!("asking {}: {}", source.as_str(), fault.what), fault.remedy.clone())
}

fn counted(done: &EnrichSummary, outcome: Outcome) -> usize {
    done.models.iter().filter(|model| model.outcome == outcome).count()
}

fn summary_json(done: &EnrichSummary) -> Value {
    let model = |model: &Enriched| {
        let mut value = json!({ "id": model.id.get(), "name": model.name, "outcome": model.outcome.as_str() });
        if let (Value::Object(value), Value::Object(told)) = (&mut value, hub_json(&model.told)) {
            let asked = told.into_iter().filter(|(key, _)| model.outcome != Outcome::Unknown || key == "source");
            value.extend(asked.map(|(key, told)| if key == "name" { ("title".to_owned(), told) } else { (key, told) }));
        }
        value
    };
    let failure = |(source, fault): &(Source, Fault)| json!({ "source": source.as_str(), "error": fault.what, "remedy": fault.remedy });
    json!({
        "known": counted(done, Outcome::Known),
        "unknown": counted(done, Outcome::Unknown),
        "gone": counted(done, Outcome::Gone),
        "skipped": done.skipped_count,
        "unaskable": done.unaskable_count,
        "left": done.left_count,
        "requests": done.request_count,
        "interrupted": done.interrupted,
        "failures": done.failures.iter().map(failure).collect::<Vec<_>>(),
        "models": done.models.iter().map(model).collect::<Vec<_>>(),
    })
}

/// What one hub says about a model.
pub fn hub_json(told: &HubFacts) -> Value {
    let flags: Map<String, Value> = told.license_flags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let counts: Map<String, Value> = told.statistics.iter().map(|(key, count)| (key.clone(), json!(count))).collect();
    json!({
        "source": told.source,
        "url": told.page_url,
        "asked": figures::time(told.asked),
        "gone": told.gone.map(figures::time),
        "name": told.name,
        "version": told.version,
        "description": told.description,
        "type": told.model_type,
        "base_models": told.base_models,
        "creator": told.creator,
        "license": told.license,
        "license_flags": flags,
        "tags": told.tags,
        "trigger_words": told.trigger_words,
        "statistics": counts,
        "previews": told.previews,
        "nsfw": told.nsfw,
        "published": told.published,
    })
}

/// The same for a person, as lines of `info`.
pub fn hub_lines(told: &HubFacts) -> Vec<(&'static str, String)> {
    let title = [&told.name, &told.version].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let description: String =
        told.description.iter().flat_map(|text| text.chars()).take(DESCRIPTION_CHARS_SHOWN).collect();
    let count = |(key, count): &(String, u64)| format!("{count} {key}");
    let page = told.page_url.clone().unwrap_or_default();
    let gone = told.gone.map(|gone| format!(" (gone since {})", figures::time(gone))).unwrap_or_default();
    [
        ("known at", format!("{}: {page}{gone}", told.source)),
        ("title", title),
        ("made for", told.base_models.join(", ")),
        ("statistics", told.statistics.iter().map(count).collect::<Vec<_>>().join(", ")),
        ("description", description.replace('\n', " ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

fn write_summary(done: &EnrichSummary, output: &mut Output) -> Result<(), Failure> {
    for model in &done.models {
        let told = &model.told;
        let text = match model.outcome {
            Outcome::Unknown => continue,
            Outcome::Gone => format!("{}: no longer at {}; what it told is kept", model.name, told.source),
            Outcome::Known => {
                let title = told.name.as_deref().unwrap_or("without a title");
                let by = told.creator.as_ref().map(|creator| format!(" by {creator}")).unwrap_or_default();
                format!("{}: {title}{by}, {}", model.name, told.page_url.as_ref().unwrap_or(&told.source))
            }
        };
        output.line(printable(&text))?;
    }
    let mut parts = vec![
        format!("{} known", counted(done, Outcome::Known)),
        format!("{} not known", counted(done, Outcome::Unknown)),
    ];
    for (count, what) in [
        (counted(done, Outcome::Gone), "gone"),
        (done.skipped_count, "answered before"),
        (done.unaskable_count, "without a hash"),
        (done.left_count, "left for the next time"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let end = if done.interrupted { "; stopped: run the same command again to go on" } else { "" };
    let requests = figures::count(done.request_count, "request");
    output.line(format!("{}; {requests}{end}", parts.join(", ")))
}
