//! Stores and rows for the tests of this layer.

use super::{Catalog, CatalogError, FileMark, HashRow, NewBlob, NewBundle, NewModel, Reader, Writer};
use crate::base::{
    BaseModel, BlobId, BlobState, Digest, EntryName, Label, ModelId, ModelType, RelativePath, RepoId, Revision,
    Timestamp,
};
use crate::classify::{Method, Reason, Verdict};
use crate::tree::{BundleFile, HubRepo, Snapshot, Source};

pub struct Store {
    pub catalog: Catalog,
    pub folder: tempfile::TempDir,
}

pub fn store() -> Store {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let catalog = Catalog::create(folder.path()).expect("a new store");
    Store { catalog, folder }
}

/// Seconds after the beginning of 2100: later than the moment at which the stores of tests are made.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_ns((4_102_444_800 + second) * 1_000_000_000)
}

pub fn write<T>(catalog: &Catalog, work: impl FnOnce(&mut Writer<'_>) -> Result<T, CatalogError>) -> T {
    catalog.write(at(1), work).expect("a good write")
}

pub fn read<T>(catalog: &Catalog, work: impl FnOnce(&Reader<'_>) -> Result<T, CatalogError>) -> T {
    catalog.read(work).expect("a good read")
}

pub fn snapshot(catalog: &Catalog) -> Snapshot {
    read(catalog, |reader| reader.snapshot())
}

pub fn model_count(catalog: &Catalog) -> u64 {
    read(catalog, |reader| reader.model_count())
}

/// How SQLite will answer a statement, one line per table.
pub fn plan_of(store: &Store, sql: &str) -> Vec<String> {
    read(&store.catalog, |reader| {
        let mut statement = reader.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let mut rows = statement.raw_query();
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            lines.push(row.get(3)?);
        }
        Ok(lines)
    })
}

pub fn name(text: &str) -> EntryName {
    EntryName::new(text).expect("a valid name")
}

pub fn label(text: &str) -> Label {
    Label::new(text).expect("a valid label")
}

pub fn path(text: &str) -> RelativePath {
    RelativePath::new(text).expect("a valid path")
}

pub fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

pub fn hashes(number: u8) -> HashRow {
    HashRow {
        blake3: Digest::from_bytes([number ^ 0xff; 32]),
        crc32: [number, 1, 2, 0xf3],
        autov1: Some(format!("{number:08x}")),
        autov3: None,
    }
}

pub fn mark(number: u64) -> FileMark {
    FileMark { size_bytes: number, mtime_ns: -5, inode: u64::MAX - number, device: 1 << 63 }
}

pub fn new_blob(number: u8) -> NewBlob {
    NewBlob {
        sha256: Some(digest(number)),
        size_bytes: 1000 + u64::from(number),
        state: BlobState::Resident,
        mtime: at(-7),
        name: name(&format!("file {number}.safetensors")),
        hashes: Some(hashes(number)),
        etag: None,
    }
}

pub fn remote_blob(number: u8) -> NewBlob {
    let etag = Some(format!("etag-{number}"));
    NewBlob { sha256: None, state: BlobState::Remote, hashes: None, etag, ..new_blob(number) }
}

pub fn verdict(model_type: ModelType, base: Option<&str>) -> Verdict {
    let base = base.map(|word| BaseModel::parse(word).expect("a base"));
    let reason = Reason {
        method: Method::Tensors,
        rule: "unet".to_owned(),
        saw: "input_blocks.0".to_owned(),
        model_type: Some(model_type),
        base: base.clone(),
        weight: 0.5,
    };
    Verdict {
        model_type,
        base,
        sub_type: Some("inpainting".to_owned()),
        precision: Some("fp16".to_owned()),
        quantization: None,
        architecture: Some("unet".to_owned()),
        confidence: 0.85,
        method: Method::Tensors,
        reasons: vec![reason],
        trigger_words: vec!["zebra stripe".to_owned(), "a \"quoted\" one".to_owned()],
    }
}

pub fn new_model(blob: BlobId, text: &str) -> NewModel {
    NewModel {
        blob,
        name: name(text),
        verdict: verdict(ModelType::Lora, Some("sdxl")),
        format: "safetensors".to_owned(),
        tensor_count: Some(17),
        folders: vec!["models".to_owned(), "Lora".to_owned()],
        source: Source::Local,
        creator: Some(label("Ana")),
        license: Some("mit".to_owned()),
        tags: vec![label("style"), label("anime")],
        added: at(0),
    }
}

/// A content and its model.
pub fn add(writer: &mut Writer<'_>, number: u8) -> Result<(BlobId, ModelId), CatalogError> {
    let blob = writer.add_blob(&new_blob(number))?;
    let model = writer.add_model(&new_model(blob, &format!("model {number}.safetensors")))?;
    Ok((blob, model))
}

pub fn repository(commit: char, files: &[(&str, BlobId)]) -> NewBundle {
    NewBundle {
        name: name("sdxl-base"),
        in_views: true,
        model_type: ModelType::Diffusers,
        base: Some(BaseModel::parse("sdxl").expect("a base")),
        source: Source::HuggingFace,
        hub: Some(HubRepo {
            source: Source::HuggingFace,
            repo: RepoId::new("org/sdxl-base").expect("a repository"),
            directory_name: name("sdxl-base"),
        }),
        commit: Some(Revision::new(&commit.to_string().repeat(40)).expect("a commit")),
        files: files.iter().map(|(text, blob)| BundleFile { path: path(text), blob: *blob }).collect(),
        mtime: at(0),
    }
}
