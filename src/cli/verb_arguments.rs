//! What can follow each verb: its own arguments and flags, and their help.
//!
//! Invariant: a flag's help says its effect and its default. Not here: the verbs and the global flags (`arguments`).

use crate::library::ImportMode;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
pub struct JsonArgument {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ImportArguments {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How the bytes get into the store [default: reflink where the filesystem can, else copy]
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<ImportModeWord>,
    /// After a move, leave a symlink to the stored file where the original was
    #[arg(long)]
    pub leave_symlink: bool,
    /// Only say what would be done and how much space each mode would take
    #[arg(long)]
    pub dry_run: bool,
    /// Print the summary as one object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ImportModeWord {
    /// Share the blocks with the original: takes no space (btrfs, xfs, bcachefs)
    Reflink,
    /// Make a second copy
    Copy,
    /// Take the original away
    Move,
    /// Leave the bytes where they lie and notice if they change
    Link,
}

impl From<ImportModeWord> for ImportMode {
    fn from(word: ImportModeWord) -> Self {
        match word {
            ImportModeWord::Reflink => Self::Reflink,
            ImportModeWord::Copy => Self::Copy,
            ImportModeWord::Move => Self::Move,
            ImportModeWord::Link => Self::Link,
        }
    }
}

#[derive(Args)]
pub struct AddArguments {
    /// hf:org/name[@revision][/path], civitai:model[@version], modelscope:org/name, a page or file's address, dir:FOLDER
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
    /// Print one array with an object per REF
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct FetchArguments {
    /// Models, repositories or folders of them
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
    /// Print one array with an object per file
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct PsArguments {
    /// Draw the table anew each second until Ctrl-C
    #[arg(long, short, conflicts_with = "json")]
    pub watch: bool,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct CancelArguments {
    /// The number or the name that `ps` shows
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Args)]
pub struct KeepArguments {
    /// Models, repositories or folders of them
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
    /// Print one array with an object per file
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct MountArguments {
    /// Where to mount; made when it is missing [default: $MODELFS_MOUNT, else ~/modelfs]
    pub dir: Option<PathBuf>,
    /// Stay in the terminal and log to it; Ctrl-C unmounts
    #[arg(long, short)]
    pub foreground: bool,
    /// Let other users in (containers need it; an ordinary user needs user_allow_other in /etc/fuse.conf)
    #[arg(long)]
    pub allow_other: bool,
    /// Started by `mount` itself: say `ready` on stdout once the tree can be used.
    #[arg(long, hide = true, requires = "foreground")]
    pub detached: bool,
}

#[derive(Args)]
pub struct UnmountArguments {
    /// The mount point [default: $MODELFS_MOUNT, else ~/modelfs]
    pub dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct LsArguments {
    /// Words, key:value and comparisons; several arguments are one query, `-word` inside quotes or after `--`
    #[arg(value_name = "QUERY")]
    pub query: Vec<String>,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct SearchArguments {
    /// Words, key:value (type, base, format, creator, tag, license, nsfw and more) and comparisons; several arguments are
    /// one query, `-word` inside quotes or after `--`
    #[arg(value_name = "QUERY", required = true)]
    pub query: Vec<String>,
    /// Where to search: local, huggingface, civitai, modelscope, all, or several with commas [default: local]
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Go on where an earlier answer of hubs ended, with the same query
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// Only models of this type, as `type:`
    #[arg(long = "type", value_name = "TYPE")]
    pub model_type: Option<String>,
    /// Only models of this base, as `base:`
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Order of the answers, as `sort:` [default: relevance]
    #[arg(long, value_name = "ORDER")]
    pub sort: Option<String>,
    /// Most answers, as `limit:` [default: 50]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct InfoArguments {
    /// A name, a number of `ls`, a path in the mount, sha256:DIGITS, or a place at a hub
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Print one object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ClassifyArguments {
    /// Models of the store, or files [default: every model of the store]
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
    /// Every model of the store, as without a REF
    #[arg(long, conflicts_with = "references")]
    pub all: bool,
    /// Tell the evidence, the rules that fired and why nothing else won; changes nothing
    #[arg(long, requires = "references", conflicts_with_all = ["set", "unset", "diff"])]
    pub explain: bool,
    /// Say by hand what a model is: TYPE, TYPE/BASE or /BASE
    #[arg(long, value_name = "TYPE[/BASE]", requires = "references", conflicts_with_all = ["unset", "diff"])]
    pub set: Option<String>,
    /// Return to the automatic type and base
    #[arg(long, requires = "references", conflicts_with = "diff")]
    pub unset: bool,
    /// Tell what would change and change nothing
    #[arg(long)]
    pub diff: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct EnrichArguments {
    /// What `import` starts: one at a time, told to a log
    #[arg(long, hide = true, conflicts_with_all = ["references", "again", "json"])]
    pub background: bool,
    /// Models [default: every model without an answer]
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
    /// Ask also about what was answered before
    #[arg(long)]
    pub again: bool,
    /// Print one object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct TagArguments {
    /// Print one object; goes before REF
    #[arg(long)]
    pub json: bool,
    /// A model, then +TAG and -TAG
    #[arg(required = true, value_name = "REF", allow_hyphen_values = true, trailing_var_arg = true, value_parser = no_flag)]
    pub words: Vec<String>,
}

/// What follows the model may begin with a dash, so a flag that was meant there would take away a tag of its name.
fn no_flag(word: &str) -> Result<String, String> {
    if word.starts_with("--") {
        return Err("flags go before the model".to_owned());
    }
    Ok(word.to_owned())
}

#[derive(Args)]
pub struct TrustArguments {
    /// A name, a number of `ls`, a path in the mount, sha256:DIGITS, or a place at a hub
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct RemovalArguments {
    /// A name, a number of `ls`, a path in the mount, sha256:DIGITS, or a place at a hub
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct HashArguments {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also write NAME.sha256 beside each file, the name without its suffix: what applications look for
    #[arg(long)]
    pub write: bool,
    /// Print one array of objects
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct AppArguments {
    #[command(subcommand)]
    pub verb: AppVerb,
}

#[derive(Subcommand)]
pub enum AppVerb {
    /// List every application whose layout is known
    List(JsonArgument),
    /// Show the folders of one application and what each holds
    Show {
        name: String,
        /// Print one object
        #[arg(long)]
        json: bool,
    },
    /// Mount the layout of an application
    Enable { name: String },
    /// Take the layout of an application out of the mount; names come back unchanged when it is enabled again
    Disable { name: String },
}

#[derive(Args)]
pub struct VerifyArguments {
    /// Only these models [default: everything]
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
    /// Print one object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Print the path of the settings file, whether it exists or not
    Path,
    /// Print every setting with its value and origin; tokens are never shown
    Show {
        /// Print one object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell that will read the script
    pub shell: clap_complete::Shell,
}
