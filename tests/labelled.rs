//! The rules against the labelled set: every type and base, in the forms in which people have them.

mod support;

use modelfs::base::{BaseModel, ModelType};
use modelfs::classify::{Evidence, Part, Rules, Verdict, builtin_text, classify, classify_bundle};
use modelfs::formats::{ByteSource as _, read_header};
use modelfs::store::FileSource;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use support::labelled::{self, Content, Inner, Labelled};

/// What must be reached, of a hundred.
const TYPES_RIGHT_MIN: f64 = 99.0;
const BASES_RIGHT_MIN: f64 = 97.0;
/// From here on an answer is called confident.
const CONFIDENT: f32 = 0.8;
/// Edges of the table that compares what was stated with what was right.
const BINS: &[f32] = &[0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01];
/// How much less than stated may be right where there are enough answers to tell.
const SHORTFALL_MAX: f64 = 0.05;
const BIN_ANSWERS_MIN: usize = 20;

/// Made once for all tests.
static MODELS: LazyLock<Vec<Labelled>> = LazyLock::new(labelled::all);

struct Outcome {
    model: &'static Labelled,
    verdict: Verdict,
    type_right: bool,
    /// Absent where the set does not ask for it.
    base_right: Option<bool>,
}

fn judge(model: &Labelled) -> Verdict {
    let mut folders: Vec<String> = model.path.split('/').skip(1).map(str::to_owned).collect();
    let name = folders.pop().expect("a path");
    // The folders that only sort the set are none that a user would have.
    let folders: Vec<String> = folders.pop().into_iter().filter(|folder| is_place(folder)).collect();
    match &model.content {
        Content::File(file) => {
            let header = read_header(file).unwrap_or_else(|error| panic!("{}: {error}", model.path));
            let evidence = Evidence {
                header: Some(&header),
                file_name: &name,
                folders: &folders,
                size_bytes: file.size_bytes,
                hub: &[],
            };
            classify(Rules::builtin(), &evidence)
        }
        Content::Folder(parts) => {
            let headers: Vec<_> = parts
                .iter()
                .map(|(_, part)| match part {
                    Inner::Weights(file) => Some((read_header(file).expect("whole"), file.size_bytes)),
                    Inner::Text(_) => None,
                })
                .collect();
            let parts: Vec<Part<'_>> = parts
                .iter()
                .zip(&headers)
                .map(|((path, part), header)| Part {
                    path,
                    size_bytes: header.as_ref().map_or(100, |(_, size_bytes)| *size_bytes),
                    header: header.as_ref().map(|(header, _)| header),
                    json: match part {
                        Inner::Text(text) => Some(text),
                        Inner::Weights(_) => None,
                    },
                })
                .collect();
            classify_bundle(Rules::builtin(), &parts, &name, &folders)
        }
    }
}

/// Whether a folder of the set is one in which an application or a hub keeps such files.
fn is_place(folder: &str) -> bool {
    ["text_encoders", "clip", "fooocus_expansion", "buffalo_l", "antelopev2"].contains(&folder)
}

/// Base → base it is a kind of, as the rules have it.
fn parents() -> BTreeMap<String, String> {
    let rules: toml::Table = toml::from_str(&builtin_text()).expect("the shipped rules");
    let bases = rules["bases"].as_table().expect("a table").iter();
    bases.map(|(child, parent)| (child.clone(), parent.as_str().expect("a word").to_owned())).collect()
}

/// On every core: there are thousands.
fn outcomes() -> Vec<Outcome> {
    let parents = &parents();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let pieces: Vec<&'static [Labelled]> = MODELS.chunks(MODELS.len().div_ceil(workers)).collect();
    thread::scope(|scope| {
        let started: Vec<_> = pieces
            .into_iter()
            .map(|models| scope.spawn(move || models.iter().map(|model| outcome(model, parents)).collect::<Vec<_>>()))
            .collect();
        started.into_iter().flat_map(|one| one.join().expect("judging does not fail")).collect()
    })
}

fn outcome(model: &'static Labelled, parents: &BTreeMap<String, String>) -> Outcome {
    let verdict = judge(model);
    let type_right = verdict.model_type.as_str() == model.model_type;
    let base_right = (model.base != "?").then(|| {
        let mut base = verdict.base.as_ref().map(BaseModel::as_str);
        while let Some(word) = base.filter(|word| **word != *model.base) {
            base = parents.get(word).map(String::as_str);
        }
        base.is_some()
    });
    Outcome { model, verdict, type_right, base_right }
}

fn share(right: usize, all: usize) -> f64 {
    100.0 * right as f64 / all.max(1) as f64
}

/// A line for every answer that is not right, and the sums.
fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for one in outcomes.iter().filter(|one| !one.type_right || one.base_right == Some(false)) {
        let (model, verdict) = (one.model, &one.verdict);
        let base = verdict.base.as_ref().map_or("-", BaseModel::as_str);
        let wanted = format!("{} {}", model.model_type, model.base);
        let answer = format!("{} {base}", verdict.model_type);
        writeln!(text, "{:<76} {wanted:<34} {answer:<34} {:.2}", model.path, verdict.confidence).expect("in memory");
    }
    writeln!(text, "\nstated      answers  right (type and, where it is asked for, base)").expect("in memory");
    for (low, high, all, right, _) in bins(outcomes) {
        writeln!(text, "{low:.2}-{high:.2} {all:>9}  {:.1} %", share(right, all)).expect("in memory");
    }
    text
}

/// Edges, answers, right ones, and the mean of what was stated.
fn bins(outcomes: &[Outcome]) -> Vec<(f32, f32, usize, usize, f64)> {
    let known: Vec<&Outcome> = outcomes.iter().filter(|one| one.verdict.model_type != ModelType::Unknown).collect();
    BINS.windows(2)
        .map(|edges| {
            let inside: Vec<_> =
                known.iter().filter(|one| (edges[0]..edges[1]).contains(&one.verdict.confidence)).collect();
            let right = inside.iter().filter(|one| one.type_right && one.base_right != Some(false)).count();
            let stated: f64 = inside.iter().map(|one| f64::from(one.verdict.confidence)).sum();
            (edges[0], edges[1], inside.len(), right, stated / inside.len().max(1) as f64)
        })
        .collect()
}

#[test]
fn types_and_bases_are_told() {
    let outcomes = outcomes();
    assert!(outcomes.len() > 2_000, "only {} models", outcomes.len());
    let types = share(outcomes.iter().filter(|one| one.type_right).count(), outcomes.len());
    let asked: Vec<bool> = outcomes.iter().filter_map(|one| one.base_right).collect();
    let bases = share(asked.iter().filter(|right| **right).count(), asked.len());
    let confident = |one: &&Outcome| {
        let wrong = !one.type_right || (one.base_right == Some(false) && one.verdict.base.is_some());
        wrong && one.verdict.confidence >= CONFIDENT && one.verdict.model_type != ModelType::Unknown
    };
    let confident = outcomes.iter().filter(confident).count();
    let text = table(&outcomes);
    let sums = format!(
        "{} models: types right {types:.2} %, bases right {bases:.2} % of {}, confident and wrong {confident}",
        outcomes.len(),
        asked.len()
    );
    assert!(types >= TYPES_RIGHT_MIN && bases >= BASES_RIGHT_MIN && confident == 0, "{text}\n{sums}");
    // What is stated is reached.
    for (low, high, all, right, stated) in bins(&outcomes).into_iter().filter(|bin| bin.2 >= BIN_ANSWERS_MIN) {
        let reached = right as f64 / all as f64;
        assert!(
            reached >= stated - SHORTFALL_MAX,
            "{low:.2}-{high:.2}: stated {stated:.2}, right {reached:.2}\n{text}"
        );
    }
}

#[test]
fn every_type_and_base_of_the_rules_is_in_the_set() {
    let models = &*MODELS;
    let types: BTreeSet<&str> = models.iter().map(|model| model.model_type.as_str()).collect();
    for word in &types {
        ModelType::parse(word).expect("a word of the application folders");
    }
    // Settings are no model: no file of tensors is one.
    let missing: Vec<&str> = ModelType::ALL
        .iter()
        .map(|known| known.as_str())
        .filter(|word| !types.contains(word) && *word != "config")
        .collect();
    assert!(missing.is_empty(), "no model of {missing:?}");
    let parents = parents();
    let mut bases: BTreeSet<&str> = models.iter().map(|model| model.base.as_str()).collect();
    for base in bases.clone() {
        let mut word = base;
        while let Some(parent) = parents.get(word) {
            bases.insert(parent);
            word = parent;
        }
    }
    // What only names, metadata and hubs tell is tested with the rules for those.
    let by_words = ["pony", "illustrious", "noobai"];
    let rules = Rules::builtin().rows().iter();
    let claimed: BTreeSet<String> = rules
        .filter(|row| row.method.as_str() == "tensors")
        .filter_map(|row| row.base.as_ref().map(ToString::to_string))
        .collect();
    let missing: Vec<&String> =
        claimed.iter().filter(|base| !bases.contains(base.as_str()) && !by_words.contains(&base.as_str())).collect();
    assert!(missing.is_empty(), "no model of {missing:?}");
}

#[test]
fn the_files_are_whole_on_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    labelled::write(&MODELS, folder.path()).expect("a writable folder");
    let labels = std::fs::read_to_string(folder.path().join("labels.tsv")).expect("just written");
    assert_eq!(labels.lines().count(), MODELS.len() + 1);
    let mut paths = BTreeSet::new();
    for line in labels.lines().skip(1) {
        let path = line.split('\t').next().expect("a path");
        assert!(paths.insert(path), "`{path}` is there twice");
    }
    for path in ["unets/sdxl/checkpoints/model.safetensors", "diffusion/flux1-dev/quantised.gguf"] {
        let path: &Path = &folder.path().join(path);
        let file = FileSource::open(path).expect("just written");
        let header = read_header(&file).expect("whole");
        assert!(header.tensors.len() > 500, "{}: {}", path.display(), header.tensors.len());
        assert!(file.size_bytes() > 3_000_000_000, "{}", path.display());
    }
}
