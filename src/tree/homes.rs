//! Which directories show a model or a bundle, and which directories exist at all.
//!
//! The single answer for everyone: the tree is built with it and the library gives names and directory rows with it.
//! Invariants: no home twice; a path that would be too long is no home. Not here: names (`naming`, the library).

use super::target::ending;
use super::{BlobEntry, BundleEntry, FolderMatch, HubRepo, ModelEntry, Source, SourceSet, Target};
use crate::base::{BaseModel, BlobState, EntryName, Label, ModelType, RelativePath};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Directory of an application for what could not be told.
pub(super) const UNSORTED: &str = "_unsorted";
/// Names at the top of the mount that are no applications.
pub(super) const RESERVED_NAMES: [&str; 4] = ["by", "search", "hubs", "store"];
/// Word under `by/base/` for models without a base.
const NO_BASE: &str = "unknown";
/// Word under `by/format/` for what neither its bytes nor its name tell.
const NO_FORMAT: &str = "unknown";

/// Directories that are there in every store, parents first.
const STATIC: [&str; 17] = [
    "by",
    "by/type",
    "by/base",
    "by/source",
    "by/tag",
    "by/creator",
    "by/format",
    "by/state",
    "by/state/remote",
    "by/state/partial",
    "by/state/resident",
    "search",
    "store",
    "hubs",
    "hubs/huggingface",
    "hubs/civitai",
    "hubs/modelscope",
];

/// One directory that shows an occupant under a name of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    pub directory: RelativePath,
    /// How names must differ there.
    pub matching: FolderMatch,
}

impl Home {
    fn new(directory: &str) -> Option<Self> {
        Some(Self { directory: RelativePath::new(directory).ok()?, matching: FolderMatch::Relative })
    }
}

/// Every directory that shows this model: one folder per enabled target, and those under `by/`. Not `store/`.
/// `blob` is the content's entry (its state decides `by/state/…`). Deterministic order.
pub fn homes_of_model(model: &ModelEntry, blob: &BlobEntry, targets: &[Target]) -> Vec<Home> {
    let mut homes = shared_homes(&SharedFacts::of(model, blob), targets);
    homes.extend(own_words(model).filter_map(|word| Home::new(&word.directory())));
    without_repeats(homes)
}

/// What decides the homes that many models have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SharedFacts<'a> {
    pub model_type: ModelType,
    pub base: Option<&'a BaseModel>,
    /// The end of its name, as far as it decides.
    pub ending: &'a str,
    pub sources: SourceSet,
    pub state: BlobState,
    pub format: &'a Label,
}

impl<'a> SharedFacts<'a> {
    pub(super) fn of(model: &'a ModelEntry, blob: &BlobEntry) -> Self {
        Self {
            model_type: model.model_type,
            base: model.base.as_ref(),
            ending: ending(model.name.as_str()),
            sources: model.sources,
            state: blob.state,
            format: &model.format,
        }
    }
}

/// The word under `by/format/`: what the header says, or else the end of the name.
pub fn format_word<'a>(known: &'a str, name: &'a str) -> Cow<'a, str> {
    if !known.is_empty() {
        return Cow::Borrowed(known);
    }
    let suffix = ending(name).rsplit_once('.').map(|(_, suffix)| suffix);
    let is_word = |suffix: &&str| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    suffix.filter(is_word).map_or(Cow::Borrowed(NO_FORMAT), |suffix| Cow::Owned(suffix.to_ascii_lowercase()))
}

/// The homes of a model but those of its creator and tags, and those that a person chose.
pub(super) fn shared_homes(facts: &SharedFacts<'_>, targets: &[Target]) -> Vec<Home> {
    let base = facts.base.map(BaseModel::as_str);
    let mut homes = Vec::new();
    for target in targets.iter().filter(|target| target.enabled) {
        if facts.model_type == ModelType::Unknown {
            homes.extend(Home::new(&format!("{}/{UNSORTED}", target.name)));
            continue;
        }
        let folder = target.folders.iter().find(|it| it.suits(facts.model_type, base) && it.lists(facts.ending));
        homes.extend(folder.and_then(|folder| {
            let home = Home::new(&format!("{}/{}", target.name, folder.path))?;
            Some(Home { matching: folder.matching, ..home })
        }));
    }
    homes.extend(Home::new(&format!("by/type/{}", facts.model_type)));
    homes.extend(Home::new(&format!("by/base/{}", base.unwrap_or(NO_BASE))));
    homes.extend(facts.sources.iter().filter_map(|source| Home::new(&format!("by/source/{}", source.as_str()))));
    homes.extend(Home::new(&format!("by/state/{}", facts.state)));
    homes.extend(Home::new(&format!("by/format/{}", facts.format.directory_name())));
    without_repeats(homes)
}

/// A word of one model that leads to a directory of its own, or such a directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum OwnWord<'a> {
    Creator(&'a Label),
    Tag(&'a Label),
    Chosen(&'a RelativePath),
}

impl OwnWord<'_> {
    pub(super) fn directory(self) -> String {
        match self {
            Self::Creator(creator) => format!("by/creator/{}", creator.directory_name()),
            Self::Tag(tag) => format!("by/tag/{}", tag.directory_name()),
            Self::Chosen(directory) => directory.to_string(),
        }
    }
}

/// The creator, tag or format that a directory below `by/` stands for.
pub fn label_of_directory(path: &RelativePath) -> Option<Label> {
    let names: Vec<EntryName> = path.names().collect();
    let [by, facet, name] = names.as_slice() else { return None };
    let is_label = by.as_str() == "by" && matches!(facet.as_str(), "creator" | "tag" | "format");
    is_label.then(|| Label::of_directory_name(name.as_str()))?
}

pub(super) fn own_words(model: &ModelEntry) -> impl Iterator<Item = OwnWord<'_>> {
    let words = model.creator.iter().map(OwnWord::Creator).chain(model.tags.iter().map(OwnWord::Tag));
    words.chain(model.also.iter().map(OwnWord::Chosen))
}

fn without_repeats(homes: Vec<Home>) -> Vec<Home> {
    let mut kept: Vec<Home> = Vec::with_capacity(homes.len());
    for home in homes {
        if !kept.iter().any(|other| other.directory == home.directory) {
            kept.push(home);
        }
    }
    kept
}

/// Every directory that shows this bundle as a directory: `hubs/…` for a repository, and if `in_views` the folders of
/// enabled targets and `by/`.
pub fn homes_of_bundle(bundle: &BundleEntry, targets: &[Target]) -> Vec<Home> {
    let mut homes: Vec<Home> = hub_directory(bundle).and_then(|directory| Home::new(&directory)).into_iter().collect();
    if bundle.in_views {
        let base = bundle.base.as_ref().map(BaseModel::as_str);
        for target in targets.iter().filter(|target| target.enabled) {
            if bundle.model_type == ModelType::Unknown {
                homes.extend(Home::new(&format!("{}/{UNSORTED}", target.name)));
                continue;
            }
            let folder = target.folders.iter().find(|it| it.directories && it.suits(bundle.model_type, base));
            homes.extend(folder.and_then(|folder| {
                let home = Home::new(&format!("{}/{}", target.name, folder.path))?;
                Some(Home { matching: folder.matching, ..home })
            }));
        }
        homes.extend(Home::new(&format!("by/type/{}", bundle.model_type)));
        homes.extend(Home::new(&format!("by/base/{}", base.unwrap_or(NO_BASE))));
        let sources = bundle.sources.iter();
        homes.extend(sources.filter_map(|source| Home::new(&format!("by/source/{}", source.as_str()))));
    }
    without_repeats(homes)
}

fn hub_directory(bundle: &BundleEntry) -> Option<String> {
    bundle.hub.as_ref().map(directory_of_repo)
}

/// The directory that holds a repository's own: that of its organisation; one without lies directly under its hub.
pub fn directory_of_repo(hub: &HubRepo) -> String {
    let source = hub.source.as_str();
    if hub.source == Source::Civitai {
        // A model is a folder of its versions.
        return format!("hubs/{source}/{}", hub.repo);
    }
    match hub.repo.as_str().rsplit_once('/') {
        Some((organisation, _)) => format!("hubs/{source}/{organisation}"),
        None => format!("hubs/{source}"),
    }
}

/// The name a bundle has in one of its homes unless another was given: `hubs/` shows the repository's own.
pub fn default_bundle_name<'a>(bundle: &'a BundleEntry, directory: &RelativePath) -> &'a EntryName {
    match &bundle.hub {
        Some(hub) if hub_directory(bundle).as_deref() == Some(directory.as_str()) => &hub.directory_name,
        _ => &bundle.name,
    }
}

/// The directories of a bundle at one place: `root` itself (its directory in a home) and every folder inside.
pub fn bundle_directories(bundle: &BundleEntry, root: &RelativePath) -> Vec<RelativePath> {
    let mut folders = BTreeSet::new();
    for file in bundle.files.iter() {
        let mut folder = file.path.parent();
        while let Some(path) = folder {
            folder = path.parent();
            if !folders.insert(path) {
                break;
            }
        }
    }
    let inside = folders.iter().filter_map(|folder| RelativePath::new(&format!("{root}/{folder}")).ok());
    std::iter::once(root.clone()).chain(inside).collect()
}

/// Directories that are there in every store, parents first: `by`, `by/type`, `by/state/resident`, `store`, `hubs`, ….
pub fn static_directories() -> Vec<RelativePath> {
    STATIC.iter().map(|path| RelativePath::new(path).expect("a literal path is valid")).collect()
}

/// Every directory of a target, parents first: its root, its folders and their parents, `_unsorted`.
pub fn target_directories(target: &Target) -> Vec<RelativePath> {
    let mut found = BTreeSet::new();
    let unsorted = std::iter::once(UNSORTED);
    for folder in target.folders.iter().map(|folder| folder.path.as_str()).chain(unsorted) {
        let mut path = RelativePath::new(&format!("{}/{folder}", target.name)).ok();
        while let Some(directory) = path {
            path = directory.parent();
            found.insert(directory);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BundleFile, Handout, HubRepo, Source, builtin_targets};
    use super::*;
    use crate::base::{BlobId, BundleId, ModelId, RepoId, Timestamp};

    fn name(text: &str) -> EntryName {
        EntryName::new(text).expect("valid")
    }

    fn label(text: &str) -> Label {
        Label::new(text).expect("valid")
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).expect("valid")
    }

    fn blob(state: BlobState) -> BlobEntry {
        let name = name("x.safetensors");
        BlobEntry {
            id: BlobId::new(1),
            sha256: None,
            size_bytes: 1,
            state,
            mtime: Timestamp::default(),
            name,
            handout: Handout::Free,
        }
    }

    fn model(text: &str, model_type: ModelType) -> ModelEntry {
        ModelEntry {
            id: ModelId::new(1),
            blob: BlobId::new(1),
            name: name(text),
            model_type,
            base: None,
            sources: SourceSet::default().with(Source::Local),
            creator: None,
            format: label("safetensors"),
            tags: [].into(),
            also: [].into(),
        }
    }

    fn directories(homes: &[Home]) -> Vec<&str> {
        homes.iter().map(|home| home.directory.as_str()).collect()
    }

    #[test]
    fn a_model_has_one_folder_per_application_and_its_facts() {
        let mut lora = model("x.safetensors", ModelType::Lora);
        lora.base = Some(BaseModel::parse("wan2.1-t2v-14b").expect("valid"));
        lora.sources = SourceSet::default().with(Source::Civitai).with(Source::Local);
        lora.creator = Some(label("ann/bob"));
        lora.tags = [label("anime"), label("anime"), label(".old")].into();
        lora.also = [path("comfyui/loras"), path("comfyui/vae")].into();
        let homes = homes_of_model(&lora, &blob(BlobState::Partial), &builtin_targets());
        let expected = [
            "comfyui/loras",
            "forge/Lora",
            "a1111/Lora",
            "wan2gp/loras/wan",
            "image-upscale/Lora",
            "by/type/lora",
            "by/base/wan2.1-t2v-14b",
            "by/source/local",
            "by/source/civitai",
            "by/state/partial",
            "by/format/safetensors",
            "by/creator/ann%2Fbob",
            "by/tag/anime",
            "by/tag/%2Eold",
            "comfyui/vae",
        ];
        assert_eq!(directories(&homes), expected);
        assert_eq!((homes[0].matching, homes[1].matching), (FolderMatch::Relative, FolderMatch::Stem));
    }

    #[test]
    fn a_directory_leads_back_to_its_label() {
        for text in ["ann/bob", "..", "100%", "%2F", "a\nb"] {
            for word in [OwnWord::Creator(&label(text)), OwnWord::Tag(&label(text))] {
                assert_eq!(label_of_directory(&path(&word.directory())), Some(label(text)), "{text:?}");
            }
        }
        for other in ["by", "by/tag", "by/type/lora", "comfyui/tag/x", "by/tag/%41", "by/tag/x/y"] {
            assert_eq!(label_of_directory(&path(other)), None, "{other}");
        }
    }

    #[test]
    fn a_format_is_what_the_header_says_or_the_name() {
        for (known, name, expected) in [
            ("torch-zip", "x.ckpt", "torch-zip"),
            ("", "x.v2.SafeTensors", "safetensors"),
            ("", "x", "unknown"),
            ("", "x.", "unknown"),
            ("", ".ckpt", "unknown"),
            ("", "x.a b", "unknown"),
        ] {
            assert_eq!(format_word(known, name), expected, "{name}");
        }
    }

    #[test]
    fn unknown_is_unsorted_everywhere_and_the_rest_only_where_it_is_listed() {
        let homes = homes_of_model(&model("x.bin", ModelType::Unknown), &blob(BlobState::Resident), &builtin_targets());
        let unsorted = homes.iter().filter(|home| home.directory.as_str().ends_with("/_unsorted")).count();
        assert_eq!(unsorted, builtin_targets().iter().filter(|target| target.enabled).count());
        let homes = homes_of_model(&model("x.sft", ModelType::Vae), &blob(BlobState::Remote), &builtin_targets());
        let expected = [
            "comfyui/vae",
            "by/type/vae",
            "by/base/unknown",
            "by/source/local",
            "by/state/remote",
            "by/format/safetensors",
        ];
        assert_eq!(directories(&homes), expected);
    }

    fn bundle(in_views: bool, repo: Option<&str>) -> BundleEntry {
        let file = |text: &str| BundleFile { path: path(text), blob: BlobId::new(1) };
        BundleEntry {
            id: BundleId::new(1),
            name: name("nice"),
            in_views,
            model_type: ModelType::Diffusers,
            base: None,
            sources: SourceSet::default().with(Source::HuggingFace),
            hub: repo.map(|repo| HubRepo {
                source: Source::HuggingFace,
                repo: RepoId::new(repo).expect("valid"),
                directory_name: name("tiny@0123456789"),
            }),
            files: [file("a/b/c.bin"), file("a/d.bin"), file("e.bin")].into(),
            mtime: Timestamp::default(),
        }
    }

    #[test]
    fn repositories_lie_under_their_hub_and_bundles_in_folders_for_directories() {
        let targets = builtin_targets();
        assert_eq!(directories(&homes_of_bundle(&bundle(false, Some("org/tiny")), &targets)), ["hubs/huggingface/org"]);
        assert_eq!(directories(&homes_of_bundle(&bundle(false, Some("gpt2")), &targets)), ["hubs/huggingface"]);
        assert!(homes_of_bundle(&bundle(false, None), &targets).is_empty());
        let shown = bundle(true, Some("org/tiny"));
        let homes = homes_of_bundle(&shown, &targets);
        let expected = [
            "hubs/huggingface/org",
            "comfyui/diffusers",
            "forge/diffusers",
            "by/type/diffusers",
            "by/base/unknown",
            "by/source/huggingface",
        ];
        assert_eq!(directories(&homes), expected);
        assert_eq!(default_bundle_name(&shown, &homes[0].directory).as_str(), "tiny@0123456789");
        assert_eq!(default_bundle_name(&shown, &homes[1].directory).as_str(), "nice");
    }

    #[test]
    fn folders_of_a_bundle_come_parents_first() {
        let found = bundle_directories(&bundle(true, None), &path("by/type/diffusers/nice"));
        let expected = ["by/type/diffusers/nice", "by/type/diffusers/nice/a", "by/type/diffusers/nice/a/b"];
        assert_eq!(found.iter().map(RelativePath::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn directories_come_after_their_parents() {
        let mut all = static_directories();
        all.extend(builtin_targets().iter().flat_map(target_directories));
        let mut seen = BTreeSet::new();
        for directory in &all {
            assert!(directory.parent().is_none_or(|parent| seen.contains(&parent)), "{directory}");
            assert!(seen.insert(directory.clone()), "{directory} twice");
        }
        for expected in ["comfyui", "comfyui/ultralytics", "comfyui/unet", "wan2gp/loras/wan_1.3B", "forge/_unsorted"] {
            assert!(seen.contains(&path(expected)), "{expected}");
        }
    }

    #[test]
    fn every_home_of_an_enabled_target_is_a_directory_of_it() {
        let mut targets = builtin_targets();
        targets.iter_mut().for_each(|target| target.enabled = true);
        let all: BTreeSet<_> = targets.iter().flat_map(target_directories).collect();
        for model_type in ModelType::ALL {
            for text in ["x.safetensors", "x.pt", "x.onnx", "x.gguf", "x", "x.yaml"] {
                for home in homes_of_model(&model(text, *model_type), &blob(BlobState::Resident), &targets) {
                    let under_by = home.directory.as_str().starts_with("by/");
                    assert!(under_by || all.contains(&home.directory), "{}", home.directory);
                }
            }
        }
    }
}
