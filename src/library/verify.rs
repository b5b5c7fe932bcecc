//! Reads everything again and compares it with what is written about it.
//!
//! Invariant: changes nothing. A file without a row is what a killed import leaves and is nothing wrong while its bytes
//! are those of its name; `checks` counts such files.

use super::details::link_problem;
use super::import::orphans;
use super::{ImportObserver, Library, LibraryError, VerifyFinding, VerifySummary, origins, reference};
use crate::base::{BlobId, BlobState, FaultKind};
use crate::catalog::{BlobRow, CatalogError, LinkRow};
use crate::store::{self, BlobEntry, Cancel, FileSource, PartialKey, StoreError};
use std::path::Path;

/// Rows read at a time, so that no transaction stays open while files are read.
const PAGE_ROWS: u32 = 256;

pub(super) fn verify(
    library: &Library,
    references: &[String],
    observer: &dyn ImportObserver,
    cancel: &Cancel,
) -> Result<VerifySummary, LibraryError> {
    let mut verification = Verification { library, observer, cancel, summary: VerifySummary::default() };
    match verification.run(references) {
        Err(LibraryError::Interrupted) => verification.summary.interrupted = true,
        result => result?,
    }
    Ok(verification.summary)
}

struct Verification<'a> {
    library: &'a Library,
    observer: &'a dyn ImportObserver,
    cancel: &'a Cancel,
    summary: VerifySummary,
}

impl Verification<'_> {
    fn run(&mut self, references: &[String]) -> Result<(), LibraryError> {
        if references.is_empty() { self.everything() } else { self.named(references) }
    }

    fn named(&mut self, references: &[String]) -> Result<(), LibraryError> {
        for reference in references {
            let found = self.library.catalog().read(|r| {
                let model = reference::resolve(r, reference)?;
                let link = r.link(model.blob)?;
                Ok::<_, LibraryError>(r.blob(model.blob)?.map(|blob| (blob, link)))
            })?;
            if let Some((blob, link)) = found {
                self.blob(&blob, link.as_ref())?;
            }
        }
        Ok(())
    }

    fn everything(&mut self) -> Result<(), LibraryError> {
        let mut after: Option<BlobId> = None;
        loop {
            let page = self.library.catalog().read(|r| {
                let rows = r.blobs_after(after, PAGE_ROWS)?;
                rows.into_iter().map(|row| Ok((r.link(row.id)?, row))).collect::<Result<Vec<_>, CatalogError>>()
            })?;
            let Some((_, last)) = page.last() else { break };
            after = Some(last.id);
            for (link, blob) in &page {
                self.blob(blob, link.as_ref())?;
            }
        }
        self.strays()?;
        self.partials()?;
        for problem in self.library.catalog().check()? {
            self.find(
                "the catalog".to_owned(),
                problem,
                "restore the databases from a copy, or report this".to_owned(),
            );
        }
        Ok(())
    }

    fn blob(&mut self, blob: &BlobRow, link: Option<&LinkRow>) -> Result<(), LibraryError> {
        let (BlobState::Resident, Some(sha256)) = (blob.state, blob.sha256) else { return Ok(()) };
        let progress = |bytes| self.observer.advanced(bytes);
        let library = self.library;
        let result = match link {
            Some(link) => {
                if let Some(problem) = link_problem(link) {
                    let (what, remedy) = problem.split_once("; ").unwrap_or((&problem, "import it again"));
                    self.find(blob.name.to_string(), what.to_owned(), remedy.to_owned());
                    return Ok(());
                }
                self.linked(&link.path).map(|found| (link.path.clone(), found))
            }
            None => {
                let path = library.store().blob_path(&sha256, &blob.name);
                library.store().verify_blob(&sha256, &blob.name, &progress, self.cancel).map(|hashes| (path, hashes))
            }
        };
        match result {
            Err(StoreError::Cancelled { .. }) => return Err(LibraryError::Interrupted),
            Err(error) => {
                let fault = error.fault();
                let remedy = match (fault.kind, link) {
                    (FaultKind::NotFound | FaultKind::Integrity, None) => self.remedy(blob, fault.kind)?,
                    (FaultKind::NotFound, Some(_)) => "import it again".to_owned(),
                    _ => fault.remedy,
                };
                self.find(blob.name.to_string(), fault.what, remedy);
            }
            Ok((path, hashes)) => {
                if hashes.sha256 != sha256 {
                    let what = format!("{} no longer holds the bytes that were linked", path.display());
                    self.find(blob.name.to_string(), what, "import it again".to_owned());
                }
                self.observer.finished(&path);
            }
        }
        self.summary.checked_count += 1;
        self.summary.checked_bytes += blob.size_bytes;
        Ok(())
    }

    /// What brings a lost or damaged file of the store back.
    fn remedy(&self, blob: &BlobRow, kind: FaultKind) -> Result<String, LibraryError> {
        let origins = self.library.catalog().read(|r| r.origins(blob.id))?;
        if let Some(sha256) = blob.sha256.filter(|_| origins.iter().any(|origin| origins::fetchable(origin).is_some()))
        {
            let reference = format!("sha256:{}", sha256.prefix(origins::AUTOV2_DIGITS));
            return Ok(format!("`modelfs evict {reference}`, then `modelfs fetch {reference}`: a hub has it"));
        }
        Ok(match kind {
            FaultKind::NotFound => "import it again".to_owned(),
            // Only a move reads what is stored and compares it, before it lets the other copy go.
            _ => "import a whole copy of it with `--mode move`: it replaces this one".to_owned(),
        })
    }

    fn linked(&self, path: &Path) -> Result<store::Hashes, StoreError> {
        let data_start = store::safetensors_data_start(&FileSource::open(path)?);
        let progress = |bytes| self.observer.advanced(bytes);
        store::hash_file(path, data_start, &progress, self.cancel).map(|(hashes, _)| hashes)
    }

    /// Files under `models/` that no row names.
    fn strays(&mut self) -> Result<(), LibraryError> {
        for entry in self.library.store().walk_blobs()? {
            if let BlobEntry::Stray(path) = entry? {
                let remedy = "move it out of the store".to_owned();
                self.find(path.display().to_string(), "no store has put it there".to_owned(), remedy);
            }
        }
        for (sha256, name, _) in orphans::find(self.library.store(), self.library.catalog())? {
            match self.library.store().verify_blob(&sha256, &name, &|_| (), self.cancel) {
                Ok(_) => {}
                Err(StoreError::Cancelled { .. }) => return Err(LibraryError::Interrupted),
                Err(error) => {
                    let fault = error.fault();
                    self.find(name.to_string(), fault.what, fault.remedy);
                }
            }
        }
        Ok(())
    }

    fn partials(&mut self) -> Result<(), LibraryError> {
        for partial in self.library.store().partials()? {
            let row = self.library.catalog().read(|r| blob_of_partial(r, &partial.key))?;
            let Some(row) = row.filter(|row| row.state != BlobState::Resident) else { continue };
            if row.size_bytes != partial.size_bytes {
                let what = format!("its partial file is for {} bytes, not {}", partial.size_bytes, row.size_bytes);
                self.find(row.name.to_string(), what, "read it again to fetch it anew".to_owned());
            }
        }
        Ok(())
    }

    fn find(&mut self, subject: String, what: String, remedy: String) {
        self.summary.findings.push(VerifyFinding { subject, what, remedy });
    }
}

/// Keys are made from the number of a content; others belong to somebody else.
fn blob_of_partial(r: &crate::catalog::Reader<'_>, key: &PartialKey) -> Result<Option<BlobRow>, CatalogError> {
    let digits = key.as_str().trim_start_matches(|c: char| !c.is_ascii_digit());
    let Some(blob) = digits.parse().ok().map(BlobId::new).filter(|blob| PartialKey::of_blob(*blob) == *key) else {
        return Ok(None);
    };
    r.blob(blob)
}
