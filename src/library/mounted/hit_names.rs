//! Repositories that hubs found, as directories: their names, what lies in them, and how the catalog keeps both. Pure.
//!
//! Invariant: a name that was given is kept as long as the repository is among the answers. Not here: when hubs are asked
//! (`hits`).

use super::super::found;
use crate::base::{BlobId, EntryName, Fault, RelativePath, Timestamp};
use crate::hub::FoundRepo;
use crate::tree::Source;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// Letters of a title in the name of a directory.
const SLUG_CHARS_MAX: usize = 60;

#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub name: EntryName,
    /// As `modelfs add` takes it.
    pub reference: String,
    /// Nothing until the first look into it. They stay while somebody looks again.
    pub files: Option<Arc<BTreeMap<RelativePath, BlobId>>>,
    /// When `files` were asked for.
    pub looked: Option<Timestamp>,
    pub look: Look,
    pub mtime: Timestamp,
}

/// How far the last look into a repository is.
#[derive(Clone, Debug)]
pub(super) enum Look {
    Quiet,
    Looking,
    Failed(Fault, Timestamp),
}

/// Names for the directories of repositories: who had one keeps it and what is known of it.
pub(super) fn named(rows: Vec<FoundRepo>, before: &[Hit], now: Timestamp) -> Vec<Hit> {
    let mut hits: Vec<Hit> = Vec::with_capacity(rows.len());
    for repo in rows {
        let Ok(name) = EntryName::new(&directory_name(&repo)) else { continue };
        let reference = found::reference(&repo);
        if hits.iter().any(|hit| hit.name == name) {
            continue;
        }
        // A title may change, and a name in use may not.
        let old = before.iter().find(|old| old.reference == reference).cloned();
        hits.push(old.unwrap_or(Hit { name, reference, files: None, looked: None, look: Look::Quiet, mtime: now }));
    }
    hits
}

/// `org--name`, or the number of a model and its title.
fn directory_name(repo: &FoundRepo) -> String {
    if repo.source != Source::Civitai {
        return repo.repo.as_str().replace('/', "--");
    }
    let mut slug = String::new();
    for character in repo.title.chars().flat_map(char::to_lowercase) {
        match character.is_alphanumeric() {
            true => slug.push(character),
            false if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            false => {}
        }
    }
    let slug: String = slug.chars().take(SLUG_CHARS_MAX).collect();
    match slug.trim_end_matches('-') {
        "" => repo.repo.to_string(),
        slug => format!("{}-{slug}", repo.repo),
    }
}

/// What lies directly in a folder of a repository: files, and folders without a content.
pub(super) fn inside(files: &BTreeMap<RelativePath, BlobId>, folder: &str) -> Vec<(EntryName, Option<BlobId>)> {
    let mut found: BTreeMap<EntryName, Option<BlobId>> = BTreeMap::new();
    for (path, blob) in files {
        let Some(rest) = below_of(path, folder) else { continue };
        let (name, is_file) = rest.split_once('/').map_or((rest, true), |(name, _)| (name, false));
        if let Ok(name) = EntryName::new(name) {
            found.insert(name, is_file.then_some(*blob));
        }
    }
    found.into_iter().collect()
}

/// Names that vanished or lead elsewhere, by folder; the folder of a repository itself is the empty text.
pub(super) fn names_that_differ(
    before: &BTreeMap<RelativePath, BlobId>,
    after: &BTreeMap<RelativePath, BlobId>,
) -> Vec<(String, EntryName)> {
    let mut folders = BTreeSet::from([String::new()]);
    for path in before.keys() {
        let mut folder = path.parent();
        while let Some(path) = folder.filter(|path| folders.insert(path.to_string())) {
            folder = path.parent();
        }
    }
    let mut differ = Vec::new();
    for folder in folders {
        let new: BTreeMap<EntryName, Option<BlobId>> = inside(after, &folder).into_iter().collect();
        let old = inside(before, &folder).into_iter();
        differ.extend(old.filter(|(name, blob)| new.get(name) != Some(blob)).map(|(name, _)| (folder.clone(), name)));
    }
    differ
}

/// Whether something lies below a path.
pub(super) fn has_folder(files: &BTreeMap<RelativePath, BlobId>, folder: &str) -> bool {
    let inside = format!("{folder}/");
    let first = files.range::<str, _>((Bound::Included(inside.as_str()), Bound::Unbounded)).next();
    first.is_some_and(|(path, _)| path.as_str().starts_with(&inside))
}

fn below_of<'p>(path: &'p RelativePath, folder: &str) -> Option<&'p str> {
    if folder.is_empty() {
        return Some(path.as_str());
    }
    path.as_str().strip_prefix(folder)?.strip_prefix('/')
}

/// Hits as the catalog keeps them.
pub(super) fn written(hits: &[Hit]) -> String {
    let hit = |hit: &Hit| {
        let file = |(path, blob): (&RelativePath, &BlobId)| json!([path.as_str(), blob.get()]);
        let files = hit.files.as_ref().map(|files| files.iter().map(file).collect::<Vec<_>>());
        let looked = hit.looked.map(Timestamp::unix_ns);
        json!({ "name": hit.name.as_str(), "id": hit.reference, "files": files, "looked": looked })
    };
    hits.iter().map(hit).collect::<Value>().to_string()
}

/// What cannot be read is asked for again.
pub(super) fn read(text: &str, answered: Timestamp) -> Vec<Hit> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let file = |entry: &Value| Some((RelativePath::new(entry[0].as_str()?).ok()?, BlobId::new(entry[1].as_i64()?)));
    let hit = |entry: &Value| {
        let files = entry["files"].as_array().map(|files| files.iter().filter_map(file).collect());
        Some(Hit {
            name: EntryName::new(entry["name"].as_str()?).ok()?,
            reference: entry["id"].as_str()?.to_owned(),
            looked: entry["looked"].as_i64().map(Timestamp::from_unix_ns),
            files: files.map(Arc::new),
            look: Look::Quiet,
            mtime: answered,
        })
    };
    value.as_array().into_iter().flatten().filter_map(hit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepoId;

    fn repo(source: Source, id: &str, title: &str) -> FoundRepo {
        FoundRepo { title: title.to_owned(), ..FoundRepo::named(source, RepoId::new(id).expect("valid")) }
    }

    #[test]
    fn repositories_have_directories_of_their_own() {
        for (source, id, title, expected) in [
            (Source::HuggingFace, "org/name", "name", "org--name"),
            (Source::ModelScope, "org/name", "a title", "org--name"),
            (Source::Civitai, "12", "Sun & Glow (v2)!", "12-sun-glow-v2"),
            (Source::Civitai, "12", "../../etc", "12-etc"),
            (Source::Civitai, "12", "///", "12"),
            (Source::Civitai, "12", "дождь", "12-дождь"),
        ] {
            assert_eq!(directory_name(&repo(source, id, title)), expected);
        }
        let now = Timestamp::default();
        let before = named(vec![repo(Source::Civitai, "12", "Sun")], &[], now);
        let after = named(vec![repo(Source::Civitai, "7", "x"), repo(Source::Civitai, "12", "Moon")], &before, now);
        let names: Vec<&str> = after.iter().map(|hit| hit.name.as_str()).collect();
        assert_eq!(names, ["7-x", "12-sun"], "a name that was given is kept");
    }

    #[test]
    fn what_a_newer_look_finds_is_compared_by_folder() {
        let files = |rows: &[(&str, i64)]| -> BTreeMap<RelativePath, BlobId> {
            let row = |(path, blob): &(&str, i64)| (RelativePath::new(path).expect("a path"), BlobId::new(*blob));
            rows.iter().map(row).collect()
        };
        let before = files(&[("a/b/c", 1), ("a/b/d", 2), ("e", 3), ("f", 4), ("g/h", 5)]);
        let after = files(&[("a/b/c", 1), ("a/b/n", 7), ("e", 8), ("f/x", 9), ("new", 6)]);
        let differ: Vec<String> =
            names_that_differ(&before, &after).iter().map(|(folder, name)| format!("{folder}:{name}")).collect();
        assert_eq!(differ, [":e", ":f", ":g", "a/b:d", "g:h"]);
        assert!(names_that_differ(&before, &before).is_empty());
    }

    #[test]
    fn an_answer_is_read_back() {
        let files = [("a/b.safetensors", 7), ("c.txt", 8)];
        let files = files.map(|(path, blob)| (RelativePath::new(path).expect("a path"), BlobId::new(blob)));
        let mut hits = named(
            vec![repo(Source::HuggingFace, "a/b", "b"), repo(Source::HuggingFace, "a/c", "c")],
            &[],
            Timestamp::default(),
        );
        hits[0].files = Some(Arc::new(files.into()));
        hits[0].looked = Some(Timestamp::from_unix_ns(7));
        let back = read(&written(&hits), Timestamp::default());
        assert_eq!(back.len(), 2);
        assert_eq!((back[0].name.as_str(), back[0].reference.as_str()), ("a--b", "hf:a/b"));
        assert_eq!((back[0].looked, back[1].looked), (Some(Timestamp::from_unix_ns(7)), None));
        let known = back[0].files.as_ref().expect("its files are known");
        assert_eq!(inside(known, "").len(), 2);
        assert_eq!(inside(known, "a"), [(EntryName::new("b.safetensors").expect("a name"), Some(BlobId::new(7)))]);
        assert!(back[1].files.is_none());
        for (folder, expected) in [("a", true), ("a/b.safetensors", false), ("c", false), ("c.txt", false), ("", false)]
        {
            assert_eq!(has_folder(known, folder), expected, "{folder}");
        }
        for damaged in ["", "{}", "[7]", "[{\"name\":\"..\",\"id\":\"x\"}]"] {
            assert!(read(damaged, Timestamp::default()).is_empty(), "{damaged}");
        }
    }
}
