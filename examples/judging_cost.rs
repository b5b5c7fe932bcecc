//! Makes the catalog of a store of many models of every type, as a program with no rules left it: each has the header of a
//! real one, a verdict of nothing, and no file. `cargo run --release --example judging_cost -- STORE [MODELS]`, 10,000
//! unless said. What judging them again takes is measured with `modelfs classify`.

#[path = "../tests/support/fake_hub/mod.rs"]
mod fake_hub;
#[path = "../tests/support/labelled/mod.rs"]
mod labelled;
#[path = "../tests/support/samples/mod.rs"]
mod samples;

use labelled::{Content, Labelled};
use modelfs::base::{BlobState, Digest, EntryName, ModelId, ModelType, RelativePath, Safety, Timestamp};
use modelfs::catalog::{Catalog, CatalogError, NewBlob, NewModel, Writer};
use modelfs::classify::{Method, Verdict};
use modelfs::formats::{Header, encode_header, read_header};
use modelfs::tree::{Occupant, Source, homes_of_model};
use std::path::PathBuf;
use std::time::SystemTime;

const MODELS: usize = 10_000;

/// A model of the set with its header as the catalog keeps it.
struct Kept {
    folders: Vec<String>,
    name: String,
    size_bytes: u64,
    header: Header,
    record: Vec<u8>,
}

fn kept(model: Labelled) -> Option<Kept> {
    let Content::File(file) = model.content else { return None };
    let header = read_header(&file).expect("the set is whole");
    let record = encode_header(&header);
    let mut folders: Vec<String> = model.path.split('/').map(str::to_owned).collect();
    let name = folders.pop().expect("a path has a name");
    Some(Kept { folders, name, size_bytes: file.size_bytes, header, record })
}

fn nothing() -> Verdict {
    Verdict {
        model_type: ModelType::Unknown,
        base: None,
        sub_type: None,
        precision: None,
        quantization: None,
        architecture: None,
        confidence: 0.0,
        method: Method::None,
        reasons: Vec::new(),
        trigger_words: Vec::new(),
    }
}

fn add(writer: &mut Writer<'_>, number: usize, model: &Kept) -> Result<(), CatalogError> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    let name = EntryName::new(&format!("{number}-{}", model.name)).expect("a short name");
    let blob = writer.add_blob(&NewBlob {
        sha256: Some(Digest::from_bytes(bytes)),
        size_bytes: model.size_bytes,
        state: BlobState::Resident,
        mtime: Timestamp::default(),
        name: name.clone(),
        hashes: None,
        etag: None,
    })?;
    writer.set_header(blob, &model.record, Safety::Safe)?;
    let id = writer.add_model(&NewModel {
        blob,
        name: name.clone(),
        verdict: nothing(),
        format: model.header.format.as_str().to_owned(),
        tensor_count: Some(model.header.tensors.len() as u64),
        folders: model.folders.clone(),
        source: Source::Local,
        creator: None,
        license: None,
        tags: Vec::new(),
        added: writer.now(),
    })?;
    place(writer, id, &name)
}

/// Where a mount shows it until it is judged.
fn place(writer: &mut Writer<'_>, id: ModelId, name: &EntryName) -> Result<(), CatalogError> {
    let model = writer.model_entry(id)?.expect("just added");
    let blob = writer.blob_entry(model.blob)?.expect("just added");
    let targets: Vec<_> = writer.targets()?.into_iter().filter(|target| target.enabled).collect();
    for home in homes_of_model(&model, &blob, &targets) {
        let mut above: Vec<RelativePath> =
            std::iter::successors(Some(home.directory.clone()), RelativePath::parent).collect();
        while let Some(directory) = above.pop() {
            writer.ensure_directory(&directory, None)?;
        }
        writer.give_name(&home.directory, Occupant::Model(id), name, None, true)?;
    }
    Ok(())
}

fn main() -> Result<(), CatalogError> {
    let store = std::env::args().nth(1).map(PathBuf::from).expect("the folder of a store that is there");
    let count = std::env::args().nth(2).map_or(MODELS, |text| text.parse().expect("a number of models"));
    let set: Vec<Kept> = labelled::all().into_iter().filter_map(kept).collect();
    let catalog = Catalog::open(&store)?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let chosen = || set.iter().cycle().take(count);
    catalog.write(now, |writer| chosen().enumerate().try_for_each(|(number, model)| add(writer, number, model)))?;
    let tensors: usize = chosen().map(|model| model.header.tensors.len()).sum();
    let bytes: usize = chosen().map(|model| model.record.len()).sum();
    println!("{count} models made of {}, {tensors} tensors, {} MiB of headers", set.len(), bytes >> 20);
    Ok(())
}
