//! What a tree of many models costs: time to make it, memory, one change, one walk. `cargo run --release --example tree_cost [MODELS]`.

use modelfs::base::{
    BaseModel, BlobId, BlobState, Digest, DirectoryId, EntryName, InodeNo, Label, ModelId, ModelType, RelativePath,
    Timestamp,
};
use modelfs::tree::{
    BlobEntry, Delta, DirectoryEntry, Handout, ModelEntry, Snapshot, Source, SourceSet, Tree, builtin_targets,
    homes_of_model, static_directories, target_directories,
};
use std::collections::BTreeSet;
use std::time::Instant;

const TYPES: [ModelType; 4] = [ModelType::Lora, ModelType::Checkpoint, ModelType::Vae, ModelType::Embedding];
const BASES: [&str; 3] = ["sdxl", "flux1-dev", "wan2.1-t2v-14b"];

fn row(number: usize) -> (ModelEntry, BlobEntry) {
    let key = i64::try_from(number).expect("few") + 1;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&key.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()).to_be_bytes());
    let name = EntryName::new(&format!("model {:06} of somebody.safetensors", key * 7919 % 1_000_003)).expect("valid");
    let blob = BlobEntry {
        id: BlobId::new(key),
        sha256: Some(Digest::from_bytes(bytes)),
        size_bytes: 1 << 30,
        state: BlobState::Resident,
        mtime: Timestamp::default(),
        name: name.clone(),
        handout: Handout::Free,
    };
    let model = ModelEntry {
        id: ModelId::new(key),
        blob: blob.id,
        name,
        model_type: TYPES[number % TYPES.len()],
        base: BaseModel::parse(BASES[number % BASES.len()]).ok(),
        sources: SourceSet::default().with(Source::Local).with(Source::Civitai),
        creator: Label::new(&format!("creator {}", number % 5000)).ok(),
        format: Label::new(["safetensors", "gguf", "torch-zip"][number % 3]).expect("valid"),
        tags: [Label::new(&format!("tag {}", number % 300)).expect("valid")].into(),
        also: [].into(),
    };
    (model, blob)
}

fn snapshot(count: usize) -> Snapshot {
    let targets = builtin_targets();
    let mut paths: BTreeSet<RelativePath> = static_directories().into_iter().collect();
    paths.extend(targets.iter().flat_map(target_directories));
    let (mut models, mut blobs) = (Vec::new(), Vec::new());
    for (model, blob) in (0..count).map(row) {
        paths.extend(homes_of_model(&model, &blob, &targets).into_iter().map(|home| home.directory));
        models.push(model);
        blobs.push(blob);
    }
    let directories = paths.into_iter().zip(1..).map(|(path, id)| DirectoryEntry {
        id: DirectoryId::new(id),
        path,
        mtime: Timestamp::default(),
        bundle: None,
    });
    Snapshot { models, blobs, directories: directories.collect(), targets, ..Snapshot::default() }
}

/// Time on a processor: the machine may be busy with other things.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(" ").next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

fn resident_mib() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4 / 1024
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let before_mib = resident_mib();
    let rows = snapshot(count);
    let rows_mib = resident_mib();
    let (start, cpu) = (Instant::now(), cpu_ms());
    let mut tree = Tree::new(rows);
    println!("{count} models: made in {:?}, {:.0} ms of a processor", start.elapsed(), cpu_ms() - cpu);
    println!("memory: {before_mib} MiB, with the rows {rows_mib}, with the tree {}", resident_mib());

    let (start, cpu) = (Instant::now(), cpu_ms());
    for number in count..count + 100 {
        let (model, blob) = row(number);
        let delta = Delta { models: vec![model], blobs: vec![blob], ..Delta::default() };
        tree = tree.apply(delta).0;
    }
    println!("one model more: {:?}, {:.3} ms of a processor", start.elapsed() / 100, (cpu_ms() - cpu) / 100.0);

    let (start, cpu) = (Instant::now(), cpu_ms());
    let (mut open, mut names) = (vec![InodeNo::ROOT], 0);
    while let Some(directory) = open.pop() {
        for child in tree.listing(directory).iter().flat_map(|listing| listing.iter_from(0)) {
            names += 1;
            let attributes = tree.lookup(directory, child.name.as_str()).expect("listed");
            open.extend((attributes.kind == modelfs::tree::NodeKind::Directory).then_some(attributes.ino));
        }
    }
    let each_us = (cpu_ms() - cpu) * 1000.0 / f64::from(names.max(1));
    println!("walk and look up: {:?}, {each_us:.2} µs of a processor a name, {names} names", start.elapsed());
    println!("memory: {} MiB", resident_mib());
    let (start, cpu) = (Instant::now(), cpu_ms());
    let mut targets = builtin_targets();
    targets[0].enabled = false;
    let change = tree.apply(Delta { targets: Some(targets), ..Delta::default() }).1;
    println!(
        "an application less: {:?}, {:.0} ms of a processor, {} names",
        start.elapsed(),
        cpu_ms() - cpu,
        change.names.len()
    );
}
