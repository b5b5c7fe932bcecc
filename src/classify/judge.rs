//! Which rules hold for one file.
//!
//! Rules are tried in their order; a rule that fires becomes a `Claim`. Invariants: a view of the tensors is made at
//! most once and only when a rule asks for it; nothing here depends on anything but the evidence and the rules.
//! Not here: what the claims add up to (`combine`).

use std::cell::OnceCell;
use std::collections::HashSet;

use super::adapter;
use super::explain::NearMiss;
use super::metadata::{shortened, value_of};
use super::parts::{Prefixes, Unwrapped};
use super::pattern::KeyTest;
use super::rules::{Rule, Rules, Scope};
use super::verdict::{Evidence, Method};
use super::view::{Entry, Index, View};
use super::words::{self, Words, plain};
use crate::base::{BaseModel, ModelType};

/// Longest value shown in a reason.
const SHOWN_BYTES_MAX: usize = 80;

/// A word found in a folder of the user counts for less than in the name of the file.
const FOLDER_WORD_FACTOR: f32 = 0.65;

/// Dictionaries of unknown names that are looked into, one inside the other. More than two are not seen.
const WRAPPERS_MAX: usize = 2;

/// Names of a file inside its own metadata.
const TITLE_KEYS: &[&str] = &["ss_output_name", "modelspec.title", "general.name"];

/// What one rule says about the file.
#[derive(Clone, Debug)]
pub(super) struct Claim<'r> {
    pub(super) rule: &'r str,
    pub(super) method: Method,
    pub(super) saw: String,
    pub(super) model_type: Option<ModelType>,
    pub(super) type_weight: f32,
    pub(super) base: Option<BaseModel>,
    pub(super) base_weight: f32,
    pub(super) sub_type: Option<&'r str>,
}

/// The evidence in the form in which rules ask for it.
struct Facts<'a> {
    evidence: Evidence<'a>,
    names: Vec<Words>,
    folder_words: Vec<Words>,
    folders: Vec<String>,
    extension: Option<String>,
    file: Option<Unwrapped<'a>>,
    index: OnceCell<(Index<'a>, Prefixes)>,
    modules: OnceCell<Index<'a>>,
}

/// Every rule that holds, in the order of the rules.
pub(super) fn claims<'r>(rules: &'r Rules, evidence: &Evidence<'_>) -> Vec<Claim<'r>> {
    recognised(rules, evidence).1
}

/// The facts under names that some rule knows, and what holds of them.
fn recognised<'r, 'a>(rules: &'r Rules, evidence: &Evidence<'a>) -> (Facts<'a>, Vec<Claim<'r>>) {
    let mut facts = Facts::new(rules, evidence);
    let mut claims = facts.claims(rules);
    for _ in 0..WRAPPERS_MAX {
        if claims.iter().any(|claim| claim.model_type.is_some() && claim.method == Method::Tensors) {
            break;
        }
        // Savers wrap a model into one dictionary under a name of their own.
        let Some(inner) = facts.file.as_ref().and_then(Unwrapped::inner) else { break };
        let unwrapped = facts.of(inner);
        let found = unwrapped.claims(rules);
        if found.len() > claims.len() {
            claims = found;
        }
        facts = unwrapped;
    }
    (facts, claims)
}

/// Rules by tensors that did not fire although their first condition holds, in the order of the rules.
pub(super) fn near_misses(rules: &Rules, evidence: &Evidence<'_>) -> Vec<NearMiss> {
    let (facts, _) = recognised(rules, evidence);
    let by_tensors = rules.rules.iter().filter(|rule| rule.method == Method::Tensors);
    by_tensors
        .filter_map(|rule| {
            let model_type = rule.model_type?;
            let view = facts.view(rule.scope)?;
            let (first, rest) = rule.all.split_first()?;
            view.find(first)?;
            let absent = rest.iter().find(|test| view.find(test).is_none());
            let present = || rule.none.iter().find_map(|test| view.find(test));
            let missing = match absent {
                Some(test) => format!("no tensor fits `{}`", test.text),
                None => format!("{} is there", shown(present()?)),
            };
            Some(NearMiss { rule: rule.name.to_string(), model_type, missing })
        })
        .collect()
}

/// The known words of each name that has any.
fn spelled<'n>(rules: &Rules, names: impl Iterator<Item = &'n str>) -> Vec<Words> {
    names.map(|name| Words::of(name, &rules.known)).filter(|words| !words.is_empty()).collect()
}

/// Whether what fired so far is what the rule builds on.
fn follows(rules: &Rules, rule: &Rule, claims: &[Claim<'_>]) -> bool {
    if !rule.if_type.is_empty() {
        let strongest = claims.iter().filter(|claim| claim.model_type.is_some());
        let Some(claim) = strongest.max_by(|a, b| a.type_weight.total_cmp(&b.type_weight)) else { return false };
        if !claim.model_type.is_some_and(|found| rule.if_type.contains(&found)) {
            return false;
        }
    }
    let Some(ancestor) = &rule.under else { return true };
    claims
        .iter()
        .filter_map(|claim| Some((claim.base.as_ref()?, claim.base_weight)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .is_some_and(|(base, _)| rules.is_under(base, ancestor))
}

impl<'a> Facts<'a> {
    fn new(rules: &Rules, evidence: &Evidence<'a>) -> Self {
        let titles = evidence.header.into_iter().flat_map(|header| {
            TITLE_KEYS.iter().filter_map(|key| value_of(header, key)).map(|title| shortened(title, 255))
        });
        let names = std::iter::once(words::stem(evidence.file_name)).chain(titles);
        Self {
            evidence: *evidence,
            names: spelled(rules, names),
            folder_words: spelled(rules, evidence.folders.iter().map(String::as_str)),
            folders: evidence.folders.iter().map(|folder| plain(folder)).collect(),
            extension: words::extension(evidence.file_name),
            file: evidence.header.filter(|header| !header.tensors.is_empty()).map(Unwrapped::new),
            index: OnceCell::new(),
            modules: OnceCell::new(),
        }
    }

    /// The same with the names of tensors that lie in a wrapper.
    fn of(self, file: Unwrapped<'a>) -> Self {
        Self { file: Some(file), index: OnceCell::new(), modules: OnceCell::new(), ..self }
    }

    fn claims<'r>(&self, rules: &'r Rules) -> Vec<Claim<'r>> {
        let mut claims: Vec<Claim<'r>> = Vec::new();
        let mut decided: HashSet<&str> = HashSet::new();
        for rule in &rules.rules {
            if rule.group.as_deref().is_some_and(|group| decided.contains(group)) || !follows(rules, rule, &claims) {
                continue;
            }
            let Some((saw, method)) = self.fires(rule) else { continue };
            let claim = self.claim(rule, saw, method);
            if let Some(group) = rule.group.as_deref() {
                decided.insert(group);
            }
            claims.push(claim);
        }
        claims
    }

    /// What the rule saw, or nothing when one of its conditions does not hold.
    fn fires(&self, rule: &Rule) -> Option<(String, Method)> {
        let mut saw = Vec::new();
        let mut method = rule.method;
        self.holds_of_container(rule, &mut saw)?;
        if !rule.meta.is_empty() {
            let header = self.evidence.header?;
            for test in &rule.meta {
                let (key, value) = test.find(&header.metadata)?;
                saw.push(format!("{key} = {}", shortened(value, SHOWN_BYTES_MAX)));
            }
        }
        for test in &rule.hub {
            let (key, value) = test.find(self.evidence.hub)?;
            saw.push(format!("{key} = {}", shortened(value, SHOWN_BYTES_MAX)));
        }
        if !rule.folders.is_empty() {
            let found = self.folders.iter().rposition(|folder| rule.folders.contains(folder.as_str()))?;
            saw.push(format!("in the folder `{}`", self.evidence.folders[found]));
        }
        if !rule.words.is_empty() {
            let has = |words: &&Words| rule.words.iter().any(|word| words.has(word));
            if let Some(word) = self.names.iter().find_map(|name| rule.words.iter().find(|word| name.has(word))) {
                saw.push(format!("`{}` in the name", word.text));
            } else {
                // A folder of the user tells what a model works with; what it is, folders tell by rules of their own.
                let base_only = rule.base.is_some() && rule.model_type.is_none() && rule.method == Method::FileName;
                let found = self.folder_words.iter().rev().find(has).filter(|_| base_only)?;
                let word = rule.words.iter().find(|word| found.has(word))?;
                saw.push(format!("`{}` in the name of a folder", word.text));
                method = Method::Folder;
            }
        }
        self.holds_of_tensors(rule, &mut saw)?;
        Some((saw.join("; "), method))
    }

    fn holds_of_container(&self, rule: &Rule, saw: &mut Vec<String>) -> Option<()> {
        if !rule.formats.is_empty() {
            let format = self.evidence.header?.format.as_str();
            rule.formats.iter().find(|known| ***known == *format)?;
            saw.push(format!("a {format} file"));
        }
        if !rule.extensions.is_empty() {
            let extension = self.extension.as_deref()?;
            rule.extensions.iter().find(|known| ***known == *extension)?;
            saw.push(format!("the extension .{extension}"));
        }
        if let Some([min, max]) = rule.size_bytes {
            (min..=max).contains(&self.evidence.size_bytes).then_some(())?;
            saw.push(format!("{} bytes", self.evidence.size_bytes));
        }
        if let Some([min, max]) = rule.tensors {
            let count = self.file.as_ref()?.names().count() as u64;
            (min..=max).contains(&count).then_some(())?;
            saw.push(format!("{count} tensors"));
        }
        if !rule.imports.is_empty() {
            let imports = &self.evidence.header?.imports;
            let found = imports.iter().find(|import| rule.imports.iter().any(|pattern| pattern.matches(import)))?;
            saw.push(format!("a pickle that names {}", shortened(found, SHOWN_BYTES_MAX)));
        }
        Some(())
    }

    fn holds_of_tensors(&self, rule: &Rule, saw: &mut Vec<String>) -> Option<()> {
        if rule.all.is_empty() && rule.any.is_empty() && rule.none.is_empty() {
            return Some(());
        }
        if self.file.is_none() {
            // Without tensors only a rule that asks for none of them can hold.
            return (rule.all.is_empty() && rule.any.is_empty()).then_some(());
        }
        let view = self.view(rule.scope)?;
        for test in &rule.all {
            saw.push(shown(view.find(test)?));
        }
        if !rule.any.is_empty() {
            saw.push(shown(rule.any.iter().find_map(|test| view.find(test))?));
        }
        let absent = |test: &KeyTest| view.find(test).is_none();
        rule.none.iter().all(absent).then_some(())
    }

    fn index(&self) -> Option<&(Index<'a>, Prefixes)> {
        let file = self.file.as_ref()?;
        Some(self.index.get_or_init(|| {
            let index = file.index();
            let prefixes = Prefixes::of(&index);
            (index, prefixes)
        }))
    }

    fn view(&self, scope: Scope) -> Option<View<'_, 'a>> {
        let (index, prefixes) = self.index()?;
        let prefix = match scope {
            Scope::Adapter => {
                let file = self.file.as_ref()?;
                return Some(View::new(self.modules.get_or_init(|| adapter::modules(file)), ""));
            }
            Scope::File => None,
            Scope::Diffusion => prefixes.diffusion.as_deref(),
            Scope::Autoencoder => prefixes.autoencoder.as_deref(),
            Scope::Encoder => prefixes.encoder.as_deref(),
        };
        Some(View::new(index, prefix.unwrap_or("")))
    }

    fn claim<'r>(&self, rule: &'r Rule, saw: String, method: Method) -> Claim<'r> {
        let whole = rule.whole.filter(|_| self.index().is_some_and(|(_, prefixes)| prefixes.whole));
        let named = || {
            let value = value_of(self.evidence.header?, rule.base_from.as_deref()?)?;
            BaseModel::parse(&value.trim().to_ascii_lowercase().replace(' ', "-")).ok()
        };
        let factor = if method == rule.method { 1.0 } else { FOLDER_WORD_FACTOR };
        Claim {
            rule: &rule.name,
            method,
            saw,
            model_type: whole.or(rule.model_type),
            type_weight: if rule.model_type.is_some() { rule.weight * factor } else { 0.0 },
            base: rule.base.clone().or_else(named),
            base_weight: rule.base_weight * factor,
            sub_type: rule.sub_type.as_deref(),
        }
    }
}

/// A tensor in words: its name in the file and its shape.
fn shown(entry: &Entry<'_>) -> String {
    let shape: Vec<_> = entry.tensor.shape.iter().take(8).map(u64::to_string).collect();
    format!("{} [{}]", shortened(&entry.tensor.name, SHOWN_BYTES_MAX), shape.join(","))
}
