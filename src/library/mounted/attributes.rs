//! Extended attributes: what is known about a file, under the names of the contract.
//!
//! Invariants: reading never waits for the network; an unknown value is an absent attribute, never an empty one; no
//! value holds a token or a signed address. Not here: name spaces and sizes of the kernel's calls (`fuse`).

use super::super::{evict, origins};
use super::Mounted;
use super::deciding::Decided;
use super::facts::Known;
use crate::base::{BlobId, BlobState, Fault, FaultKind, InodeNo, Label};
use crate::catalog::{ModelRow, OriginRow};
use crate::fetch::{Activity, Progress};
use crate::hub::HubOptions;
use crate::tree::{self, NodeKind, Source};
use serde_json::json;
use std::sync::Arc;

const PREFIX: &str = "user.modelfs.";
/// Of a directory that stands for a creator, a tag or a format: the word itself, which its name may not be able to hold.
const NAME: &str = "user.modelfs.name";
const FETCH: &str = "user.modelfs.fetch";
const PINNED: &str = "user.modelfs.pinned";
const ORIGIN_URL: &str = "user.xdg.origin.url";
pub(super) const XDG_TAGS: &str = "user.xdg.tags";

/// Everything that is asked about one file at one moment.
struct Subject<'a> {
    known: Arc<Known>,
    progress: Option<Progress>,
    hubs: &'a HubOptions,
}

type Value = fn(&Subject<'_>) -> Option<String>;

/// Every attribute and where its value comes from, in the order in which they are listed.
const ATTRIBUTES: &[(&str, Value)] = &[
    ("user.modelfs.state", |subject| Some(subject.state().to_owned())),
    ("user.modelfs.progress", |subject| Some(subject.percent())),
    ("user.modelfs.bytes_present", |subject| Some(subject.bytes_present().to_string())),
    ("user.modelfs.size", |subject| Some(subject.known.blob.size_bytes.to_string())),
    ("user.modelfs.speed", |subject| Some(subject.progress.as_ref()?.bytes_per_s?.to_string())),
    ("user.modelfs.eta", |subject| Some(subject.progress.as_ref()?.eta?.as_secs().to_string())),
    ("user.modelfs.error", |subject| subject.error()),
    ("user.modelfs.sha256", |subject| Some(subject.known.blob.sha256?.to_string())),
    ("user.modelfs.blake3", |subject| Some(subject.known.blob.hashes.as_ref()?.blake3.to_string())),
    ("user.modelfs.crc32", |subject| subject.known.blob.hashes.as_ref().map(|hashes| origins::hex(&hashes.crc32))),
    ("user.modelfs.autov1", |subject| subject.known.blob.hashes.as_ref()?.autov1.clone()),
    ("user.modelfs.autov2", |subject| Some(subject.known.blob.sha256?.prefix(origins::AUTOV2_DIGITS))),
    ("user.modelfs.autov3", |subject| subject.known.blob.hashes.as_ref()?.autov3.clone()),
    ("user.modelfs.type", |subject| Some(subject.model()?.model_type.to_string())),
    ("user.modelfs.base", |subject| Some(subject.model()?.base.as_ref()?.to_string())),
    ("user.modelfs.format", |subject| Some(subject.model()?.format.clone())),
    ("user.modelfs.precision", |subject| {
        let model = subject.model()?;
        model.precision.clone().or_else(|| model.quantization.clone())
    }),
    ("user.modelfs.confidence", |subject| Some(format!("{:.2}", subject.model()?.confidence))),
    ("user.modelfs.method", |subject| Some(subject.model()?.method.clone())),
    ("user.modelfs.safety", |subject| Some(subject.known.blob.safety?.to_string())),
    ("user.modelfs.trusted", |subject| subject.known.blob.trusted.then(|| "1".to_owned())),
    ("user.modelfs.source", |subject| Some(subject.source()?.as_str().to_owned())),
    ("user.modelfs.sources", |subject| subject.sources()),
    ("user.modelfs.name", |subject| {
        Some(subject.model().map_or(&subject.known.blob.name, |model| &model.name).to_string())
    }),
    ("user.modelfs.creator", |subject| subject.model()?.creator.as_ref().map(ToString::to_string)),
    ("user.modelfs.license", |subject| subject.model()?.license.clone()),
    ("user.modelfs.tags", |subject| subject.tags()),
    ("user.modelfs.trigger_words", |subject| joined(&subject.model()?.trigger_words)),
    (PINNED, |subject| Some(u8::from(subject.known.pinned).to_string())),
    (ORIGIN_URL, |subject| subject.page_url()),
    (XDG_TAGS, |subject| subject.tags()),
];

impl Subject<'_> {
    fn model(&self) -> Option<&ModelRow> {
        self.known.models.first()
    }

    fn state(&self) -> &'static str {
        if self.known.blob.state == BlobState::Resident {
            return BlobState::Resident.as_str();
        }
        match self.progress.as_ref().map(|progress| progress.activity) {
            Some(Activity::Downloading) => "downloading",
            Some(Activity::Verifying) => "verifying",
            Some(Activity::Failed) => "failed",
            // The catalog hears of it in the same moment.
            Some(Activity::Done) => BlobState::Resident.as_str(),
            Some(Activity::Idle) if self.bytes_present() > 0 => BlobState::Partial.as_str(),
            Some(Activity::Idle) => BlobState::Remote.as_str(),
            None => self.known.blob.state.as_str(),
        }
    }

    fn bytes_present(&self) -> u64 {
        match (&self.known.blob.state, &self.progress) {
            (BlobState::Resident, _) => self.known.blob.size_bytes,
            (_, Some(progress)) => progress.bytes_present,
            (_, None) => 0,
        }
    }

    fn percent(&self) -> String {
        percent(self.bytes_present(), self.known.blob.size_bytes)
    }

    fn error(&self) -> Option<String> {
        if let Some(refusal) = &self.known.withheld {
            return Some(refusal.to_string());
        }
        if self.known.blob.state == BlobState::Resident {
            return None;
        }
        let live = self.progress.as_ref().map(|progress| progress.error.as_ref().map(ToString::to_string));
        live.unwrap_or_else(|| self.known.blob.error.clone())
    }

    /// The hub that bytes come from now, else the first that is known.
    fn source(&self) -> Option<Source> {
        let live = self.progress.as_ref().and_then(|progress| progress.source);
        live.or_else(|| self.known.origins.first().map(|origin| origin.source))
    }

    fn sources(&self) -> Option<String> {
        let shown = |origin: &OriginRow| {
            json!({
                "source": origin.source.as_str(), "repo": origin.repo, "revision": origin.revision, "path": origin.path,
            })
        };
        let all: Vec<_> = self.known.origins.iter().map(shown).collect();
        (!all.is_empty()).then(|| serde_json::Value::from(all).to_string())
    }

    fn tags(&self) -> Option<String> {
        joined(&self.model()?.tags)
    }

    fn page_url(&self) -> Option<String> {
        self.known.origins.iter().find_map(|origin| origins::page_url(self.hubs, origin))
    }
}

fn joined(words: &[impl ToString]) -> Option<String> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join(","))
}

/// Two decimals, rounded down: 100.00 only when everything is here.
pub(super) fn percent(present: u64, size: u64) -> String {
    let hundredths = match size {
        0 => 10_000,
        _ => u128::from(present) * 10_000 / u128::from(size),
    };
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl Mounted {
    /// Names of the extended attributes of a node that have a value, in order.
    pub fn attribute_names(&self, ino: InodeNo) -> Vec<String> {
        if let Some(names) = self.query_attribute_names(ino) {
            return names;
        }
        if self.label_of(ino).is_some() {
            return vec![NAME.to_owned()];
        }
        let Some(subject) = self.subject(ino) else { return Vec::new() };
        let there = ATTRIBUTES.iter().filter(|(_, value)| value(&subject).is_some());
        there.map(|(name, _)| (*name).to_owned()).collect()
    }

    /// Value of one; `None` when it is absent. From memory or the local catalog.
    pub fn attribute(&self, ino: InodeNo, name: &str) -> Option<Vec<u8>> {
        if let Some(value) = self.query_attribute(ino, name) {
            return Some(value);
        }
        if let Some(label) = self.label_of(ino) {
            return (name == NAME).then(|| label.as_str().into());
        }
        let (_, value) = ATTRIBUTES.iter().find(|(known, _)| *known == name)?;
        value(&self.subject(ino)?).map(String::into_bytes)
    }

    /// `user.modelfs.fetch` starts (`1`) or stops (`0`) a download, `user.modelfs.pinned` keeps the file from being
    /// evicted; type, base and tags record what a person says; every other name can only be read.
    pub fn set_attribute(&self, ino: InodeNo, name: &str, value: &[u8]) -> Result<(), Fault> {
        let blob = self.blob_of(ino).ok_or_else(|| read_only(name))?;
        if let Some(what) = Decided::of(name) {
            return self.decide(blob, what, Some(value));
        }
        match name {
            FETCH => self.fetch(blob, switch(name, value)?),
            PINNED => self.set_pinned(blob, switch(name, value)?),
            _ => Err(read_only(name)),
        }
    }

    /// Takes back what a person said: the value is the automatic one again, which is not pinned.
    pub fn remove_attribute(&self, ino: InodeNo, name: &str) -> Result<(), Fault> {
        let blob = self.blob_of(ino).ok_or_else(|| read_only(name))?;
        if let Some(what) = Decided::of(name) {
            return self.decide(blob, what, None);
        }
        if name == PINNED { self.set_pinned(blob, false) } else { Err(read_only(name)) }
    }

    /// Starts or stops the download of a whole file, and returns at once. A file that is here stays as it is.
    pub fn fetch(&self, blob: BlobId, start: bool) -> Result<(), Fault> {
        let Some(remote) = self.open_remote(blob)? else { return Ok(()) };
        if start {
            remote.fetch_all()
        } else {
            remote.cancel()
        }
        Ok(())
    }

    fn set_pinned(&self, blob: BlobId, pinned: bool) -> Result<(), Fault> {
        evict::set_pinned(&self.inner.library, blob, pinned).map_err(|error| error.fault())?;
        self.inner.current.refresh().map_err(|error| error.fault())
    }

    fn label_of(&self, ino: InodeNo) -> Option<Label> {
        // Most of what is asked about are files.
        ino.directory()?;
        tree::label_of_directory(&self.tree().path_of_directory(ino)?)
    }

    fn blob_of(&self, ino: InodeNo) -> Option<BlobId> {
        match self.tree().attributes(ino)?.kind {
            NodeKind::Blob(blob) => Some(blob),
            NodeKind::Directory | NodeKind::Live(_) => None,
        }
    }

    fn subject(&self, ino: InodeNo) -> Option<Subject<'_>> {
        let blob = self.blob_of(ino)?;
        // A catalog that cannot be read is told by the follower; an attribute is then merely absent.
        let known = self.inner.facts.of(blob).ok().flatten()?;
        let progress = self.inner.progress(blob, &known.blob);
        Some(Subject { known, progress, hubs: &self.inner.library.options().hubs })
    }
}

fn switch(name: &str, value: &[u8]) -> Result<bool, Fault> {
    match value {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ => Err(Fault::new(FaultKind::Invalid, format!("{name} takes 1 or 0"), "write 1 for yes, 0 for no")),
    }
}

fn read_only(name: &str) -> Fault {
    let ours = name.starts_with(PREFIX);
    let remedy = if ours { "fetch, pinned, type, base and tags can be written" } else { "" };
    Fault::new(FaultKind::NotPermitted, format!("{name} cannot be changed"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_never_rounds_up_to_everything() {
        for (present, size, expected) in [
            (0, 0, "100.00"),
            (0, 7, "0.00"),
            (1, 3, "33.33"),
            (999_999, 1_000_000, "99.99"),
            (u64::MAX - 1, u64::MAX, "99.99"),
            (5, 5, "100.00"),
        ] {
            assert_eq!(percent(present, size), expected, "{present} of {size}");
        }
    }

    #[test]
    fn names_are_unique_and_of_the_user_name_space() {
        let mut names: Vec<&str> = ATTRIBUTES.iter().map(|(name, _)| *name).collect();
        assert!(names.iter().all(|name| name.starts_with("user.")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTRIBUTES.len());
    }
}
