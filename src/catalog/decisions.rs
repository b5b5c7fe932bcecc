//! What people decided about models: type, base and tags by hand.
//!
//! Invariants: a decision is never changed by anything automatic; `models.primary_type`, `models.base` and `tags` hold
//! what is shown, which is the decision where there is one. A verdict that is written later gives way to it
//! (`models`). Not here: what a model is without the decision (`library` judges it again).

use super::cells::Answer;
use super::{CatalogError, Manual, Reader, Writer};
use crate::base::{Label, ModelId};
use rusqlite::params;

impl Reader<'_> {
    /// The tags that nobody gave by hand, in byte order; those that a person took away are among them.
    pub fn automatic_tags(&self, model: ModelId) -> Result<Vec<Label>, CatalogError> {
        let sql = "SELECT model_id, tag FROM automatic_tags WHERE model_id = ?1 ORDER BY tag";
        self.all(sql, [model.get()], "automatic_tags", |cells| cells.label(1))
    }

    /// Tags that a person added or took away, in byte order; the flag says which.
    pub fn tag_decisions(&self, model: ModelId) -> Result<Vec<(Label, bool)>, CatalogError> {
        let sql = "SELECT model_id, tag, is_wanted FROM tag_decisions WHERE model_id = ?1 ORDER BY tag";
        self.all(sql, [model.get()], "tag_decisions", |cells| Ok((cells.label(1)?, cells.flag(2)?)))
    }
}

impl Writer<'_> {
    /// Records type and base by hand; what is `None` is left to the verdict, which must be written after this.
    pub fn set_manual(&mut self, model: ModelId, manual: &Manual) -> Result<(), CatalogError> {
        let sql = "UPDATE models SET manual_type = ?2, manual_base = ?3 WHERE id = ?1";
        let (model_type, base) = (manual.model_type.map(|word| word.as_str()), manual.base.as_ref());
        let values = params![model.get(), model_type, base.map(|word| word.as_str())];
        self.run_on("models", model.get(), sql, values)
    }

    /// Adds and takes away tags by hand.
    pub fn decide_tags(&mut self, model: ModelId, added: &[Label], removed: &[Label]) -> Result<(), CatalogError> {
        let decisions = added.iter().map(|tag| (tag, true)).chain(removed.iter().map(|tag| (tag, false)));
        for (tag, is_wanted) in decisions {
            let sql = "INSERT INTO tag_decisions (model_id, tag, is_wanted) VALUES (?1, ?2, ?3) \
                ON CONFLICT (model_id, tag) DO UPDATE SET is_wanted = excluded.is_wanted";
            self.run(sql, params![model.get(), tag.as_str(), is_wanted])?;
        }
        self.show_tags(model)
    }

    /// Back to the automatic tags.
    pub fn forget_tag_decisions(&mut self, model: ModelId) -> Result<(), CatalogError> {
        self.run("DELETE FROM tag_decisions WHERE model_id = ?1", [model.get()])?;
        self.show_tags(model)
    }

    /// Replaces the automatic tags.
    pub(super) fn replace_automatic_tags(&mut self, model: ModelId, tags: &[Label]) -> Answer<()> {
        self.run("DELETE FROM automatic_tags WHERE model_id = ?1", [model.get()])?;
        for tag in tags {
            let sql = "INSERT INTO automatic_tags (model_id, tag) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.run(sql, params![model.get(), tag.as_str()])?;
        }
        Ok(())
    }

    /// The tags that are to be shown: the automatic ones as far as nobody decided otherwise.
    pub(super) fn wanted_tags(&self, model: ModelId) -> Answer<Vec<Label>> {
        let sql = "SELECT model_id, tag FROM automatic_tags WHERE model_id = ?1 AND tag NOT IN \
            (SELECT tag FROM tag_decisions WHERE model_id = ?1 AND is_wanted = 0) \
            UNION SELECT model_id, tag FROM tag_decisions WHERE model_id = ?1 AND is_wanted = 1 ORDER BY tag";
        self.all(sql, [model.get()], "tags", |cells| cells.label(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, label, read, store, verdict, write};
    use super::*;
    use crate::base::{BaseModel, ModelType};

    #[test]
    fn no_verdict_changes_what_a_person_said() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        let base = BaseModel::parse("sdxl").expect("valid");
        let manual = Manual { model_type: Some(ModelType::Embedding), base: Some(base.clone()) };
        let automatic = verdict(ModelType::Vae, None);
        write(&catalog, |writer| {
            writer.set_manual(model, &manual)?;
            writer.set_verdict(model, &automatic)
        });
        let row = read(&catalog, |reader| reader.model(model)).expect("there");
        assert_eq!((row.model_type, row.base, row.method.as_str()), (ModelType::Embedding, Some(base), "manual"));
        assert_eq!((row.confidence, row.sub_type, row.manual), (1.0, None, manual));
        write(&catalog, |writer| {
            writer.set_manual(model, &Manual::default())?;
            writer.set_verdict(model, &automatic)
        });
        let row = read(&catalog, |reader| reader.model(model)).expect("there");
        assert_eq!((row.model_type, row.base), (ModelType::Vae, None));
        assert_eq!(row.method, automatic.method.as_str());
    }

    #[test]
    fn tags_by_hand_outlive_the_automatic_ones() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 1));
        let tags = |expected: &[&str]| {
            let row = read(&catalog, |reader| reader.model(model)).expect("there");
            assert_eq!(row.tags.iter().map(Label::as_str).collect::<Vec<_>>(), expected);
        };
        tags(&["anime", "style"]);
        write(&catalog, |writer| writer.decide_tags(model, &[label("mine")], &[label("anime")]));
        tags(&["mine", "style"]);
        write(&catalog, |writer| writer.set_tags(model, &[label("anime"), label("new")]));
        tags(&["mine", "new"]);
        write(&catalog, |writer| writer.decide_tags(model, &[label("anime")], &[label("mine")]));
        tags(&["anime", "new"]);
        write(&catalog, |writer| writer.forget_tag_decisions(model));
        tags(&["anime", "new"]);
        assert!(read(&catalog, |reader| reader.tag_decisions(model)).is_empty());
    }
}
