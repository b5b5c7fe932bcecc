//! Every environment variable the program reads, with what it means.
//!
//! Invariant: no other file names a variable; `docs/CONFIGURATION.md` holds this table, and a test compares them.
//! Not here: the meaning of a value (`settings`, `token`).

use super::ConfigError;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// One variable and what it is for.
pub struct Variable {
    pub name: &'static str,
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($constant:ident = $name:literal: $meaning:literal),+ $(,)?) => {
        /// The names of the variables.
        pub mod name {
            $(#[doc = $meaning] pub const $constant: &str = $name;)+
        }

        /// Every variable that is read, in the order of the reference page.
        pub const VARIABLES: &[Variable] = &[$(Variable { name: $name, meaning: $meaning }),+];
    };
}

variables! {
    STORE = "MODELFS_STORE": "Folder of the store; as `--store`.",
    CONFIG = "MODELFS_CONFIG": "Settings file; as `--config`.",
    OFFLINE = "MODELFS_OFFLINE": "`1` forbids the network, `0` overrides the settings file; as `--offline`.",
    MOUNT = "MODELFS_MOUNT": "Mount point of `mount` and `unmount` when none is given.",
    IMPORT_MODE = "MODELFS_IMPORT_MODE": "`reflink`, `copy`, `move` or `link`; as `import --mode`.",
    PROMOTE_AFTER = "MODELFS_PROMOTE_AFTER": "Bytes read from a remote file before all of it is fetched: `16MiB`.",
    READ_TIMEOUT = "MODELFS_READ_TIMEOUT": "How long a read waits for a hub that sends nothing: `120s`.",
    CACHE_LIMIT = "MODELFS_CACHE_LIMIT": "Bytes of downloaded files before the ones unused for longest are evicted: `500GB`; `0` for no limit.",
    MIN_FREE = "MODELFS_MIN_FREE": "Bytes of the disk that downloads leave free: `10GB`.",
    MAX_RATE = "MODELFS_MAX_RATE": "Bytes a second of all downloads together: `20MB`; `0` for no limit.",
    STREAMS = "MODELFS_STREAMS": "Most connections for one file in the background, 1 to 12.",
    ENRICH_SPACING = "MODELFS_ENRICH_SPACING": "Least time between two requests of `enrich`: `3s`.",
    ENRICH_UNKNOWN_FOR = "MODELFS_ENRICH_UNKNOWN_FOR": "How long a hub that does not know a model is not asked about it again: `30d`.",
    ENRICH_AFTER_IMPORT = "MODELFS_ENRICH_AFTER_IMPORT": "`0`: `import` does not have hubs asked about new models in the background.",
    CLASSIFY_THRESHOLD = "MODELFS_CLASSIFY_THRESHOLD": "How sure modelfs must be of what a file is: `0.5`; under it a file is `unknown`.",
    LOG = "MODELFS_LOG": "Which events are logged, as filter directives: `info`, `modelfs::fetch=debug`.",
    LOG_FORMAT = "MODELFS_LOG_FORMAT": "`text` or `json`; as `--log-format`.",
    HF_ENDPOINT = "HF_ENDPOINT": "Base URL of the Hugging Face hub or of a mirror.",
    HF_TOKEN = "HF_TOKEN": "Token for the Hugging Face hub.",
    HUGGING_FACE_HUB_TOKEN = "HUGGING_FACE_HUB_TOKEN": "The same, read when `HF_TOKEN` is not set.",
    HUGGINGFACE_TOKEN = "HUGGINGFACE_TOKEN": "The same, read when neither of the two is set.",
    HF_TOKEN_PATH = "HF_TOKEN_PATH": "File that holds the token; default `$HF_HOME/token`.",
    HF_HOME = "HF_HOME": "Folder of the Hugging Face tools; default `$XDG_CACHE_HOME/huggingface`.",
    HF_HUB_DISABLE_IMPLICIT_TOKEN = "HF_HUB_DISABLE_IMPLICIT_TOKEN": "True: no token is sent.",
    CIVITAI_ENDPOINT = "MODELFS_CIVITAI_ENDPOINT": "Base URL of Civitai.",
    CIVITAI_TOKEN = "CIVITAI_TOKEN": "Key of an account at Civitai, which most downloads there need.",
    CIVITAI_API_KEY = "CIVITAI_API_KEY": "The same, read when `CIVITAI_TOKEN` is not set.",
    CIVITAI_API_TOKEN = "CIVITAI_API_TOKEN": "The same, read when neither of the two is set.",
    MODELSCOPE_ENDPOINT = "MODELSCOPE_ENDPOINT": "Base URL of ModelScope.",
    MODELSCOPE_API_TOKEN = "MODELSCOPE_API_TOKEN": "Token for ModelScope.",
    SOURCES_ORDER = "MODELFS_SOURCES_ORDER": "Hubs in the order in which they are asked for a file that several have: `civitai,huggingface`; without it the fastest first.",
    HF_HUB_OFFLINE = "HF_HUB_OFFLINE": "True (`1`, `on`, `yes`, `true`) forbids the network.",
    TRANSFORMERS_OFFLINE = "TRANSFORMERS_OFFLINE": "The same.",
    DISABLE_EXTERNAL_CONNECTIONS = "DISABLE_EXTERNAL_CONNECTIONS": "The same.",
    XDG_CONFIG_HOME = "XDG_CONFIG_HOME": "Where `modelfs/config.toml` lies; default `~/.config`.",
    XDG_DATA_HOME = "XDG_DATA_HOME": "Where the default store `modelfs` lies; default `~/.local/share`.",
    XDG_CACHE_HOME = "XDG_CACHE_HOME": "Where the Hugging Face tools keep their files; default `~/.cache`.",
}

/// The variables that switch the network off, besides our own.
pub const FOREIGN_OFFLINE: [&str; 3] =
    [name::HF_HUB_OFFLINE, name::TRANSFORMERS_OFFLINE, name::DISABLE_EXTERNAL_CONNECTIONS];

/// The variables a token is taken from, first match wins.
pub const TOKEN_VARIABLES: [&str; 3] = [name::HF_TOKEN, name::HUGGING_FACE_HUB_TOKEN, name::HUGGINGFACE_TOKEN];
pub const CIVITAI_TOKEN_VARIABLES: &[&str] = &[name::CIVITAI_TOKEN, name::CIVITAI_API_KEY, name::CIVITAI_API_TOKEN];
pub const MODELSCOPE_TOKEN_VARIABLES: &[&str] = &[name::MODELSCOPE_API_TOKEN];

/// A copy of the process's environment, so that tests bring their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    pub fn from_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self { variables }
    }

    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self { variables: pairs.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect() }
    }

    /// An empty variable counts as not set: scripts clear variables that way.
    fn raw(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&str>, ConfigError> {
        let not_text = || ConfigError::Variable { name, reason: "is not UTF-8".to_owned() };
        self.raw(name).map(|value| value.to_str().ok_or_else(not_text)).transpose()
    }

    /// A variable of ours: a value that is neither true nor false is an error.
    pub fn switch(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => Ok(Some(true)),
            "0" | "off" | "no" | "false" => Ok(Some(false)),
            _ => Err(ConfigError::Variable { name, reason: format!("is `{text}`; write 1 or 0") }),
        }
    }

    /// A variable of another program: whatever it would not take for true is false.
    pub fn foreign_switch(&self, name: &str) -> bool {
        let text = self.raw(name).and_then(|value| value.to_str()).unwrap_or_default().trim().to_ascii_lowercase();
        ["1", "on", "yes", "true"].contains(&text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_of_ours_are_strict_and_those_of_others_lenient() {
        let cases =
            [("1", Some(true)), ("TRUE", Some(true)), ("off", Some(false)), ("0", Some(false)), ("maybe", None)];
        for (text, expected) in cases {
            let environment = Environment::from_pairs(&[(name::OFFLINE, text), (name::HF_HUB_OFFLINE, text)]);
            assert_eq!(environment.switch(name::OFFLINE).ok().flatten(), expected, "{text}");
            assert_eq!(environment.foreign_switch(name::HF_HUB_OFFLINE), expected == Some(true), "{text}");
        }
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment = Environment::from_pairs(&[(name::STORE, ""), (name::OFFLINE, "")]);
        assert_eq!(environment.path(name::STORE), None);
        assert_eq!(environment.switch(name::OFFLINE).expect("not set"), None);
    }

    #[test]
    fn each_variable_is_named_once() {
        let mut names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
    }

    /// The reference page is written by hand around a table that comes from here.
    #[test]
    fn the_reference_page_lists_every_variable_as_it_is_here() {
        let page = std::fs::read_to_string("docs/CONFIGURATION.md").expect("docs/CONFIGURATION.md");
        for variable in VARIABLES {
            let row = format!("| `{}` | {} |", variable.name, variable.meaning);
            assert!(page.contains(&row), "docs/CONFIGURATION.md lacks this row:\n{row}");
        }
        let rows =
            page.lines().filter(|line| line.starts_with("| `") && line.chars().nth(3).is_some_and(char::is_uppercase));
        assert_eq!(rows.count(), VARIABLES.len(), "the page lists variables that are not read");
    }
}
