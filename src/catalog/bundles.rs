//! Folders of files that belong together, and registered repositories: `bundles`, `bundle_files`.
//!
//! Invariants: one bundle per repository and commit; its files are sorted by path, no path twice, none both a file and
//! a folder. Not here: where they are shown (`tree`).

use super::cells::{Answer, Cells, write_sources};
use super::reader::no_such_row;
use super::snapshot::read_hub;
use super::{BundleRow, CatalogError, NewBundle, Reader, Writer};
use crate::base::{BlobId, BundleId, RelativePath, RepoId, Revision};
use crate::tree::{BundleFile, Occupant, Source, SourceSet};
use rusqlite::{Params, params};
use std::collections::BTreeMap;

const BUNDLE: &str = "SELECT id, name, in_views, primary_type, base, hub_source, repo, directory_name, commit_id, \
    mtime_ns, deleted FROM bundles";

impl Reader<'_> {
    pub fn bundle(&self, bundle: BundleId) -> Result<Option<BundleRow>, CatalogError> {
        Ok(self.bundles_where("WHERE id = ?1", [bundle.get()])?.pop())
    }

    pub fn bundle_of_repo(
        &self,
        source: Source,
        repo: &RepoId,
        commit: &Revision,
    ) -> Result<Option<BundleRow>, CatalogError> {
        let which = "WHERE hub_source = ?1 AND repo = ?2 AND commit_id = ?3";
        Ok(self.bundles_where(which, [source.as_str(), repo.as_str(), commit.as_str()])?.pop())
    }

    /// In the order in which they were registered.
    pub fn bundles_of_repo(&self, source: Source, repo: &RepoId) -> Result<Vec<BundleRow>, CatalogError> {
        self.bundles_where("WHERE hub_source = ?1 AND repo = ?2 ORDER BY id", [source.as_str(), repo.as_str()])
    }

    /// Bundles that hold this content.
    pub fn bundles_of_blob(&self, blob: BlobId) -> Result<Vec<BundleId>, CatalogError> {
        let sql = "SELECT DISTINCT bundle_id FROM bundle_files WHERE blob_id = ?1 ORDER BY bundle_id";
        self.all(sql, [blob.get()], "bundle_files", |cells| cells.integer(0).map(BundleId::new))
    }

    fn bundles_where(&self, which: &str, params: impl Params) -> Answer<Vec<BundleRow>> {
        self.all(&format!("{BUNDLE} {which}"), params, "bundles", |cells| {
            let files = self.files_of_bundle(cells.integer(0)?)?;
            read_bundle(cells, files)
        })
    }
}

fn read_bundle(cells: Cells<'_>, files: Vec<BundleFile>) -> Answer<BundleRow> {
    Ok(BundleRow {
        id: BundleId::new(cells.integer(0)?),
        name: cells.name(1)?,
        in_views: cells.flag(2)?,
        model_type: cells.model_type(3)?,
        base: cells.base(4)?,
        hub: read_hub(cells, 5)?,
        commit: cells.optional(8, Revision::new)?,
        files,
        mtime: cells.time(9)?,
        deleted: cells.flag(10)?,
    })
}

impl Writer<'_> {
    pub fn add_bundle(&mut self, bundle: &NewBundle) -> Result<BundleId, CatalogError> {
        if let (Some(hub), Some(commit)) = (&bundle.hub, &bundle.commit)
            && self.bundle_of_repo(hub.source, &hub.repo, commit)?.is_some()
        {
            let what = format!("{} at {commit} is registered already", hub.repo);
            return Err(CatalogError::Conflict { what });
        }
        refuse_clashes(&bundle.files)?;
        let mut sources = SourceSet::default().with(bundle.source);
        if let Some(hub) = &bundle.hub {
            sources = sources.with(hub.source);
        }
        let revision = self.stamp()?;
        let sql = "INSERT INTO bundles (name, in_views, primary_type, base, sources, hub_source, repo, directory_name, \
            commit_id, mtime_ns, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let hub = bundle.hub.as_ref();
        let values = params![
            bundle.name.as_str(),
            bundle.in_views,
            bundle.model_type.as_str(),
            bundle.base.as_ref().map(|base| base.as_str()),
            write_sources(sources),
            hub.map(|hub| hub.source.as_str()),
            hub.map(|hub| hub.repo.as_str()),
            hub.map(|hub| hub.directory_name.as_str()),
            bundle.commit.as_ref().map(Revision::as_str),
            bundle.mtime.unix_ns(),
            revision,
        ];
        let id = BundleId::new(self.insert(sql, values)?);
        self.write_files(id, &bundle.files)?;
        Ok(id)
    }

    /// More files of the same repository and commit, registered later. One that is there must be the same content.
    pub fn extend_bundle(&mut self, bundle: BundleId, files: &[BundleFile]) -> Result<(), CatalogError> {
        let mut known = self.bundle(bundle)?.ok_or_else(|| no_such_row("bundles", bundle))?.files;
        let before: BTreeMap<RelativePath, BlobId> = known.drain(..).map(|file| (file.path, file.blob)).collect();
        let mut new = Vec::new();
        for file in files {
            match before.get(&file.path) {
                None => new.push(file.clone()),
                Some(blob) if *blob == file.blob => {}
                Some(_) => {
                    let what = format!("{} is another content in this bundle already", file.path);
                    return Err(CatalogError::Conflict { what });
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let old = before.into_iter().map(|(path, blob)| BundleFile { path, blob });
        refuse_clashes(&old.chain(new.iter().cloned()).collect::<Vec<_>>())?;
        self.write_files(bundle, &new)?;
        let sql = "UPDATE bundles SET revision = ?2 WHERE id = ?1";
        let values = [bundle.get(), self.stamp()?];
        self.run_on("bundles", bundle.get(), sql, values)
    }

    /// Into the trash, or back.
    pub fn set_bundle_deleted(&mut self, bundle: BundleId, deleted: bool) -> Result<(), CatalogError> {
        if self.bundle(bundle)?.ok_or_else(|| no_such_row("bundles", bundle))?.deleted == deleted {
            return Ok(());
        }
        let sql = "UPDATE bundles SET deleted = ?2, revision = ?3 WHERE id = ?1";
        let values = params![bundle.get(), deleted, self.stamp()?];
        self.run_on("bundles", bundle.get(), sql, values)?;
        self.note_gone(Occupant::Bundle(bundle), deleted)
    }

    fn write_files(&mut self, bundle: BundleId, files: &[BundleFile]) -> Answer<()> {
        for file in files {
            let sql = "INSERT INTO bundle_files (bundle_id, path, blob_id) VALUES (?1, ?2, ?3)";
            self.run(sql, params![bundle.get(), file.path.as_str(), file.blob.get()])?;
        }
        Ok(())
    }
}

/// A tree cannot show one path twice, nor a path that is a file and a folder.
fn refuse_clashes(files: &[BundleFile]) -> Answer<()> {
    let mut paths: Vec<&RelativePath> = files.iter().map(|file| &file.path).collect();
    paths.sort();
    let twice = paths.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let is_file = |folder: &RelativePath| paths.binary_search(&folder).is_ok();
    let folders =
        |path: &RelativePath| std::iter::successors(path.parent(), RelativePath::parent).any(|up| is_file(&up));
    match twice.or_else(|| paths.iter().copied().find(|path| folders(path))) {
        None => Ok(()),
        Some(path) => {
            Err(CatalogError::Conflict { what: format!("{path} appears twice in this bundle, or below a file") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, at, new_blob, path, read, remote_blob, repository, snapshot, store, write};
    use super::*;
    use crate::base::FaultKind;

    #[test]
    fn a_repository_is_read_back_as_it_was_written() {
        let Store { catalog, folder: _folder } = store();
        let blobs = write(&catalog, |writer| Ok([writer.add_blob(&new_blob(1))?, writer.add_blob(&remote_blob(2))?]));
        let new = repository('a', &[("model_index.json", blobs[0]), ("unet/model.safetensors", blobs[1])]);
        let id = write(&catalog, |writer| writer.add_bundle(&new));
        let row = read(&catalog, |reader| reader.bundle(id)).expect("there");
        let expected = BundleRow {
            id,
            name: new.name.clone(),
            in_views: true,
            model_type: new.model_type,
            base: new.base.clone(),
            hub: new.hub.clone(),
            commit: new.commit.clone(),
            files: new.files.clone(),
            mtime: new.mtime,
            deleted: false,
        };
        assert_eq!(row, expected);
        let hub = new.hub.clone().expect("a repository");
        let commit = new.commit.clone().expect("a commit");
        let (same, all, of_blob, entry) = read(&catalog, |reader| {
            Ok((
                reader.bundle_of_repo(hub.source, &hub.repo, &commit)?,
                reader.bundles_of_repo(hub.source, &hub.repo)?,
                reader.bundles_of_blob(blobs[1])?,
                reader.bundle_entry(id)?,
            ))
        });
        assert_eq!((same.as_ref(), &all[..], &of_blob[..]), (Some(&row), &[expected][..], &[id][..]));
        let entry = entry.expect("there");
        assert_eq!((&entry.files[..], entry.hub), (&new.files[..], new.hub));
        assert_eq!(entry.sources.iter().collect::<Vec<_>>(), [Source::HuggingFace]);
        assert_eq!(snapshot(&catalog).bundles, read(&catalog, |reader| reader.bundle_entries()));
    }

    #[test]
    fn files_that_cannot_be_shown_together_are_refused() {
        let Store { catalog, folder: _folder } = store();
        let blob = write(&catalog, |writer| writer.add_blob(&new_blob(1)));
        for files in [["a", "a"], ["a", "a/b"], ["a/b/c", "a"]] {
            let new = repository('a', &files.map(|file| (file, blob)));
            let error = catalog.write(at(1), |writer| writer.add_bundle(&new)).expect_err("refused");
            assert_eq!(error.fault().kind, FaultKind::Exists, "{files:?}");
        }
        let apart = repository('a', &[("a", blob), ("a-b/c", blob), ("a.b/c", blob)]);
        write(&catalog, |writer| writer.add_bundle(&apart));
        let again = catalog.write(at(1), |writer| writer.add_bundle(&apart)).expect_err("refused");
        assert_eq!(again.fault().kind, FaultKind::Exists);
        write(&catalog, |writer| writer.add_bundle(&repository('b', &[])));
    }

    #[test]
    fn a_bundle_grows_and_followers_see_it() {
        let Store { catalog, folder: _folder } = store();
        let (blob, other) =
            write(&catalog, |writer| Ok((writer.add_blob(&new_blob(1))?, writer.add_blob(&new_blob(2))?)));
        let id = write(&catalog, |writer| writer.add_bundle(&repository('a', &[("b", blob)])));
        let before = snapshot(&catalog);
        let file = |text: &str, blob| BundleFile { path: path(text), blob };
        write(&catalog, |writer| writer.extend_bundle(id, &[file("b", blob)]));
        assert_eq!(snapshot(&catalog), before, "nothing new");
        write(&catalog, |writer| writer.extend_bundle(id, &[file("c/d", other), file("b", blob), file("a", blob)]));
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        let paths: Vec<&str> = delta.bundles[0].files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "c/d"]);
        for refused in [file("b", other), file("b/x", blob)] {
            let error = catalog.write(at(1), |writer| writer.extend_bundle(id, std::slice::from_ref(&refused)));
            assert_eq!(error.expect_err("refused").fault().kind, FaultKind::Exists, "{refused:?}");
        }
    }
}
