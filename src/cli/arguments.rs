//! What can be typed: the verbs, the global flags and their help. What follows each verb is in `verb_arguments`.
//!
//! Invariant: a flag's help says its effect and its default; a verb's help ends with examples that work as they are.

use super::verb_arguments::{
    AddArguments, AppArguments, CancelArguments, ClassifyArguments, CompletionsArguments, ConfigArguments,
    EnrichArguments, FetchArguments, HashArguments, ImportArguments, InfoArguments, JsonArgument, KeepArguments,
    LsArguments, MountArguments, PsArguments, RemovalArguments, SearchArguments, TagArguments, TrustArguments,
    UnmountArguments, VerifyArguments,
};
use crate::config::{LogFormat, Overrides};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const ABOUT: &str = "One copy of every AI model file, mounted the way each application expects it.";

const EXAMPLES: &str = "\
Start with:
  modelfs import ~/ComfyUI/models ~/stable-diffusion-webui/models
  modelfs mount ~/models
  ls ~/models/comfyui/loras ~/models/forge/Lora

Exit codes: 0 ok, 1 failure, 2 usage, 3 authentication, 4 not found, 5 network (try again),
6 rate limited, 7 integrity, 8 no space, 9 not mounted, 130 interrupted.";

#[derive(Parser)]
#[command(name = "modelfs", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Folder of the store [default: $MODELFS_STORE, else ~/.local/share/modelfs]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Never use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Settings file [default: $MODELFS_CONFIG, else ~/.config/modelfs/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log what is done; twice for how, three times for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No progress, no summaries: only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// How log lines are written to stderr [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = false)]
    pub log_format: Option<LogFormatWord>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormatWord {
    Text,
    Json,
}

impl From<LogFormatWord> for LogFormat {
    fn from(word: LogFormatWord) -> Self {
        match word {
            LogFormatWord::Text => Self::Text,
            LogFormatWord::Json => Self::Json,
        }
    }
}

#[derive(Subcommand)]
pub enum Verb {
    /// Make an empty store; `import`, `add` and `mount` do it by themselves when there is none
    #[command(after_help = "\
Examples:
  modelfs init
  modelfs init --store /data/models")]
    Init,
    /// Take model files and folders into the store: each content once, recognised and named
    ///
    /// Folders are searched with everything below them; links are followed once. Nothing is executed. What cannot be
    /// taken is left alone and reported with its reason; then the exit code is 1. Stop it at any time and run it again:
    /// it goes on where it was.
    #[command(
        visible_alias = "scan",
        after_help = "\
Examples:
  modelfs import ~/ComfyUI/models ~/stable-diffusion-webui/models
  modelfs import --dry-run ~/ComfyUI/models
  modelfs import --mode move --leave-symlink /mnt/old/models
  modelfs import ~/.cache/huggingface/hub"
    )]
    Import(ImportArguments),
    /// Register files of a hub: they appear in the mount at once, and reading them downloads them
    #[command(after_help = "\
Examples:
  modelfs add hf:stabilityai/stable-diffusion-xl-base-1.0
  modelfs add hf:Comfy-Org/flux1-dev@main/flux1-dev-fp8.safetensors
  modelfs add civitai:4384@128713
  modelfs add modelscope:Qwen/Qwen3-0.6B
  modelfs add https://host.example/loras/style.safetensors
  modelfs add dir:/mnt/archive/models
  modelfs add https://huggingface.co/lllyasviel/sd-controlnet-canny/tree/main")]
    Add(AddArguments),
    /// Download whole files and wait until they are here
    ///
    /// Through the mount that serves the store, or in this process when none does. Stop it at any time: what has arrived is
    /// kept.
    #[command(after_help = "\
REF is what `info` takes, or a repository or a folder of one: then all its files.
Examples:
  modelfs fetch detail-tweaker.safetensors
  modelfs fetch hf:stabilityai/stable-diffusion-xl-base-1.0/vae")]
    Fetch(FetchArguments),
    /// Show what is being downloaded: file, state, percent, rate, time left, source
    #[command(after_help = "\
Examples:
  modelfs ps
  modelfs ps --watch
  modelfs ps --json | jq -r '.[] | select(.state == \"failed\") | .error'")]
    Ps(PsArguments),
    /// Stop a download; what has arrived is kept
    #[command(after_help = "\
Examples:
  modelfs cancel 17
  modelfs cancel detail-tweaker.safetensors")]
    Cancel(CancelArguments),
    /// Keep files on this machine: they are never evicted
    #[command(after_help = "\
Examples:
  modelfs pin detail-tweaker.safetensors
  modelfs pin hf:stabilityai/stable-diffusion-xl-base-1.0")]
    Pin(KeepArguments),
    /// Let files be evicted again
    #[command(after_help = "\
Examples:
  modelfs unpin detail-tweaker.safetensors")]
    Unpin(KeepArguments),
    /// Give up the bytes of files that a hub still has; they keep their names and are downloaded again when they are read
    ///
    /// A file that is pinned, open, or nowhere but on this machine stays.
    #[command(after_help = "\
Examples:
  modelfs evict detail-tweaker.safetensors
  modelfs evict hf:stabilityai/stable-diffusion-xl-base-1.0")]
    Evict(KeepArguments),
    /// Mount the collection; returns when the tree can be used and stays in the background
    #[command(after_help = "\
Examples:
  modelfs mount ~/models
  modelfs mount --foreground -v ~/models
  modelfs mount --allow-other /srv/models
Point an application at its folder: python main.py --models-directory ~/models/comfyui")]
    Mount(MountArguments),
    /// Unmount a mounted collection
    #[command(
        visible_alias = "umount",
        after_help = "\
Examples:
  modelfs unmount ~/models"
    )]
    Unmount(UnmountArguments),
    /// List models, all of them or those that answer a query
    #[command(after_help = "\
QUERY is made of
  words and \"phrases\"   of name, tags, trigger words, description, creator
  key:value             type base format precision source creator tag license state hash app nsfw;
                        type:lora|lycoris takes either, -key:value takes the others
  size>5GB size<=500MB  size, added, updated, downloads, rating with < <= > >= =
  a OR b  ( … )        sort: name size added updated downloads rating likes; limit:50
Examples:
  modelfs ls
  modelfs ls type:lora base:sdxl
  modelfs ls -- -type:lora
  modelfs ls 'size>5GB sort:size' --json | jq -r '.[].name'")]
    Ls(LsArguments),
    /// Search by words, keys and comparisons, the most relevant first
    #[command(after_help = "\
A word is found anywhere in a name, tag, trigger word, description or creator: `xl v3` finds animagineXLV3.
  words \"a phrase\"          all must be found          a OR b   ( ... )   -word
  key:value key:a|b         type base format precision source creator tag license state hash app
  size<2GB added>=2025-01   with < <= > >= =           sort:name|size|added   limit:20
Examples:
  modelfs search anime style type:lora
  modelfs search '\"red hair\" -tag:style' --base sdxl --limit 10
  modelfs search sdxl style --source huggingface --sort downloads
  modelfs search 'size<500MB added>=2025 sort:size' --json | jq -r '.[].name'
In a mount, a folder is a query: mkdir ~/models/search/'sdxl anime size<500MB'")]
    Search(SearchArguments),
    /// Tell everything about one model
    #[command(after_help = "\
REF is an id of `ls`, a name, a path in a mount, sha256:<8 digits or more>, an AutoV2 or hf:org/name/path.
Examples:
  modelfs info detail-tweaker.safetensors
  modelfs info sha256:31e35c80
  modelfs info ~/models/comfyui/loras/detail-tweaker.safetensors --json")]
    Info(InfoArguments),
    /// Judge models again by the rules of today, explain a verdict, or say what a model is
    ///
    /// Without a REF every model is judged by what is kept of its header: no file is read. What --set says stands above
    /// everything and stays through every update. A path of a file that is not in the store is only looked at, and needs
    /// no store.
    #[command(after_help = "\
Examples:
  modelfs classify --diff
  modelfs classify
  modelfs classify --explain detail-tweaker.safetensors
  modelfs classify --set lora/sdxl detail-tweaker.safetensors
  modelfs classify ~/Downloads/what-is-this.safetensors")]
    Classify(ClassifyArguments),
    /// Ask Civitai by hash and Hugging Face by repository what they know about models, and keep it
    ///
    /// Name, description, creator, tags, licence, trigger words, base model, statistics and the addresses of pictures; the
    /// answers are archived for good. Hashes and names of repositories leave this machine, nothing else. What a hub does not
    /// know is not asked again for a while. Stop it at any time and run it again: it goes on where it was.
    #[command(after_help = "\
A model that is named is also asked about by the hash of its tensors alone (AutoV3), one request for each.
Examples:
  modelfs enrich
  modelfs enrich detail-tweaker.safetensors
  modelfs enrich --again --json | jq '.models[] | select(.outcome == \"gone\")'")]
    Enrich(EnrichArguments),
    /// Add and take away tags by hand; without any, tell them
    #[command(after_help = "\
Examples:
  modelfs tag detail-tweaker.safetensors +style -anime
  modelfs tag detail-tweaker.safetensors")]
    Tag(TagArguments),
    /// Hand out a pickle through the mount although loading it may run code
    ///
    /// A .ckpt, .pt, .pth or .bin is a program for Python's unpickler. One that imports more than tensors need is listed
    /// as unsafe, and opening it fails with "permission denied" until it is trusted. `info` says what it imports.
    #[command(after_help = "\
Examples:
  modelfs info old-model.ckpt
  modelfs trust old-model.ckpt")]
    Trust(TrustArguments),
    /// Withhold a pickle again that was trusted
    #[command(after_help = "\
Examples:
  modelfs untrust old-model.ckpt")]
    Untrust(TrustArguments),
    /// Take models out of sight; their files stay in the store
    ///
    /// Every name in every application goes, and `modelfs restore` brings all of them back as they were. No file is
    /// removed: the content stays under `store/`.
    #[command(after_help = "\
Examples:
  modelfs rm old-style.safetensors
  modelfs restore old-style.safetensors")]
    Rm(RemovalArguments),
    /// Bring back models that were taken out of sight, under the names they had
    #[command(after_help = "\
Examples:
  modelfs restore old-style.safetensors
  modelfs restore 42")]
    Restore(RemovalArguments),
    /// Print the six hashes that hubs and applications know files by
    #[command(after_help = "\
Examples:
  modelfs hash model.safetensors
  modelfs hash --write ~/ComfyUI/models/loras/*.safetensors
  modelfs hash *.safetensors --json | jq -r '.[].autov2'")]
    Hash(HashArguments),
    /// Show applications and choose whose layouts are mounted
    #[command(after_help = "\
Examples:
  modelfs app list
  modelfs app show comfyui
  modelfs app enable swarmui")]
    App(AppArguments),
    /// Count models and bytes by type, base and state
    #[command(after_help = "\
Examples:
  modelfs stats
  modelfs stats --json | jq .saved_bytes")]
    Stats(JsonArgument),
    /// Read stored files from end to end and compare them with their hashes, and the catalog with the disk
    ///
    /// Changes nothing. Findings make exit code 7.
    #[command(after_help = "\
Examples:
  modelfs verify
  modelfs verify sha256:31e35c80")]
    Verify(VerifyArguments),
    /// Check this machine and the store, and say how to mend what is wrong
    #[command(after_help = "\
Examples:
  modelfs doctor
  modelfs doctor --json | jq '.[] | select(.status != \"fine\")'")]
    Doctor(JsonArgument),
    /// Show the settings in force and where each comes from
    #[command(after_help = "\
Examples:
  modelfs config path
  modelfs config show
  modelfs config show --json | jq '.store'")]
    Config(ConfigArguments),
    /// Print the completion script for a shell
    #[command(after_help = "\
Examples:
  modelfs completions bash > ~/.local/share/bash-completion/completions/modelfs
  modelfs completions zsh > ~/.zfunc/_modelfs
  modelfs completions fish > ~/.config/fish/completions/modelfs.fish")]
    Completions(CompletionsArguments),
}

impl Verb {
    /// Flags of single verbs that have a setting behind them.
    pub fn override_settings(&self, overrides: &mut Overrides) {
        match self {
            Self::Import(wanted) => overrides.import_mode = wanted.mode.map(Into::into),
            Self::Mount(wanted) => {
                overrides.mount_point = wanted.dir.clone();
                overrides.allow_other = wanted.allow_other;
            }
            Self::Unmount(wanted) => overrides.mount_point = wanted.dir.clone(),
            Self::Init
            | Self::Add(_)
            | Self::Fetch(_)
            | Self::Ps(_)
            | Self::Cancel(_)
            | Self::Pin(_)
            | Self::Unpin(_)
            | Self::Evict(_)
            | Self::Ls(_)
            | Self::Search(_)
            | Self::Info(_)
            | Self::Classify(_)
            | Self::Enrich(_)
            | Self::Tag(_)
            | Self::Trust(_)
            | Self::Untrust(_)
            | Self::Rm(_)
            | Self::Restore(_)
            | Self::Hash(_)
            | Self::App(_)
            | Self::Stats(_)
            | Self::Verify(_)
            | Self::Doctor(_)
            | Self::Config(_)
            | Self::Completions(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["modelfs --store /s --offline config path", "modelfs config path --store /s --offline"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
            assert_eq!((arguments.global.store, arguments.global.offline), (Some("/s".into()), true));
        }
    }

    #[test]
    fn flags_stand_before_or_after_a_query() {
        for line in ["modelfs ls --json anime type:lora", "modelfs ls anime type:lora --json"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
            let Verb::Ls(wanted) = arguments.verb else { panic!("{line}") };
            assert_eq!((wanted.json, wanted.query.join(" ").as_str()), (true, "anime type:lora"), "{line}");
        }
    }

    #[test]
    fn a_flag_is_not_taken_for_a_tag() {
        for (line, expected) in [
            ("modelfs tag --json a.safetensors +style -anime", Some(&["a.safetensors", "+style", "-anime"][..])),
            ("modelfs tag a.safetensors +style --json", None),
            ("modelfs tag a.safetensors --store /s", None),
        ] {
            let words = Arguments::try_parse_from(line.split(' ')).ok().map(|arguments| match arguments.verb {
                Verb::Tag(wanted) => wanted.words,
                _ => panic!("{line}"),
            });
            assert_eq!(
                words.as_deref(),
                expected.map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
            );
        }
    }

    #[test]
    fn every_verb_teaches_with_examples() {
        for verb in Arguments::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("modelfs "), "`{}` has no example", verb.get_name());
            assert!(verb.get_about().is_some(), "`{}` has no help", verb.get_name());
        }
    }
}
