//! Where things lie by the XDG standard. Invariant: every path is absolute. Not here: the files themselves.

use super::ConfigError;
use etcetera::{BaseStrategy, choose_base_strategy};
use std::path::{Path, PathBuf};

/// The folders of one user.
#[derive(Clone, Debug)]
pub struct Places {
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`
    pub config: PathBuf,
    /// `$XDG_DATA_HOME`
    pub data: PathBuf,
    /// `$XDG_CACHE_HOME`
    pub cache: PathBuf,
}

impl Places {
    pub fn from_process() -> Result<Self, ConfigError> {
        let strategy = choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
        Ok(Self {
            home: strategy.home_dir().to_owned(),
            config: strategy.config_dir(),
            data: strategy.data_dir(),
            cache: strategy.cache_dir(),
        })
    }

    pub fn settings_file(&self) -> PathBuf {
        self.config.join("modelfs/config.toml")
    }

    pub fn store(&self) -> PathBuf {
        self.data.join("modelfs")
    }

    /// Used when `mount` is given no folder: visible, and the user's own.
    pub fn mount_point(&self) -> PathBuf {
        self.home.join("modelfs")
    }

    /// A path from the settings file: `~/` is the home folder, a relative one starts at the file's folder.
    pub fn expand(&self, path: &Path, file: &Path) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => file.parent().unwrap_or(Path::new("/")).join(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_file_are_expanded() {
        let places = Places { home: "/h".into(), config: "/h/c".into(), data: "/h/d".into(), cache: "/h/k".into() };
        let file = places.settings_file();
        for (text, expected) in [("~/x", "/h/x"), ("/abs", "/abs"), ("rel", "/h/c/modelfs/rel"), ("~", "/h")] {
            assert_eq!(places.expand(Path::new(text), &file), Path::new(expected).to_path_buf(), "{text}");
        }
    }
}
