//! Models that a person puts in a folder of an application, and takes out again: `ln` and `rm` in the mount. What a search
//! found at a hub becomes a model by it (`library::linked`).
//!
//! Invariants: only a name that was given by hand is taken away, and never a model; when a call returns, the tree of this
//! process shows it. Not here: where models are shown by themselves (`tree::homes`).

use super::super::shelf::Shelf;
use super::super::{LibraryError, danger, linked};
use super::Mounted;
use super::namespace::read_only;
use crate::base::{BlobId, EntryName, Fault, FaultKind, InodeNo, ModelId, RelativePath};
use crate::catalog::{CatalogError, Reader};
use crate::tree::{self, Attributes};

impl Mounted {
    /// Shows a model in one more folder of an application.
    pub fn link(&self, file: InodeNo, directory: InodeNo, name: &str) -> Result<Attributes, Fault> {
        let name = EntryName::new(name).map_err(|error| {
            Fault::new(FaultKind::Invalid, format!("a file cannot be called so: {error}"), "choose another name")
        })?;
        let folder = self.folder_of_application(directory)?;
        let blob = self.tree().current(file.blob().ok_or_else(no_model)?);
        self.put(blob, &folder, &name).map_err(|error| error.fault())?;
        self.lookup(directory, name.as_str())
            .ok_or_else(|| Fault::new(FaultKind::NotFound, format!("{name} was taken out of {folder} again"), ""))
    }

    /// Whether models can be put in a directory.
    pub fn takes_links(&self, directory: InodeNo) -> bool {
        self.folder_of_application(directory).is_ok()
    }

    fn put(&self, blob: BlobId, folder: &RelativePath, name: &EntryName) -> Result<(), LibraryError> {
        let library = &self.inner.library;
        let rules = library.rules();
        library.catalog().write(library.now(), |w| {
            let mut shelf = Shelf::begin(w)?;
            let known = model_of(w, blob)?;
            let model = match known {
                Some(model) => model,
                // What a search found is a model from now on.
                None => linked::register(w, &mut shelf, &rules, blob, folder)?.ok_or(LibraryError::Part(no_model()))?,
            };
            if known.is_some() && shelf.homes_of(w, model)?.iter().any(|home| home.directory == *folder) {
                let what = format!("the model is in {folder} already, under another name");
                return Err(LibraryError::Part(Fault::new(FaultKind::Exists, what, "a folder shows a model once")));
            }
            shelf.put_model(w, model, folder, name)?;
            Ok(danger::is_called(w, blob, name.as_str())?)
        })?;
        Ok(self.inner.current.refresh()?)
    }

    /// Takes away a name that was given by hand.
    pub(super) fn remove_link(&self, directory: InodeNo, name: &str) -> Result<(), Fault> {
        let folder = self.folder_of_application(directory)?;
        let found = self.tree().lookup(directory, name);
        let found =
            found.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("there is no `{name}` in {folder}"), ""))?;
        let blob = found.ino.blob().ok_or_else(read_only)?;
        self.take_out(blob, &folder).map_err(|error| error.fault())
    }

    fn take_out(&self, blob: BlobId, folder: &RelativePath) -> Result<(), LibraryError> {
        let library = &self.inner.library;
        library.catalog().write(library.now(), |w| {
            let model = model_of(w, blob)?.ok_or(LibraryError::Part(no_model()))?;
            let (Some(mut entry), Some(content)) = (w.model_entry(model)?, w.blob_entry(blob)?) else {
                return Err(LibraryError::Part(read_only()));
            };
            let is_last = linked::is_by_link(w, model)? && entry.also.iter().all(|other| other == folder);
            // One that would be there by itself stays there, unless it is a model because of this link.
            entry.also = [].into();
            let by_itself = tree::homes_of_model(&entry, &content, &w.targets()?);
            let stays = !is_last && by_itself.iter().any(|home| home.directory == *folder);
            let mut shelf = Shelf::begin(w)?;
            if stays || !shelf.take_model_out(w, model, folder)? {
                return Err(LibraryError::Part(read_only()));
            }
            if is_last {
                linked::forget(w, &mut shelf, model)?;
            }
            Ok(())
        })?;
        Ok(self.inner.current.refresh()?)
    }

    /// The path of a directory inside an application's, but not of one inside a bundle.
    fn folder_of_application(&self, directory: InodeNo) -> Result<RelativePath, Fault> {
        let path = self.tree().path_of_directory(directory).ok_or_else(read_only)?;
        let (first, rest) = path.as_str().split_once('/').ok_or_else(read_only)?;
        let is_folder = self.inner.library.catalog().read(|reader| {
            let known = reader.targets()?.into_iter().any(|target| target.enabled && target.name.as_str() == first);
            Ok::<_, CatalogError>(known && !rest.is_empty() && reader.is_plain_directory(&path)?)
        });
        if is_folder.map_err(|error| error.fault())? { Ok(path) } else { Err(read_only()) }
    }
}

/// The model of a content that is shown.
fn model_of(reader: &Reader<'_>, blob: BlobId) -> Result<Option<ModelId>, CatalogError> {
    let models = reader.models_of_blob(blob)?;
    Ok(models.iter().find(|model| !model.deleted).map(|model| model.id))
}

fn no_model() -> Fault {
    let what = "only a model can be put in a folder of an application";
    Fault::new(FaultKind::NotPermitted, what, "link the model that the file belongs to")
}
