//! Everything that is known about one model.

use super::listing::{is_here, summary};
use super::models::reasons_of;
use super::{Library, LibraryError, ModelDetails, OriginInfo, danger, enrich_facts, judging, origins, reference};
use crate::base::{BlobState, ModelType, RelativePath};
use crate::catalog::{BlobRow, CatalogError, LinkRow, ModelRow, OriginRow, Reader};
use crate::classify;
use crate::hub::HubOptions;
use crate::store::{FileStamp, PartialKey};
use crate::tree::{self, Occupant, Target};

/// Digits of AutoV2.
const AUTOV2_DIGITS: usize = 10;

pub(super) fn info(library: &Library, reference: &str) -> Result<ModelDetails, LibraryError> {
    let mut details = library.catalog().read(|r| {
        let model = reference::resolve(r, reference)?;
        let blob = r.blob(model.blob)?.ok_or_else(|| LibraryError::NotFound { reference: reference.to_owned() })?;
        Ok::<_, LibraryError>(gather(library, r, &model, &blob)?)
    })?;
    // Looked at outside of the transaction: these are files.
    if details.summary.state == BlobState::Partial {
        let key = PartialKey::of_blob(details.summary.blob);
        let partial = library.store().partials()?.into_iter().find(|partial| partial.key == key);
        details.bytes_present = partial.map_or(0, |partial| partial.bytes_present);
    }
    Ok(details)
}

fn gather(library: &Library, r: &Reader<'_>, model: &ModelRow, blob: &BlobRow) -> Result<ModelDetails, CatalogError> {
    let sources = r.model_entry(model.id)?.map(|entry| entry.sources).unwrap_or_default();
    let hashes = blob.hashes.as_ref();
    let link = r.link(blob.id)?;
    let header = judging::kept_header(r, blob)?;
    let hubs = &library.options().hubs;
    Ok(ModelDetails {
        summary: summary(model, blob, sources),
        bytes_present: if is_here(blob) { blob.size_bytes } else { 0 },
        blake3: hashes.map(|row| row.blake3.to_string()),
        crc32: hashes.map(|row| row.crc32.iter().map(|byte| format!("{byte:02x}")).collect()),
        autov1: hashes.and_then(|row| row.autov1.clone()),
        autov2: blob.sha256.map(|sha256| sha256.prefix(AUTOV2_DIGITS)),
        autov3: hashes.and_then(|row| row.autov3.clone()),
        sub_type: model.sub_type.clone(),
        architecture: model.architecture.clone(),
        tensor_count: model.tensor_count,
        trigger_words: model.trigger_words.clone(),
        tags: model.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        creator: model.creator.as_ref().map(|creator| creator.as_str().to_owned()),
        license: model.license.clone(),
        origins: r.origins(blob.id)?.into_iter().map(|origin| origin_info(origin, hubs)).collect(),
        paths: paths(r, Some(model), blob)?,
        error: link.as_ref().and_then(link_problem).or_else(|| blob.error.clone()),
        linked_path: link.map(|link| link.path),
        parameter_count: header.as_ref().filter(|header| !header.tensors.is_empty()).map(classify::parameter_count),
        network: header.as_ref().filter(|_| is_adapter(model.model_type)).and_then(classify::network),
        dangers: danger::of_blob(r, blob)?,
        reasons: reasons_of(&r.evidence(model.id)?),
        hubs: enrich_facts::told(r, hubs, model.id, &r.answers(blob.id)?)?,
    })
}

const fn is_adapter(model_type: ModelType) -> bool {
    matches!(model_type, ModelType::Lora | ModelType::Lycoris | ModelType::MotionLora | ModelType::LlmLora)
}

fn origin_info(origin: OriginRow, hubs: &HubOptions) -> OriginInfo {
    let page_url = origins::page_url(hubs, &origin);
    let OriginRow { source, repo, revision, path } = origin;
    OriginInfo { source: source.as_str().to_owned(), repo, revision, path, page_url }
}

/// What is wrong with a file that lies outside the store, if anything.
pub(super) fn link_problem(link: &LinkRow) -> Option<String> {
    let shown = link.path.display();
    let mark = &link.mark;
    match FileStamp::of_path(&link.path) {
        Err(_) => Some(format!("{shown} is no longer there; import it from where it is now")),
        Ok(stamp) => {
            let same = (stamp.size_bytes, stamp.mtime_ns, stamp.inode, stamp.device)
                == (mark.size_bytes, mark.mtime_ns, mark.inode, mark.device);
            (!same).then(|| format!("{shown} changed since it was linked; import it again"))
        }
    }
}

/// Every name of a content in the mount, sorted.
pub(super) fn paths(r: &Reader<'_>, model: Option<&ModelRow>, blob: &BlobRow) -> Result<Vec<String>, CatalogError> {
    let targets: Vec<Target> = r.targets()?;
    let mut paths = Vec::new();
    let entry = model.map(|model| r.model_entry(model.id)).transpose()?.flatten();
    if let (Some(model), Some(blob)) = (entry, r.blob_entry(blob.id)?) {
        for home in tree::homes_of_model(&model, &blob, &targets) {
            let name = r.name_of(&home.directory, Occupant::Model(model.id))?;
            paths.push(format!("{}/{}", home.directory, name.as_ref().unwrap_or(&model.name)));
        }
    }
    for bundle in r.bundles_of_blob(blob.id)? {
        let Some(entry) = r.bundle_entry(bundle)? else { continue };
        let inside: Vec<&RelativePath> =
            entry.files.iter().filter(|file| file.blob == blob.id).map(|file| &file.path).collect();
        for home in tree::homes_of_bundle(&entry, &targets) {
            let name = r.name_of(&home.directory, Occupant::Bundle(bundle))?;
            let name = name.as_ref().unwrap_or_else(|| tree::default_bundle_name(&entry, &home.directory));
            paths.extend(inside.iter().map(|path| format!("{}/{name}/{path}", home.directory)));
        }
    }
    paths.extend(blob.sha256.map(|sha256| format!("store/{sha256}/{}", blob.name)));
    paths.sort();
    paths.dedup();
    Ok(paths)
}
