//! What the tree is made of: everything at one revision, or what changed since another.
//!
//! Invariant: a delta applied to an older snapshot gives the newer one. Cost: a snapshot reads each table once, in the
//! order of its keys, and joins tags and files by walking two ordered answers side by side; a delta reads what changed,
//! by index. Words that repeat (tags, bases, creators) are kept once.

use super::cells::{Answer, Cells};
use super::homes::HOMES;
use super::reader::no_such_row;
use super::{CatalogError, Reader};
use crate::base::{
    BaseModel, BlobId, BundleId, DirectoryId, Label, LabelError, ModelId, RelativePath, RepoId, Timestamp, WordError,
};
use crate::tree::{
    self, BlobEntry, BundleEntry, BundleFile, Delta, DirectoryEntry, Handout, HubRepo, ModelEntry, Occupant, Placement,
    Snapshot,
};
use rusqlite::Params;
use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::sync::Arc;

/// `safety` is empty where no header was read.
const BLOB: &str = "SELECT id, sha256, size, state, mtime_ns, name, \
    ifnull(safety, 'safe') <> 'safe' AND trusted = 0 FROM blobs";
const MODEL: &str = "SELECT id, blob_id, filename, primary_type, base, sources, creator, format FROM models";
const BUNDLE: &str = "SELECT id, name, in_views, primary_type, base, sources, hub_source, repo, directory_name, \
    mtime_ns FROM bundles";
const DIRECTORY: &str = "SELECT id, path, mtime_ns, bundle_id FROM directories";
const PLACEMENT: &str = "SELECT placements.directory_id, directories.path, occupant_kind, occupant_id, name \
    FROM placements INDEXED BY placements_marked \
    JOIN directories ON directories.id = placements.directory_id";

/// Words that repeat in many rows, each kept once.
#[derive(Default)]
struct Words {
    labels: HashSet<Label>,
    bases: HashMap<Box<str>, BaseModel>,
    no_tags: Arc<[Label]>,
    no_homes: Arc<[RelativePath]>,
}

impl Words {
    fn label(&mut self, text: &str) -> Result<Label, LabelError> {
        if let Some(known) = self.labels.get(text) {
            return Ok(known.clone());
        }
        let label = Label::new(text)?;
        self.labels.insert(label.clone());
        Ok(label)
    }

    fn base(&mut self, text: &str) -> Result<BaseModel, WordError> {
        if let Some(known) = self.bases.get(text) {
            return Ok(known.clone());
        }
        let base = BaseModel::parse(text)?;
        self.bases.insert(text.into(), base.clone());
        Ok(base)
    }

    fn tags(&self, tags: Vec<Label>) -> Arc<[Label]> {
        if tags.is_empty() { self.no_tags.clone() } else { tags.into() }
    }

    fn homes(&self, homes: Vec<RelativePath>) -> Arc<[RelativePath]> {
        if homes.is_empty() { self.no_homes.clone() } else { homes.into() }
    }
}

impl Reader<'_> {
    /// Everything that is shown.
    pub fn snapshot(&self) -> Result<Snapshot, CatalogError> {
        let mut words = Words::default();
        let (revision, root_mtime) = self.root()?;
        Ok(Snapshot {
            revision,
            root_mtime,
            blobs: self.blob_entries("ORDER BY id", [])?,
            models: self.live_models(&mut words)?,
            bundles: self.live_bundles()?,
            directories: self.directory_entries("ORDER BY id", [])?,
            placements: self.placement_entries("WHERE is_default = 0 ORDER BY directory_id, name", [])?,
            targets: self.targets()?,
            merged: self.merged_since(0)?,
        })
    }

    /// Rows changed after `revision`, by index; cost by the change.
    pub fn delta_since(&self, revision: u64) -> Result<Delta, CatalogError> {
        // A revision that no database can have reached lies after every change.
        let since = i64::try_from(revision).unwrap_or(i64::MAX);
        let (revision, root_mtime) = self.root()?;
        let mut delta = Delta { revision, root_mtime, ..Delta::default() };
        if i64::try_from(revision).is_ok_and(|current| current <= since) {
            return Ok(delta);
        }
        // `+id` keeps SQLite from walking the whole table in the order of its keys.
        let changed = "WHERE revision > ?1 ORDER BY +id";
        let shown = "WHERE revision > ?1 AND deleted = 0 ORDER BY +id";
        delta.blobs = self.blob_entries(changed, [since])?;
        delta.models = self.models_with_tags(shown, [since])?;
        delta.bundles = self.bundles_with_files(shown, [since])?;
        delta.directories = self.directory_entries(changed, [since])?;
        delta.placements = self.placement_entries(
            "WHERE is_default = 0 AND placements.revision > ?1 ORDER BY directory_id, name",
            [since],
        )?;
        let gone = "SELECT id, kind FROM gone WHERE revision > ?1 ORDER BY +kind, +id";
        delta.gone = self.all(gone, [since], "gone", |cells| read_occupant(cells, 1, 0))?;
        delta.merged = self.merged_since(since)?;
        delta.forgotten = self.forgotten_since(since)?;
        if self.finds("SELECT 1 FROM deploy_targets WHERE revision > ?1", [since])? {
            delta.targets = Some(self.targets()?);
        }
        Ok(delta)
    }

    /// The model as it is shown; nothing for one in the trash.
    pub fn model_entry(&self, model: ModelId) -> Result<Option<ModelEntry>, CatalogError> {
        Ok(self.models_with_tags("WHERE id = ?1 AND deleted = 0", [model.get()])?.pop())
    }

    pub fn blob_entry(&self, blob: BlobId) -> Result<Option<BlobEntry>, CatalogError> {
        Ok(self.blob_entries("WHERE id = ?1", [blob.get()])?.pop())
    }

    pub fn bundle_entry(&self, bundle: BundleId) -> Result<Option<BundleEntry>, CatalogError> {
        Ok(self.bundles_with_files("WHERE id = ?1", [bundle.get()])?.pop())
    }

    /// Every model that is not deleted, with its content; for placing a whole target.
    pub fn model_entries(&self) -> Result<Vec<(ModelEntry, BlobEntry)>, CatalogError> {
        let mut blobs: HashMap<BlobId, BlobEntry> =
            self.blob_entries("ORDER BY id", [])?.into_iter().map(|blob| (blob.id, blob)).collect();
        let with_blob = |model: ModelEntry| {
            let blob = blobs.remove(&model.blob).ok_or_else(|| no_such_row("blobs", model.blob))?;
            Ok((model, blob))
        };
        self.live_models(&mut Words::default())?.into_iter().map(with_blob).collect()
    }

    /// Every bundle that is not deleted.
    pub fn bundle_entries(&self) -> Result<Vec<BundleEntry>, CatalogError> {
        self.live_bundles()
    }

    fn root(&self) -> Answer<(u64, Timestamp)> {
        let sql = "SELECT id, revision, root_mtime_ns FROM catalog_state";
        let found = self.first(sql, [], "catalog_state", |cells| Ok((cells.number(1)?, cells.time(2)?)))?;
        found.ok_or_else(|| no_such_row("catalog_state", 1))
    }

    fn merged_since(&self, since: i64) -> Answer<Vec<(BlobId, BlobId)>> {
        let sql = "SELECT from_id, into_id FROM merged_blobs WHERE revision > ?1 ORDER BY +from_id";
        self.all(sql, [since], "merged_blobs", |cells| {
            Ok((BlobId::new(cells.integer(0)?), BlobId::new(cells.integer(1)?)))
        })
    }

    fn blob_entries(&self, which: &str, params: impl Params) -> Answer<Vec<BlobEntry>> {
        self.all(&format!("{BLOB} {which}"), params, "blobs", |cells| {
            Ok(BlobEntry {
                id: BlobId::new(cells.integer(0)?),
                sha256: cells.digest(1)?,
                size_bytes: cells.number(2)?,
                state: cells.parsed(3, crate::base::BlobState::parse)?,
                mtime: cells.time(4)?,
                name: cells.name(5)?,
                handout: if cells.flag(6)? { Handout::Withheld } else { Handout::Free },
            })
        })
    }

    fn live_models(&self, words: &mut Words) -> Answer<Vec<ModelEntry>> {
        let tag = |cells: Cells<'_>| Ok((cells.integer(0)?, cells.parsed(1, |text| words.label(text))?));
        let tags = self.all("SELECT model_id, tag FROM tags ORDER BY model_id, tag", [], "tags", tag)?;
        let mut tags = tags.into_iter().peekable();
        let home = |cells: Cells<'_>| Ok((cells.integer(0)?, cells.relative_path(1)?));
        let sql = format!("{HOMES} ORDER BY model_homes.model_id, directories.path");
        let mut homes = self.all(&sql, [], "model_homes", home)?.into_iter().peekable();
        self.all(&format!("{MODEL} WHERE deleted = 0 ORDER BY id"), [], "models", |cells| {
            let id = cells.integer(0)?;
            read_model(cells, words, rows_of(&mut tags, id), rows_of(&mut homes, id))
        })
    }

    fn models_with_tags(&self, which: &str, params: impl Params) -> Answer<Vec<ModelEntry>> {
        let mut words = Words::default();
        self.all(&format!("{MODEL} {which}"), params, "models", |cells| {
            let id = cells.integer(0)?;
            read_model(cells, &mut words, self.tags_of(id)?, self.chosen_homes(id)?)
        })
    }

    /// The tags of one model, in byte order.
    pub(super) fn tags_of(&self, model: i64) -> Answer<Vec<Label>> {
        let sql = "SELECT model_id, tag FROM tags WHERE model_id = ?1 ORDER BY tag";
        self.all(sql, [model], "tags", |cells| cells.label(1))
    }

    fn live_bundles(&self) -> Answer<Vec<BundleEntry>> {
        let sql = "SELECT bundle_id, path, blob_id FROM bundle_files ORDER BY bundle_id, path";
        let files = self.all(sql, [], "bundle_files", |cells| Ok((cells.integer(0)?, read_file(cells)?)))?;
        let mut files = files.into_iter().peekable();
        self.all(&format!("{BUNDLE} WHERE deleted = 0 ORDER BY id"), [], "bundles", |cells| {
            let own = rows_of(&mut files, cells.integer(0)?);
            read_bundle(cells, own)
        })
    }

    fn bundles_with_files(&self, which: &str, params: impl Params) -> Answer<Vec<BundleEntry>> {
        self.all(&format!("{BUNDLE} {which}"), params, "bundles", |cells| {
            let files = self.files_of_bundle(cells.integer(0)?)?;
            read_bundle(cells, files)
        })
    }

    /// Sorted by path.
    pub(super) fn files_of_bundle(&self, bundle: i64) -> Answer<Vec<BundleFile>> {
        let sql = "SELECT bundle_id, path, blob_id FROM bundle_files WHERE bundle_id = ?1 ORDER BY path";
        self.all(sql, [bundle], "bundle_files", read_file)
    }

    fn directory_entries(&self, which: &str, params: impl Params) -> Answer<Vec<DirectoryEntry>> {
        self.all(&format!("{DIRECTORY} {which}"), params, "directories", |cells| {
            let bundle = if cells.is_null(3)? { None } else { Some(BundleId::new(cells.integer(3)?)) };
            let id = DirectoryId::new(cells.integer(0)?);
            Ok(DirectoryEntry { id, path: cells.relative_path(1)?, mtime: cells.time(2)?, bundle })
        })
    }

    fn placement_entries(&self, which: &str, params: impl Params) -> Answer<Vec<Placement>> {
        // Rows come by directory: its path is shared by all of them.
        let mut last: Option<(i64, RelativePath)> = None;
        self.all(&format!("{PLACEMENT} {which}"), params, "placements", |cells| {
            let id = cells.integer(0)?;
            let directory = match &last {
                Some((known, path)) if *known == id => path.clone(),
                _ => last.insert((id, cells.relative_path(1)?)).1.clone(),
            };
            Ok(Placement { directory, occupant: read_occupant(cells, 2, 3)?, name: cells.name(4)? })
        })
    }
}

/// What belongs to `key` in rows that are sorted by key; rows of keys that were passed over are dropped.
fn rows_of<T>(rows: &mut Peekable<std::vec::IntoIter<(i64, T)>>, key: i64) -> Vec<T> {
    while rows.next_if(|(owner, _)| *owner < key).is_some() {}
    std::iter::from_fn(|| rows.next_if(|(owner, _)| *owner == key)).map(|(_, row)| row).collect()
}

fn read_model(cells: Cells<'_>, words: &mut Words, tags: Vec<Label>, homes: Vec<RelativePath>) -> Answer<ModelEntry> {
    let filename = cells.text(2)?;
    Ok(ModelEntry {
        id: ModelId::new(cells.integer(0)?),
        blob: BlobId::new(cells.integer(1)?),
        name: cells.name(2)?,
        model_type: cells.model_type(3)?,
        base: cells.optional(4, |text| words.base(text))?,
        sources: cells.sources(5)?,
        creator: cells.optional(6, |text| words.label(text))?,
        format: cells.parsed(7, |format| words.label(&tree::format_word(format, filename)))?,
        tags: words.tags(tags),
        also: words.homes(homes),
    })
}

fn read_bundle(cells: Cells<'_>, files: Vec<BundleFile>) -> Answer<BundleEntry> {
    Ok(BundleEntry {
        id: BundleId::new(cells.integer(0)?),
        name: cells.name(1)?,
        in_views: cells.flag(2)?,
        model_type: cells.model_type(3)?,
        base: cells.base(4)?,
        sources: cells.sources(5)?,
        hub: read_hub(cells, 6)?,
        files: files.into(),
        mtime: cells.time(9)?,
    })
}

/// `hub_source`, `repo`, `directory_name` from column `at` on.
pub(super) fn read_hub(cells: Cells<'_>, at: usize) -> Answer<Option<HubRepo>> {
    if cells.is_null(at)? {
        return Ok(None);
    }
    let (source, repo) = (cells.source(at)?, cells.parsed(at + 1, RepoId::new)?);
    Ok(Some(HubRepo { source, repo, directory_name: cells.name(at + 2)? }))
}

fn read_file(cells: Cells<'_>) -> Answer<BundleFile> {
    Ok(BundleFile { path: cells.relative_path(1)?, blob: BlobId::new(cells.integer(2)?) })
}

fn read_occupant(cells: Cells<'_>, kind: usize, id: usize) -> Answer<Occupant> {
    let key = cells.integer(id)?;
    match cells.integer(kind)? {
        0 => Ok(Occupant::Model(ModelId::new(key))),
        1 => Ok(Occupant::Bundle(BundleId::new(key))),
        _ => Err(cells.damaged(kind)),
    }
}

/// Kind and key of an occupant, as columns.
pub(super) const fn occupant_columns(occupant: Occupant) -> (i64, i64) {
    match occupant {
        Occupant::Model(model) => (0, model.get()),
        Occupant::Bundle(bundle) => (1, bundle.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Store, add, at, digest, hashes, name, new_model, path, plan_of, read, remote_blob, repository, snapshot, store,
        verdict, write,
    };
    use super::super::{NewBlob, NewModel, OriginRow, Writer};
    use super::*;
    use crate::base::{BlobState, ModelType};
    use crate::tree::Source;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a follower does with a delta, in the plainest way.
    fn follow(mut old: Snapshot, delta: Delta) -> Snapshot {
        fn merge<K: Ord, T>(old: Vec<T>, new: Vec<T>, key: impl Fn(&T) -> K) -> BTreeMap<K, T> {
            old.into_iter().chain(new).map(|row| (key(&row), row)).collect()
        }
        let mut models = merge(old.models, delta.models, |row| row.id);
        let mut bundles = merge(old.bundles, delta.bundles, |row| row.id);
        for occupant in delta.gone {
            match occupant {
                Occupant::Model(id) => drop(models.remove(&id)),
                Occupant::Bundle(id) => drop(bundles.remove(&id)),
            }
        }
        old.revision = delta.revision;
        old.root_mtime = delta.root_mtime;
        old.blobs = merge(old.blobs, delta.blobs, |row| row.id).into_values().collect();
        old.models = models.into_values().collect();
        old.bundles = bundles.into_values().collect();
        old.directories = merge(old.directories, delta.directories, |row| row.id).into_values().collect();
        old.blobs.retain(|row| delta.merged.iter().all(|(from, _)| *from != row.id));
        old.blobs.retain(|row| !delta.forgotten.contains(&row.id));
        old.merged = merge(old.merged, delta.merged, |row| row.0).into_values().collect();
        let placement = |row: &Placement| (row.directory.clone(), row.occupant);
        old.placements = merge(old.placements, delta.placements, placement).into_values().collect();
        old.targets = delta.targets.unwrap_or(old.targets);
        old
    }

    /// The order of placements is by row, which a follower does not know.
    fn sorted(mut snapshot: Snapshot) -> Snapshot {
        snapshot.placements.sort_by(|a, b| (&a.directory, a.occupant).cmp(&(&b.directory, b.occupant)));
        snapshot
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(bool),
        State(usize, BlobState),
        Hash(usize),
        Rename(usize),
        Tags(usize, u8),
        Verdict(usize, bool),
        Delete(usize, bool),
        Origin(usize, Source),
        Bundle(usize),
        Extend(usize, usize),
        DeleteBundle(usize, bool),
        Name(usize, bool),
        Touch(bool),
        Directory(u8),
        Target(bool),
        Error(usize),
        Fail,
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..6_usize;
        prop_oneof![
            4 => any::<bool>().prop_map(Step::Add),
            2 => (at.clone(), prop::sample::select(BlobState::ALL)).prop_map(|(at, state)| Step::State(at, state)),
            1 => at.clone().prop_map(Step::Hash),
            1 => at.clone().prop_map(Step::Rename),
            2 => (at.clone(), 0..3_u8).prop_map(|(at, count)| Step::Tags(at, count)),
            2 => (at.clone(), any::<bool>()).prop_map(|(at, base)| Step::Verdict(at, base)),
            3 => (at.clone(), any::<bool>()).prop_map(|(at, deleted)| Step::Delete(at, deleted)),
            2 => (at.clone(), prop::sample::select(&Source::ALL[..])).prop_map(|(at, source)| Step::Origin(at, source)),
            2 => at.clone().prop_map(Step::Bundle),
            1 => (at.clone(), at.clone()).prop_map(|(bundle, blob)| Step::Extend(bundle, blob)),
            1 => (at.clone(), any::<bool>()).prop_map(|(at, deleted)| Step::DeleteBundle(at, deleted)),
            3 => (at.clone(), any::<bool>()).prop_map(|(at, is_default)| Step::Name(at, is_default)),
            1 => any::<bool>().prop_map(Step::Touch),
            1 => (0..3_u8).prop_map(Step::Directory),
            1 => any::<bool>().prop_map(Step::Target),
            1 => at.prop_map(Step::Error),
            1 => Just(Step::Fail),
        ]
    }

    /// What was made so far, to choose from.
    #[derive(Default, Clone)]
    struct Made {
        blobs: Vec<BlobId>,
        models: Vec<ModelId>,
        bundles: Vec<BundleId>,
    }

    fn pick<T: Copy>(made: &[T], at: usize) -> Option<T> {
        made.get(at % made.len().max(1)).copied()
    }

    fn change_content(step: &Step, writer: &mut Writer<'_>, made: &mut Made) -> Answer<()> {
        let number = u8::try_from(made.blobs.len()).expect("few contents");
        match step {
            Step::Add(in_trash_first) => {
                let blob = writer.add_blob(&NewBlob { name: name(&format!("f{number}")), ..remote_blob(number) })?;
                let plain = new_model(blob, &format!("m{number}.pt"));
                let tags = if *in_trash_first { Vec::new() } else { plain.tags.clone() };
                let model = writer.add_model(&NewModel { tags, ..plain })?;
                made.blobs.push(blob);
                made.models.push(model);
                writer.set_deleted(model, *in_trash_first)
            }
            Step::State(at, state) => pick(&made.blobs, *at).map_or(Ok(()), |blob| writer.set_state(blob, *state)),
            Step::Hash(at) => pick(&made.blobs, *at).map_or(Ok(()), |blob| {
                let number = u8::try_from(blob.get()).expect("few contents");
                writer.set_hashes(blob, &digest(number), &hashes(number))
            }),
            Step::Rename(at) => {
                pick(&made.blobs, *at).map_or(Ok(()), |blob| writer.set_blob_name(blob, &name(&format!("r{number}"))))
            }
            Step::Origin(at, source) => pick(&made.blobs, *at).map_or(Ok(()), |blob| {
                let origin = OriginRow {
                    source: *source,
                    repo: String::new(),
                    revision: String::new(),
                    path: format!("/{number}"),
                };
                writer.add_origin(blob, &origin)
            }),
            Step::Error(at) => pick(&made.blobs, *at).map_or(Ok(()), |blob| writer.set_error(blob, Some("late"))),
            _ => Ok(()),
        }
    }

    fn change_model(step: &Step, writer: &mut Writer<'_>, made: &Made) -> Answer<()> {
        let tags = ["a", "b/c", "c"].map(|tag| Label::new(tag).expect("a label"));
        match step {
            Step::Tags(at, count) => {
                pick(&made.models, *at).map_or(Ok(()), |model| writer.set_tags(model, &tags[..usize::from(*count)]))
            }
            Step::Verdict(at, with_base) => pick(&made.models, *at).map_or(Ok(()), |model| {
                writer.set_verdict(model, &verdict(ModelType::Vae, with_base.then_some("sd1")))
            }),
            Step::Delete(at, deleted) => {
                pick(&made.models, *at).map_or(Ok(()), |model| writer.set_deleted(model, *deleted))
            }
            Step::Name(at, is_default) => pick(&made.models, *at).map_or(Ok(()), |model| {
                let (home, occupant) = (path("comfyui/vae"), Occupant::Model(model));
                match writer.name_of(&home, occupant)? {
                    Some(_) => Ok(()),
                    None => writer.give_name(&home, occupant, &name(&format!("n{model}")), None, *is_default),
                }
            }),
            _ => Ok(()),
        }
    }

    fn change_bundle(step: &Step, writer: &mut Writer<'_>, made: &mut Made) -> Answer<()> {
        match step {
            Step::Bundle(at) => pick(&made.blobs, *at).map_or(Ok(()), |blob| {
                let letter = char::from(b'a' + u8::try_from(made.bundles.len() % 26).expect("a letter"));
                let commit = format!("{letter}{}", made.bundles.len());
                let mut bundle = repository(letter, &[("a/b", blob)]);
                bundle.commit = Some(crate::base::Revision::new(&commit).expect("a revision"));
                made.bundles.push(writer.add_bundle(&bundle)?);
                Ok(())
            }),
            Step::Extend(bundle, blob) => match (pick(&made.bundles, *bundle), pick(&made.blobs, *blob)) {
                (Some(bundle), Some(blob)) => {
                    writer.extend_bundle(bundle, &[BundleFile { path: path(&format!("c{blob}")), blob }])
                }
                _ => Ok(()),
            },
            Step::DeleteBundle(at, deleted) => {
                pick(&made.bundles, *at).map_or(Ok(()), |bundle| writer.set_bundle_deleted(bundle, *deleted))
            }
            Step::Touch(root) => {
                let home = path("comfyui/vae");
                writer.touch_directory(if *root { None } else { Some(&home) })
            }
            Step::Directory(number) => writer.ensure_directory(&path(&format!("by/tag/t{number}")), None).map(drop),
            Step::Target(enabled) => writer.set_target_enabled("comfyui", *enabled),
            _ => Ok(()),
        }
    }

    fn change(step: &Step, writer: &mut Writer<'_>, made: &mut Made) -> Answer<()> {
        change_content(step, writer, made)?;
        change_model(step, writer, made)?;
        change_bundle(step, writer, made)?;
        if matches!(step, Step::Fail) { Err(CatalogError::Busy) } else { Ok(()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// From every earlier state, the delta leads to the present one, and the revision moves once per write that
        /// changes something shown.
        #[test]
        fn a_delta_is_the_difference_of_snapshots(
            writes in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..12),
        ) {
            let Store { catalog, folder: _folder } = store();
            let mut made = Made::default();
            let mut states = vec![sorted(snapshot(&catalog))];
            for (second, steps) in (10..).zip(&writes) {
                let mut attempt = made.clone();
                let done = catalog.write(at(second), |writer| {
                    steps.iter().try_for_each(|step| change(step, writer, &mut attempt))
                });
                match done {
                    Ok(()) => made = attempt,
                    Err(error) => prop_assert!(matches!(error, CatalogError::Busy), "{error}"),
                }
                let now = sorted(snapshot(&catalog));
                let last = states.last().expect("the first state");
                let moved = u64::from(Snapshot { revision: last.revision, ..now.clone() } != *last);
                prop_assert!(now.revision >= last.revision + moved && now.revision <= last.revision + 1);
                states.push(now);
            }
            let now = states.last().expect("the last state").clone();
            for state in states {
                let delta = read(&catalog, |reader| reader.delta_since(state.revision));
                prop_assert_eq!(sorted(follow(state, delta)), now.clone());
            }
        }
    }

    #[test]
    fn entries_equal_the_snapshot() {
        let Store { catalog, folder: _folder } = store();
        let ids = write(&catalog, |writer| (1..=3).map(|number| add(writer, number)).collect::<Answer<Vec<_>>>());
        write(&catalog, |writer| writer.set_deleted(ids[1].1, true));
        let all = snapshot(&catalog);
        let pairs = read(&catalog, |reader| reader.model_entries());
        assert_eq!(pairs.iter().map(|(model, _)| model.clone()).collect::<Vec<_>>(), all.models);
        for (model, blob) in pairs {
            let (same_model, same_blob) =
                read(&catalog, |reader| Ok((reader.model_entry(model.id)?, reader.blob_entry(model.blob)?)));
            assert_eq!((same_model, same_blob), (Some(model), Some(blob)));
        }
        let nothing = read(&catalog, |reader| Ok((reader.delta_since(all.revision)?, reader.delta_since(u64::MAX)?)));
        let empty = Delta { revision: all.revision, root_mtime: all.root_mtime, ..Delta::default() };
        assert_eq!(nothing, (empty.clone(), empty));
    }

    #[test]
    fn a_damaged_row_is_reported_and_not_shown() {
        let Store { catalog, folder } = store();
        write(&catalog, |writer| add(writer, 1));
        let connection = rusqlite::Connection::open(folder.path().join("modelhub.db")).expect("open");
        connection.execute("UPDATE models SET primary_type = 'banana'", []).expect("damaged by hand");
        let error = catalog.read(|reader| reader.snapshot()).expect_err("refused");
        let fault = error.fault();
        assert_eq!(fault.kind, crate::base::FaultKind::Integrity);
        assert!(fault.what.contains("table models, row 1, column primary_type"), "{}", fault.what);
    }

    /// Each statement of a delta goes by an index: its cost is that of the change.
    #[test]
    fn a_delta_scans_no_table() {
        let store = store();
        let placements =
            format!("{PLACEMENT} WHERE is_default = 0 AND placements.revision > 1 ORDER BY directory_id, name");
        let statements = [
            format!("{BLOB} WHERE revision > 1 ORDER BY +id"),
            format!("{MODEL} WHERE revision > 1 AND deleted = 0 ORDER BY +id"),
            format!("{BUNDLE} WHERE revision > 1 AND deleted = 0 ORDER BY +id"),
            format!("{DIRECTORY} WHERE revision > 1 ORDER BY +id"),
            placements,
            "SELECT id, kind FROM gone WHERE revision > 1 ORDER BY +kind, +id".to_owned(),
            "SELECT blob_id FROM forgotten_blobs WHERE revision > 1 ORDER BY +blob_id".to_owned(),
        ];
        for sql in statements {
            let plan = plan_of(&store, &sql);
            assert!(plan.iter().all(|line| !line.starts_with("SCAN")), "{sql}: {plan:?}");
        }
    }
}
