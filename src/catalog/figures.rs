//! Counts and sums for `stats`: over what is shown, by index where there is one.

use super::{CatalogError, Reader, TypeCount};
use crate::base::BlobState;

impl Reader<'_> {
    /// Models by type, most first.
    pub fn counts_by_type(&self) -> Result<Vec<TypeCount>, CatalogError> {
        self.counts(
            "SELECT primary_type, COUNT(*), SUM(file_size) FROM models WHERE deleted = 0 \
            GROUP BY 1 ORDER BY 2 DESC, 1",
        )
    }

    /// Models by base, most first; those without one count as `unknown`.
    pub fn counts_by_base(&self) -> Result<Vec<TypeCount>, CatalogError> {
        self.counts(
            "SELECT coalesce(base, 'unknown'), COUNT(*), SUM(file_size) FROM models WHERE deleted = 0 \
            GROUP BY 1 ORDER BY 2 DESC, 1",
        )
    }

    fn counts(&self, sql: &str) -> Result<Vec<TypeCount>, CatalogError> {
        self.all(sql, [], "models", |cells| {
            Ok(TypeCount { word: cells.text(0)?.to_owned(), count: cells.number(1)?, bytes: cells.number(2)? })
        })
    }

    /// Contents by state: how many, and their whole size in bytes.
    pub fn counts_by_state(&self) -> Result<Vec<(BlobState, u64, u64)>, CatalogError> {
        let sql = "SELECT state, COUNT(*), SUM(size) FROM blobs GROUP BY state ORDER BY state";
        self.all(sql, [], "blobs", |cells| Ok((cells.parsed(0, BlobState::parse)?, cells.number(1)?, cells.number(2)?)))
    }

    /// Models that are not in the trash.
    pub fn model_count(&self) -> Result<u64, CatalogError> {
        let count =
            self.first("SELECT COUNT(*) FROM models WHERE deleted = 0", [], "models", |cells| cells.number(0))?;
        Ok(count.unwrap_or(0))
    }

    /// Bytes that further imports of contents already stored did not take.
    pub fn saved_bytes(&self) -> Result<u64, CatalogError> {
        let sql = "SELECT coalesce(SUM(saved_bytes), 0) FROM imports";
        Ok(self.first(sql, [], "imports", |cells| cells.number(0))?.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, new_blob, read, remote_blob, store, verdict, write};
    use super::*;
    use crate::base::ModelType;

    #[test]
    fn figures_count_what_is_shown() {
        let Store { catalog, folder: _folder } = store();
        let empty =
            read(&catalog, |reader| Ok((reader.counts_by_type()?, reader.saved_bytes()?, reader.model_count()?)));
        assert_eq!(empty, (Vec::new(), 0, 0));
        write(&catalog, |writer| {
            let ids = (1..=4).map(|number| add(writer, number)).collect::<Result<Vec<_>, _>>()?;
            writer.set_verdict(ids[2].1, &verdict(ModelType::Vae, None))?;
            writer.set_deleted(ids[3].1, true)?;
            writer.add_blob(&remote_blob(9))?;
            writer.add_blob(&new_blob(8))
        });
        let count = |word: &str, count, bytes| TypeCount { word: word.to_owned(), count, bytes };
        let (types, bases) = read(&catalog, |reader| Ok((reader.counts_by_type()?, reader.counts_by_base()?)));
        assert_eq!(types, [count("lora", 2, 2003), count("vae", 1, 1003)]);
        assert_eq!(bases, [count("sdxl", 2, 2003), count("unknown", 1, 1003)]);
        let (states, models) = read(&catalog, |reader| Ok((reader.counts_by_state()?, reader.model_count()?)));
        assert_eq!(states, [(BlobState::Remote, 1, 1009), (BlobState::Resident, 5, 5018)]);
        assert_eq!(models, 3);
    }
}
