//! The settings file as written: every key is optional, an unknown one is an error that names file, line and key.
//!
//! Not here: defaults and precedence (`settings`).

use super::ConfigError;
use super::settings::LogFormat;
use crate::hub::Mirrors;
use crate::library::ImportMode;
use crate::tree::Source;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    #[serde(default, deserialize_with = "store")]
    pub store: StoreSection,
    pub offline: Option<bool>,
    #[serde(default)]
    pub huggingface: HubSection,
    #[serde(default)]
    pub civitai: HubSection,
    #[serde(default)]
    pub modelscope: HubSection,
    #[serde(default)]
    pub sources: SourcesSection,
    #[serde(default)]
    pub fetch: FetchSection,
    #[serde(default)]
    pub enrich: EnrichSection,
    #[serde(default)]
    pub mount: MountSection,
    #[serde(default)]
    pub import: ImportSection,
    #[serde(default)]
    pub classify: ClassifySection,
    #[serde(default)]
    pub log: LogSection,
}

/// `store = "/data"` is short for its path alone.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    pub path: Option<PathBuf>,
    #[serde(default, deserialize_with = "size")]
    pub cache_limit: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    pub min_free: Option<u64>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct HubSection {
    pub endpoint: Option<String>,
    pub token_file: Option<PathBuf>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct SourcesSection {
    #[serde(default, deserialize_with = "sources")]
    pub order: Option<Vec<Source>>,
    #[serde(default, deserialize_with = "mirrors")]
    pub mirrors: Option<Mirrors>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct FetchSection {
    #[serde(default, deserialize_with = "size")]
    pub promote_after: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    pub read_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "size")]
    pub max_rate: Option<u64>,
    pub streams: Option<u64>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct EnrichSection {
    #[serde(default, deserialize_with = "duration")]
    pub spacing: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub unknown_for: Option<Duration>,
    pub after_import: Option<bool>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct MountSection {
    pub point: Option<PathBuf>,
    pub allow_other: Option<bool>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct ImportSection {
    #[serde(default, deserialize_with = "import_mode")]
    pub mode: Option<ImportMode>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct ClassifySection {
    pub threshold: Option<f32>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    pub filter: Option<String>,
    #[serde(default, deserialize_with = "log_format")]
    pub format: Option<LogFormat>,
}

impl SettingsFile {
    /// `None` when there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::Line { path: path.to_owned(), line, reason: error.message().to_owned() }
        })
    }
}

/// `16MiB`, `2GB`, or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let parsed = text.trim().parse::<bytesize::ByteSize>();
    parsed.map(|size| size.as_u64()).map_err(|_| format!("`{text}` is no size; write `16MiB` or a number of bytes"))
}

/// `120s`, `2min`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|_| format!("`{text}` is no duration; write `120s` or `2min`"))
}

/// `civitai,huggingface`: words of `Source`, each at most once.
pub fn parse_sources(text: &str) -> Result<Vec<Source>, String> {
    sources_of(text.split(',').map(str::trim).filter(|word| !word.is_empty()))
}

fn sources_of<'w>(words: impl Iterator<Item = &'w str>) -> Result<Vec<Source>, String> {
    let mut order: Vec<Source> = Vec::new();
    for word in words {
        let fetched = |source: &Source| *source != Source::Local;
        let source = Source::parse(word).filter(fetched).ok_or_else(|| {
            format!("`{word}` is no source; write `huggingface`, `civitai`, `modelscope`, `web` or `folder`")
        })?;
        if order.contains(&source) {
            return Err(format!("`{word}` is named twice"));
        }
        order.push(source);
    }
    Ok(order)
}

pub fn parse_import_mode(text: &str) -> Result<ImportMode, String> {
    let known = ImportMode::ALL.into_iter().find(|mode| mode.as_str() == text);
    known.ok_or_else(|| format!("`{text}` is no import mode; write `reflink`, `copy`, `move` or `link`"))
}

pub fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    let known = LogFormat::ALL.into_iter().find(|format| format.as_str() == text);
    known.ok_or_else(|| format!("`{text}` is no log format; write `text` or `json`"))
}

/// A size may be written as a bare number too.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match NumberOrText::deserialize(deserializer) {
        Ok(NumberOrText::Number(bytes)) => Ok(Some(bytes)),
        Ok(NumberOrText::Text(text)) => parse_size(&text).map(Some).map_err(de::Error::custom),
        Err(_) => Err(de::Error::custom("a size is a text like `16MiB` or a number of bytes")),
    }
}

fn store<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StoreSection, D::Error> {
    struct PathOrSection;

    impl<'de> de::Visitor<'de> for PathOrSection {
        type Value = StoreSection;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a folder, or a section with `path`, `cache_limit` and `min_free`")
        }

        fn visit_str<E: de::Error>(self, path: &str) -> Result<StoreSection, E> {
            Ok(StoreSection { path: Some(path.into()), ..StoreSection::default() })
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<StoreSection, A::Error> {
            StoreSection::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(PathOrSection)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Source>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    sources_of(words.iter().map(String::as_str)).map(Some).map_err(de::Error::custom)
}

fn mirrors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mirrors>, D::Error> {
    let rules = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
    Mirrors::parse(&rules).map(Some).map_err(de::Error::custom)
}

fn import_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ImportMode>, D::Error> {
    parse_import_mode(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn log_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogFormat>, D::Error> {
    parse_log_format(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        SettingsFile::parse(Path::new("config.toml"), text).expect_err(text).to_string()
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            store = "/data"
            offline = true
            [huggingface]
            endpoint = "https://mirror.example"
            token_file = "~/token"
            [civitai]
            endpoint = "https://civitai.example"
            token_file = "~/key"
            [modelscope]
            endpoint = "https://scope.example"
            [sources]
            order = ["civitai", "modelscope"]
            mirrors = { "hf:org/name" = ["modelscope:Org/Name", "civitai:*"] }
            [fetch]
            promote_after = "1MiB"
            read_timeout = "2min"
            max_rate = "20MB"
            streams = 4
            [enrich]
            spacing = "500ms"
            unknown_for = "7d"
            after_import = false
            [mount]
            point = "~/models"
            allow_other = true
            [import]
            mode = "move"
            [log]
            filter = "debug"
            format = "json"
        "#;
        let file = SettingsFile::parse(Path::new("config.toml"), text).expect("valid");
        assert_eq!((file.store.path, file.offline), (Some("/data".into()), Some(true)));
        assert_eq!((file.fetch.max_rate, file.fetch.streams), (Some(20_000_000), Some(4)));
        let section = "[store]\npath = \"/data\"\ncache_limit = \"500GB\"\nmin_free = 0";
        let store = SettingsFile::parse(Path::new("config.toml"), section).expect("valid").store;
        assert_eq!((store.path, store.cache_limit), (Some("/data".into()), Some(500_000_000_000)));
        assert_eq!(store.min_free, Some(0));
        assert_eq!(file.huggingface.endpoint.as_deref(), Some("https://mirror.example"));
        assert_eq!(file.civitai.token_file, Some("~/key".into()));
        assert_eq!(file.modelscope.endpoint.as_deref(), Some("https://scope.example"));
        let mirrors = file.sources.mirrors.map(|mirrors| mirrors.to_string());
        assert_eq!(mirrors.as_deref(), Some("hf:org/name = modelscope:Org/Name, civitai:*"));
        assert_eq!(file.sources.order, Some(vec![Source::Civitai, Source::ModelScope]));
        assert_eq!(file.fetch.promote_after, Some(1 << 20));
        assert_eq!(file.fetch.read_timeout, Some(Duration::from_secs(120)));
        let (spacing, unknown_for) = (Duration::from_millis(500), Duration::from_secs(7 * 86_400));
        assert_eq!((file.enrich.spacing, file.enrich.unknown_for), (Some(spacing), Some(unknown_for)));
        assert_eq!(file.enrich.after_import, Some(false));
        assert_eq!((file.mount.point, file.mount.allow_other), (Some("~/models".into()), Some(true)));
        assert_eq!((file.import.mode, file.log.format), (Some(ImportMode::Move), Some(LogFormat::Json)));
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        let message = refusal("store = \"/data\"\n\n[mount]\ncolour = 1\n");
        assert!(message.starts_with("config.toml:4: ") && message.contains("`colour`"), "{message}");
        let message = refusal("\nstores = \"/data\"\n");
        assert!(message.starts_with("config.toml:2: ") && message.contains("`stores`"), "{message}");
        assert!(refusal("[colours]\nred = 1\n").contains("`colours`"));
        let message = refusal("[store]\nlimit = 1\n");
        assert!(message.starts_with("config.toml:") && message.contains("`limit`"), "{message}");
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        for (text, line, word) in [
            ("[fetch]\npromote_after = \"many\"", 2, "`many`"),
            ("[fetch]\npromote_after = -1", 2, "16MiB"),
            ("[fetch]\nread_timeout = \"soon\"", 2, "`soon`"),
            ("[import]\n\nmode = \"steal\"", 3, "`steal`"),
            ("[log]\nformat = \"xml\"", 2, "`xml`"),
            ("[sources]\norder = [\"everywhere\"]", 2, "`everywhere`"),
            ("[sources]\norder = [\"web\", \"web\"]", 2, "twice"),
            ("[sources.mirrors]\n\"hf:*\" = [\"civitai:12\"]", 1, "by its hash"),
            ("[sources]\nmirrors = { \"hf:*\" = [\"somewhere\"] }", 2, "no repository"),
            ("offline = 3", 1, "boolean"),
            ("store = ", 1, ""),
        ] {
            let message = refusal(text);
            assert!(message.starts_with(&format!("config.toml:{line}: ")) && message.contains(word), "{message}");
        }
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [("0", 0), ("16MiB", 16 << 20), ("2 GB", 2_000_000_000), ("123", 123)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert!(parse_size("-1").is_err() && parse_size("").is_err());
    }
}
