//! What hubs told about contents: `enrichments`, `hub_archive`, and the facts taken from them in `model_metadata`.
//!
//! Invariants: an answer that was good is never replaced by none; an archived answer is never taken away. Facts stand in
//! `model_metadata` under the hub's name, as ModelHub keeps such pairs. Not here: what facts mean (`library`, `classify`).

use super::cells::{Answer, Cells};
use super::{AnswerRow, CatalogError, ModelRow, Reader, Writer};
use crate::base::{BlobId, Label, ModelId};
use crate::tree::Source;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::params;
use std::io::{self, Read, Write};

/// Largest answer that is read back: as much as is accepted from a hub.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

const COLUMNS: &str = "blob_id, source, asked_ns, is_known, by_tensors, gone_ns, repo, revision, archive_id";

fn read_answer(cells: Cells<'_>) -> Answer<AnswerRow> {
    Ok(AnswerRow {
        blob: BlobId::new(cells.integer(0)?),
        source: cells.source(1)?,
        asked: cells.time(2)?,
        is_known: cells.flag(3)?,
        by_tensors: cells.flag(4)?,
        gone: if cells.is_null(5)? { None } else { Some(cells.time(5)?) },
        repo: cells.text(6)?.to_owned(),
        revision: cells.text(7)?.to_owned(),
        archive: if cells.is_null(8)? { None } else { Some(cells.integer(8)?) },
    })
}

impl Reader<'_> {
    /// What each hub said about a content, one row for each hub that was asked.
    pub fn answers(&self, blob: BlobId) -> Result<Vec<AnswerRow>, CatalogError> {
        let sql = format!("SELECT {COLUMNS} FROM enrichments WHERE blob_id = ?1 ORDER BY source");
        self.all(&sql, [blob.get()], "enrichments", read_answer)
    }

    /// A content with these tensors and another header that a hub still knows.
    pub fn answer_of_tensors(
        &self,
        source: Source,
        autov3: &str,
        except: BlobId,
    ) -> Result<Option<AnswerRow>, CatalogError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM enrichments WHERE source = ?1 AND is_known = 1 AND gone_ns IS NULL \
            AND blob_id <> ?3 AND blob_id IN (SELECT id FROM blobs WHERE autov3 = ?2) ORDER BY blob_id LIMIT 1"
        );
        self.first(&sql, params![source.as_str(), autov3, except.get()], "enrichments", read_answer)
    }

    /// The hub's answer as it was kept.
    pub fn archived_answer(&self, archive: i64) -> Result<Option<String>, CatalogError> {
        let sql = "SELECT id, answer FROM hub_archive WHERE id = ?1";
        self.first(sql, [archive], "hub_archive", |cells| {
            let mut text = String::new();
            let read = ZlibDecoder::new(cells.bytes(1)?).take(ANSWER_BYTES_MAX).read_to_string(&mut text);
            read.map_err(|_| cells.damaged(1))?;
            Ok(text)
        })
    }

    /// What is known of a model under one heading, in the order in which it was written.
    pub fn facts(&self, model: ModelId, heading: &str) -> Result<Vec<(String, String)>, CatalogError> {
        let sql = "SELECT model_id, key, value FROM model_metadata WHERE model_id = ?1 AND metadata_type = ?2 \
            AND value IS NOT NULL ORDER BY id";
        self.all(sql, params![model.get(), heading], "model_metadata", |cells| {
            Ok((cells.text(1)?.to_owned(), cells.text(2)?.to_owned()))
        })
    }
}

impl Writer<'_> {
    /// Keeps an answer about a repository for ever; one that is there already stays as it is.
    pub fn archive_answer(&mut self, source: Source, repo: &str, answer: &str) -> Result<i64, CatalogError> {
        let packed = packed(answer).expect("memory takes what is written to it");
        let sql = "SELECT id FROM hub_archive WHERE source = ?1 AND repo = ?2 AND answer = ?3";
        let values = params![source.as_str(), repo, packed];
        if let Some(known) = self.first(sql, values, "hub_archive", |cells| cells.integer(0))? {
            return Ok(known);
        }
        let sql = "INSERT INTO hub_archive (source, repo, received_ns, answer) VALUES (?1, ?2, ?3, ?4)";
        self.insert(sql, params![source.as_str(), repo, self.now().unix_ns(), packed])
    }

    /// A hub knows the content.
    pub fn set_known(
        &mut self,
        blob: BlobId,
        source: Source,
        place: (&str, &str),
        archive: i64,
    ) -> Result<(), CatalogError> {
        let sql = "INSERT INTO enrichments (blob_id, source, asked_ns, is_known, repo, revision, archive_id) \
            VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6) ON CONFLICT (blob_id, source) DO UPDATE SET asked_ns = excluded.asked_ns, \
            is_known = 1, gone_ns = NULL, repo = excluded.repo, revision = excluded.revision, archive_id = excluded.archive_id";
        let values = params![blob.get(), source.as_str(), self.now().unix_ns(), place.0, place.1, archive];
        self.run(sql, values).map(drop)
    }

    /// A hub does not know the content. What it once said stays, with the time at which it was gone. Says whether there
    /// is such an answer.
    pub fn set_unknown(&mut self, blob: BlobId, source: Source, by_tensors: bool) -> Result<bool, CatalogError> {
        let sql = "INSERT INTO enrichments (blob_id, source, asked_ns, is_known, by_tensors) VALUES (?1, ?2, ?3, 0, ?4) \
            ON CONFLICT (blob_id, source) DO UPDATE SET asked_ns = excluded.asked_ns, \
            by_tensors = max(by_tensors, excluded.by_tensors), \
            gone_ns = iif(is_known = 1, ifnull(gone_ns, excluded.asked_ns), NULL)";
        self.run(sql, params![blob.get(), source.as_str(), self.now().unix_ns(), by_tensors])?;
        let sql = "SELECT blob_id FROM enrichments WHERE blob_id = ?1 AND source = ?2 AND is_known = 1";
        self.finds(sql, params![blob.get(), source.as_str()])
    }

    /// Replaces what is known of a model under one heading. The index follows with whatever changes the model next.
    pub fn set_facts(&mut self, model: ModelId, heading: &str, facts: &[(String, String)]) -> Result<(), CatalogError> {
        let sql = "DELETE FROM model_metadata WHERE model_id = ?1 AND metadata_type = ?2";
        self.run(sql, params![model.get(), heading])?;
        for (key, value) in facts {
            let sql = "INSERT INTO model_metadata (model_id, metadata_type, key, value) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT DO NOTHING";
            self.run(sql, params![model.get(), heading, key, value])?;
        }
        Ok(())
    }

    /// Who made it and under which licence, as far as that changes.
    pub fn set_about(
        &mut self,
        model: &ModelRow,
        creator: Option<&Label>,
        license: Option<&str>,
    ) -> Result<(), CatalogError> {
        if model.creator.as_ref() == creator && model.license.as_deref() == license {
            return Ok(());
        }
        let sql = "UPDATE models SET creator = ?2, license = ?3 WHERE id = ?1";
        let values = params![model.id.get(), creator.map(Label::as_str), license];
        self.run_on("models", model.id.get(), sql, values)?;
        self.mark_changed(model.id)
    }
}

fn packed(answer: &str) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(answer.as_bytes())?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, at, label, read, store, write};
    use super::*;
    use crate::query::Query;

    #[test]
    fn a_good_answer_is_never_replaced_by_none() {
        let Store { catalog, folder: _folder } = store();
        let (blob, _) = write(&catalog, |writer| add(writer, 1));
        let set_unknown = |by_tensors| write(&catalog, |writer| writer.set_unknown(blob, Source::Civitai, by_tensors));
        assert!(!set_unknown(true) && !set_unknown(false), "it never was known");
        let row = read(&catalog, |reader| reader.answers(blob)).pop().expect("one");
        assert_eq!((row.is_known, row.by_tensors, row.gone), (false, true, None));
        let text = "{\"a\":\"é\"}".repeat(500);
        let archive = write(&catalog, |writer| {
            let archive = writer.archive_answer(Source::Civitai, "12", &text)?;
            assert_eq!(writer.archive_answer(Source::Civitai, "12", &text)?, archive, "kept once");
            assert_ne!(writer.archive_answer(Source::Civitai, "12", "{}")?, archive, "and beside a newer one");
            writer.set_known(blob, Source::Civitai, ("12", "34"), archive)?;
            Ok(archive)
        });
        assert!(set_unknown(false));
        let row = read(&catalog, |reader| reader.answers(blob)).pop().expect("one");
        assert_eq!((row.is_known, row.gone, row.repo.as_str()), (true, Some(at(1)), "12"));
        assert_eq!(row.archive, Some(archive));
        assert_eq!(read(&catalog, |reader| reader.archived_answer(archive)).as_deref(), Some(text.as_str()));
        write(&catalog, |writer| writer.set_known(blob, Source::Civitai, ("12", "35"), archive));
        let row = read(&catalog, |reader| reader.answers(blob)).pop().expect("one");
        assert_eq!((row.gone, row.revision.as_str()), (None, "35"), "it is back");
    }

    #[test]
    fn facts_are_replaced_under_their_heading_and_found() {
        let Store { catalog, folder: _folder } = store();
        let (blob, model) = write(&catalog, |writer| add(writer, 1));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let finds = |text: &str| {
            let query = Query::parse(text).expect(text);
            !read(&catalog, |reader| reader.search(&query, 10)).is_empty()
        };
        write(&catalog, |writer| {
            writer.set_facts(model, "huggingface", &[pair("description", "kept apart")])?;
            writer.set_facts(model, "civitai", &[pair("name", "Moonlit"), pair("description", "old words")])?;
            writer.set_facts(model, "civitai", &[pair("description", "walrus parade"), pair("name", "Sunlit")])?;
            let row = writer.model(model)?.expect("there");
            writer.set_about(&row, Some(&label("painter")), Some("mit"))
        });
        let facts = read(&catalog, |reader| reader.facts(model, "civitai"));
        assert_eq!(facts, [pair("description", "walrus parade"), pair("name", "Sunlit")]);
        for (text, expected) in [
            ("walrus", true),
            ("sunlit", true),
            ("\"kept apart\"", true),
            ("creator:painter", true),
            ("moonlit", false),
        ] {
            assert_eq!(finds(text), expected, "{text}");
        }
        let other = write(&catalog, |writer| add(writer, 2)).0;
        let found = read(&catalog, |reader| reader.answer_of_tensors(Source::Civitai, "none", other));
        assert_eq!(found, None);
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
        let _ = blob;
    }
}
