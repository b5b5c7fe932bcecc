//! The applications whose layout is known: shipped data (`apps.toml`) → targets.
//!
//! Invariants of what comes out: names and paths are valid and nothing in them is dotted or reserved, no two targets have
//! one name, and lines of one folder agree on how its names must differ. Not here: which folder shows a model (`homes`).

use super::homes::{RESERVED_NAMES, UNSORTED};
use super::{FolderMatch, Target, TargetFolder};
use crate::base::{EntryName, ModelType, RelativePath};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetError {
    /// Where in the data, and what is wrong.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notation {
    #[serde(default)]
    suffixes: BTreeMap<String, String>,
    #[serde(default)]
    app: Vec<App>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    name: String,
    display: String,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    folders: String,
}

/// The shipped targets, in their fixed order; the ones of everyday use are enabled.
pub fn builtin_targets() -> Vec<Target> {
    parse_targets(include_str!("apps.toml")).expect("a test reads the shipped data")
}

pub fn parse_targets(text: &str) -> Result<Vec<Target>, TargetError> {
    let notation: Notation = toml::from_str(text).map_err(|error| TargetError { message: error.to_string() })?;
    let mut names = BTreeSet::new();
    let mut targets = Vec::new();
    for app in &notation.app {
        let target = parse_app(app, &notation.suffixes)
            .map_err(|what| TargetError { message: format!("{}: {what}", app.name) })?;
        if !names.insert(target.name.clone()) {
            return Err(TargetError { message: format!("{}: the name is there twice", app.name) });
        }
        targets.push(target);
    }
    Ok(targets)
}

fn parse_app(app: &App, sets: &BTreeMap<String, String>) -> Result<Target, String> {
    let name = EntryName::new(&app.name).map_err(|error| error.to_string())?;
    if name.as_str().starts_with('.') || RESERVED_NAMES.contains(&name.as_str()) {
        return Err("the name belongs to the mount itself".to_owned());
    }
    let mut folders: Vec<TargetFolder> = Vec::new();
    for (index, line) in app.folders.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let found = parse_line(line, sets).map_err(|what| format!("folder line {}: {what}", index + 1))?;
        for folder in found {
            if folders.iter().any(|other| other.path == folder.path && other.matching != folder.matching) {
                return Err(format!("folder line {}: another line says otherwise about `stem`", index + 1));
            }
            folders.push(folder);
        }
    }
    Ok(Target { name, display_name: app.display.clone(), enabled: app.enabled, folders })
}

/// One line: a folder for each of its types.
fn parse_line(line: &str, sets: &BTreeMap<String, String>) -> Result<Vec<TargetFolder>, String> {
    let mut words = line.split_whitespace();
    let types = parse_types(words.next().unwrap_or_default())?;
    let path = RelativePath::new(words.next().ok_or("the path is missing")?).map_err(|error| error.to_string())?;
    if path.names().any(|name| name.as_str().starts_with('.')) || path.as_str().split('/').next() == Some(UNSORTED) {
        return Err(format!("`{path}` is not a folder of an application"));
    }
    let mut folder = TargetFolder {
        model_type: None,
        path,
        suffixes: Vec::new(),
        excluded_suffixes: Vec::new(),
        directories: false,
        bases: Vec::new(),
        matching: FolderMatch::Relative,
    };
    match words.next() {
        None if types == [None] => {}
        None => return Err("what it takes is missing: suffixes, `*`, `bare` or `dirs`".to_owned()),
        Some("dirs") => folder.directories = true,
        Some("*") => {}
        Some("bare") => folder.suffixes.push(String::new()),
        Some(suffixes) => folder.suffixes = parse_suffixes(suffixes, sets)?,
    }
    for word in words {
        if word == "stem" {
            folder.matching = FolderMatch::Stem;
        } else if let Some(suffixes) = word.strip_prefix('!') {
            folder.excluded_suffixes = parse_suffixes(suffixes, sets)?;
        } else if let Some(bases) = word.strip_prefix("for=") {
            folder.bases = bases.split(',').map(str::to_owned).collect();
        } else {
            return Err(format!("`{word}` means nothing here"));
        }
    }
    Ok(types.into_iter().map(|model_type| TargetFolder { model_type, ..folder.clone() }).collect())
}

fn parse_types(word: &str) -> Result<Vec<Option<ModelType>>, String> {
    match word {
        "-" => Ok(vec![None]),
        "any" => Ok(ModelType::ALL.iter().filter(|it| **it != ModelType::Unknown).map(|it| Some(*it)).collect()),
        _ => word.split(',').map(|it| ModelType::parse(it).map(Some).map_err(|error| error.to_string())).collect(),
    }
}

fn parse_suffixes(word: &str, sets: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut suffixes = Vec::new();
    for item in word.split(',') {
        if let Some(set) = item.strip_prefix('$') {
            let named = sets.get(set).ok_or_else(|| format!("there is no set of suffixes `{set}`"))?;
            suffixes.extend(named.split(',').map(str::to_owned));
        } else {
            suffixes.push(item.to_owned());
        }
    }
    match suffixes.iter().find(|it| !it.starts_with('.') || it.len() < 2 || it.to_ascii_lowercase() != **it) {
        Some(wrong) => Err(format!("`{wrong}` is not a lower-case suffix with its dot")),
        None => Ok(suffixes),
    }
}

impl TargetFolder {
    /// Whether the folder is for this kind of model, whatever its name.
    pub(super) fn suits(&self, model_type: ModelType, base: Option<&str>) -> bool {
        let base_fits =
            self.bases.is_empty() || base.is_some_and(|base| self.bases.iter().any(|start| base.starts_with(start)));
        self.model_type == Some(model_type) && base_fits
    }

    /// Whether the application lists a file with this ending there.
    pub(super) fn lists(&self, ending: &str) -> bool {
        let listed = self.suffixes.is_empty() || self.suffixes.iter().any(|suffix| ends_with(ending, suffix));
        !self.directories && listed && !self.excluded_suffixes.iter().any(|suffix| ends_with(ending, suffix))
    }
}

/// The part of a name that can hold suffixes: all but its first character, because what begins with a dot has a name.
pub(super) fn ending(name: &str) -> &str {
    let mut characters = name.chars();
    characters.next();
    characters.as_str()
}

/// Whether an ending has a suffix, in any case; the empty suffix means that it has none.
fn ends_with(ending: &str, suffix: &str) -> bool {
    if suffix.is_empty() {
        return !ending.contains('.');
    }
    let (ending, suffix) = (ending.as_bytes(), suffix.as_bytes());
    ending.len() >= suffix.len() && ending[ending.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// The suffixes of several parts (`.vae.pt`) that the targets tell apart.
pub(super) fn long_suffixes(targets: &[Target]) -> Vec<&str> {
    let folders = targets.iter().flat_map(|target| &target.folders);
    let suffixes = folders.flat_map(|folder| folder.suffixes.iter().chain(&folder.excluded_suffixes));
    let mut long: Vec<&str> = suffixes.map(String::as_str).filter(|it| it.matches('.').count() > 1).collect();
    long.sort_unstable();
    long.dedup();
    long
}

/// The shortest end of a name for which every folder answers as for the whole. `long` is what `long_suffixes` found.
pub(super) fn short_ending<'a>(name: &'a str, long: &[&str]) -> &'a str {
    let ending = ending(name);
    let mut start = ending.rfind('.').unwrap_or(ending.len());
    for suffix in long.iter().filter(|suffix| ends_with(ending, suffix)) {
        start = start.min(ending.len() - suffix.len());
    }
    &ending[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        builtin_targets().into_iter().find(|it| it.name.as_str() == name).expect(name)
    }

    /// Where the first folder that takes a file puts it.
    fn place(target: &Target, model_type: ModelType, base: Option<&str>, name: &str) -> Option<String> {
        let folder = target.folders.iter().find(|it| it.suits(model_type, base) && it.lists(ending(name)))?;
        Some(folder.path.to_string())
    }

    #[test]
    fn the_everyday_applications_are_enabled() {
        let all = builtin_targets();
        let enabled: Vec<_> = all.iter().filter(|it| it.enabled).map(|it| it.name.as_str()).collect();
        assert_eq!(enabled, ["comfyui", "forge", "a1111", "wan2gp", "image-upscale"]);
        assert_eq!(all.len(), 22);
    }

    #[test]
    fn files_find_the_folder_of_each_application() {
        use ModelType::*;
        for (app, model_type, base, name, expected) in [
            ("comfyui", Checkpoint, None, "x.safetensors", Some("checkpoints")),
            ("comfyui", DiffusionModel, None, "x.gguf", Some("diffusion_models")),
            ("comfyui", TextEncoder, None, "x.gguf", Some("text_encoders")),
            ("comfyui", Classifier, None, "scorer", Some("classifiers")),
            ("comfyui", Classifier, None, "scorer.pth", None),
            ("comfyui", Detection, None, "face.pt", Some("ultralytics/bbox")),
            ("comfyui", Detection, None, "face.safetensors", Some("detection")),
            ("comfyui", FaceSwap, Some("reswapper"), "x.onnx", Some("reswapper")),
            ("comfyui", FaceSwap, None, "X.ONNX", Some("insightface")),
            ("forge", Checkpoint, None, "x.gguf", Some("Stable-diffusion")),
            ("forge", Checkpoint, None, "x.vae.ckpt", None),
            ("forge", Vae, None, "x.sft", None),
            ("forge", Vae, None, "x.safetensors", Some("VAE")),
            ("forge", ClipVision, None, "x.pth", Some("ControlNetPreprocessor/clip_vision")),
            ("forge-neo", Vae, None, "x.sft", Some("VAE")),
            ("a1111", DiffusionModel, None, "x.safetensors", None),
            ("a1111", Lycoris, None, "x.pt", Some("Lora")),
            ("wan2gp", Lora, Some("wan2.1-t2v-1.3b"), "x.safetensors", Some("loras/wan_1.3B")),
            ("wan2gp", Lora, Some("wan2.1-i2v-14b"), "x.safetensors", Some("loras/wan_i2v")),
            ("wan2gp", Lora, Some("wan2.2-i2v-a14b"), "x.safetensors", Some("loras/wan")),
            ("wan2gp", Lora, Some("flux2-klein-9b"), "x.sft", Some("loras/flux2_klein_9b")),
            ("wan2gp", Lora, Some("flux1-dev"), "x.sft", Some("loras/flux")),
            ("wan2gp", Lora, Some("sdxl"), "x.safetensors", None),
            ("wan2gp", Lora, None, "x.safetensors", None),
            ("image-upscale", Checkpoint, None, "x.safetensors", Some("models/Stable-diffusion")),
            ("fooocus", Checkpoint, None, ".safetensors", None),
        ] {
            let found = place(&target(app), model_type, base, name);
            assert_eq!(found.as_deref(), expected, "{app} {model_type} {base:?} {name}");
        }
    }

    #[test]
    fn comfyui_has_a_folder_for_every_type_it_knows() {
        use ModelType::*;
        let unknown = [Inpaint, PromptExpansion, SafetyChecker, Mmproj, LlmLora, SentenceEmbedding, Speech, Unknown];
        let comfyui = target("comfyui");
        for model_type in ModelType::ALL {
            let takes = comfyui.folders.iter().any(|it| it.model_type == Some(*model_type));
            assert_eq!(takes, !unknown.contains(model_type), "{model_type}");
        }
    }

    #[test]
    fn folders_of_one_pair_never_both_take_models() {
        for (app, empty) in [("comfyui", "unet"), ("comfyui", "clip"), ("swarmui", "unet"), ("a1111", "LyCORIS")] {
            let target = target(app);
            let folder = target.folders.iter().find(|it| it.path.as_str() == empty).expect("listed");
            assert_eq!(folder.model_type, None, "{app}/{empty}");
        }
    }

    #[test]
    fn a_short_ending_answers_as_the_whole_name() {
        let targets = builtin_targets();
        let long = long_suffixes(&targets);
        for (name, expected) in [
            ("a.b.ckpt", ".ckpt"),
            ("a.vae.safetensors", ".vae.safetensors"),
            (".vae.safetensors", ".safetensors"),
            ("é.VAE.Ckpt", ".VAE.Ckpt"),
            ("plain", ""),
            (".ckpt", ""),
            ("", ""),
        ] {
            let short = short_ending(name, &long);
            assert_eq!(short, expected);
            for folder in targets.iter().flat_map(|target| &target.folders) {
                assert_eq!(folder.lists(short), folder.lists(ending(name)), "{name} in {}", folder.path);
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let app =
            |name: &str, line: &str| format!("[[app]]\nname = \"{name}\"\ndisplay = \"X\"\nfolders = '''{line}'''\n");
        for (text, expected) in [
            (app("x", "lora loras .ckpt what"), "x: folder line 1: `what` means nothing here"),
            (app("x", "loras loras *"), "x: folder line 1: `loras` is not a word of this list"),
            (app("x", "lora ../loras *"), "x: folder line 1: the name is `.` or `..`"),
            (app("x", "lora a/.b *"), "x: folder line 1: `a/.b` is not a folder of an application"),
            (app("x", "lora a"), "x: folder line 1: what it takes is missing: suffixes, `*`, `bare` or `dirs`"),
            (app("x", "lora"), "x: folder line 1: the path is missing"),
            (app("x", "lora a $none"), "x: folder line 1: there is no set of suffixes `none`"),
            (app("x", "lora a .CKPT"), "x: folder line 1: `.CKPT` is not a lower-case suffix with its dot"),
            (app("x", "lora a *\nvae a * stem"), "x: folder line 2: another line says otherwise about `stem`"),
            (app("store", ""), "store: the name belongs to the mount itself"),
            (app("x", "") + &app("x", ""), "x: the name is there twice"),
        ] {
            assert_eq!(parse_targets(&text).expect_err(expected).message, expected);
        }
        assert!(parse_targets("app = 3").is_err() && parse_targets("").expect("nothing").is_empty());
    }
}
