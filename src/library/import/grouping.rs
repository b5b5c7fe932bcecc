//! Which files of a folder tree belong together. Pure: decided from paths alone.

use super::work::Shape;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

const PIPELINE_INDEX: &str = "model_index.json";
const CONFIGURATION: &str = "config.json";
const SHARD_INDEX: &str = ".index.json";
/// Names that a library gives to the weights of every model it saves.
const GENERIC_STEMS: [&str; 6] = [
    "model",
    "pytorch_model",
    "diffusion_pytorch_model",
    "open_clip_pytorch_model",
    "open_clip_model",
    "diffusion_pytorch_model.fp16",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub shape: Shape,
    /// What the paths inside are relative to.
    pub folder: PathBuf,
    pub name: String,
    /// Indices of its files.
    pub members: Vec<usize>,
}

/// One part of a model in several files: `stem-00002-of-00005.safetensors`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Shard<'a> {
    stem: &'a str,
    count: &'a str,
    suffix: &'a str,
}

/// The groups among these files; what is in none stands for itself.
pub(super) fn group(paths: &[&Path]) -> Vec<Group> {
    let mut folders: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        folders.entry(path.parent().unwrap_or(Path::new("/"))).or_default().push(index);
    }
    let name_of = |index: usize| paths[index].file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let claims: HashMap<&Path, Shape> = folders
        .iter()
        .filter_map(|(folder, files)| {
            let names: Vec<&str> = files.iter().map(|index| name_of(*index)).collect();
            claim(&names).map(|shape| (*folder, shape))
        })
        .collect();

    let mut claimed: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    let mut shards: BTreeMap<(&Path, Shard<'_>), Vec<usize>> = BTreeMap::new();
    for (folder, files) in &folders {
        // The outermost folder takes everything inside.
        if let Some(owner) = folder.ancestors().filter(|above| claims.contains_key(above)).last() {
            claimed.entry(owner).or_default().extend(files);
            continue;
        }
        for index in files {
            if let Some(shard) = shard(name_of(*index)) {
                shards.entry((*folder, shard)).or_default().push(*index);
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for (folder, members) in claimed {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        groups.push(Group { shape: claims[folder], folder: folder.to_owned(), name, members });
    }
    for ((folder, shard), mut members) in shards {
        let index_name = format!("{}{}{SHARD_INDEX}", shard.stem, shard.suffix);
        members.extend(folders[folder].iter().filter(|index| name_of(**index) == index_name));
        groups.push(Group { shape: Shape::Sharded, folder: folder.to_owned(), name: shard.stem.to_owned(), members });
    }
    groups
}

/// What a whole folder is, by the names of the files directly in it. A model and its configuration alone are no group
/// in an application's folder, where the model has a name of its own.
fn claim(names: &[&str]) -> Option<Shape> {
    let shape = shape_of(names);
    match shape {
        Shape::Pipeline => Some(shape),
        Shape::Sharded => names.contains(&CONFIGURATION).then_some(shape),
        Shape::Configured | Shape::Loose => None,
    }
}

/// What a repository is, by the names of the files directly in it.
pub(super) fn shape_of(names: &[&str]) -> Shape {
    let is_single = |name: &&str| crate::formats::has_model_suffix(name) && shard(name).is_none();
    let is_part = |name: &&str| is_shard_index(name) || shard(name).is_some();
    // Repositories of GGUF files hold the same model many times, some of them in parts: no file needs all others.
    let is_one_model = names.contains(&CONFIGURATION) || !names.iter().any(is_single);
    if names.contains(&PIPELINE_INDEX) {
        Shape::Pipeline
    } else if is_one_model && names.iter().any(is_part) {
        Shape::Sharded
    } else if names.contains(&CONFIGURATION) && names.iter().any(|name| is_generic(name)) {
        Shape::Configured
    } else {
        Shape::Loose
    }
}

/// Whether a model's name is the one that every model of its library has.
pub(super) fn is_generic(name: &str) -> bool {
    let stem = name.rsplit_once('.').filter(|_| crate::formats::has_model_suffix(name)).map(|(stem, _)| stem);
    stem.is_some_and(|stem| GENERIC_STEMS.contains(&stem))
}

/// Whether this file tells what a bundle is.
pub(super) fn is_configuration(name: &str) -> bool {
    name == PIPELINE_INDEX || name == CONFIGURATION
}

fn is_shard_index(name: &str) -> bool {
    name.strip_suffix(SHARD_INDEX).is_some_and(crate::formats::has_model_suffix)
}

fn shard(name: &str) -> Option<Shard<'_>> {
    if !crate::formats::has_model_suffix(name) {
        return None;
    }
    let suffix = &name[name.rfind('.')?..];
    let (rest, count) = name.strip_suffix(suffix)?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() >= 2 && text.bytes().all(|digit| digit.is_ascii_digit());
    (is_number(number) && is_number(count) && !stem.is_empty()).then_some(Shard { stem, count, suffix })
}

/// The shards that their own names promise and that are not there, as a number; nothing when all are.
pub(super) fn missing_shards(names: &[&str]) -> Option<usize> {
    let mut sets: BTreeMap<Shard<'_>, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        if let Some(shard) = shard(name) {
            sets.entry(shard).or_default().insert(name);
        }
    }
    let missing = |(shard, have): (&Shard<'_>, &BTreeSet<&str>)| {
        shard.count.parse::<usize>().unwrap_or(usize::MAX).saturating_sub(have.len())
    };
    sets.iter().map(missing).max().filter(|missing| *missing > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(paths: &[&str]) -> Vec<(Shape, String, Vec<String>)> {
        let all: Vec<&Path> = paths.iter().map(Path::new).collect();
        let shown = |group: Group| {
            let inside = |index: &usize| all[*index].strip_prefix(&group.folder).expect("inside").display().to_string();
            (group.shape, group.name.clone(), group.members.iter().map(inside).collect())
        };
        group(&all).into_iter().map(shown).collect()
    }

    #[test]
    fn a_pipeline_takes_everything_inside() {
        let found = groups(&[
            "/m/loras/x.safetensors",
            "/m/sdxl/model_index.json",
            "/m/sdxl/unet/config.json",
            "/m/sdxl/unet/a-00001-of-00002.safetensors",
            "/m/sdxl/vae/x.safetensors",
        ]);
        let inside = ["model_index.json", "unet/config.json", "unet/a-00001-of-00002.safetensors", "vae/x.safetensors"];
        assert_eq!(found, [(Shape::Pipeline, "sdxl".to_owned(), inside.map(str::to_owned).to_vec())]);
    }

    #[test]
    fn shards_among_other_models_leave_those_alone() {
        let found = groups(&[
            "/m/llm/q-00001-of-00002.gguf",
            "/m/llm/q-00002-of-00002.gguf",
            "/m/llm/other.gguf",
            "/m/llm/config.txt",
        ]);
        let inside = ["q-00001-of-00002.gguf", "q-00002-of-00002.gguf"].map(str::to_owned).to_vec();
        assert_eq!(found, [(Shape::Sharded, "q".to_owned(), inside)]);
    }

    #[test]
    fn a_configured_sharded_folder_is_one() {
        let found = groups(&[
            "/m/qwen/config.json",
            "/m/qwen/model-00001-of-00002.safetensors",
            "/m/qwen/model-00002-of-00002.safetensors",
            "/m/qwen/model.safetensors.index.json",
            "/m/qwen/tokenizer.json",
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.as_str(), found[0].2.len()), (Shape::Sharded, "qwen", 5));
    }

    #[test]
    fn single_models_are_no_groups() {
        assert_eq!(groups(&["/m/vae/config.json", "/m/vae/diffusion_pytorch_model.safetensors"]), []);
        assert_eq!(shape_of(&["config.json", "diffusion_pytorch_model.safetensors"]), Shape::Configured);
        assert_eq!(shape_of(&["config.json", "flux.safetensors"]), Shape::Loose);
        assert_eq!(shape_of(&["q4.gguf", "q8-00001-of-00002.gguf"]), Shape::Loose);
        assert_eq!(shape_of(&["README.md", "q8-00001-of-00002.gguf"]), Shape::Sharded);
    }

    #[test]
    fn missing_shards_are_counted() {
        assert_eq!(missing_shards(&["a-00001-of-00003.bin", "a-00002-of-00003.bin"]), Some(1));
        assert_eq!(missing_shards(&["a-00001-of-00002.bin", "a-00002-of-00002.bin", "b.bin"]), None);
    }
}
