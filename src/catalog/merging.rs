//! Two rows that turned out to be one content: everything that led to the one leads to the other.
//!
//! Happens when a file without a published hash has arrived and its bytes are known already. Invariants: no row is left
//! that names the content that is gone, but one that leads from it to the other; what a person decided about either stays, and what hubs told about either; what
//! was shown is not in the trash afterwards. Not here: directory times, which the library changes with it.

use super::cells::Answer;
use super::{CatalogError, Manual, ModelRow, Writer};
use crate::base::{BlobId, ModelId};
use crate::tree::Occupant;
use rusqlite::params;

impl Writer<'_> {
    /// Gives every file of a bundle, origin, import and model of `from` to `into` and removes `from`. Where `into` is a
    /// model of its own already, that one stays and the other model is gone.
    pub fn merge_blob(&mut self, from: BlobId, into: BlobId) -> Result<(), CatalogError> {
        let revision = self.stamp()?;
        let moved = params![from.get(), into.get()];
        let sql =
            "UPDATE bundles SET revision = ?2 WHERE id IN (SELECT bundle_id FROM bundle_files WHERE blob_id = ?1)";
        self.run(sql, params![from.get(), revision])?;
        self.run("UPDATE bundle_files SET blob_id = ?2 WHERE blob_id = ?1", moved)?;
        for origin in self.origins(from)? {
            self.add_origin(into, &origin)?;
        }
        self.run("UPDATE imports SET blob_id = ?2 WHERE blob_id = ?1", moved)?;
        // A content that was pinned under either row stays pinned.
        if self.is_pinned(from)? {
            self.set_pinned(into, true)?;
        }
        if self.blob(from)?.is_some_and(|row| row.trusted) {
            self.set_trusted(into, true)?;
        }
        let stays = self.models_of_blob(into)?.pop();
        for model in self.models_of_blob(from)? {
            if let Some(stays) = &stays {
                self.take_over_decisions(&model, stays)?;
                self.take_over_facts(&model, stays)?;
                // Nobody took away the one that is shown.
                if !model.deleted {
                    self.set_deleted(stays.id, false)?;
                }
                self.remove_model(model.id)?;
            } else {
                let sql = "UPDATE models SET blob_id = ?2, revision = ?3, file_hash = \
                    (SELECT lower(hex(sha256)) FROM blobs WHERE id = ?2) WHERE id = ?1";
                self.run_on("models", model.id.get(), sql, params![model.id.get(), into.get(), revision])?;
            }
        }
        self.take_over_answers(from, into)?;
        self.lead_on(from, into, revision)?;
        self.run_on("blobs", from.get(), "DELETE FROM blobs WHERE id = ?1", [from.get()])
    }

    /// Whoever still has the number that is gone, or one that had become it, finds the other by it.
    fn lead_on(&mut self, from: BlobId, into: BlobId, revision: i64) -> Answer<()> {
        let led = params![from.get(), into.get(), revision];
        self.run("UPDATE merged_blobs SET into_id = ?2, revision = ?3 WHERE into_id = ?1", led)?;
        self.run("INSERT INTO merged_blobs (from_id, into_id, revision) VALUES (?1, ?2, ?3)", led).map(drop)
    }

    /// What hubs said about either: an answer that was good is never replaced by none.
    fn take_over_answers(&mut self, from: BlobId, into: BlobId) -> Answer<()> {
        let sql = "UPDATE OR REPLACE enrichments SET blob_id = ?2 WHERE blob_id = ?1 AND (is_known = 1 \
            OR source NOT IN (SELECT source FROM enrichments WHERE blob_id = ?2)) \
            AND source NOT IN (SELECT source FROM enrichments WHERE blob_id = ?2 AND is_known = 1)";
        self.run(sql, [from.get(), into.get()]).map(drop)
    }

    /// What hubs told about the one that goes, of hubs that do not know the one that stays.
    fn take_over_facts(&mut self, goes: &ModelRow, stays: &ModelRow) -> Answer<()> {
        let sql = "INSERT OR REPLACE INTO model_metadata (model_id, metadata_type, key, value) \
            SELECT ?2, metadata_type, key, value FROM model_metadata WHERE model_id = ?1 AND metadata_type NOT IN \
            (SELECT source FROM enrichments WHERE blob_id = ?3 AND is_known = 1) ORDER BY id";
        self.run(sql, [goes.id.get(), stays.id.get(), stays.blob.get()])?;
        self.index_text(stays.id)
    }

    /// What was decided about the one that goes counts where nothing was decided about the one that stays.
    fn take_over_decisions(&mut self, goes: &ModelRow, stays: &ModelRow) -> Answer<()> {
        let sql = "INSERT OR IGNORE INTO tag_decisions (model_id, tag, is_wanted) \
            SELECT ?2, tag, is_wanted FROM tag_decisions WHERE model_id = ?1";
        self.run(sql, [goes.id.get(), stays.id.get()])?;
        self.show_tags(stays.id)?;
        self.take_over_homes(goes.id, stays.id)?;
        let manual = Manual {
            model_type: stays.manual.model_type.or(goes.manual.model_type),
            base: stays.manual.base.clone().or_else(|| goes.manual.base.clone()),
        };
        if manual == stays.manual {
            return Ok(());
        }
        self.set_manual(stays.id, &manual)?;
        let sql = "UPDATE models SET sub_type = iif(ifnull(manual_type, primary_type) = primary_type, sub_type, NULL), \
            primary_type = ifnull(manual_type, primary_type), base = ifnull(manual_base, base), \
            confidence = iif(manual_type IS NULL, confidence, 1.0), \
            classification_method = iif(manual_type IS NULL, classification_method, 'manual') WHERE id = ?1";
        self.run_on("models", stays.id.get(), sql, [stays.id.get()])?;
        self.mark_changed(stays.id)
    }

    fn remove_model(&mut self, model: ModelId) -> Answer<()> {
        self.note_gone(Occupant::Model(model), true)?;
        self.forget_text(model)?;
        self.run("DELETE FROM placements WHERE occupant_kind = 0 AND occupant_id = ?1", [model.get()])?;
        self.run_on("models", model.get(), "DELETE FROM models WHERE id = ?1", [model.get()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::OriginRow;
    use super::super::fixture::{
        Store, label, name, new_blob, new_model, path, read, remote_blob, snapshot, store, write,
    };
    use super::*;
    use crate::base::ModelType;
    use crate::tree::Source;

    #[test]
    fn what_hubs_told_and_people_trusted_is_not_lost() {
        let Store { catalog, folder: _folder } = store();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        // Where there is a model of the other row already, and where there is none.
        for (number, has_model) in [(10, true), (20, false)] {
            let (from, into, stays) = write(&catalog, |writer| {
                let from = writer.add_blob(&remote_blob(number))?;
                let goes = writer.add_model(&new_model(from, &format!("{number} goes.safetensors")))?;
                let into = writer.add_blob(&new_blob(number + 1))?;
                let stays = match has_model {
                    true => writer.add_model(&new_model(into, &format!("{number} stays.safetensors")))?,
                    false => goes,
                };
                writer.set_trusted(from, true)?;
                let archive = writer.archive_answer(Source::HuggingFace, "org/one", "{}")?;
                writer.set_known(from, Source::HuggingFace, ("org/one", "a"), archive)?;
                writer.set_facts(goes, "huggingface", &[pair("description", "walrus parade")])?;
                writer.set_unknown(into, Source::HuggingFace, false)?;
                writer.set_unknown(from, Source::Civitai, false)?;
                let archive = writer.archive_answer(Source::Civitai, "7", "{}")?;
                writer.set_known(into, Source::Civitai, ("7", "8"), archive)?;
                writer.set_facts(stays, "civitai", &[pair("name", "Sunlit")])?;
                Ok((from, into, stays))
            });
            write(&catalog, |writer| writer.merge_blob(from, into));
            let row = read(&catalog, |reader| reader.blob(into)).expect("it stays");
            assert!(row.trusted, "has a model: {has_model}");
            let answers = read(&catalog, |reader| reader.answers(into));
            let answers: Vec<(bool, &str)> = answers.iter().map(|it| (it.is_known, it.repo.as_str())).collect();
            assert_eq!(answers, [(true, "7"), (true, "org/one")], "has a model: {has_model}");
            let facts = |heading: &str| read(&catalog, |reader| reader.facts(stays, heading));
            assert_eq!(facts("huggingface"), [pair("description", "walrus parade")]);
            assert_eq!(facts("civitai"), [pair("name", "Sunlit")]);
            if has_model {
                let query = crate::query::Query::parse("walrus").expect("a word");
                assert_eq!(read(&catalog, |reader| reader.search(&query, 9)), [stays], "it is found by that");
            }
        }
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_is_gone_leads_to_what_it_became() {
        let Store { catalog, folder: _folder } = store();
        let [one, two, three] = write(&catalog, |writer| {
            Ok([writer.add_blob(&remote_blob(1))?, writer.add_blob(&remote_blob(2))?, writer.add_blob(&new_blob(3))?])
        });
        let before = snapshot(&catalog);
        write(&catalog, |writer| writer.merge_blob(one, two));
        write(&catalog, |writer| writer.merge_blob(two, three));
        for (number, expected) in
            [(one, Some(three)), (two, Some(three)), (three, Some(three)), (BlobId::new(99), None)]
        {
            let found = read(&catalog, |reader| reader.current_blob(number)).map(|row| row.id);
            assert_eq!(found, expected, "{number}");
        }
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert_eq!(delta.merged, [(one, three), (two, three)]);
        assert_eq!(snapshot(&catalog).merged, delta.merged);
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
    }

    #[test]
    fn what_is_shown_does_not_vanish_into_the_trash() {
        let Store { catalog, folder: _folder } = store();
        // In the trash: the one that goes, the one that stays.
        for (number, trash, expected) in
            [(10, [false, true], false), (20, [true, false], false), (30, [true, true], true)]
        {
            let (from, into, stays) = write(&catalog, |writer| {
                let from = writer.add_blob(&remote_blob(number))?;
                let goes = writer.add_model(&new_model(from, &format!("{number} goes.safetensors")))?;
                let into = writer.add_blob(&new_blob(number + 1))?;
                let stays = writer.add_model(&new_model(into, &format!("{number} stays.safetensors")))?;
                writer.set_deleted(goes, trash[0])?;
                writer.set_deleted(stays, trash[1])?;
                Ok((from, into, stays))
            });
            write(&catalog, |writer| writer.merge_blob(from, into));
            let row = read(&catalog, |reader| reader.model(stays)).expect("it stays");
            assert_eq!(row.deleted, expected, "{trash:?}");
        }
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
    }

    #[test]
    fn the_one_that_stays_has_the_places_and_the_decisions_of_both() {
        let Store { catalog, folder: _folder } = store();
        let place = |repo: &str| OriginRow {
            source: Source::HuggingFace,
            repo: repo.to_owned(),
            revision: "a".to_owned(),
            path: "x.safetensors".to_owned(),
        };
        let (from, into, stays) = write(&catalog, |writer| {
            let from = writer.add_blob(&remote_blob(1))?;
            writer.add_origin(from, &place("org/one"))?;
            let goes = writer.add_model(&new_model(from, "one.safetensors"))?;
            writer.set_manual(goes, &Manual { model_type: Some(ModelType::Vae), base: None })?;
            writer.decide_tags(goes, &[label("mine")], &[label("style")])?;
            writer.choose_home(goes, &path("comfyui/vae"), &name("chosen.safetensors"), None)?;
            let into = writer.add_blob(&new_blob(2))?;
            let stays = writer.add_model(&new_model(into, "two.safetensors"))?;
            writer.decide_tags(stays, &[label("style")], &[])?;
            Ok((from, into, stays))
        });
        let before = snapshot(&catalog);
        write(&catalog, |writer| writer.merge_blob(from, into));
        let (row, origins) = read(&catalog, |reader| Ok((reader.model(stays)?, reader.origins(into)?)));
        let row = row.expect("it stays");
        assert_eq!((row.model_type, row.method.as_str(), row.sub_type), (ModelType::Vae, "manual", None));
        assert_eq!(row.tags, [label("anime"), label("mine"), label("style")]);
        assert_eq!(origins, [place("org/one")]);
        let delta = read(&catalog, |reader| reader.delta_since(before.revision));
        assert!(delta.blobs.iter().any(|blob| blob.id == into), "its places are others now");
        let [model] = &delta.models[..] else { panic!("one model changed: {:?}", delta.models) };
        assert!(model.id == stays && model.sources.contains(Source::HuggingFace), "{model:?}");
        assert_eq!(model.also[..], [path("comfyui/vae")]);
        assert!(delta.placements.iter().any(|row| row.name == name("chosen.safetensors")), "{:?}", delta.placements);
        assert_eq!(delta.gone.len(), 1);
        assert_eq!(catalog.check().expect("a check"), Vec::<String>::new());
    }
}
