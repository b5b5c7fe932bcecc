//! Why a file is what it is, and why it is nothing else.
//!
//! Rivals are the types that some rule spoke for and that lost; near misses are rules of another type whose first
//! conditions hold and whose next one does not. Not here: what is printed (`cli`).

use super::combine;
use super::judge::{self, Claim};
use super::rules::Rules;
use super::verdict::{Evidence, Method, Verdict};
use crate::base::ModelType;

/// Near misses told: the nearest say enough.
const NEAR_MISSES_MAX: usize = 5;

/// A verdict with what stood against it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    pub verdict: Verdict,
    /// The type that was nearest when none was sure enough.
    pub guess: Option<ModelType>,
    /// Best first.
    pub rivals: Vec<Rival>,
    pub near_misses: Vec<NearMiss>,
}

/// A type that rules spoke for and that lost.
#[derive(Clone, PartialEq, Debug)]
pub struct Rival {
    pub model_type: ModelType,
    pub confidence: f32,
    pub why: String,
}

/// A rule that nearly fired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NearMiss {
    pub rule: String,
    pub model_type: ModelType,
    /// The condition that does not hold, in words.
    pub missing: String,
}

pub fn explain(rules: &Rules, evidence: &Evidence<'_>) -> Explained {
    let verdict = super::classify(rules, evidence);
    let claims = judge::claims(rules, evidence);
    let guess = combine::model_type(rules, &claims, evidence);
    let winner = guess.as_ref().map(|answer| (answer.value, answer.confidence));
    let candidates = combine::candidates(rules, &claims, evidence);
    let rivals = candidates
        .into_iter()
        .filter(|candidate| winner.is_some_and(|(value, _)| value != candidate.value))
        .map(|candidate| Rival {
            model_type: candidate.value,
            confidence: candidate.confidence,
            why: winner.map(|winner| why_not(rules, &claims, &candidate, winner)).unwrap_or_default(),
        })
        .collect();
    let told: Vec<ModelType> = claims.iter().filter_map(|claim| claim.model_type).collect();
    let mut near_misses = judge::near_misses(rules, evidence);
    near_misses.retain(|miss| !told.contains(&miss.model_type));
    near_misses.dedup_by_key(|miss| miss.model_type);
    near_misses.truncate(NEAR_MISSES_MAX);
    let guess = guess.map(|answer| answer.value).filter(|_| verdict.model_type == ModelType::Unknown);
    Explained { verdict, guess, rivals, near_misses }
}

fn why_not(
    rules: &Rules,
    claims: &[Claim<'_>],
    rival: &combine::Answer<ModelType>,
    (winner, confidence): (ModelType, f32),
) -> String {
    let is_kind = |value: ModelType, of: ModelType| rules.kind_of(value) == Some(of);
    if is_kind(winner, rival.value) {
        return format!("{winner} is a kind of it and just as well founded");
    }
    if is_kind(rival.value, winner) {
        return format!("it is a kind of {winner}, and {:.2} is not sure enough to say so", rival.confidence);
    }
    let speaks = |value: ModelType| move |claim: &&Claim<'_>| claim.model_type == Some(value);
    let by_tensors = |value| claims.iter().filter(speaks(value)).any(|claim| claim.method == Method::Tensors);
    let methods = |value| {
        let mut words: Vec<&str> = claims.iter().filter(speaks(value)).map(|claim| claim.method.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        words.join(" and ")
    };
    if by_tensors(winner) && !by_tensors(rival.value) {
        return format!("only its {} speaks for it; the tensors say {winner}", methods(rival.value));
    }
    if rival.confidence < rules.confidence_min && confidence < rules.confidence_min {
        return format!(
            "{:.2} is less than {confidence:.2} for {winner}, and neither is sure enough",
            rival.confidence
        );
    }
    format!("its {} gives {:.2}, less than {confidence:.2} for {winner}", methods(rival.value), rival.confidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Format, Header, Tensor};

    fn header(tensors: &[(&str, &[u64])]) -> Header {
        let tensors = tensors
            .iter()
            .map(|(name, shape)| Tensor { name: (*name).into(), dtype: "F16".into(), shape: (*shape).into() })
            .collect();
        Header { format: Format::Safetensors, tensors, metadata: Vec::new(), imports: Vec::new(), data_start: None }
    }

    #[test]
    fn losers_are_told_with_their_reason() {
        let rules = Rules::parse(
            "[[rule]]\nname = \"lora\"\nmethod = \"tensors\"\nall = [\"a.lora_down.weight\"]\ntype = \"lora\"\nweight = 0.9\n\
             [[rule]]\nname = \"word\"\nmethod = \"name\"\nwords = [\"vae\"]\ntype = \"vae\"\nweight = 0.6\n\
             [[rule]]\nname = \"near\"\nmethod = \"tensors\"\nall = [\"a.*\", \"zero_convs.*\"]\ntype = \"controlnet\"\nweight = 0.9\n",
        )
        .expect("valid");
        let header = header(&[("a.lora_down.weight", &[4, 8])]);
        let evidence =
            Evidence { header: Some(&header), file_name: "my vae.pt", folders: &[], size_bytes: 9, hub: &[] };
        let explained = explain(&rules, &evidence);
        assert_eq!(explained.verdict.model_type, ModelType::Lora);
        assert_eq!(explained.rivals.len(), 1);
        let rival = &explained.rivals[0];
        assert!(rival.model_type == ModelType::Vae && rival.why.contains("the tensors say lora"), "{rival:?}");
        assert_eq!(explained.near_misses.len(), 1);
        let miss = &explained.near_misses[0];
        assert!(miss.rule == "near" && miss.missing.contains("zero_convs.*"), "{miss:?}");
    }
}
