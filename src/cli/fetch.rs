//! `modelfs fetch`: downloads whole files and waits for them, through the mount that serves the store or in this process.
//!
//! Invariants: a file counts as fetched when the catalog says that it is resident; Ctrl-C stops what this command started
//! and keeps what has arrived. Not here: downloading (`fetch` of the library's floor).

use super::error::Failure;
use super::output::Output;
use super::progress::Progress;
use super::serving::{self, Download, Serving};
use super::verb_arguments::FetchArguments;
use super::{Context, exit, figures, interrupt, report};
use crate::base::{BlobState, Fault, FaultKind};
use crate::library::{ContentInfo, ImportObserver, Library, Mounted};
use crate::tree::LiveFile;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Downloads at once; the engine divides its connections among them, and each keeps a file open.
const AT_ONCE_MAX: usize = 16;
const POLL: Duration = Duration::from_millis(100);
/// A download that was asked for and that nobody knows about any more was cancelled by somebody else.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// Who downloads.
enum Place {
    Mount(Serving),
    Here(Box<Mounted>),
}

impl Place {
    fn of(context: &Context, library: &Library) -> Result<Self, Failure> {
        match Serving::of_store(&context.settings.store.value).into_iter().next() {
            Some(serving) => Ok(Self::Mount(serving)),
            None => Ok(Self::Here(Box::new(Mounted::start(library)?))),
        }
    }

    fn fetch(&self, content: &ContentInfo, start: bool) -> Result<(), Fault> {
        match (self, &content.path) {
            (Self::Here(mounted), _) => mounted.fetch(content.blob, start),
            (Self::Mount(serving), Some(path)) => serving.fetch(path, start),
            (Self::Mount(_), None) => {
                let what = format!("{} has no name in the mount", content.name);
                Err(Fault::new(FaultKind::NotFound, what, "enable an application that shows it"))
            }
        }
    }

    fn downloads(&self) -> Result<Vec<Download>, Fault> {
        match self {
            Self::Mount(serving) => serving.downloads(),
            Self::Here(mounted) => {
                let list = serde_json::from_slice(&mounted.live(LiveFile::Downloads)).unwrap_or(Value::Null);
                Ok(serving::parse(&list))
            }
        }
    }

    fn stop(&self) {
        if let Self::Here(mounted) = self {
            mounted.stop();
        }
    }
}

enum Stage {
    Waiting,
    /// Asked for; when it was seen under way last.
    Running(Instant),
    Done,
    Failed(Fault),
}

struct Job {
    content: ContentInfo,
    stage: Stage,
    bytes_present: u64,
}

pub fn run(context: &Context, wanted: &FetchArguments, output: &mut Output) -> Result<u8, Failure> {
    let library = context.library()?;
    let mut code = exit::SUCCESS;
    let mut jobs: Vec<Job> = Vec::new();
    for reference in &wanted.references {
        match library.contents(reference) {
            Ok(contents) => jobs.extend(contents.into_iter().map(job)),
            Err(error) => code = exit::first(code, report(&error.into())),
        }
    }
    let place = Place::of(context, &library)?;
    let outcome = wait_for_all(context, &library, &place, &mut jobs);
    place.stop();
    outcome?;
    for job in &jobs {
        if let Stage::Failed(fault) = &job.stage {
            code = exit::first(code, report(&fault.clone().into()));
        }
    }
    if wanted.json {
        output.json(&jobs.iter().map(job_json).collect())?;
    } else if !context.quiet {
        for job in jobs.iter().filter(|job| matches!(job.stage, Stage::Done)) {
            output.line(format!("{} ({}) is here", job.content.name, figures::size(job.content.size_bytes)))?;
        }
    }
    output.finish()?;
    Ok(code)
}

fn job(content: ContentInfo) -> Job {
    let is_here = content.state == BlobState::Resident;
    let bytes_present = if is_here { content.size_bytes } else { 0 };
    Job { content, stage: if is_here { Stage::Done } else { Stage::Waiting }, bytes_present }
}

fn wait_for_all(context: &Context, library: &Library, place: &Place, jobs: &mut [Job]) -> Result<(), Failure> {
    let cancel = interrupt::cancel_on_signal();
    let bar = Progress::new(Some(jobs.iter().map(|job| job.content.size_bytes).sum()), context.quiet);
    bar.advanced(jobs.iter().map(|job| job.bytes_present).sum());
    let outcome = loop {
        start_some(place, jobs);
        if !jobs.iter().any(|job| matches!(job.stage, Stage::Running(_))) {
            break Ok(());
        }
        if cancel.is_cancelled() {
            stop(place, jobs);
            break Ok(());
        }
        std::thread::sleep(POLL);
        if let Err(failure) = look(library, place, jobs, &bar) {
            break Err(failure);
        }
    };
    bar.finish();
    outcome
}

fn start_some(place: &Place, jobs: &mut [Job]) {
    let mut running = jobs.iter().filter(|job| matches!(job.stage, Stage::Running(_))).count();
    for job in jobs.iter_mut().filter(|job| matches!(job.stage, Stage::Waiting)) {
        if running == AT_ONCE_MAX {
            return;
        }
        job.stage = match place.fetch(&job.content, true) {
            Ok(()) => Stage::Running(Instant::now()),
            Err(fault) => Stage::Failed(fault),
        };
        running += usize::from(matches!(job.stage, Stage::Running(_)));
    }
}

fn look(library: &Library, place: &Place, jobs: &mut [Job], bar: &Progress) -> Result<(), Failure> {
    // Before the catalog: what is in neither was complete in between and is in the catalog the next time.
    let downloads = place.downloads()?;
    for job in jobs.iter_mut() {
        let Stage::Running(seen) = job.stage else { continue };
        let under_way = downloads.iter().find(|download| download.id == job.content.blob.get());
        let now = library.content(job.content.blob)?;
        let mut present = under_way.map_or(job.bytes_present, |download| download.bytes_present);
        if let Some(now) = now.filter(|now| now.state == BlobState::Resident) {
            present = now.size_bytes;
            job.content = now;
            job.stage = Stage::Done;
        } else {
            job.stage = match under_way {
                Some(Download { state, error: Some(error), .. }) if state == "failed" => Stage::Failed(error.clone()),
                Some(_) => Stage::Running(Instant::now()),
                None if seen.elapsed() < GONE_AFTER => Stage::Running(seen),
                None => Stage::Failed(stopped(&job.content, "the download was cancelled")),
            };
        }
        bar.advanced(present.saturating_sub(job.bytes_present));
        job.bytes_present = present.max(job.bytes_present);
    }
    Ok(())
}

fn stop(place: &Place, jobs: &mut [Job]) {
    for job in jobs.iter_mut().filter(|job| !matches!(job.stage, Stage::Done | Stage::Failed(_))) {
        let fault = match (&job.stage, place.fetch(&job.content, false)) {
            (Stage::Running(_), Err(fault)) => fault,
            _ => stopped(&job.content, "stopped"),
        };
        job.stage = Stage::Failed(fault);
    }
}

fn stopped(content: &ContentInfo, what: &str) -> Fault {
    let remedy = "run the same command again to go on; what has arrived is kept";
    Fault::new(FaultKind::Interrupted, format!("{}: {what}", content.name), remedy)
}

fn job_json(job: &Job) -> Value {
    let error = match &job.stage {
        Stage::Failed(fault) => Some(fault),
        Stage::Waiting | Stage::Running(_) | Stage::Done => None,
    };
    let mut value = content_json(&job.content);
    value["bytes_present"] = json!(job.bytes_present);
    value["error"] = json!(error.map(ToString::to_string));
    value
}

/// A file as the verbs about bytes tell it.
pub fn content_json(content: &ContentInfo) -> Value {
    json!({
        "id": content.blob.get(),
        "name": content.name,
        "size": content.size_bytes,
        "state": content.state.as_str(),
        "sha256": content.sha256.map(|digest| digest.to_string()),
        "pinned": content.pinned,
        "path": content.path,
    })
}
