//! Full text: which models have these letters in their name, tags, trigger words, description or creator.
//!
//! Invariant: the index has a row for each model that is not in the trash. Not here: the search grammar (`query`).

use super::cells::Answer;
use super::{CatalogError, Reader, Writer};
use crate::base::ModelId;
use rusqlite::params;

/// The index knows runs of three letters; shorter words are looked for one by one.
const TRIGRAM_LETTERS: usize = 3;

impl Reader<'_> {
    /// Models with this text anywhere in their words, in any case; in order of id, at most `limit`.
    pub fn models_with_text(&self, text: &str, limit: u32) -> Result<Vec<ModelId>, CatalogError> {
        if text.chars().count() >= TRIGRAM_LETTERS {
            let phrase = format!("\"{}\"", text.replace('"', "\"\""));
            let sql = "SELECT rowid FROM model_text WHERE model_text MATCH ?1 ORDER BY rowid LIMIT ?2";
            return self.all(sql, params![phrase, limit], "model_text", |cells| cells.integer(0).map(ModelId::new));
        }
        let sql = "SELECT id FROM models WHERE deleted = 0 AND (instr(lower(filename), ?1) > 0 \
            OR instr(lower(coalesce(creator, '')), ?1) > 0 \
            OR EXISTS (SELECT 1 FROM json_each(triggers) WHERE instr(lower(value), ?1) > 0) \
            OR EXISTS (SELECT 1 FROM tags WHERE model_id = models.id AND instr(lower(tag), ?1) > 0)) \
            ORDER BY id LIMIT ?2";
        // `lower` of SQLite knows the letters of ASCII only.
        let lower = text.to_ascii_lowercase();
        self.all(sql, params![lower, limit], "models", |cells| cells.integer(0).map(ModelId::new))
    }
}

impl Writer<'_> {
    /// Brings the index up to what the tables say about a model.
    pub(super) fn index_text(&mut self, model: ModelId) -> Answer<()> {
        self.run("DELETE FROM model_text WHERE rowid = ?1", [model.get()])?;
        let sql = "INSERT INTO model_text (rowid, name, tags, triggers, description, creator) SELECT id, filename, \
            (SELECT group_concat(tag, char(10)) FROM tags WHERE model_id = models.id), \
            (SELECT group_concat(value, char(10)) FROM json_each(triggers)), \
            (SELECT group_concat(value, char(10)) FROM model_metadata WHERE model_id = models.id \
                AND key = 'description'), creator FROM models WHERE id = ?1 AND deleted = 0";
        self.run(sql, [model.get()]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, name, read, store, verdict, write};
    use crate::base::ModelType;
    use crate::classify::Verdict;

    #[test]
    fn the_index_follows_the_tables() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 7));
        write(&catalog, |writer| writer.set_tags(model, &[name("anime"), name("Ära")]));
        let finds = |text: &str| !read(&catalog, |reader| reader.models_with_text(text, 10)).is_empty();
        let before = [
            ("odel 7.safe", true),
            ("ODEL 7", true),
            ("anime", true),
            ("stripe", true),
            ("ana", true),
            ("an", true),
            ("7", true),
            ("ZE", true),
            ("[", false),
            ("Ä", true),
            ("\"quoted\" one", true),
            ("zebra AND stripe", false),
            ("name:model", false),
            ("nowhere", false),
            ("%", false),
        ];
        for (text, expected) in before {
            assert_eq!(finds(text), expected, "{text}");
        }
        let quiet = Verdict { trigger_words: Vec::new(), ..verdict(ModelType::Lora, None) };
        write(&catalog, |writer| {
            writer.set_tags(model, &[name("landscape")])?;
            writer.set_verdict(model, &quiet)
        });
        for (text, expected) in [("anime", false), ("stripe", false), ("landscape", true), ("model 7", true)] {
            assert_eq!(finds(text), expected, "{text}");
        }
    }
}
