//! What is shown where: names, directories and their times. The only way to change them.
//!
//! Invariants, all inside one transaction of the catalog: a name that was given is kept for ever; a directory gets a new
//! time exactly when its own listing changes, once a transaction; a new directory changes the listing of the one above;
//! an embeddings root also changes with the folders inside. Not here: which directories show what (`tree::homes_of_*`).

mod filling;

use crate::base::{BlobId, BlobState, BundleId, EntryName, ModelId, ModelType, NAME_BYTES_MAX, RelativePath};
use crate::catalog::{CatalogError, OriginRow, Writer};
use crate::tree::{self, FolderMatch, Home, Occupant, Target};
use std::collections::HashSet;

pub(super) use filling::bring_up_to_date;

/// Marked names take more digits with each attempt; by the tenth nothing but a damaged table can still be in the way.
const NAME_ATTEMPTS_MAX: u32 = 10;
const STORE_DIRECTORY: &str = "store";

/// Changes where the bytes of a content are, and everything that shows it.
pub(super) fn set_blob_state(w: &mut Writer<'_>, blob: BlobId, state: BlobState) -> Result<(), CatalogError> {
    Shelf::begin(w)?.set_blob_state(w, blob, state)
}

/// The same for many changes in one transaction: remembers what was done already. Good for that transaction alone.
pub(super) struct Shelf {
    targets: Vec<Target>,
    /// Roots whose time follows that of the folders inside.
    embeddings: Vec<RelativePath>,
    touched: HashSet<Option<RelativePath>>,
    ensured: HashSet<RelativePath>,
}

impl Shelf {
    pub(super) fn begin(w: &Writer<'_>) -> Result<Self, CatalogError> {
        let targets: Vec<Target> = w.targets()?.into_iter().filter(|target| target.enabled).collect();
        let mut embeddings = Vec::new();
        for target in &targets {
            let folders = target.folders.iter().filter(|folder| folder.model_type == Some(ModelType::Embedding));
            embeddings.extend(
                folders.filter_map(|folder| RelativePath::new(&format!("{}/{}", target.name, folder.path)).ok()),
            );
        }
        Ok(Self { targets, embeddings, touched: HashSet::new(), ensured: HashSet::new() })
    }

    /// Gives a model its names in every directory that shows it.
    pub(super) fn place_model(&mut self, w: &mut Writer<'_>, model: ModelId) -> Result<(), CatalogError> {
        let homes = self.homes_of(w, model)?;
        self.place_at(w, model, &homes)
    }

    fn place_at(&mut self, w: &mut Writer<'_>, model: ModelId, homes: &[Home]) -> Result<(), CatalogError> {
        let Some(entry) = w.model_entry(model)? else { return Ok(()) };
        let sha256 = w.blob_entry(entry.blob)?.and_then(|blob| blob.sha256);
        for home in homes {
            self.ensure(w, &home.directory, None)?;
            let mark = |attempt| tree::marked_name(&entry.name, sha256.as_ref(), model, attempt);
            give_name(w, home, Occupant::Model(model), &entry.name, mark)?;
            self.touch(w, Some(&home.directory))?;
        }
        Ok(())
    }

    /// Gives a bundle its names and makes its inner directories.
    pub(super) fn place_bundle(&mut self, w: &mut Writer<'_>, bundle: BundleId) -> Result<(), CatalogError> {
        let Some(entry) = w.bundle_entry(bundle)? else { return Ok(()) };
        for home in tree::homes_of_bundle(&entry, &self.targets) {
            self.ensure(w, &home.directory, None)?;
            let default = tree::default_bundle_name(&entry, &home.directory);
            let mark = |attempt| marked_folder(default, bundle, attempt);
            let (name, is_new) = give_name(w, &home, Occupant::Bundle(bundle), default, mark)?;
            // A path too long to be shown leaves this home out; the tree does the same.
            let Ok(root) = home.directory.join(&name) else { continue };
            for directory in tree::bundle_directories(&entry, &root) {
                self.ensure(w, &directory, Some(bundle))?;
            }
            if is_new {
                self.touch(w, Some(&home.directory))?;
            }
        }
        Ok(())
    }

    /// Where a model is shown now: what `reshelve_model` is to be told after a change. Nothing for one in the trash.
    pub(super) fn homes_of(&self, w: &Writer<'_>, model: ModelId) -> Result<Vec<Home>, CatalogError> {
        if w.model(model)?.is_none_or(|row| row.deleted) {
            return Ok(Vec::new());
        }
        let Some(entry) = w.model_entry(model)? else { return Ok(Vec::new()) };
        let Some(blob) = w.blob_entry(entry.blob)? else { return Ok(Vec::new()) };
        Ok(tree::homes_of_model(&entry, &blob, &self.targets))
    }

    /// After a change of type, base, state, tags or presence: directories that lost or gained the model follow.
    pub(super) fn reshelve_model(
        &mut self,
        w: &mut Writer<'_>,
        model: ModelId,
        before: &[Home],
    ) -> Result<(), CatalogError> {
        let after = self.homes_of(w, model)?;
        for lost in before.iter().filter(|home| !after.contains(home)) {
            self.touch(w, Some(&lost.directory))?;
        }
        let gained: Vec<Home> = after.into_iter().filter(|home| !before.contains(home)).collect();
        self.place_at(w, model, &gained)
    }

    /// Puts a model in a directory by hand, under a name that nothing else has there.
    pub(super) fn put_model(
        &mut self,
        w: &mut Writer<'_>,
        model: ModelId,
        directory: &RelativePath,
        name: &EntryName,
    ) -> Result<(), CatalogError> {
        let stem = self.stem_in(directory, name);
        if w.is_taken(directory, name.as_str(), stem.as_deref(), Occupant::Model(model))? {
            return Err(CatalogError::Conflict { what: format!("there is a {name} in {directory} already") });
        }
        w.choose_home(model, directory, name, stem.as_deref())?;
        self.touch(w, Some(directory))
    }

    /// Takes a model out of a directory that it was put in by hand; says whether it was.
    pub(super) fn take_model_out(
        &mut self,
        w: &mut Writer<'_>,
        model: ModelId,
        directory: &RelativePath,
    ) -> Result<bool, CatalogError> {
        let Some(entry) = w.model_entry(model)? else { return Ok(false) };
        let sha256 = w.blob_entry(entry.blob)?.and_then(|blob| blob.sha256);
        // A marked name is nobody else's: the chosen one is free from now on.
        let marked =
            (0..NAME_ATTEMPTS_MAX).map(|attempt| tree::marked_name(&entry.name, sha256.as_ref(), model, attempt));
        for name in marked {
            let stem = self.stem_in(directory, &name);
            if w.is_taken(directory, name.as_str(), stem.as_deref(), Occupant::Model(model))? {
                continue;
            }
            let was_put = w.leave_home(model, directory, &name, stem.as_deref())?;
            if was_put {
                self.touch(w, Some(directory))?;
            }
            return Ok(was_put);
        }
        Ok(false)
    }

    /// What must differ between names of a directory beside the names.
    fn stem_in(&self, directory: &RelativePath, name: &EntryName) -> Option<String> {
        let mut parts = directory.as_str().splitn(2, '/');
        let (target, rest) = (parts.next()?, parts.next()?);
        let target = self.targets.iter().find(|known| known.name.as_str() == target)?;
        let folder = target.folders.iter().find(|folder| folder.path.as_str() == rest)?;
        (folder.matching == FolderMatch::Stem).then(|| tree::stem_key(name).to_owned())
    }

    pub(super) fn set_blob_state(
        &mut self,
        w: &mut Writer<'_>,
        blob: BlobId,
        state: BlobState,
    ) -> Result<(), CatalogError> {
        self.change_blobs(w, &[blob], |w| w.set_state(blob, state))
    }

    /// Remembers a place the content is known from; its models appear under that source.
    pub(super) fn add_origin(
        &mut self,
        w: &mut Writer<'_>,
        blob: BlobId,
        origin: &OriginRow,
    ) -> Result<(), CatalogError> {
        self.change_blobs(w, &[blob], |w| w.add_origin(blob, origin))
    }

    /// Two rows turned out to be one content: a repository's small file without a published hash is often one that is
    /// here.
    pub(super) fn merge_blob(&mut self, w: &mut Writer<'_>, from: BlobId, into: BlobId) -> Result<(), CatalogError> {
        self.change_blobs(w, &[from, into], |w| w.merge_blob(from, into))
    }

    /// Makes a change and lets everything that shows the contents follow.
    fn change_blobs(
        &mut self,
        w: &mut Writer<'_>,
        blobs: &[BlobId],
        change: impl FnOnce(&mut Writer<'_>) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut before = Vec::new();
        for blob in blobs {
            for model in w.models_of_blob(*blob)? {
                before.push((model.id, self.homes_of(w, model.id)?));
            }
        }
        change(w)?;
        before.iter().try_for_each(|(model, homes)| self.reshelve_model(w, *model, homes))
    }

    /// A content appeared under `store/`: it is new with its sha256, or its sha256 has become known.
    pub(super) fn touch_store(&mut self, w: &mut Writer<'_>) -> Result<(), CatalogError> {
        let directory = RelativePath::new(STORE_DIRECTORY).expect("a plain name");
        self.ensure(w, &directory, None)?;
        self.touch(w, Some(&directory))
    }

    /// The application's own directory appears in or vanishes from the root.
    pub(super) fn touch_root(&mut self, w: &mut Writer<'_>) -> Result<(), CatalogError> {
        self.touch(w, None)
    }

    fn ensure(
        &mut self,
        w: &mut Writer<'_>,
        directory: &RelativePath,
        bundle: Option<BundleId>,
    ) -> Result<(), CatalogError> {
        if self.ensured.contains(directory) {
            return Ok(());
        }
        let parent = directory.parent();
        // The folders above a bundle's own directory were ensured before it, and those inside come parents first.
        if let (Some(parent), None) = (&parent, bundle) {
            self.ensure(w, parent, None)?;
        }
        let (_, is_new) = w.ensure_directory(directory, bundle)?;
        self.ensured.insert(directory.clone());
        if is_new {
            // Its own time is that of this transaction already.
            self.touched.insert(Some(directory.clone()));
            self.touch(w, parent.as_ref())?;
        }
        Ok(())
    }

    fn touch(&mut self, w: &mut Writer<'_>, directory: Option<&RelativePath>) -> Result<(), CatalogError> {
        if self.touched.insert(directory.cloned()) {
            w.touch_directory(directory)?;
        }
        let Some(directory) = directory else { return Ok(()) };
        let is_above = |root: &&RelativePath| {
            directory.as_str().strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        let roots: Vec<RelativePath> = self.embeddings.iter().filter(is_above).cloned().collect();
        for root in roots {
            if self.touched.insert(Some(root.clone())) {
                w.touch_directory(Some(&root))?;
            }
        }
        Ok(())
    }
}

/// The name an occupant has in a directory from now on, and whether it was given just now.
fn give_name(
    w: &mut Writer<'_>,
    home: &Home,
    occupant: Occupant,
    default: &EntryName,
    mark: impl Fn(u32) -> EntryName,
) -> Result<(EntryName, bool), CatalogError> {
    if let Some(name) = w.name_of(&home.directory, occupant)? {
        return Ok((name, false));
    }
    let stem_of = |name: &EntryName| match home.matching {
        FolderMatch::Stem => Some(tree::stem_key(name).to_owned()),
        FolderMatch::Relative => None,
    };
    let mut name = default.clone();
    for attempt in 0..NAME_ATTEMPTS_MAX {
        if !w.is_taken(&home.directory, name.as_str(), stem_of(&name).as_deref(), occupant)? {
            break;
        }
        name = mark(attempt);
    }
    w.give_name(&home.directory, occupant, &name, stem_of(&name).as_deref(), name == *default)?;
    Ok((name, true))
}

/// As `tree::marked_name`, for a directory: its name has no suffix to keep.
fn marked_folder(name: &EntryName, bundle: BundleId, attempt: u32) -> EntryName {
    let mark = if attempt == 0 { format!("~b{bundle}") } else { format!("~b{bundle}-{attempt}") };
    let room = NAME_BYTES_MAX - mark.len();
    let stem = &name.as_str()[..name.as_str().floor_char_boundary(room)];
    EntryName::new(&format!("{stem}{mark}")).expect("a valid name with a short mark stays valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, Timestamp};
    use crate::catalog::{Catalog, NewBlob, NewBundle, NewModel};
    use crate::classify::{Method, Verdict};
    use crate::tree::{BundleFile, Source};
    use std::collections::BTreeMap;

    pub(super) struct Place {
        pub(super) _folder: tempfile::TempDir,
        pub(super) catalog: Catalog,
        now: i64,
        /// Before the last transaction.
        before: BTreeMap<String, i64>,
    }

    impl Place {
        pub(super) fn new() -> Self {
            let folder = tempfile::tempdir().expect("temporary folder");
            let catalog = Catalog::create(folder.path()).expect("create");
            Self { _folder: folder, catalog, now: 1_000, before: BTreeMap::new() }
        }

        pub(super) fn write<T>(&mut self, work: impl FnOnce(&mut Writer<'_>) -> Result<T, CatalogError>) -> T {
            self.before = self.times();
            self.now += 1_000;
            self.catalog.write(Timestamp::from_unix_ns(self.now), work).expect("written")
        }

        pub(super) fn times(&self) -> BTreeMap<String, i64> {
            let snapshot = self.catalog.read(|r| r.snapshot()).map_err(|error: CatalogError| error).expect("read");
            let mut times: BTreeMap<String, i64> = snapshot
                .directories
                .iter()
                .map(|directory| (directory.path.to_string(), directory.mtime.unix_ns()))
                .collect();
            times.insert(String::new(), snapshot.root_mtime.unix_ns());
            times
        }

        /// The directories that got a new time in the last transaction.
        pub(super) fn changed(&self) -> Vec<String> {
            let is_new = |(path, time): &(String, i64)| self.before.get(path) != Some(time);
            let changed: Vec<(String, i64)> = self.times().into_iter().filter(is_new).collect();
            assert!(changed.iter().all(|(path, time)| self.before.get(path).is_none_or(|before| before < time)));
            changed.into_iter().map(|(path, _)| path).collect()
        }

        pub(super) fn names(&self, model: ModelId) -> BTreeMap<String, String> {
            let names = self.catalog.read(|r| {
                let entry = r.model_entry(model)?.expect("shown");
                let blob = r.blob_entry(entry.blob)?.expect("there");
                let mut names = BTreeMap::new();
                for home in tree::homes_of_model(&entry, &blob, &r.targets()?) {
                    let name = r.name_of(&home.directory, Occupant::Model(model))?.expect("placed");
                    names.insert(home.directory.to_string(), name.to_string());
                }
                Ok::<_, CatalogError>(names)
            });
            names.expect("read")
        }
    }

    fn blob(w: &mut Writer<'_>, seed: u8) -> Result<BlobId, CatalogError> {
        w.add_blob(&NewBlob {
            sha256: Some(Digest::from_bytes([seed; 32])),
            size_bytes: 8,
            state: BlobState::Remote,
            mtime: Timestamp::default(),
            name: EntryName::new("x.bin").expect("valid"),
            hashes: None,
            etag: None,
        })
    }

    fn verdict(model_type: ModelType) -> Verdict {
        Verdict {
            model_type,
            base: None,
            sub_type: None,
            precision: None,
            quantization: None,
            architecture: None,
            confidence: 0.9,
            method: Method::Tensors,
            reasons: Vec::new(),
            trigger_words: Vec::new(),
        }
    }

    pub(super) fn model(
        w: &mut Writer<'_>,
        seed: u8,
        name: &str,
        model_type: ModelType,
    ) -> Result<ModelId, CatalogError> {
        let blob = blob(w, seed)?;
        let model = w.add_model(&NewModel {
            blob,
            name: EntryName::new(name).expect("valid"),
            verdict: verdict(model_type),
            format: "safetensors".to_owned(),
            tensor_count: None,
            folders: Vec::new(),
            source: Source::Local,
            creator: None,
            license: None,
            tags: Vec::new(),
            added: w.now(),
        })?;
        Shelf::begin(w)?.place_model(w, model)?;
        Ok(model)
    }

    #[test]
    fn only_directories_that_list_the_model_get_a_new_time() {
        let mut place = Place::new();
        let id = place.write(|w| model(w, 1, "a.safetensors", ModelType::Lora));
        let changed = place.changed();
        for directory in ["comfyui/loras", "by/source/local", "by/state/remote", "by/type/lora", "by/type"] {
            assert!(changed.contains(&directory.to_owned()), "{directory}: {changed:?}");
        }
        for directory in ["", "comfyui", "comfyui/checkpoints", "by", "by/state", "by/state/resident"] {
            assert!(!changed.contains(&directory.to_owned()), "{directory}: {changed:?}");
        }
        let names = place.names(id);
        let blob = place.catalog.read(|r| r.model(id)).map_err(|error: CatalogError| error);
        let blob = blob.expect("read").expect("there").blob;
        place.write(|w| set_blob_state(w, blob, BlobState::Resident));
        assert_eq!(place.changed(), ["by/state/remote", "by/state/resident"]);
        place.write(|w| {
            let mut shelf = Shelf::begin(w)?;
            let before = shelf.homes_of(w, id)?;
            w.set_verdict(id, &verdict(ModelType::Vae))?;
            shelf.reshelve_model(w, id, &before)
        });
        let changed = place.changed();
        for directory in ["comfyui/loras", "comfyui/vae", "by/type/lora", "by/type/vae"] {
            assert!(changed.contains(&directory.to_owned()), "{directory}: {changed:?}");
        }
        assert!(!changed.contains(&"by/source/local".to_owned()), "{changed:?}");
        assert!(names.values().all(|name| name == "a.safetensors"), "{names:?}");
    }

    #[test]
    fn what_goes_leaves_its_directories_and_what_is_merged_moves() {
        let mut place = Place::new();
        let (here, other) = place.write(|w| {
            let here = blob(w, 9)?;
            w.set_state(here, BlobState::Resident)?;
            Ok((here, model(w, 2, "b.safetensors", ModelType::Lora)?))
        });
        let id = place.write(|w| model(w, 1, "a.safetensors", ModelType::Lora));
        let remote = place.catalog.read(|r| r.model(id)).map_err(|error: CatalogError| error);
        let remote = remote.expect("read").expect("there").blob;
        place.write(|w| Shelf::begin(w)?.merge_blob(w, remote, here));
        assert_eq!(place.changed(), ["by/state/remote", "by/state/resident"]);
        place.write(|w| {
            let mut shelf = Shelf::begin(w)?;
            let before = shelf.homes_of(w, other)?;
            w.set_deleted(other, true)?;
            shelf.reshelve_model(w, other, &before)
        });
        let changed = place.changed();
        for directory in ["comfyui/loras", "by/state/remote", "by/type/lora"] {
            assert!(changed.contains(&directory.to_owned()), "{directory}: {changed:?}");
        }
    }

    #[test]
    fn stems_differ_where_an_application_tells_files_apart_by_them() {
        let mut place = Place::new();
        let first = place.write(|w| model(w, 1, "a.safetensors", ModelType::Lora));
        let second = place.write(|w| model(w, 2, "a.pt", ModelType::Lora));
        assert!(place.names(first).values().all(|name| name == "a.safetensors"));
        let mark = format!("a~{}.pt", "02".repeat(5));
        let names = place.names(second);
        let targets = place.catalog.read(|r| r.targets()).map_err(|error: CatalogError| error).expect("targets");
        let mut by_stem = 0;
        for target in targets.iter().filter(|target| target.enabled) {
            for folder in &target.folders {
                let Some(name) = names.get(&format!("{}/{}", target.name, folder.path)) else { continue };
                by_stem += usize::from(folder.matching == FolderMatch::Stem);
                let expected = if folder.matching == FolderMatch::Stem { mark.as_str() } else { "a.pt" };
                assert_eq!(name, expected, "{}/{}", target.name, folder.path);
            }
        }
        assert!(by_stem > 0, "no application of the shipped ones compares stems: {names:?}");
        assert_eq!(names["by/type/lora"], "a.pt");
    }

    #[test]
    fn a_bundle_has_its_directories_and_a_second_one_another_name() {
        let mut place = Place::new();
        let bundle = |w: &mut Writer<'_>, seed: u8| {
            let blob = blob(w, seed)?;
            let path = RelativePath::new("unet/x.safetensors").expect("valid");
            let id = w.add_bundle(&NewBundle {
                name: EntryName::new("sd-v1.5").expect("valid"),
                in_views: true,
                model_type: ModelType::Llm,
                base: None,
                source: Source::Local,
                hub: None,
                commit: None,
                files: vec![BundleFile { path, blob }],
                mtime: w.now(),
            })?;
            Shelf::begin(w)?.place_bundle(w, id)?;
            Ok(id)
        };
        place.write(|w| bundle(w, 1));
        assert!(place.times().contains_key("by/type/llm/sd-v1.5/unet"));
        let second = place.write(|w| bundle(w, 2));
        assert!(place.times().contains_key(&format!("by/type/llm/sd-v1.5~b{second}/unet")));
        assert!(place.changed().contains(&"by/type/llm".to_owned()));
        assert!(!place.changed().contains(&"by/type/llm/sd-v1.5".to_owned()));
    }

    #[test]
    fn an_embeddings_root_follows_the_folders_inside() {
        let mut place = Place::new();
        let inside = RelativePath::new("comfyui/embeddings/mine").expect("valid");
        place.write(|w| Shelf::begin(w)?.ensure(w, &inside, None));
        place.write(|w| Shelf::begin(w)?.touch(w, Some(&inside)));
        assert_eq!(place.changed(), ["comfyui/embeddings", "comfyui/embeddings/mine"]);
    }
}
