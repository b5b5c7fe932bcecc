//! Where else a repository may be found, as the user says it: `hf:org/name = ["modelscope:org/name"]`, or a general rule
//! with `*`.
//!
//! Invariants: a rule names hubs and repositories, never files, since a file is found by its hash; few places follow from
//! all rules together. Not here: whether a place has the file (`fetch`).

use super::Origin;
use crate::base::{Locator, RepoId};
use crate::tree::Source;
use std::fmt;

/// Most places that are looked at for one content: each costs a listing.
const PLACES_MAX: usize = 4;
/// The hubs that can be named, with their prefixes.
const HUBS: [(&str, Source); 3] =
    [("hf", Source::HuggingFace), ("civitai", Source::Civitai), ("modelscope", Source::ModelScope)];

/// Which repositories are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    /// `*`
    All,
    /// `org/*`
    Of(String),
    /// `org/name`
    One(RepoId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Side {
    source: Source,
    pattern: Pattern,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    from: Side,
    to: Vec<Side>,
}

/// A place that may have a content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Mirror {
    Repository(Locator),
    /// A hub that can be asked by hash.
    ByHash(Source),
}

/// All rules, in the order of their left sides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mirrors {
    rules: Vec<Rule>,
}

impl Mirrors {
    /// Rules as they are written: a repository, and where else it may be.
    pub fn parse<'t>(rules: impl IntoIterator<Item = (&'t String, &'t Vec<String>)>) -> Result<Self, String> {
        let rule = |(from, to): (&String, &Vec<String>)| {
            let from = Side::parse(from)?;
            let to = to.iter().map(|text| Side::parse(text).and_then(|side| from.leads_to(side)));
            Ok(Rule { to: to.collect::<Result<_, String>>()?, from: from.clone() })
        };
        Ok(Self { rules: rules.into_iter().map(rule).collect::<Result<_, String>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Places where the content of this one may be found too.
    pub fn of(&self, origin: &Origin) -> Vec<Mirror> {
        let mut found = Vec::new();
        for side in self.rules.iter().filter(|rule| rule.from.means(origin)).flat_map(|rule| &rule.to) {
            if let Some(mirror) = side.applied_to(&origin.repo)
                && found.len() < PLACES_MAX
                && !found.contains(&mirror)
            {
                found.push(mirror);
            }
        }
        found
    }
}

impl Side {
    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is no repository; write `hf:org/name`, `modelscope:org/*` or `civitai:*`");
        let (prefix, repo) = text.split_once(':').ok_or_else(unknown)?;
        let (_, source) = HUBS.into_iter().find(|(known, _)| *known == prefix).ok_or_else(unknown)?;
        let pattern = match (repo, repo.strip_suffix("/*")) {
            ("*", _) => Pattern::All,
            // A model of Civitai has a number, and that says nothing at another hub.
            (_, Some(org)) if source != Source::Civitai => {
                let org = RepoId::new(org).ok().filter(|org| !org.as_str().contains('/')).ok_or_else(unknown)?;
                Pattern::Of(org.to_string())
            }
            _ => Pattern::One(RepoId::new(repo).map_err(|_| unknown())?),
        };
        Ok(Self { source, pattern })
    }

    /// The other side of a rule, if the two fit together.
    fn leads_to(&self, to: Self) -> Result<Self, String> {
        if to.source == Source::Civitai && to.pattern != Pattern::All {
            return Err(format!("`{to}` cannot be a mirror; Civitai finds a file by its hash: write `civitai:*`"));
        }
        if self.source == Source::Civitai && to.source != Source::Civitai && !matches!(to.pattern, Pattern::One(_)) {
            return Err(format!("`{to}` needs a whole name: a model of Civitai has none to put there"));
        }
        if *self == to {
            return Err(format!("`{to}` is its own mirror"));
        }
        Ok(to)
    }

    fn means(&self, origin: &Origin) -> bool {
        let by_name = || match &self.pattern {
            Pattern::All => true,
            Pattern::Of(org) => origin.repo.as_str().split_once('/').is_some_and(|(owner, _)| owner == org),
            Pattern::One(repo) => *repo == origin.repo,
        };
        self.source == origin.source && by_name()
    }

    /// The place that this side of a rule names for a repository of the other side.
    fn applied_to(&self, repo: &RepoId) -> Option<Mirror> {
        let repo = match &self.pattern {
            _ if self.source == Source::Civitai => return Some(Mirror::ByHash(self.source)),
            Pattern::All => repo.clone(),
            Pattern::Of(org) => {
                let name = repo.as_str().rsplit('/').next().unwrap_or_default();
                RepoId::new(&format!("{org}/{name}")).ok()?
            }
            Pattern::One(repo) => repo.clone(),
        };
        let (revision, path) = (None, None);
        match self.source {
            Source::HuggingFace => Some(Mirror::Repository(Locator::HuggingFace { repo, revision, path })),
            Source::ModelScope => Some(Mirror::Repository(Locator::ModelScope { repo, revision, path })),
            Source::Civitai | Source::Web | Source::Folder | Source::Local => None,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = HUBS.iter().find(|(_, source)| *source == self.source).map_or("", |(prefix, _)| prefix);
        match &self.pattern {
            Pattern::All => write!(f, "{prefix}:*"),
            Pattern::Of(org) => write!(f, "{prefix}:{org}/*"),
            Pattern::One(repo) => write!(f, "{prefix}:{repo}"),
        }
    }
}

/// `hf:* = modelscope:*, civitai:*; …`, or `none`.
impl fmt::Display for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return f.write_str("none");
        }
        for (index, Rule { from, to }) in self.rules.iter().enumerate() {
            let places: Vec<String> = to.iter().map(Side::to_string).collect();
            write!(f, "{}{from} = {}", if index > 0 { "; " } else { "" }, places.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RelativePath, Revision};
    use std::collections::BTreeMap;

    fn mirrors(rules: &[(&str, &[&str])]) -> Result<Mirrors, String> {
        let owned = |(from, to): &(&str, &[&str])| ((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect());
        Mirrors::parse(&rules.iter().map(owned).collect::<BTreeMap<String, Vec<String>>>())
    }

    fn origin(source: Source, repo: &str) -> Origin {
        Origin {
            source,
            repo: RepoId::new(repo).expect("a name"),
            commit: Revision::new("main").expect("a revision"),
            path: RelativePath::new("a/b.gguf").expect("a path"),
        }
    }

    fn places(mirrors: &Mirrors, source: Source, repo: &str) -> Vec<String> {
        let text = |mirror: Mirror| match mirror {
            Mirror::ByHash(source) => format!("{}:*", source.as_str()),
            Mirror::Repository(Locator::HuggingFace { repo, revision: None, path: None }) => format!("hf:{repo}"),
            Mirror::Repository(Locator::ModelScope { repo, revision: None, path: None }) => format!("ms:{repo}"),
            Mirror::Repository(other) => panic!("{other:?}"),
        };
        mirrors.of(&origin(source, repo)).into_iter().map(text).collect()
    }

    #[test]
    fn rules_name_places_for_what_they_mean() {
        let rules: &[(&str, &[&str])] = &[
            ("hf:org/name", &["modelscope:Other/Name", "civitai:*"]),
            ("hf:qwen/*", &["modelscope:Qwen/*", "hf:twin/*"]),
            ("modelscope:*", &["hf:*"]),
            ("civitai:12", &["hf:org/name"]),
        ];
        let mirrors = mirrors(rules).expect("rules");
        let face = Source::HuggingFace;
        assert_eq!(places(&mirrors, face, "org/name"), ["ms:Other/Name", "civitai:*"]);
        assert_eq!(places(&mirrors, face, "qwen/q3"), ["ms:Qwen/q3", "hf:twin/q3"]);
        assert_eq!(places(&mirrors, face, "org/other"), [""; 0]);
        assert_eq!(places(&mirrors, Source::ModelScope, "a/b"), ["hf:a/b"]);
        assert_eq!(places(&mirrors, Source::Civitai, "12"), ["hf:org/name"]);
        assert_eq!(places(&mirrors, Source::Civitai, "13"), [""; 0]);
        assert_eq!(
            mirrors.to_string(),
            "civitai:12 = hf:org/name; hf:org/name = modelscope:Other/Name, civitai:*; hf:qwen/* = modelscope:Qwen/*, \
             hf:twin/*; modelscope:* = hf:*"
        );
    }

    #[test]
    fn few_places_follow_and_each_once() {
        let many = ["hf:a/a", "hf:b/b", "hf:a/a", "hf:c/c", "hf:d/d", "hf:e/e"];
        let mirrors = mirrors(&[("modelscope:*", &many), ("modelscope:x/*", &["hf:f/f"])]).expect("rules");
        assert_eq!(places(&mirrors, Source::ModelScope, "x/y"), ["hf:a/a", "hf:b/b", "hf:c/c", "hf:d/d"]);
        assert!(Mirrors::default().is_empty() && Mirrors::default().to_string() == "none");
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_with_a_reason() {
        for (from, to, word) in [
            ("org/name", "hf:*", "no repository"),
            ("web:*", "hf:*", "no repository"),
            ("hf:a/b/c", "hf:*", "no repository"),
            ("hf:a/b/*", "hf:*", "no repository"),
            ("civitai:a/*", "hf:*", "no repository"),
            ("hf:*", "modelscope", "no repository"),
            ("hf:*", "civitai:12", "by its hash"),
            ("civitai:*", "hf:*", "whole name"),
            ("hf:*", "hf:*", "its own"),
        ] {
            let refused = mirrors(&[(from, &[to])]).expect_err("no sense");
            assert!(refused.contains(word), "{from} = {to}: {refused}");
        }
    }
}
