//! Models: `models`, `tags`, `evidence`, and what makes them known to followers (`gone`).
//!
//! Invariants: one model per content; a model in the trash keeps its row, its number and its names. Not here: how a
//! verdict is reached (`classify`), what `evidence` says (`library` writes and reads it).

use super::cells::{Answer, Cells, signed, write_list, write_sources};
use super::contents::{BLOB_COLUMNS, read_blob};
use super::reader::no_such_row;
use super::snapshot::occupant_columns;
use super::{BlobRow, CatalogError, Manual, ModelRow, NewModel, Reader, Writer};
use crate::base::{BlobId, EntryName, Label, ModelId, ModelType};
use crate::classify::{Method, Verdict};
use crate::tree::{Occupant, Source, SourceSet};
use rusqlite::{Params, params};

/// Digits of the longest hash; a longer prefix matches nothing.
const HEX_DIGITS_MAX: usize = 64;

const MODEL_COLUMN_COUNT: usize = 23;
const MODEL_COLUMNS: &str = "models.id, models.blob_id, models.filename, models.primary_type, models.base, \
    models.sub_type, models.precision, models.quantization, models.architecture, models.format, \
    models.tensor_count, models.confidence, models.classification_method, models.folders, models.creator, \
    models.license, models.triggers, models.added_ns, models.deleted, models.file_size, \
    models.manual_type, models.manual_base, models.judged_name";

/// A row without its tags.
fn read_model(cells: Cells<'_>) -> Answer<ModelRow> {
    Ok(ModelRow {
        id: ModelId::new(cells.integer(0)?),
        blob: BlobId::new(cells.integer(1)?),
        name: cells.name(2)?,
        model_type: cells.model_type(3)?,
        base: cells.base(4)?,
        sub_type: cells.optional_string(5)?,
        precision: cells.optional_string(6)?,
        quantization: cells.optional_string(7)?,
        architecture: cells.optional_string(8)?,
        format: cells.text(9)?.to_owned(),
        tensor_count: cells.optional_number(10)?,
        confidence: cells.real(11)? as f32,
        method: cells.text(12)?.to_owned(),
        folders: cells.list(13)?,
        creator: cells.optional(14, Label::new)?,
        license: cells.optional_string(15)?,
        tags: Vec::new(),
        trigger_words: cells.list(16)?,
        added: cells.time(17)?,
        deleted: cells.flag(18)?,
        manual: Manual { model_type: cells.optional(20, ModelType::parse)?, base: cells.base(21)? },
        judged_name: cells.optional(22, EntryName::new)?,
    })
}

impl Reader<'_> {
    pub fn model(&self, model: ModelId) -> Result<Option<ModelRow>, CatalogError> {
        Ok(self.models_where("FROM models WHERE id = ?1", [model.get()])?.pop())
    }

    /// The models of a content: none or one.
    pub fn models_of_blob(&self, blob: BlobId) -> Result<Vec<ModelRow>, CatalogError> {
        self.models_where("FROM models WHERE blob_id = ?1", [blob.get()])
    }

    /// Models with this name, or with this name before their suffix; also those in the trash.
    pub fn models_named(&self, name: &str) -> Result<Vec<ModelRow>, CatalogError> {
        let which = "FROM models WHERE id IN (SELECT id FROM models WHERE filename = ?1 UNION SELECT id FROM models \
            WHERE substr(filename, 1, length(filename) - length(file_extension)) = ?1) ORDER BY id";
        self.models_where(which, [name])
    }

    /// Models whose content's sha256 (or AutoV1..3, blake3, crc32) starts with these lower-case hex digits.
    pub fn models_by_hash(&self, prefix: &str) -> Result<Vec<ModelRow>, CatalogError> {
        let is_hex = prefix.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if prefix.is_empty() || prefix.len() > HEX_DIGITS_MAX || !is_hex {
            return Ok(Vec::new());
        }
        let (digest_min, digest_max) = (hex_bound(prefix, 0, 32), hex_bound(prefix, 15, 32));
        let (crc_min, crc_max) = (hex_bound(prefix, 0, 4), hex_bound(prefix, 15, 4));
        // AutoV2 is the start of sha256. `g` comes after every hex digit.
        let which = "FROM models WHERE blob_id IN (\
            SELECT id FROM blobs WHERE sha256 BETWEEN ?2 AND ?3 \
            UNION SELECT id FROM blobs WHERE blake3 BETWEEN ?2 AND ?3 \
            UNION SELECT id FROM blobs WHERE ?6 AND crc32 BETWEEN ?4 AND ?5 \
            UNION SELECT id FROM blobs WHERE autov1 >= ?1 AND autov1 < ?1 || 'g' \
            UNION SELECT id FROM blobs WHERE autov3 >= ?1 AND autov3 < ?1 || 'g') ORDER BY id";
        let fits_crc32 = prefix.len() <= 8;
        self.models_where(which, params![prefix, digest_min, digest_max, crc_min, crc_max, fits_crc32])
    }

    fn models_where(&self, which: &str, params: impl Params) -> Answer<Vec<ModelRow>> {
        self.all(&format!("SELECT {MODEL_COLUMNS} {which}"), params, "models", |cells| {
            let mut model = read_model(cells)?;
            model.tags = self.tags_of(model.id.get())?;
            Ok(model)
        })
    }

    /// In order of id, from after `after`; at most `limit`; not deleted.
    pub fn models_after(&self, after: Option<ModelId>, limit: u32) -> Result<Vec<(ModelRow, BlobRow)>, CatalogError> {
        let after = after.map_or(0, ModelId::get);
        let sql = format!(
            "SELECT {MODEL_COLUMNS}, {BLOB_COLUMNS} FROM models JOIN blobs ON blobs.id = models.blob_id \
            WHERE models.id > ?1 AND models.deleted = 0 ORDER BY models.id LIMIT ?2"
        );
        let read = |cells: Cells<'_>| Ok((read_model(cells)?, read_blob(cells.part(MODEL_COLUMN_COUNT, "blobs"))?));
        let mut found = self.all(&sql, params![after, limit], "models", read)?;
        let Some(last) = found.last().map(|(model, _)| model.id.get()) else { return Ok(found) };
        // One ordered answer for the tags of all: both are sorted by model.
        let tags = "SELECT model_id, tag FROM tags WHERE model_id > ?1 AND model_id <= ?2 ORDER BY model_id, tag";
        let mut rows = found.iter_mut().map(|(model, _)| model);
        let mut current = rows.next();
        self.each(tags, [after, last], "tags", |cells| {
            let owner = cells.integer(0)?;
            while current.as_ref().is_some_and(|model| model.id.get() < owner) {
                current = rows.next();
            }
            if let Some(model) = current.as_mut().filter(|model| model.id.get() == owner) {
                model.tags.push(cells.label(1)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// These models with their contents and sources, in the order given, without their tags; one that is gone is left out.
    pub fn models_of(&self, ids: &[ModelId]) -> Result<Vec<(ModelRow, BlobRow, SourceSet)>, CatalogError> {
        let sql = format!(
            "SELECT {MODEL_COLUMNS}, models.id, models.sources, {BLOB_COLUMNS} FROM json_each(?1) AS wanted \
            CROSS JOIN models ON models.id = wanted.value JOIN blobs ON blobs.id = models.blob_id ORDER BY wanted.key"
        );
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let ids = serde_json::to_string(&ids).expect("numbers are always JSON");
        self.all(&sql, [ids], "models", |cells| {
            let sources = cells.part(MODEL_COLUMN_COUNT, "models").sources(1)?;
            let blob = read_blob(cells.part(MODEL_COLUMN_COUNT + 2, "blobs"))?;
            Ok((read_model(cells)?, blob, sources))
        })
    }

    /// What hubs call a model, and what they tell about it in sentences.
    pub fn descriptions(&self, model: ModelId) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT id, value FROM model_metadata WHERE model_id = ?1 AND key IN ('name', 'description') \
            AND value IS NOT NULL ORDER BY id";
        self.all(sql, [model.get()], "model_metadata", |cells| cells.text(1).map(str::to_owned))
    }

    /// Why a model was judged as it is, as stored JSON lines of `classify::Reason` (made and read by the library).
    pub fn evidence(&self, model: ModelId) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT model_id, line FROM evidence WHERE model_id = ?1 ORDER BY position";
        self.all(sql, [model.get()], "evidence", |cells| cells.text(1).map(str::to_owned))
    }
}

/// The smallest (filled with 0) or largest (filled with 15) value of `bytes` bytes that starts with these digits.
pub(super) fn hex_bound(prefix: &str, fill: u8, bytes: usize) -> Vec<u8> {
    let digit = |at: usize| {
        let digit = prefix.as_bytes().get(at).and_then(|digit| char::from(*digit).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).unwrap_or(fill)
    };
    (0..bytes).map(|at| digit(2 * at) << 4 | digit(2 * at + 1)).collect()
}

/// How strong each kind of evidence was, for ModelHub's columns.
fn score(verdict: &Verdict, method: Method) -> f64 {
    let weights = verdict.reasons.iter().filter(|reason| reason.method == method).map(|reason| reason.weight);
    f64::from(weights.fold(0.0, f32::max))
}

/// A confidence that SQL can hold: SQLite stores NaN as NULL.
fn confidence(verdict: &Verdict) -> f64 {
    if verdict.confidence.is_nan() { 0.0 } else { f64::from(verdict.confidence.clamp(0.0, 1.0)) }
}

impl Writer<'_> {
    /// Registers the model of a content. A content has one model: look it up first.
    pub fn add_model(&mut self, model: &NewModel) -> Result<ModelId, CatalogError> {
        let blob = self.blob(model.blob)?.ok_or_else(|| no_such_row("blobs", model.blob))?;
        if let Some(known) = self.models_of_blob(model.blob)?.first() {
            let what = format!("the content of {} is a model already: {}", model.name, known.name);
            return Err(CatalogError::Conflict { what });
        }
        let sources = self
            .origins(model.blob)?
            .iter()
            .fold(SourceSet::default().with(model.source), |sources, origin| sources.with(origin.source));
        let revision = self.stamp()?;
        let sql = "INSERT INTO models (blob_id, file_hash, filename, file_size, file_extension, primary_type, format, \
            tensor_count, folders, sources, creator, license, added_ns, created_at, updated_at, revision) \
            VALUES (?1, ?2, ?3, ?4, ?5, 'unknown', ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
            datetime(?12 / 1000000000, 'unixepoch'), datetime(?13 / 1000000000, 'unixepoch'), ?14)";
        let values = params![
            model.blob.get(),
            blob.sha256.map(|sha256| sha256.to_string()),
            model.name.as_str(),
            signed(blob.size_bytes, "the size of a file")?,
            model.name.suffix(),
            model.format,
            model.tensor_count.map(|count| signed(count, "the number of tensors")).transpose()?,
            write_list(&model.folders),
            write_sources(sources),
            model.creator.as_ref().map(Label::as_str),
            model.license,
            model.added.unix_ns(),
            self.now().unix_ns(),
            revision,
        ];
        let id = ModelId::new(self.insert(sql, values)?);
        self.replace_automatic_tags(id, &model.tags)?;
        self.replace_tags(id, &model.tags)?;
        self.write_verdict(id, &model.verdict)?;
        self.index_new_text(id)?;
        Ok(id)
    }

    /// The name and folders that tell most about it.
    pub fn set_judged_by(&mut self, model: ModelId, name: &EntryName, folders: &[String]) -> Result<(), CatalogError> {
        let sql = "UPDATE models SET judged_name = nullif(?2, filename), folders = ?3 WHERE id = ?1";
        self.run_on("models", model.get(), sql, params![model.get(), name.as_str(), write_list(folders)])
    }

    /// Replaces type, base and the other facts of a verdict, and its trigger words; decisions by hand stay. The reasons of the old verdict are
    /// dropped: `set_evidence` gives those of the new one.
    pub fn set_verdict(&mut self, model: ModelId, verdict: &Verdict) -> Result<(), CatalogError> {
        self.write_verdict(model, verdict)?;
        self.run("DELETE FROM evidence WHERE model_id = ?1", [model.get()])?;
        self.index_text(model)
    }

    fn write_verdict(&mut self, model: ModelId, verdict: &Verdict) -> Answer<()> {
        let revision = self.stamp()?;
        let sql = "UPDATE models SET primary_type = ifnull(manual_type, ?2), base = ifnull(manual_base, ?3), \
            sub_type = iif(ifnull(manual_type, ?2) = ?2, ?4, NULL), precision = ?5, quantization = ?6, \
            architecture = ?7, confidence = iif(manual_type IS NULL, ?8, 1.0), \
            classification_method = iif(manual_type IS NULL, ?9, 'manual'), triggers = ?10, tensor_score = ?11, \
            metadata_score = ?12, filename_score = ?13, size_score = ?14, reclassify = 0, \
            classified_at = datetime(?15 / 1000000000, 'unixepoch'), \
            updated_at = datetime(?15 / 1000000000, 'unixepoch'), revision = ?16 WHERE id = ?1";
        let values = params![
            model.get(),
            verdict.model_type.as_str(),
            verdict.base.as_ref().map(|base| base.as_str()),
            verdict.sub_type,
            verdict.precision,
            verdict.quantization,
            verdict.architecture,
            confidence(verdict),
            verdict.method.as_str(),
            write_list(&verdict.trigger_words),
            score(verdict, Method::Tensors),
            score(verdict, Method::Metadata),
            score(verdict, Method::FileName),
            score(verdict, Method::Size),
            self.now().unix_ns(),
            revision,
        ];
        self.run_on("models", model.get(), sql, values)
    }

    /// Replaces the automatic tags; those a person added or took away stay so.
    pub fn set_tags(&mut self, model: ModelId, tags: &[Label]) -> Result<(), CatalogError> {
        self.replace_automatic_tags(model, tags)?;
        self.show_tags(model)
    }

    /// Brings the tags that are shown up to date; they are kept in byte order, each once.
    pub(super) fn show_tags(&mut self, model: ModelId) -> Answer<()> {
        let wanted = self.wanted_tags(model)?;
        if self.tags_of(model.get())? == wanted {
            return Ok(());
        }
        self.replace_tags(model, &wanted)?;
        self.mark_changed(model)
    }

    fn replace_tags(&mut self, model: ModelId, tags: &[Label]) -> Answer<()> {
        self.run("DELETE FROM tags WHERE model_id = ?1", [model.get()])?;
        for tag in tags {
            let sql = "INSERT INTO tags (model_id, tag) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.run(sql, params![model.get(), tag.as_str()])?;
        }
        Ok(())
    }

    pub(super) fn mark_changed(&mut self, model: ModelId) -> Answer<()> {
        let sql = "UPDATE models SET revision = ?2, updated_at = datetime(?3 / 1000000000, 'unixepoch') WHERE id = ?1";
        let values = params![model.get(), self.stamp()?, self.now().unix_ns()];
        self.run_on("models", model.get(), sql, values)?;
        self.index_text(model)
    }

    /// A place its content was found at makes a source of the model.
    pub(super) fn add_source_to_models(&mut self, blob: BlobId, source: Source) -> Answer<()> {
        let sql = "SELECT id, sources FROM models WHERE blob_id = ?1";
        let found = self.first(sql, [blob.get()], "models", |cells| Ok((cells.integer(0)?, cells.sources(1)?)))?;
        let Some((id, sources)) = found else { return Ok(()) };
        if sources.contains(source) {
            return Ok(());
        }
        let sql = "UPDATE models SET sources = ?2 WHERE id = ?1";
        self.run_on("models", id, sql, params![id, write_sources(sources.with(source))])?;
        self.mark_changed(ModelId::new(id))
    }

    /// Into the trash, or back.
    pub fn set_deleted(&mut self, model: ModelId, deleted: bool) -> Result<(), CatalogError> {
        let before = self.model(model)?.ok_or_else(|| no_such_row("models", model))?.deleted;
        if before == deleted {
            return Ok(());
        }
        self.run_on(
            "models",
            model.get(),
            "UPDATE models SET deleted = ?2 WHERE id = ?1",
            params![model.get(), deleted],
        )?;
        self.mark_changed(model)?;
        self.note_gone(Occupant::Model(model), deleted)
    }

    /// Tells followers that something is no longer shown, or is shown again.
    pub(super) fn note_gone(&mut self, occupant: Occupant, is_gone: bool) -> Answer<()> {
        let (kind, id) = occupant_columns(occupant);
        if is_gone {
            let sql = "INSERT INTO gone (kind, id, revision) VALUES (?1, ?2, ?3) \
                ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision";
            let values = [kind, id, self.stamp()?];
            self.run(sql, values).map(drop)
        } else {
            self.run("DELETE FROM gone WHERE kind = ?1 AND id = ?2", [kind, id]).map(drop)
        }
    }

    pub fn set_evidence(&mut self, model: ModelId, lines: &[String]) -> Result<(), CatalogError> {
        self.run("DELETE FROM evidence WHERE model_id = ?1", [model.get()])?;
        for (position, line) in (0_i64..).zip(lines) {
            let sql = "INSERT INTO evidence (model_id, position, line) VALUES (?1, ?2, ?3)";
            self.run(sql, params![model.get(), position, line])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        Store, add, at, digest, hashes, label, new_blob, new_model, read, snapshot, store, verdict, write,
    };
    use super::*;
    use crate::base::FaultKind;
    use crate::query::Query;

    #[test]
    fn a_model_is_read_back_as_it_was_written() {
        let Store { catalog, folder: _folder } = store();
        let blob = write(&catalog, |writer| writer.add_blob(&new_blob(1)));
        let new = new_model(blob, "zebra v1.safetensors");
        let id = write(&catalog, |writer| writer.add_model(&new));
        let row = read(&catalog, |reader| reader.model(id)).expect("there");
        let expected = ModelRow {
            id,
            blob,
            name: new.name,
            model_type: ModelType::Lora,
            base: new.verdict.base,
            sub_type: new.verdict.sub_type,
            precision: new.verdict.precision,
            quantization: None,
            architecture: new.verdict.architecture,
            format: new.format,
            tensor_count: Some(17),
            confidence: 0.85,
            method: new.verdict.method.as_str().to_owned(),
            folders: new.folders,
            creator: new.creator,
            license: new.license,
            tags: vec![label("anime"), label("style")],
            trigger_words: new.verdict.trigger_words,
            added: at(0),
            deleted: false,
            manual: Manual::default(),
            judged_name: None,
        };
        assert_eq!(row, expected);
        let pages = read(&catalog, |reader| Ok((reader.models_after(None, 9)?, reader.models_after(Some(id), 9)?)));
        let blob_row = read(&catalog, |reader| reader.blob(blob)).expect("there");
        assert_eq!(pages, (vec![(expected, blob_row)], Vec::new()));
    }

    #[test]
    fn tags_of_a_page_go_to_their_models() {
        let Store { catalog, folder: _folder } = store();
        let ids = write(&catalog, |writer| (1..=4).map(|number| add(writer, number)).collect::<Result<Vec<_>, _>>());
        write(&catalog, |writer| {
            writer.set_tags(ids[0].1, &[])?;
            writer.set_tags(ids[2].1, &[label("b"), label("a"), label("b")])
        });
        let (page, all) = read(&catalog, |reader| {
            let page = reader.models_after(Some(ids[0].1), 2)?;
            Ok((page, reader.models_after(None, 100)?))
        });
        let tags = |rows: &[(ModelRow, BlobRow)]| -> Vec<String> {
            let words = |tags: &[Label]| tags.iter().map(Label::as_str).collect::<Vec<_>>().join(",");
            rows.iter().map(|(model, _)| words(&model.tags)).collect()
        };
        assert_eq!(tags(&page), ["anime,style", "a,b"]);
        assert_eq!(tags(&all), ["", "anime,style", "a,b", "anime,style"]);
    }

    #[test]
    fn a_new_verdict_replaces_the_old_one_and_its_reasons() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        write(&catalog, |writer| writer.set_evidence(model, &["{\"a\":1}".to_owned(), "{}".to_owned()]));
        assert_eq!(read(&catalog, |reader| reader.evidence(model)), ["{\"a\":1}", "{}"]);
        let new = Verdict { confidence: f32::NAN, ..verdict(ModelType::Vae, None) };
        write(&catalog, |writer| writer.set_verdict(model, &new));
        let (row, evidence) = read(&catalog, |reader| Ok((reader.model(model)?, reader.evidence(model)?)));
        let row = row.expect("there");
        assert_eq!((row.model_type, row.base, row.confidence), (ModelType::Vae, None, 0.0));
        assert!(evidence.is_empty());
    }

    #[test]
    fn one_content_is_one_model() {
        let Store { catalog, folder: _folder } = store();
        let (blob, _) = write(&catalog, |writer| add(writer, 1));
        let error = catalog.write(at(2), |writer| writer.add_model(&new_model(blob, "b.pt"))).expect_err("refused");
        assert_eq!(error.fault().kind, FaultKind::Exists);
        assert_eq!(read(&catalog, |reader| reader.models_of_blob(blob)).len(), 1);
    }

    #[test]
    fn models_are_found_by_name_and_by_any_hash() {
        let Store { catalog, folder: _folder } = store();
        write(&catalog, |writer| (1..=3).try_for_each(|number| add(writer, number).map(drop)));
        let found = |models: Vec<ModelRow>| -> Vec<i64> { models.iter().map(|model| model.id.get()).collect() };
        for (text, expected) in [("model 2.safetensors", 2), ("model 3", 3)] {
            assert_eq!(found(read(&catalog, |reader| reader.models_named(text))), [expected], "{text}");
        }
        let crc32: String = hashes(2).crc32.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = [
            digest(2).to_string(),
            digest(2).prefix(7),
            hashes(2).blake3.prefix(9),
            crc32,
            hashes(2).autov1.expect("set"),
        ];
        for prefix in known {
            assert_eq!(found(read(&catalog, |reader| reader.models_by_hash(&prefix))), [2], "{prefix}");
        }
        assert_eq!(found(read(&catalog, |reader| reader.models_by_hash("0"))), [1, 2, 3]);
        for prefix in ["", "xyz", "0202'", &"0".repeat(65), "fffe02", "020102f30"] {
            assert_eq!(found(read(&catalog, |reader| reader.models_by_hash(prefix))), [0; 0], "{prefix}");
        }
    }

    #[test]
    fn the_trash_hides_a_model_and_gives_it_back() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        let before = snapshot(&catalog);
        write(&catalog, |writer| writer.set_deleted(model, true));
        let (delta, row) = read(&catalog, |reader| Ok((reader.delta_since(before.revision)?, reader.model(model)?)));
        assert_eq!((delta.gone, delta.models.len()), (vec![Occupant::Model(model)], 0));
        assert!(row.expect("kept").deleted && snapshot(&catalog).models.is_empty());
        let query = Query::parse("model").expect("a word");
        let hidden = read(&catalog, |reader| Ok((reader.models_after(None, 9)?, reader.search(&query, 9)?)));
        assert_eq!(hidden, (Vec::new(), Vec::new()));
        write(&catalog, |writer| writer.set_deleted(model, false));
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert_eq!((delta.gone.len(), delta.models), (0, before.models.clone()));
        assert_eq!(snapshot(&catalog).models, before.models);
    }
}
