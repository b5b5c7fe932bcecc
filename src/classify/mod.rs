//! Evidence → verdict, with confidence and reasons.
//!
//! Pure; rules are data (`rules/*.toml`). The way of a file: its names lose their wrappers (`parts`, `adapter`), rules
//! are tried on them (`judge`, `view`, `pattern`, `words`, `metadata`), what fired is weighed (`combine`).
//! Not here: reading files (`formats`), remembering verdicts (`catalog`), decisions by hand.

mod adapter;
mod bundle;
mod combine;
mod danger;
mod error;
mod explain;
mod figures;
mod judge;
mod metadata;
mod parts;
mod pattern;
mod precision;
mod rules;
mod triggers;
mod user_rules;
mod verdict;
mod view;
mod words;

#[cfg(test)]
mod tests;

pub use bundle::{Part, classify_bundle};
pub use danger::{DANGER_VERSION, Danger, dangers, is_unpickled, safety};
pub use error::RulesError;
pub use explain::{Explained, NearMiss, Rival, explain};
pub use figures::{Network, network, parameter_count};
pub use rules::{RuleRow, Rules, builtin_text};
pub use user_rules::{BadRule, UserRule, UserRuleKind};
pub use verdict::{CONFIDENCE_MIN, Evidence, Method, Reason, Verdict};

use crate::base::ModelType;

/// Metadata keys with the container's or library's own word for what it holds, best first.
const ARCHITECTURE_KEYS: [&str; 4] =
    ["general.architecture", "modelspec.architecture", "ss_base_model_version", "bundle.architecture"];

/// What a file is, how sure that is, and why.
pub fn classify(rules: &Rules, evidence: &Evidence<'_>) -> Verdict {
    let claims = judge::claims(rules, evidence);
    let answer = combine::model_type(rules, &claims, evidence);
    let base = combine::base(rules, &claims).map(|answer| answer.value);
    let sure = answer.as_ref().filter(|answer| answer.confidence >= rules.confidence_min);
    let model_type = sure.map_or(ModelType::Unknown, |answer| answer.value);
    let precision = evidence.header.map(|header| precision::of(header, evidence.file_name)).unwrap_or_default();
    let architecture = evidence
        .header
        .and_then(|header| ARCHITECTURE_KEYS.iter().find_map(|key| metadata::value_of(header, key)))
        .map(|word| metadata::shortened(word, 128).to_owned());
    let sub_type = sure.and_then(|_| combine::sub_type(rules, &claims, model_type, base.as_ref()));
    Verdict {
        model_type,
        sub_type,
        precision: precision.precision,
        quantization: precision.quantization,
        architecture,
        confidence: answer.as_ref().map_or(0.0, |answer| answer.confidence),
        method: sure.map_or(Method::None, |answer| answer.method),
        trigger_words: evidence.header.map(triggers::of).unwrap_or_default(),
        reasons: claims.into_iter().map(reason).collect(),
        base,
    }
}

fn reason(claim: judge::Claim<'_>) -> Reason {
    Reason {
        method: claim.method,
        rule: claim.rule.to_owned(),
        saw: claim.saw,
        model_type: claim.model_type,
        weight: if claim.model_type.is_some() { claim.type_weight } else { claim.base_weight },
        base: claim.base,
    }
}
