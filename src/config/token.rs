//! Finds the tokens of the hubs, where their own tools keep them.
//!
//! Invariants: a found token can be the value of a header; no message holds any part of it. Order: the environment's
//! variables, then the token file. Not here: sending it (`hub`).

use super::environment::{Environment, TOKEN_VARIABLES, name};
use super::{ConfigError, Places};
use crate::base::Secret;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest token file that is read; tokens have some forty characters.
const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;

/// Whether there is a token, and where from.
#[derive(Clone, Debug)]
pub enum TokenState {
    Absent,
    /// `origin` names the variable or file.
    Found {
        token: Secret,
        origin: String,
        /// The file that holds it can be read by other users.
        exposed: bool,
    },
    /// Something is there and cannot be used.
    Unusable {
        origin: String,
        reason: String,
    },
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids to send one.
    Disabled,
}

impl TokenState {
    pub fn token(&self) -> Option<&Secret> {
        match self {
            Self::Found { token, .. } => Some(token),
            Self::Absent | Self::Unusable { .. } | Self::Disabled => None,
        }
    }

    pub fn find(
        environment: &Environment,
        places: Option<&Places>,
        configured_file: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        if environment.foreign_switch(name::HF_HUB_DISABLE_IMPLICIT_TOKEN) {
            return Ok(Self::Disabled);
        }
        for variable in TOKEN_VARIABLES {
            if let Some(text) = environment.text(variable)? {
                return Ok(Self::from_text(text, variable.to_owned(), false));
            }
        }
        let home = || environment.path(name::HF_HOME).or_else(|| Some(places?.cache.join("huggingface")));
        let file = environment.path(name::HF_TOKEN_PATH).or(configured_file).or_else(|| Some(home()?.join("token")));
        Ok(file.map_or(Self::Absent, |file| Self::from_file(&file)))
    }

    /// For a hub whose tools keep no token in a file of their own.
    pub fn find_in(
        environment: &Environment,
        variables: &[&'static str],
        configured_file: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        for variable in variables {
            if let Some(text) = environment.text(variable)? {
                return Ok(Self::from_text(text, (*variable).to_owned(), false));
            }
        }
        Ok(configured_file.map_or(Self::Absent, |file| Self::from_file(&file)))
    }

    fn from_file(path: &Path) -> Self {
        let origin = path.display().to_string();
        let read = || -> io::Result<(String, bool)> {
            let file = std::fs::File::open(path)?;
            let exposed = file.metadata()?.permissions().mode() & 0o077 != 0;
            let mut text = String::new();
            file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok((text, exposed))
        };
        match read() {
            Ok((text, _)) if text.trim().is_empty() => Self::Absent,
            Ok((text, exposed)) => Self::from_text(&text, origin, exposed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Unusable { origin, reason: error.kind().to_string() },
        }
    }

    fn from_text(text: &str, origin: String, exposed: bool) -> Self {
        let token = text.trim();
        if token.is_empty() {
            return Self::Absent;
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Self::Unusable { origin, reason: "it holds characters that a token cannot have".to_owned() };
        }
        Self::Found { token: Secret::new(token.to_owned()), origin, exposed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pairs: &[(&str, &str)], file: Option<&Path>) -> TokenState {
        TokenState::find(&Environment::from_pairs(pairs), None, file.map(Path::to_owned)).expect("text")
    }

    fn summary(state: &TokenState) -> String {
        match state {
            TokenState::Absent => "absent".to_owned(),
            TokenState::Found { token, origin, .. } => format!("{} from {origin}", token.expose()),
            TokenState::Unusable { origin, .. } => format!("unusable {origin}"),
            TokenState::Disabled => "disabled".to_owned(),
        }
    }

    #[test]
    fn variables_win_in_their_order() {
        let all = [("HUGGINGFACE_TOKEN", "c"), ("HUGGING_FACE_HUB_TOKEN", "b"), ("HF_TOKEN", " a\n")];
        assert_eq!(summary(&find(&all, None)), "a from HF_TOKEN");
        assert_eq!(summary(&find(&all[..2], None)), "b from HUGGING_FACE_HUB_TOKEN");
        assert_eq!(summary(&find(&all[..1], None)), "c from HUGGINGFACE_TOKEN");
        assert_eq!(summary(&find(&[], None)), "absent");
        assert_eq!(summary(&find(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None)), "disabled");
        assert_eq!(summary(&find(&[("HF_TOKEN", "two words")], None)), "unusable HF_TOKEN");
    }

    #[test]
    fn other_hubs_have_variables_and_a_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "from_file\n").expect("written");
        let variables = &["CIVITAI_TOKEN", "CIVITAI_API_KEY"];
        let find = |pairs: &[(&str, &str)], file: Option<&Path>| {
            TokenState::find_in(&Environment::from_pairs(pairs), variables, file.map(Path::to_owned)).expect("text")
        };
        let both = [("CIVITAI_API_KEY", "b"), ("CIVITAI_TOKEN", "a")];
        assert_eq!(summary(&find(&both, Some(&file))), "a from CIVITAI_TOKEN");
        assert_eq!(summary(&find(&both[..1], Some(&file))), "b from CIVITAI_API_KEY");
        assert_eq!(summary(&find(&[], Some(&file))), format!("from_file from {}", file.display()));
        assert_eq!(summary(&find(&[], None)), "absent");
    }

    #[test]
    fn files_follow_the_variables() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (configured, home) = (folder.path().join("mine"), folder.path().join("hf"));
        std::fs::create_dir(&home).expect("folder");
        std::fs::write(&configured, "hf_one\n").expect("written");
        std::fs::write(home.join("token"), "hf_two\n").expect("written");
        let home_text = home.to_str().expect("UTF-8");
        let configured_text = configured.to_str().expect("UTF-8");
        assert_eq!(summary(&find(&[("HF_HOME", home_text)], None)), format!("hf_two from {home_text}/token"));
        let both = find(&[("HF_HOME", home_text)], Some(&configured));
        assert_eq!(summary(&both), format!("hf_one from {configured_text}"));
        let named = find(&[("HF_TOKEN_PATH", configured_text), ("HF_HOME", home_text)], None);
        assert_eq!(summary(&named), format!("hf_one from {configured_text}"));
        assert_eq!(summary(&find(&[("HF_TOKEN_PATH", "/nowhere/at/all")], None)), "absent");
    }

    #[test]
    fn a_file_others_can_read_is_exposed_and_nothing_prints_the_token() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "hf_secret").expect("written");
        for (mode, expected) in [(0o600, false), (0o644, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
            let state = find(&[], Some(&path));
            assert!(matches!(state, TokenState::Found { exposed, .. } if exposed == expected));
            assert!(!format!("{state:?}").contains("hf_secret"));
        }
    }
}
