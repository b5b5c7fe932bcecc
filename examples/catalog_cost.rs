//! What a catalog of many models costs: writing it, reading all of it, one change, and answering queries.
//! `cargo run --release --example catalog_cost [MODELS [FOLDER]]`, 1,000,000 unless said; ends with `p99 MS ms` on
//! stdout. In FOLDER the catalog is kept, and a later run only asks it.

use modelfs::base::{BaseModel, BlobState, Digest, EntryName, Label, ModelType, RelativePath, Timestamp};
use modelfs::catalog::{Catalog, CatalogError, NewBlob, NewModel, Writer};
use modelfs::classify::{Method, Verdict};
use modelfs::query::Query;
use modelfs::tree::{Occupant, Source};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

const MODELS: u64 = 1_000_000;
const BATCH: u64 = 10_000;
const RUNS: usize = 20;
const LIMIT: u32 = 100;
/// Words that names are put together from; each is in one name of some ten.
const WORDS: &[&str] = &[
    "anime",
    "realistic",
    "portrait",
    "landscape",
    "detail",
    "tweaker",
    "style",
    "cinematic",
    "pixel",
    "noir",
    "pony",
    "illustrious",
    "turbo",
    "lightning",
    "hyper",
    "depth",
    "canny",
    "pose",
    "film",
    "grain",
    "neon",
    "cyber",
    "fantasy",
    "dragon",
    "knight",
    "flower",
    "ocean",
    "forest",
    "city",
    "retro",
    "sketch",
    "watercolor",
    "sdxl",
    "flux",
    "merge",
];
const BASES: &[&str] = &["sdxl", "wan2.1", "wan2.1-i2v-14b", "flux1-dev"];
const TYPES: &[ModelType] =
    &[ModelType::Lora, ModelType::Lora, ModelType::Lora, ModelType::Checkpoint, ModelType::Embedding];
const HOMES: &[&str] = &["comfyui/loras", "forge/Lora", "by/type/lora"];
const TYPICAL: &[&str] = &[
    "anime",
    "xl v3",
    "sdxl anime portrait",
    "\"neon_dragon\"",
    "type:lora base:sdxl sort:added",
    "anime type:checkpoint size<500MB",
    "tag:noir -anime sort:relevance",
    "creator:creator77",
    "123456",
    "dragon OR knight sort:relevance",
    "app:comfyui state:resident film grain",
    "size>7GB type:embedding sort:size",
    "tag:noir sort:name",
    "type:lora sort:name",
    "flux pose ocean dragon",
];

/// A xorshift sequence: the same catalog at every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("below a usize")
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }
}

fn name(text: &str) -> EntryName {
    EntryName::new(text).expect("a valid name")
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

fn verdict(chance: &mut Chance) -> Verdict {
    Verdict {
        model_type: TYPES[chance.below(TYPES.len())],
        base: BaseModel::parse(BASES[chance.below(BASES.len())]).ok(),
        sub_type: None,
        precision: Some("fp16".to_owned()),
        quantization: None,
        architecture: None,
        confidence: 0.9,
        method: Method::Tensors,
        reasons: Vec::new(),
        trigger_words: vec![chance.word().to_owned()],
    }
}

fn add(writer: &mut Writer<'_>, number: u64, chance: &mut Chance) -> Result<(), CatalogError> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    let text =
        format!("{}-{}_{}V{}-{number}.safetensors", chance.word(), chance.word(), chance.word(), chance.below(9));
    let blob = writer.add_blob(&NewBlob {
        sha256: Some(Digest::from_bytes(bytes)),
        size_bytes: 1_000_000 * (1 + chance.below(8000) as u64),
        state: BlobState::Resident,
        mtime: Timestamp::default(),
        name: name(&text),
        hashes: None,
        etag: None,
    })?;
    let model = writer.add_model(&NewModel {
        blob,
        name: name(&text),
        verdict: verdict(chance),
        format: "safetensors".to_owned(),
        tensor_count: Some(17),
        folders: vec!["models".to_owned(), "Lora".to_owned()],
        source: Source::Local,
        creator: Label::new(&format!("creator{}", chance.below(5000))).ok(),
        license: None,
        tags: vec![Label::new(chance.word()).expect("a valid label")],
        added: writer.now(),
    })?;
    for home in HOMES {
        let home = RelativePath::new(home).expect("a valid path");
        writer.ensure_directory(&home, None)?;
        writer.give_name(&home, Occupant::Model(model), &name(&text), None, true)?;
    }
    Ok(())
}

/// Sorted times of some runs, in milliseconds.
fn times_ms(mut work: impl FnMut()) -> Vec<f64> {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Registers the models of the catalog.
fn fill(catalog: &Catalog, models: u64) -> Result<(), CatalogError> {
    let mut chance = Chance(0x2545_F491_4F6C_DD1D);
    let begun = Instant::now();
    for first in (0..models).step_by(BATCH as usize) {
        catalog.write(now(), |writer| {
            (first..models.min(first + BATCH)).try_for_each(|number| add(writer, number, &mut chance))
        })?;
    }
    println!("{models} models written in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), CatalogError> {
    let models = std::env::args().nth(1).map_or(MODELS, |text| text.parse().expect("a number of models"));
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = std::env::args().nth(2).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let catalog = Catalog::create(&folder)?;
    if catalog.read(|reader| reader.models_after(None, 1))?.is_empty() {
        fill(&catalog, models)?;
    }
    let begun = Instant::now();
    let all = catalog.read(|reader| reader.snapshot())?;
    println!("all of them read in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    catalog.write(now(), |writer| writer.set_deleted(all.models[0].id, true))?;
    let delta = catalog.read(|reader| reader.delta_since(all.revision))?;
    assert_eq!(delta.gone.len(), 1, "one change is one row");
    println!("one change written and read in {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(all);
    let mut typical = Vec::new();
    for text in TYPICAL {
        let query = Query::parse(text).expect("a query of the table above");
        let mut hits = 0;
        let mut failed = None;
        let times = times_ms(|| match catalog.read(|reader| reader.search(&query, LIMIT)) {
            Ok(found) => hits = found.len(),
            Err::<_, CatalogError>(error) => failed = Some(error),
        });
        if let Some(error) = failed {
            return Err(error);
        }
        println!("{text:44} {hits:4} hits  p50 {:8.3} ms  worst {:8.3} ms", times[RUNS / 2], times[RUNS - 1]);
        typical.extend(times);
    }
    typical.sort_by(f64::total_cmp);
    println!("p99 {:.3} ms", typical[typical.len() * 99 / 100]);
    Ok(())
}
