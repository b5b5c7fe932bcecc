//! What can be typed: verbs, flags and their help. The only place that knows the command line's grammar.
//!
//! Invariant: a flag's help says its effect and its default; a verb's help ends with examples that work as they are.

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
    pub fn override_settings(&self, _overrides: &mut Overrides) {
        match self {
            Self::Config(_) | Self::Completions(_) => {}
        }
    }
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
    fn every_verb_teaches_with_examples() {
        for verb in Arguments::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("modelfs "), "`{}` has no example", verb.get_name());
            assert!(verb.get_about().is_some(), "`{}` has no help", verb.get_name());
        }
    }
}
