//! Rules: what is read from their text, and the text that is shipped.
//!
//! A rule is conditions, all of which must hold, and what follows from them. The rules are tried in the order of the
//! text; of those with one `group` only the first that fires counts, and `if_type` and `under` see what fired before.
//! Invariants: a `Rules` that exists is sound (patterns parse, types are words of the closed list, weights are
//! probabilities, the tree of bases has no circle). Not here: applying them (`judge`).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use serde::Deserialize;
use toml::Spanned;

use super::error::RulesError;
use super::metadata::MetaTest;
use super::pattern::{KeyTest, Pattern};
use super::verdict::{CONFIDENCE_MIN, Method};
use super::words::{Word, plain};
use crate::base::{BaseModel, ModelType};

/// The shipped rules in the order in which they are tried.
const BUILTIN: &[&str] = &[
    include_str!("rules/families.toml"),
    include_str!("rules/control.toml"),
    include_str!("rules/adapters.toml"),
    include_str!("rules/diffusion.toml"),
    include_str!("rules/restoration.toml"),
    include_str!("rules/parts.toml"),
    include_str!("rules/small.toml"),
    include_str!("rules/gguf.toml"),
    include_str!("rules/metadata.toml"),
    include_str!("rules/hubs.toml"),
    include_str!("rules/folders.toml"),
    include_str!("rules/names.toml"),
    include_str!("rules/sizes.toml"),
];

/// Steps from a base to the root of its family; more is a circle.
const FAMILY_DEPTH_MAX: usize = 16;

static BUILTIN_RULES: LazyLock<Rules> =
    LazyLock::new(|| Rules::parse(&builtin_text()).expect("the shipped rules are tested"));

/// The shipped rules as one text, to be written out for a user who wants to change them.
pub fn builtin_text() -> String {
    BUILTIN.join("\n")
}

/// Which names the conditions on tensors see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    #[default]
    File,
    /// The diffusion part without its prefix, or the file.
    Diffusion,
    Autoencoder,
    Encoder,
    /// Modules of an adapter in one spelling.
    Adapter,
}

/// One rule, ready to be tried.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Box<str>,
    pub(super) method: Method,
    /// Of the rules of one group the first that fires counts.
    pub(super) group: Option<Box<str>>,
    pub(super) scope: Scope,
    pub(super) all: Vec<KeyTest>,
    pub(super) any: Vec<KeyTest>,
    pub(super) none: Vec<KeyTest>,
    pub(super) meta: Vec<MetaTest>,
    /// As `meta`, of what hubs say.
    pub(super) hub: Vec<MetaTest>,
    pub(super) words: Vec<Word>,
    pub(super) folders: HashSet<Box<str>>,
    pub(super) imports: Vec<Pattern>,
    pub(super) formats: Vec<Box<str>>,
    pub(super) extensions: Vec<Box<str>>,
    pub(super) size_bytes: Option<[u64; 2]>,
    pub(super) tensors: Option<[u64; 2]>,
    pub(super) if_type: Vec<ModelType>,
    pub(super) under: Option<BaseModel>,
    pub(super) model_type: Option<ModelType>,
    /// The type when an autoencoder or an encoder lies beside the diffusion part.
    pub(super) whole: Option<ModelType>,
    pub(super) base: Option<BaseModel>,
    /// Metadata key whose value is the base.
    pub(super) base_from: Option<Box<str>>,
    pub(super) sub_type: Option<Box<str>>,
    pub(super) weight: f32,
    pub(super) base_weight: f32,
}

/// A rule as a row of the catalog.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleRow {
    pub name: String,
    pub method: Method,
    pub model_type: Option<ModelType>,
    pub base: Option<BaseModel>,
    pub sub_type: Option<String>,
    /// Its conditions as they are written.
    pub pattern: String,
    pub size_bytes: Option<[u64; 2]>,
    pub weight: f32,
}

/// All rules, sound and ready.
#[derive(Debug)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
    /// Base → base it is a kind of.
    parents: BTreeMap<BaseModel, BaseModel>,
    /// Type → type it is a kind of.
    kinds: BTreeMap<ModelType, ModelType>,
    /// Bytes a type has at least and at most.
    pub(super) bounds: BTreeMap<ModelType, [u64; 2]>,
    /// Every word of every rule.
    pub(super) known: HashSet<Box<str>>,
    rows: Vec<RuleRow>,
    /// How sure a type must be.
    pub(super) confidence_min: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    #[serde(default)]
    bases: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    kinds: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    bounds: BTreeMap<String, Spanned<[u64; 2]>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    pub(super) name: String,
    pub(super) method: String,
    pub(super) group: Option<Box<str>>,
    pub(super) scope: Scope,
    pub(super) all: Vec<String>,
    pub(super) any: Vec<String>,
    pub(super) none: Vec<String>,
    pub(super) meta: Vec<String>,
    pub(super) hub: Vec<String>,
    pub(super) words: Vec<String>,
    pub(super) folders: Vec<String>,
    pub(super) imports: Vec<String>,
    pub(super) formats: Vec<Box<str>>,
    pub(super) extensions: Vec<Box<str>>,
    pub(super) size_bytes: Option<[u64; 2]>,
    pub(super) tensors: Option<[u64; 2]>,
    pub(super) if_type: Vec<String>,
    pub(super) under: Option<String>,
    #[serde(rename = "type")]
    pub(super) model_type: Option<String>,
    pub(super) whole: Option<String>,
    pub(super) base: Option<String>,
    pub(super) base_from: Option<Box<str>>,
    pub(super) sub_type: Option<Box<str>>,
    pub(super) weight: Option<f32>,
    pub(super) base_weight: Option<f32>,
}

impl Rules {
    /// The shipped rules.
    pub fn builtin() -> &'static Rules {
        &BUILTIN_RULES
    }

    /// A whole set of rules in the notation of the shipped ones.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        let place = |span: Option<Range<usize>>| line_of(text, span.map_or(0, |span| span.start));
        let raw: RawRules = toml::from_str(text).map_err(|error| RulesError::Notation {
            line: place(error.span()),
            reason: error.message().trim().to_owned(),
        })?;
        let notation = |span: Range<usize>, reason: String| RulesError::Notation { line: place(Some(span)), reason };
        let mut rules = Self {
            rules: Vec::new(),
            parents: BTreeMap::new(),
            kinds: BTreeMap::new(),
            bounds: BTreeMap::new(),
            known: HashSet::new(),
            rows: Vec::new(),
            confidence_min: CONFIDENCE_MIN,
        };
        for (child, parent) in raw.bases {
            let link = base(&child).and_then(|child| Ok((child, base(parent.get_ref())?)));
            let (child, parent) = link.map_err(|reason| notation(parent.span(), reason))?;
            rules.parents.insert(child, parent);
        }
        if let Some(base) = rules.parents.keys().find(|base| rules.family(base).count() > FAMILY_DEPTH_MAX) {
            return Err(RulesError::Notation { line: 1, reason: format!("`{base}` is a kind of itself in [bases]") });
        }
        for (child, parent) in raw.kinds {
            let link = model_type(&child).and_then(|child| Ok((child, model_type(parent.get_ref())?)));
            let (child, parent) = link.map_err(|reason| notation(parent.span(), reason))?;
            rules.kinds.insert(child, parent);
        }
        for (word, bounds) in raw.bounds {
            let bounded = model_type(&word).map_err(|reason| notation(bounds.span(), reason))?;
            rules.bounds.insert(bounded, *bounds.get_ref());
        }
        let mut names = HashSet::new();
        for spanned in raw.rule {
            let span = spanned.span();
            let raw = spanned.into_inner();
            let name = raw.name.clone();
            let bad = |reason| RulesError::Rule { line: place(Some(span.clone())), rule: name.clone(), reason };
            if !names.insert(name.clone()) {
                return Err(bad("another rule has this name".to_owned()));
            }
            rules.add(raw).map_err(bad)?;
        }
        Ok(rules)
    }

    /// The same rules, for whom an answer must be this sure.
    pub fn needing(self, confidence_min: f32) -> Self {
        Self { confidence_min, ..self }
    }

    /// One more rule, tried after all others.
    pub(super) fn add(&mut self, raw: RawRule) -> Result<(), String> {
        let row = row_of(&raw);
        let rule = Rule::from_raw(raw)?;
        self.known.extend(rule.words.iter().map(|word| word.text.clone()));
        self.rows.push(RuleRow { method: rule.method, model_type: rule.model_type, base: rule.base.clone(), ..row });
        self.rules.push(rule);
        Ok(())
    }

    /// Every rule in short, in the order in which they are tried.
    pub fn rows(&self) -> &[RuleRow] {
        &self.rows
    }

    /// Bytes a type has at least and at most.
    pub fn size_bounds(&self) -> impl Iterator<Item = (ModelType, [u64; 2])> {
        self.bounds.iter().map(|(model_type, bounds)| (*model_type, *bounds))
    }

    /// A base, then the base it is a kind of, up to the root.
    pub(super) fn family<'a>(&'a self, base: &'a BaseModel) -> impl Iterator<Item = &'a BaseModel> {
        std::iter::successors(Some(base), |base| self.parents.get(*base)).take(FAMILY_DEPTH_MAX + 1)
    }

    /// Whether `base` is `ancestor` or a kind of it.
    pub(super) fn is_under(&self, base: &BaseModel, ancestor: &BaseModel) -> bool {
        self.family(base).any(|step| step == ancestor)
    }

    /// The type `model_type` is a kind of.
    pub(super) fn kind_of(&self, model_type: ModelType) -> Option<ModelType> {
        self.kinds.get(&model_type).copied()
    }
}

impl Rule {
    fn from_raw(raw: RawRule) -> Result<Self, String> {
        let conditions = raw.all.len()
            + raw.any.len()
            + raw.meta.len()
            + raw.hub.len()
            + raw.words.len()
            + raw.folders.len()
            + raw.imports.len()
            + raw.formats.len()
            + raw.extensions.len()
            + usize::from(raw.size_bytes.is_some());
        if conditions == 0 {
            return Err("it has no condition that must hold".to_owned());
        }
        if raw.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        let weight = raw.weight.ok_or("it has no weight")?;
        let base_weight = raw.base_weight.unwrap_or(weight);
        if let Some(weight) = [weight, base_weight].into_iter().find(|weight| !(0.0..=1.0).contains(weight)) {
            return Err(format!("the weight {weight} is not between 0 and 1"));
        }
        let keys = |texts: &[String]| texts.iter().map(|text| KeyTest::parse(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            method: rule_method(&raw.method)?,
            group: raw.group,
            scope: raw.scope,
            all: keys(&raw.all)?,
            any: keys(&raw.any)?,
            none: keys(&raw.none)?,
            meta: raw.meta.iter().map(|text| MetaTest::parse(text)).collect::<Result<_, _>>()?,
            hub: raw.hub.iter().map(|text| MetaTest::parse(text)).collect::<Result<_, _>>()?,
            words: raw.words.iter().map(|text| Word::parse(text)).collect::<Result<_, _>>()?,
            folders: raw.folders.iter().map(|folder| plain(folder).into()).collect(),
            imports: raw.imports.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?,
            formats: raw.formats,
            extensions: raw.extensions,
            size_bytes: raw.size_bytes,
            tensors: raw.tensors,
            if_type: raw.if_type.iter().map(|word| model_type(word)).collect::<Result<_, _>>()?,
            under: raw.under.as_deref().map(base).transpose()?,
            model_type: raw.model_type.as_deref().map(model_type).transpose()?,
            whole: raw.whole.as_deref().map(model_type).transpose()?,
            base: raw.base.as_deref().map(base).transpose()?,
            base_from: raw.base_from,
            sub_type: raw.sub_type,
            weight,
            base_weight,
            name: raw.name.into(),
        })
    }
}

fn row_of(raw: &RawRule) -> RuleRow {
    let mut parts = Vec::new();
    for (word, conditions) in [
        ("all", &raw.all),
        ("any", &raw.any),
        ("none", &raw.none),
        ("meta", &raw.meta),
        ("hub", &raw.hub),
        ("words", &raw.words),
        ("folders", &raw.folders),
        ("imports", &raw.imports),
    ] {
        if !conditions.is_empty() {
            parts.push(format!("{word}: {}", conditions.join(", ")));
        }
    }
    RuleRow {
        name: raw.name.clone(),
        method: Method::None,
        model_type: None,
        base: None,
        sub_type: raw.sub_type.as_deref().map(str::to_owned),
        pattern: parts.join("; "),
        size_bytes: raw.size_bytes,
        weight: raw.weight.unwrap_or(0.0),
    }
}

fn model_type(word: &str) -> Result<ModelType, String> {
    ModelType::parse(word).map_err(|_| format!("`{word}` is not a model type"))
}

fn base(word: &str) -> Result<BaseModel, String> {
    BaseModel::parse(word).map_err(|_| format!("`{word}` is not a base: lower-case letters, digits, `.`, `-`, `_`"))
}

fn rule_method(word: &str) -> Result<Method, String> {
    match Method::parse(word) {
        None | Some(Method::Manual | Method::None) => {
            Err(format!("`{word}` is not a method of a rule: tensors, metadata, name, folder, size, hub or combined"))
        }
        Some(method) => Ok(method),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_sound() {
        let rules = Rules::parse(&builtin_text()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rules.rows().len(), rules.rules.len());
        assert!(rules.size_bounds().all(|(_, [min, max])| min < max));
    }

    #[test]
    fn a_bad_rule_is_named_with_its_line() {
        let rule = "[[rule]]\nname = \"x\"\nmethod = \"tensors\"\n";
        for (text, line, word) in [
            ("[[rule]\n".to_owned(), 1, ""),
            (format!("\n{rule}weight = 0.5\n"), 2, "no condition"),
            (format!("{rule}all = [\"a\"]\nweight = 1.5\n"), 1, "1.5"),
            (format!("{rule}all = [\"a{{\"]\nweight = 0.5\n"), 1, "`}`"),
            (format!("{rule}all = [\"a\"]\ntype = \"loras\"\nweight = 0.5\n"), 1, "`loras`"),
            (format!("{rule}all = [\"a\"]\nbase = \"SDXL\"\nweight = 0.5\n"), 1, "`SDXL`"),
            (format!("{rule}all = [\"a\"]\nweight = 0.5\n{rule}all = [\"b\"]\nweight = 0.5\n"), 6, "another rule"),
            (format!("{rule}colour = 1\nweight = 0.5\n"), 4, "colour"),
            ("[bases]\na = \"b\"\nb = \"a\"\n".to_owned(), 1, "itself"),
            ("[kinds]\nlora = \"x\"\n".to_owned(), 2, "`x`"),
        ] {
            let message = Rules::parse(&text).expect_err(&text).to_string();
            assert!(message.starts_with(&format!("line {line} ")) && message.contains(word), "{text}: {message}");
        }
    }

    #[test]
    fn families_are_walked_to_the_root() {
        let rules = Rules::parse("[bases]\nnoobai = \"illustrious\"\nillustrious = \"sdxl\"\n").expect("valid");
        let base = |word| BaseModel::parse(word).expect(word);
        let noobai = base("noobai");
        let words: Vec<_> = rules.family(&noobai).map(BaseModel::as_str).collect();
        assert_eq!(words, ["noobai", "illustrious", "sdxl"]);
        assert!(rules.is_under(&noobai, &base("sdxl")));
        assert!(!rules.is_under(&base("sdxl"), &noobai));
    }
}
