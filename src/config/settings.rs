//! The settings everything else uses: complete, checked, each value with its origin.
//!
//! Precedence: flag, environment, file, default. The switches that forbid the network are the exception: one that is
//! on cannot be switched off by a weaker one, so that a machine that must stay silent does.

use super::enrich::Enriching;
use super::environment::{CIVITAI_TOKEN_VARIABLES, Environment, FOREIGN_OFFLINE, MODELSCOPE_TOKEN_VARIABLES, name};
use super::file::{
    HubSection, SettingsFile, parse_duration, parse_import_mode, parse_log_format, parse_size, parse_sources,
};
use super::limits::Limits;
use super::{ConfigError, Places, TokenState};
use crate::hub::{CIVITAI_ENDPOINT, HUGGING_FACE_ENDPOINT, MODELSCOPE_ENDPOINT, Mirrors};
use crate::library::ImportMode;
use crate::tree::Source;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Headers and trailers of every known format fit well below; an application that reads more wants the file.
const PROMOTE_AFTER_BYTES_DEFAULT: u64 = 16 << 20;
/// Longer than any hub's retry pause, shorter than a user's patience with an application that hangs.
const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The flag with its dashes.
    Flag(&'static str),
    /// The variable's name.
    Environment(&'static str),
    File,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag(flag) => flag,
            Self::Environment(variable) => variable,
            Self::File => "settings file",
            Self::Default => "default",
        })
    }
}

/// A value and its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen<T> {
    pub value: T,
    pub origin: Origin,
}

/// What the command line says; `None` where it says nothing.
#[derive(Clone, Default, Debug)]
pub struct Overrides {
    pub store: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub offline: bool,
    pub log_format: Option<LogFormat>,
    pub import_mode: Option<ImportMode>,
    pub mount_point: Option<PathBuf>,
    pub allow_other: bool,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings file's place; whether it exists is in `file_found`.
    pub file: Chosen<PathBuf>,
    pub file_found: bool,
    pub store: Chosen<PathBuf>,
    pub offline: Chosen<bool>,
    /// Without a trailing slash.
    pub hf_endpoint: Chosen<String>,
    pub hf_token: TokenState,
    pub civitai_endpoint: Chosen<String>,
    pub civitai_token: TokenState,
    pub modelscope_endpoint: Chosen<String>,
    pub modelscope_token: TokenState,
    /// Hubs that are asked first for a file that several have; those that are not named follow.
    pub sources_order: Chosen<Vec<Source>>,
    /// Where a repository may be found too.
    pub sources_mirrors: Chosen<Mirrors>,
    pub promote_after_bytes: Chosen<u64>,
    pub read_timeout: Chosen<Duration>,
    pub limits: Limits,
    pub enriching: Enriching,
    /// Under it a file is `unknown`.
    pub classify_threshold: Chosen<f32>,
    pub mount_point: Chosen<PathBuf>,
    pub allow_other: Chosen<bool>,
    /// `None`: reflink where the filesystem can, else copy.
    pub import_mode: Chosen<Option<ImportMode>>,
    pub log_filter: Chosen<Option<String>>,
    pub log_format: Chosen<LogFormat>,
}

/// What the settings of one hub are called.
struct HubNames {
    variable: &'static str,
    key: &'static str,
    default: &'static str,
}

const HUGGING_FACE: HubNames =
    HubNames { variable: name::HF_ENDPOINT, key: "huggingface.endpoint", default: HUGGING_FACE_ENDPOINT };
const CIVITAI: HubNames =
    HubNames { variable: name::CIVITAI_ENDPOINT, key: "civitai.endpoint", default: CIVITAI_ENDPOINT };
const MODELSCOPE: HubNames =
    HubNames { variable: name::MODELSCOPE_ENDPOINT, key: "modelscope.endpoint", default: MODELSCOPE_ENDPOINT };

/// Takes the first that is there.
fn choose<T>(candidates: [(Option<T>, Origin); 3], default: T) -> Chosen<T> {
    let found = candidates.into_iter().find_map(|(value, origin)| Some(Chosen { value: value?, origin }));
    found.unwrap_or(Chosen { value: default, origin: Origin::Default })
}

impl Settings {
    /// Reads the settings file and the environment. Works without a home folder when nothing depends on it.
    pub fn load(
        overrides: &Overrides,
        environment: &Environment,
        places: Result<Places, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let reader = Reader { overrides, environment, places };
        let (path, file) = reader.settings_file()?;
        reader.settings(path, file)
    }
}

pub(super) struct Reader<'a> {
    overrides: &'a Overrides,
    environment: &'a Environment,
    places: Result<Places, ConfigError>,
}

impl Reader<'_> {
    /// A file that was named must exist; the one at the usual place need not.
    fn settings_file(&self) -> Result<(Chosen<PathBuf>, Option<SettingsFile>), ConfigError> {
        let named = choose(
            [
                (self.overrides.config.clone(), Origin::Flag("--config")),
                (self.environment.path(name::CONFIG), Origin::Environment(name::CONFIG)),
                (None, Origin::File),
            ],
            self.places.as_ref().map(Places::settings_file).unwrap_or_default(),
        );
        if named.value.as_os_str().is_empty() {
            return Ok((named, None));
        }
        let file = SettingsFile::read(&named.value)?;
        if file.is_none() && named.origin != Origin::Default {
            return Err(ConfigError::Missing { path: named.value });
        }
        Ok((named, file))
    }

    fn settings(self, path: Chosen<PathBuf>, file: Option<SettingsFile>) -> Result<Settings, ConfigError> {
        let file_found = file.is_some();
        let file = file.unwrap_or_default();
        let token_file = |hub: &HubSection| hub.token_file.as_deref().map(|token| self.expand(token, &path.value));
        Ok(Settings {
            file_found,
            store: self.store(&file, &path.value)?,
            offline: self.offline(&file)?,
            hf_endpoint: self.endpoint(&HUGGING_FACE, &file.huggingface, &path.value)?,
            hf_token: TokenState::find(self.environment, self.places.as_ref().ok(), token_file(&file.huggingface))?,
            civitai_endpoint: self.endpoint(&CIVITAI, &file.civitai, &path.value)?,
            civitai_token: TokenState::find_in(self.environment, CIVITAI_TOKEN_VARIABLES, token_file(&file.civitai))?,
            modelscope_endpoint: self.endpoint(&MODELSCOPE, &file.modelscope, &path.value)?,
            modelscope_token: TokenState::find_in(
                self.environment,
                MODELSCOPE_TOKEN_VARIABLES,
                token_file(&file.modelscope),
            )?,
            sources_order: self.sources_order(&file)?,
            sources_mirrors: sources_mirrors(&file),
            promote_after_bytes: choose(
                [
                    (None, Origin::Default),
                    (self.parsed(name::PROMOTE_AFTER, parse_size)?, Origin::Environment(name::PROMOTE_AFTER)),
                    (file.fetch.promote_after, Origin::File),
                ],
                PROMOTE_AFTER_BYTES_DEFAULT,
            ),
            read_timeout: choose(
                [
                    (None, Origin::Default),
                    (self.parsed(name::READ_TIMEOUT, parse_duration)?, Origin::Environment(name::READ_TIMEOUT)),
                    (file.fetch.read_timeout, Origin::File),
                ],
                READ_TIMEOUT_DEFAULT,
            ),
            limits: self.limits(&file, &path.value)?,
            enriching: self.enriching(&file)?,
            classify_threshold: self.classify_threshold(&file, &path.value)?,
            mount_point: self.mount_point(&file, &path.value),
            allow_other: choose(
                [
                    (self.overrides.allow_other.then_some(true), Origin::Flag("--allow-other")),
                    (None, Origin::Default),
                    (file.mount.allow_other, Origin::File),
                ],
                false,
            ),
            import_mode: self.import_mode(&file)?,
            log_filter: choose(
                [
                    (None, Origin::Default),
                    (
                        self.environment.text(name::LOG)?.map(|text| Some(text.to_owned())),
                        Origin::Environment(name::LOG),
                    ),
                    (file.log.filter.map(Some), Origin::File),
                ],
                None,
            ),
            log_format: self.log_format(file.log.format)?,
            file: path,
        })
    }

    fn log_format(&self, in_file: Option<LogFormat>) -> Result<Chosen<LogFormat>, ConfigError> {
        Ok(choose(
            [
                (self.overrides.log_format, Origin::Flag("--log-format")),
                (self.parsed(name::LOG_FORMAT, parse_log_format)?, Origin::Environment(name::LOG_FORMAT)),
                (in_file, Origin::File),
            ],
            LogFormat::Text,
        ))
    }

    fn sources_order(&self, file: &SettingsFile) -> Result<Chosen<Vec<Source>>, ConfigError> {
        Ok(choose(
            [
                (None, Origin::Default),
                (self.parsed(name::SOURCES_ORDER, parse_sources)?, Origin::Environment(name::SOURCES_ORDER)),
                (file.sources.order.clone(), Origin::File),
            ],
            Vec::new(),
        ))
    }

    fn import_mode(&self, file: &SettingsFile) -> Result<Chosen<Option<ImportMode>>, ConfigError> {
        Ok(choose(
            [
                (self.overrides.import_mode.map(Some), Origin::Flag("--mode")),
                (self.parsed(name::IMPORT_MODE, parse_import_mode)?.map(Some), Origin::Environment(name::IMPORT_MODE)),
                (file.import.mode.map(Some), Origin::File),
            ],
            None,
        ))
    }

    fn expand(&self, path: &Path, file: &Path) -> PathBuf {
        self.places.as_ref().map_or_else(|_| path.to_owned(), |places| places.expand(path, file))
    }

    fn store(&self, file: &SettingsFile, path: &Path) -> Result<Chosen<PathBuf>, ConfigError> {
        let chosen = choose(
            [
                (self.overrides.store.clone(), Origin::Flag("--store")),
                (self.environment.path(name::STORE), Origin::Environment(name::STORE)),
                (file.store.path.as_deref().map(|store| self.expand(store, path)), Origin::File),
            ],
            self.places.as_ref().map(Places::store).unwrap_or_default(),
        );
        if chosen.value.as_os_str().is_empty() { Err(ConfigError::NoHome) } else { Ok(chosen) }
    }

    fn mount_point(&self, file: &SettingsFile, path: &Path) -> Chosen<PathBuf> {
        choose(
            [
                (self.overrides.mount_point.clone(), Origin::Flag("DIR")),
                (self.environment.path(name::MOUNT), Origin::Environment(name::MOUNT)),
                (file.mount.point.as_deref().map(|point| self.expand(point, path)), Origin::File),
            ],
            self.places.as_ref().map(Places::mount_point).unwrap_or_default(),
        )
    }

    fn offline(&self, file: &SettingsFile) -> Result<Chosen<bool>, ConfigError> {
        let ours = self.environment.switch(name::OFFLINE)?;
        let foreign = FOREIGN_OFFLINE.into_iter().find(|variable| self.environment.foreign_switch(variable));
        let on = |origin| Chosen { value: true, origin };
        Ok(if self.overrides.offline {
            on(Origin::Flag("--offline"))
        } else if ours == Some(true) {
            on(Origin::Environment(name::OFFLINE))
        } else if let Some(variable) = foreign {
            on(Origin::Environment(variable))
        } else {
            choose(
                [(ours, Origin::Environment(name::OFFLINE)), (file.offline, Origin::File), (None, Origin::Default)],
                false,
            )
        })
    }

    fn endpoint(&self, hub: &HubNames, section: &HubSection, path: &Path) -> Result<Chosen<String>, ConfigError> {
        if let Some(text) = self.environment.text(hub.variable)? {
            let value = endpoint(text).map_err(|reason| ConfigError::Variable { name: hub.variable, reason })?;
            return Ok(Chosen { value, origin: Origin::Environment(hub.variable) });
        }
        if let Some(text) = &section.endpoint {
            let key = hub.key;
            let value = endpoint(text).map_err(|reason| ConfigError::Value { path: path.to_owned(), key, reason })?;
            return Ok(Chosen { value, origin: Origin::File });
        }
        Ok(Chosen { value: hub.default.to_owned(), origin: Origin::Default })
    }

    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.environment.text(name)? else { return Ok(None) };
        let wrong = |reason| ConfigError::Variable { name, reason: format!("cannot be used: {reason}") };
        parse(text).map(Some).map_err(wrong)
    }
}

/// An endpoint is a plain web address; one that carries a password would end up in logs.
fn endpoint(text: &str) -> Result<String, String> {
    let shape = || "is no web address; write https://host[:port][/path]".to_owned();
    let url = Url::parse(text.trim()).map_err(|_| shape())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() || url.fragment().is_some()
    {
        return Err(shape());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; put the token into the hub's variable".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn sources_mirrors(file: &SettingsFile) -> Chosen<Mirrors> {
    let nowhere = (None, Origin::Default);
    choose([nowhere.clone(), nowhere, (file.sources.mirrors.clone(), Origin::File)], Mirrors::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { home: "/h".into(), config: "/h/c".into(), data: "/h/d".into(), cache: "/h/k".into() }
    }

    fn load(overrides: &Overrides, pairs: &[(&str, &str)], file: &str) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, file).expect("written");
        let overrides = Overrides { config: Some(path), ..overrides.clone() };
        Settings::load(&overrides, &Environment::from_pairs(pairs), Ok(places()))
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let flag = Overrides { store: Some("/flag".into()), ..Overrides::default() };
        let (pairs, file) = ([("MODELFS_STORE", "/env")], "store = \"/file\"");
        let cases: [(&Overrides, &[_], &str, &str, Origin); 4] = [
            (&flag, &pairs, file, "/flag", Origin::Flag("--store")),
            (&Overrides::default(), &pairs, file, "/env", Origin::Environment("MODELFS_STORE")),
            (&Overrides::default(), &[], file, "/file", Origin::File),
            (&Overrides::default(), &[], "", "/h/d/modelfs", Origin::Default),
        ];
        for (overrides, pairs, file, value, origin) in cases {
            let settings = load(overrides, pairs, file).expect("valid");
            assert_eq!(settings.store, Chosen { value: value.into(), origin });
        }
    }

    #[test]
    fn any_switch_can_forbid_the_network_and_only_the_file_can_be_overruled() {
        let check = |pairs: &[(&str, &str)], file: &str, value, origin| {
            let settings = load(&Overrides::default(), pairs, file).expect("valid");
            assert_eq!(settings.offline, Chosen { value, origin }, "{pairs:?} {file}");
        };
        check(&[], "", false, Origin::Default);
        check(&[], "offline = true", true, Origin::File);
        check(&[("MODELFS_OFFLINE", "0")], "offline = true", false, Origin::Environment("MODELFS_OFFLINE"));
        check(&[("HF_HUB_OFFLINE", "ON")], "", true, Origin::Environment("HF_HUB_OFFLINE"));
        check(
            &[("DISABLE_EXTERNAL_CONNECTIONS", "true")],
            "",
            true,
            Origin::Environment("DISABLE_EXTERNAL_CONNECTIONS"),
        );
        let both = [("MODELFS_OFFLINE", "0"), ("HF_HUB_OFFLINE", "1")];
        check(&both, "", true, Origin::Environment("HF_HUB_OFFLINE"));
    }

    #[test]
    fn endpoints_are_plain_web_addresses() {
        for (text, expected) in [
            ("https://hf-mirror.com/", Some("https://hf-mirror.com")),
            ("http://127.0.0.1:8080/hub/", Some("http://127.0.0.1:8080/hub")),
            ("hf-mirror.com", None),
            ("ftp://host", None),
            ("https://user:word@host", None),
            ("https://host?x=1", None),
        ] {
            let settings = load(&Overrides::default(), &[("HF_ENDPOINT", text)], "");
            assert_eq!(settings.ok().map(|settings| settings.hf_endpoint.value).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn every_hub_has_its_endpoint_and_its_token() {
        let variables =
            [("MODELFS_CIVITAI_ENDPOINT", "http://c/"), ("CIVITAI_API_KEY", "key"), ("MODELFS_SOURCES_ORDER", "web")];
        let text = "[modelscope]\nendpoint = \"http://m\"\n[sources]\norder = [\"civitai\"]\n";
        let settings = load(&Overrides::default(), &variables, text).expect("valid");
        let chosen = |chosen: &Chosen<String>| (chosen.value.clone(), chosen.origin.clone());
        let of_variable = Origin::Environment("MODELFS_CIVITAI_ENDPOINT");
        assert_eq!(chosen(&settings.civitai_endpoint), ("http://c".to_owned(), of_variable));
        assert_eq!(chosen(&settings.modelscope_endpoint), ("http://m".to_owned(), Origin::File));
        assert!(settings.civitai_token.token().is_some() && settings.modelscope_token.token().is_none());
        assert_eq!(settings.sources_order.value, [Source::Web], "the variable wins");
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated() {
        let error = load(&Overrides::default(), &[("HF_ENDPOINT", "https://user:word@host")], "").expect_err("refused");
        assert!(!error.to_string().contains("word@"), "{error}");
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (variable, value) in [
            ("MODELFS_PROMOTE_AFTER", "lots"),
            ("MODELFS_READ_TIMEOUT", "5"),
            ("MODELFS_ENRICH_SPACING", "often"),
            ("MODELFS_ENRICH_AFTER_IMPORT", "maybe"),
            ("MODELFS_IMPORT_MODE", "steal"),
            ("MODELFS_LOG_FORMAT", "xml"),
            ("MODELFS_OFFLINE", "perhaps"),
        ] {
            let error = load(&Overrides::default(), &[(variable, value)], "").expect_err(variable);
            assert!(error.to_string().contains(variable) && error.to_string().contains(value), "{error}");
        }
    }

    #[test]
    fn a_named_settings_file_must_exist_and_the_usual_one_need_not() {
        let named = Overrides { config: Some("/nowhere/config.toml".into()), ..Overrides::default() };
        let environment = Environment::default();
        assert!(matches!(Settings::load(&named, &environment, Ok(places())), Err(ConfigError::Missing { .. })));
        let settings = Settings::load(&Overrides::default(), &environment, Ok(places())).expect("defaults");
        assert!(!settings.file_found && settings.file.value == Path::new("/h/c/modelfs/config.toml"));
    }

    #[test]
    fn no_home_is_needed_when_the_store_is_named() {
        let environment = Environment::from_pairs(&[("MODELFS_STORE", "/s")]);
        let load = |environment| Settings::load(&Overrides::default(), environment, Err(ConfigError::NoHome));
        assert!(load(&environment).is_ok());
        assert!(matches!(load(&Environment::default()), Err(ConfigError::NoHome)));
    }
}
