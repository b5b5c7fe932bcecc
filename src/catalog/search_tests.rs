//! The index against the plain meaning of a query, on catalogs and queries made at random.

use super::fixture::{Store, add, digest, new_blob, new_model, read, store, verdict, write};
use super::ordered::Effort;
use super::{BlobRow, ModelRow, NewBlob, NewModel, OriginRow, Reader, Writer};
use crate::base::{BlobState, EntryName, Label, ModelId, ModelType, Timestamp};
use crate::classify::Verdict;
use crate::query::{Expression, Field, Key, Query, Sort, Subject, matches, matches_by_name};
use crate::tree::{self, BlobEntry, ModelEntry, Source, SourceSet, Target};
use proptest::prelude::*;
use std::cmp::Reverse;

const NS_PER_S: i64 = 1_000_000_000;

/// A model that is held against a query.
struct Candidate<'a> {
    model: &'a ModelRow,
    blob: &'a BlobRow,
    sources: SourceSet,
    descriptions: &'a [String],
    entry: &'a (ModelEntry, BlobEntry),
    targets: &'a [Target],
}

impl Candidate<'_> {
    fn hashes(&self) -> Vec<String> {
        let mut hashes: Vec<String> = self.blob.sha256.iter().map(ToString::to_string).collect();
        if let Some(row) = &self.blob.hashes {
            hashes.extend([row.blake3.to_string(), row.crc32.iter().map(|byte| format!("{byte:02x}")).collect()]);
            hashes.extend(row.autov1.iter().chain(&row.autov3).cloned());
        }
        hashes
    }

    /// Names of the applications that show it.
    fn apps(&self) -> Vec<String> {
        let homes = tree::homes_of_model(&self.entry.0, &self.entry.1, self.targets);
        let names = self.targets.iter().map(|target| target.name.as_str());
        let shows = |name: &&str| homes.iter().any(|home| home.directory.as_str().starts_with(&format!("{name}/")));
        names.filter(shows).map(str::to_owned).collect()
    }
}

impl Subject for Candidate<'_> {
    fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.model.name.as_str()];
        texts.extend(self.model.tags.iter().map(Label::as_str));
        texts.extend(self.model.trigger_words.iter().chain(self.descriptions).map(String::as_str));
        texts.extend(self.model.creator.iter().map(Label::as_str));
        texts
    }

    fn values(&self, key: Key) -> Vec<String> {
        let model = self.model;
        match key {
            Key::Type => vec![model.model_type.as_str().to_owned()],
            Key::Base => model.base.iter().map(ToString::to_string).collect(),
            Key::Format => vec![model.format.clone(), model.name.suffix().trim_start_matches('.').to_owned()],
            Key::Precision => model.precision.iter().chain(&model.quantization).cloned().collect(),
            Key::Source => self.sources.iter().map(|source| source.as_str().to_owned()).collect(),
            Key::Creator => model.creator.iter().map(ToString::to_string).collect(),
            Key::Tag => model.tags.iter().map(ToString::to_string).collect(),
            Key::License => model.license.iter().cloned().collect(),
            Key::State => vec![self.blob.state.as_str().to_owned()],
            Key::Hash => self.hashes(),
            Key::App => self.apps(),
            Key::Nsfw => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        match field {
            Field::Size => Some(self.blob.size_bytes as f64),
            Field::Added | Field::Updated => Some(self.model.added.unix_ns().div_euclid(NS_PER_S) as f64),
            Field::Downloads | Field::Rating => None,
        }
    }
}

/// The answer of the plain meaning: every model held against the query, then sorted.
fn slow_answer(reader: &Reader<'_>, query: &Query) -> Vec<ModelId> {
    let targets: Vec<Target> = reader.targets().expect("read").into_iter().filter(|target| target.enabled).collect();
    let entries = reader.model_entries().expect("read");
    let rows = reader.models_after(None, u32::MAX).expect("read");
    let mut found = Vec::new();
    for ((model, blob), entry) in rows.iter().zip(&entries) {
        assert_eq!(model.id, entry.0.id);
        let descriptions = reader.descriptions(model.id).expect("read");
        let sources = entry.0.sources;
        let candidate = Candidate { model, blob, sources, descriptions: &descriptions, entry, targets: &targets };
        if matches(query, &candidate) {
            found.push((model, blob, matches_by_name(query, &candidate)));
        }
    }
    let name = |model: &ModelRow| model.name.as_str().to_ascii_lowercase();
    found.sort_by_key(|(model, ..)| (name(model), model.id));
    match query.order() {
        Sort::Relevance => found.sort_by_key(|(model, _, by_name)| (Reverse(*by_name), Reverse(model.id))),
        Sort::Size => found.sort_by_key(|(_, blob, _)| Reverse(blob.size_bytes)),
        Sort::Added | Sort::Updated => found.sort_by_key(|(model, ..)| Reverse(model.id)),
        Sort::Name | Sort::Downloads | Sort::Rating | Sort::Likes => {}
    }
    let limit = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).expect("small"));
    found.into_iter().take(limit).map(|(model, ..)| model.id).collect()
}

/// Few pieces that go together in many ways, so that random words find something.
const PIECES: &[&str] =
    &["animagine", "XL", "V3", "Ä", "ß", "ﬁ", "-", "_", " ", "%", "'", "\"", "sdxl", "a", "ab", "日本", "İ", "[", "*"];
const BASES: &[&str] = &["sdxl", "wan2.1", "wan2.1-i2v-14b", "flux1-dev"];
const SUFFIXES: &[&str] = &[".safetensors", ".pt", ".GGUF", ".vae.pt", ".ﬁ", ""];

fn words(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 1..=most).prop_map(|pieces| pieces.concat())
}

fn a_name() -> impl Strategy<Value = EntryName> {
    (words(4), prop::sample::select(SUFFIXES))
        .prop_filter_map("a valid name", |(stem, suffix)| EntryName::new(&format!("{stem}{suffix}")).ok())
}

/// A creator or a tag: also one that is no name.
fn a_label() -> impl Strategy<Value = Label> {
    let between = prop::sample::select(vec!["", "/", "\n", "\0", "%2F"]);
    (words(3), between, words(3))
        .prop_filter_map("short enough", |(one, between, other)| Label::new(&format!("{one}{between}{other}")).ok())
}

type Facts = (EntryName, ModelType, Option<&'static str>, u64, i64, Vec<Label>, Option<Label>, String);

fn facts() -> impl Strategy<Value = Facts> {
    let types = [ModelType::Lora, ModelType::Checkpoint, ModelType::Vae, ModelType::Unknown, ModelType::FaceSwap];
    (
        a_name(),
        prop::sample::select(types.to_vec()),
        prop::option::of(prop::sample::select(BASES)),
        0..5_u64,
        0..4_i64,
        prop::collection::vec(a_label(), 0..3),
        prop::option::of(a_label()),
        words(3),
    )
}

#[derive(Clone, Debug)]
enum Change {
    Delete(usize),
    Tags(usize, Vec<Label>),
    State(usize, BlobState),
    Origin(usize, Source),
    Description(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..12_usize;
    prop_oneof![
        at.clone().prop_map(Change::Delete),
        (at.clone(), prop::collection::vec(a_label(), 0..3)).prop_map(|(at, tags)| Change::Tags(at, tags)),
        (at.clone(), prop::sample::select(BlobState::ALL)).prop_map(|(at, state)| Change::State(at, state)),
        (at.clone(), prop::sample::select(&Source::ALL[..])).prop_map(|(at, source)| Change::Origin(at, source)),
        (at, words(3)).prop_map(|(at, text)| Change::Description(at, text)),
    ]
}

fn fill(writer: &mut Writer<'_>, number: usize, facts: &Facts) -> ModelId {
    let (name, model_type, base, size, day, tags, creator, license) = facts.clone();
    let number = u8::try_from(number).expect("few");
    let blob = writer.add_blob(&NewBlob { size_bytes: size * 1_000_000_000, ..new_blob(number) }).expect("added");
    let mut verdict = verdict(model_type, base);
    verdict.trigger_words = vec![license.clone()];
    let added = Timestamp::from_unix_ns((1_738_281_600 + day * 43_200) * NS_PER_S + 999_999_999);
    let new = NewModel { tags, creator, verdict, added, license: Some(license), ..new_model(blob, name.as_str()) };
    writer.add_model(&new).expect("added")
}

fn alter(writer: &mut Writer<'_>, models: &[ModelId], change: Change) {
    let model = |at: usize| models[at % models.len()];
    let done = match change {
        Change::Delete(at) => writer.set_deleted(model(at), true),
        Change::Tags(at, tags) => writer.set_tags(model(at), &tags),
        Change::State(at, state) => {
            let blob = writer.model(model(at)).expect("read").expect("there").blob;
            writer.set_state(blob, state)
        }
        Change::Origin(at, source) => {
            let blob = writer.model(model(at)).expect("read").expect("there").blob;
            let row = OriginRow { source, repo: "a/b".to_owned(), revision: String::new(), path: "x".to_owned() };
            writer.add_origin(blob, &row)
        }
        Change::Description(at, text) => {
            let sql = "INSERT OR REPLACE INTO model_metadata (model_id, metadata_type, key, value) \
                VALUES (?1, 'hub', 'description', ?2)";
            writer.run(sql, rusqlite::params![model(at).get(), text]).expect("written");
            writer.index_text(model(at))
        }
    };
    done.expect("changed");
}

fn leaf() -> impl Strategy<Value = Expression> {
    let parsed = |text: String| Query::parse(&text).ok().map(|query| query.expression);
    let keys = [Key::Creator, Key::Tag, Key::License, Key::Format, Key::Base];
    prop_oneof![
        4 => words(3).prop_map(Expression::Word),
        2 => words(4).prop_map(Expression::Phrase),
        1 => Just(Expression::Phrase(String::new())),
        2 => (prop::sample::select(keys.to_vec()), prop::collection::vec(words(2), 1..3))
            .prop_map(|(key, values)| Expression::Key { key, values }),
        2 => (prop::sample::select(keys.to_vec()), a_name())
            .prop_map(|(key, name)| Expression::Key { key, values: vec![name.as_str().to_owned()] }),
        8 => prop::sample::select(vec![
            "type:lora", "type:unknown|vae", "base:wan", "base:SDXL", "base:wan2.1-i", "format:safetensors",
            "format:gguf|pt", "precision:FP16", "precision:bf16", "source:local", "source:huggingface|civitai", "source:all",
            "state:resident", "state:remote|partial", "state:failed", "app:comfyui", "app:forge|wan2gp", "app:swarmui",
            "app:a1111", "nsfw:true", "size<2GB", "size>=2GB", "size=3GB", "size>10GB", "added>2025-01-31",
            "added=2025-01-31", "updated<=2025-01", "added<2025", "downloads>3", "rating<2",
        ])
        .prop_filter_map("a query", move |text| parsed(text.to_owned())),
        2 => (0..12_u8, 0..4_usize).prop_map(|(number, kind)| {
            let hashes = super::fixture::hashes(number);
            let crc32: String = hashes.crc32.iter().map(|byte| format!("{byte:02X}")).collect();
            let all = [digest(number).to_string(), digest(number).prefix(10), hashes.blake3.prefix(9), crc32];
            Expression::Key { key: Key::Hash, values: vec![all[kind].clone()] }
        }),
    ]
}

fn queries() -> impl Strategy<Value = Query> {
    let expression = leaf().prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Expression::Not(Box::new(part))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    });
    let sort = prop::option::of(prop::sample::select(Sort::ALL));
    (prop_oneof![9 => expression, 1 => Just(Expression::Everything)], sort, prop::option::of(1..6_u32))
        .prop_map(|(expression, sort, limit)| Query { expression, sort, limit })
}

/// Limits so small that every way of finding the answer is taken.
fn efforts() -> impl Strategy<Value = Effort> {
    let few = || prop::sample::select(vec![0, 1, 3, 100]);
    (few(), few(), few(), prop::sample::select(vec![0, u32::MAX])).prop_map(
        |(sorted_max, judged_max, candidates_max, guessed_max)| Effort {
            sorted_max,
            judged_max,
            candidates_max: u32::try_from(candidates_max).expect("small"),
            guessed_max,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_the_plain_meaning(
        models in prop::collection::vec(facts(), 1..12),
        changes in prop::collection::vec(change(), 0..8),
        queries in prop::collection::vec(queries(), 12),
        effort in efforts(),
    ) {
        let Store { catalog, folder: _folder } = store();
        write(&catalog, |writer| {
            let ids: Vec<ModelId> =
                models.iter().enumerate().map(|(number, facts)| fill(writer, number, facts)).collect();
            changes.into_iter().for_each(|change| alter(writer, &ids, change));
            Ok(())
        });
        for query in queries {
            let (found, expected) =
                read(&catalog, |reader| Ok((reader.search(&query, u32::MAX)?, slow_answer(reader, &query))));
            prop_assert_eq!(&found, &expected, "{}", query);
            let found = read(&catalog, |reader| reader.search_with(&query, u32::MAX, effort));
            prop_assert_eq!(found, expected, "{} with {:?}", query, effort);
        }
    }
}

#[test]
fn parts_of_words_are_found_as_file_names_have_them() {
    let Store { catalog, folder: _folder } = store();
    let blob = write(&catalog, |writer| writer.add_blob(&new_blob(1)));
    let plain = Verdict { trigger_words: Vec::new(), ..verdict(ModelType::Checkpoint, Some("sdxl")) };
    let new = NewModel { verdict: plain, tags: Vec::new(), ..new_model(blob, "animagineXLV3.safetensors") };
    write(&catalog, |writer| writer.add_model(&new));
    for (text, expected) in [
        ("xl v3", 1),
        ("animagine", 1),
        ("anima", 1),
        ("gine", 1),
        ("x", 1),
        ("\"xl v3\"", 0),
        ("v2", 0),
        ("\"; DROP TABLE models; --\"", 0),
        ("NEAR", 0),
        ("a* b^", 0),
    ] {
        let query = Query::parse(text).expect(text);
        assert_eq!(read(&catalog, |reader| reader.search(&query, 9)).len(), expected, "{text}");
    }
}

/// Refinements add up: more than the parser of the index would nest.
#[test]
fn many_negations_are_answered() {
    let Store { catalog, folder: _folder } = store();
    let (_, model) = write(&catalog, |writer| add(writer, 7));
    let words: Vec<String> = (0..400).map(|number| format!("-nowhere{number}")).collect();
    let parse = |words: &[String]| Query::parse(&words.join(" ")).expect("negations");
    let query = words.chunks(10).map(parse).fold(Query::default(), Query::refined_by);
    assert_eq!(read(&catalog, |reader| reader.search(&query, 10)), [model]);
    let none = query.refined_by(Query::parse("-model -size>0").expect("negations"));
    assert_eq!(read(&catalog, |reader| reader.search(&none, 10)), []);
}
