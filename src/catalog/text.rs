//! The full-text index: one document of tokens per model, and the tokens that find it.
//!
//! Tokens are hex digits, so that no text of a user means anything to SQLite. A folded text gives its runs of three
//! letters in order (a longer text is found as a phrase of them), then its runs of two and of one. A value of a key gives
//! one token that begins with the letter of the key. Invariant: the index has a row for each model that is not in the
//! trash, brought up to date in the transaction that changes it. Not here: queries (`search`).

use super::cells::Answer;
use super::{ModelRow, Writer};
use crate::base::ModelId;
use crate::query::{Key, folded};
use crate::tree::SourceSet;
use rusqlite::params;
use std::collections::BTreeSet;

/// Stands between texts, so that no phrase reaches from one into the next.
const GAP: &str = "0";
/// Every document has it: the document that answers to nothing else.
const EVERY: &str = "e";

/// No document has it.
const NONE: &str = "none";
/// What names are made of, the most common first; what is not here is rarer.
const COMMON: &str = "etaoinsrl_-. dcmuhpgfbvwykx0123456789zjq";

/// The letter that tokens of a key begin with; nothing for what is not in the index.
const fn letter(key: Key) -> Option<char> {
    match key {
        Key::Type => Some('t'),
        Key::Base => Some('b'),
        Key::Format => Some('f'),
        Key::Precision => Some('p'),
        Key::Source => Some('o'),
        Key::Creator => Some('c'),
        Key::Tag => Some('g'),
        Key::License => Some('l'),
        Key::State | Key::Hash | Key::App | Key::Nsfw => None,
    }
}

/// Where a text is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Columns {
    Name,
    All,
}

/// How much of a value is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    Whole,
    Start,
}

/// The full-text expression that finds every model.
pub(super) fn every() -> String {
    format!("facets : \"{EVERY}\"")
}

/// The full-text expression that finds none.
pub(super) fn none() -> String {
    format!("facets : \"{NONE}\"")
}

/// The full-text expression that finds a text anywhere in the columns.
pub(super) fn containing(text: &str, columns: Columns) -> String {
    let letters: Vec<char> = folded(text).chars().collect();
    if letters.is_empty() {
        return every();
    }
    let length = letters.len().min(3);
    let tokens: Vec<String> = letters.windows(length).map(gram).collect();
    let columns = match columns {
        Columns::Name => "name",
        Columns::All => "{name words}",
    };
    format!("{columns} : \"{}\"", tokens.join(" "))
}

/// The full-text expression of the one run of letters in a text that is likely to tell most: what contains the text
/// answers to it, and more may.
pub(super) fn near(text: &str, columns: Columns) -> String {
    let letters: Vec<char> = folded(text).chars().collect();
    let runs = letters.windows(letters.len().clamp(1, 3));
    match runs.max_by_key(|run| run.iter().map(|letter| rarity(*letter)).sum::<usize>()) {
        Some(run) => containing(&run.iter().collect::<String>(), columns),
        None => every(),
    }
}

/// How seldom a letter is met in names.
fn rarity(letter: char) -> usize {
    COMMON.find(letter).unwrap_or(COMMON.len())
}

/// The full-text expression that finds a value of a key; nothing for a key that is not in the index.
pub(super) fn having(key: Key, value: &str, extent: Extent) -> Option<String> {
    let token = facet(letter(key)?, value);
    let star = if extent == Extent::Start { " *" } else { "" };
    Some(format!("facets : \"{token}\"{star}"))
}

fn push_hex(bytes: &[u8], token: &mut String) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            token.extend(char::from_digit(digit.into(), 16));
        }
    }
}

/// One to three letters; the number of them begins the token.
fn gram(letters: &[char]) -> String {
    let mut token = letters.len().to_string();
    for letter in letters {
        push_hex(letter.encode_utf8(&mut [0; 4]).as_bytes(), &mut token);
    }
    token
}

fn facet(letter: char, value: &str) -> String {
    let mut token = String::from(letter);
    push_hex(folded(value).as_bytes(), &mut token);
    token
}

/// Adds the tokens of one text.
fn push_text(text: &str, document: &mut String) {
    let letters: Vec<char> = folded(text).chars().collect();
    let runs: Vec<String> = letters.windows(3).map(gram).collect();
    let short: BTreeSet<String> = letters.windows(2).chain(letters.windows(1)).map(gram).collect();
    for token in runs.iter().map(String::as_str).chain([GAP]).chain(short.iter().map(String::as_str)).chain([GAP]) {
        document.push_str(token);
        document.push(' ');
    }
}

fn facets(model: &ModelRow, sources: SourceSet) -> String {
    let mut tokens = vec![EVERY.to_owned()];
    let mut add = |key: Key, value: &str| tokens.extend(letter(key).map(|letter| facet(letter, value)));
    add(Key::Type, model.model_type.as_str());
    model.base.iter().for_each(|base| add(Key::Base, base.as_str()));
    add(Key::Format, &model.format);
    add(Key::Format, model.name.suffix().trim_start_matches('.'));
    model.precision.iter().chain(&model.quantization).for_each(|precision| add(Key::Precision, precision));
    sources.iter().for_each(|source| add(Key::Source, source.as_str()));
    model.creator.iter().for_each(|creator| add(Key::Creator, creator.as_str()));
    model.tags.iter().for_each(|tag| add(Key::Tag, tag.as_str()));
    model.license.iter().for_each(|license| add(Key::License, license));
    tokens.join(" ")
}

impl Writer<'_> {
    /// Brings the index up to what the tables say about a model.
    pub(super) fn index_text(&mut self, model: ModelId) -> Answer<()> {
        self.forget_text(model)?;
        self.index_new_text(model)
    }

    pub(super) fn forget_text(&mut self, model: ModelId) -> Answer<()> {
        self.run("DELETE FROM model_index WHERE rowid = ?1", [model.get()]).map(drop)
    }

    /// As `index_text`, for a model that is not in the index.
    pub(super) fn index_new_text(&mut self, model: ModelId) -> Answer<()> {
        let Some(row) = self.model(model)?.filter(|row| !row.deleted) else { return Ok(()) };
        let sql = "SELECT id, sources FROM models WHERE id = ?1";
        let sources = self.first(sql, [model.get()], "models", |cells| cells.sources(1))?.unwrap_or_default();
        let mut name = String::new();
        push_text(row.name.as_str(), &mut name);
        let mut words = String::new();
        row.tags.iter().for_each(|tag| push_text(tag.as_str(), &mut words));
        row.trigger_words.iter().for_each(|trigger| push_text(trigger, &mut words));
        self.descriptions(model)?.iter().for_each(|text| push_text(text, &mut words));
        row.creator.iter().for_each(|creator| push_text(creator.as_str(), &mut words));
        let sql = "INSERT INTO model_index (rowid, name, words, facets) VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, params![model.get(), name, words, facets(&row, sources)]).map(drop)
    }

    /// Every model anew.
    pub(super) fn index_all(&mut self) -> Answer<()> {
        self.run("INSERT INTO model_index (model_index) VALUES ('delete-all')", [])?;
        let sql = "SELECT id FROM models WHERE deleted = 0 ORDER BY id";
        let models = self.all(sql, [], "models", |cells| cells.integer(0).map(ModelId::new))?;
        models.into_iter().try_for_each(|model| self.index_new_text(model))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Store, add, label, read, store, verdict, write};
    use crate::base::ModelType;
    use crate::classify::Verdict;
    use crate::query::Query;

    #[test]
    fn the_index_follows_the_tables() {
        let Store { catalog, folder: _folder } = store();
        let (_, model) = write(&catalog, |writer| add(writer, 7));
        write(&catalog, |writer| writer.set_tags(model, &[label("anime"), label("Ära")]));
        let finds = |text: &str| {
            let query = Query::parse(text).expect(text);
            !read(&catalog, |reader| reader.search(&query, 10)).is_empty()
        };
        let before = [
            ("odel safe", true),
            ("\"ODEL 7\"", true),
            ("anime", true),
            ("stripe", true),
            ("ana", true),
            ("an", true),
            ("7", true),
            ("ZE", true),
            ("[", false),
            ("Ä", true),
            ("ÄRA", true),
            ("\"\\\"quoted\\\" one\"", true),
            ("\"zebra AND stripe\"", false),
            ("\"name:model\"", false),
            ("nowhere", false),
            ("%", false),
            ("\"anime a\"", false),
            ("tag:anim", false),
            ("tag:ÄRA", true),
            ("license:mi", true),
            ("base:sd", true),
            ("type:lora", true),
            ("-type:lora", false),
        ];
        for (text, expected) in before {
            assert_eq!(finds(text), expected, "{text}");
        }
        let quiet = Verdict { trigger_words: Vec::new(), ..verdict(ModelType::Lora, None) };
        write(&catalog, |writer| {
            writer.set_tags(model, &[label("landscape")])?;
            writer.set_verdict(model, &quiet)
        });
        for (text, expected) in [("anime", false), ("stripe", false), ("landscape", true), ("\"model 7\"", true)] {
            assert_eq!(finds(text), expected, "{text}");
        }
    }
}
