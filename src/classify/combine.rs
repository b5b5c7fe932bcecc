//! Claims → one answer, by the weights of the claims.
//!
//! Claims of one method depend on each other, so only the strongest of each method counts; methods are independent:
//! `support = 1 - ∏(1 - weight)`. A rival takes away up to half of it. What tensors say of type and family is not
//! outvoted, whatever the others repeat, only made less certain.
//! Not here: which rules made the claims (`judge`).

use std::collections::BTreeSet;

use super::judge::Claim;
use super::rules::Rules;
use super::verdict::{CONFIDENCE_MIN, Evidence, Method};
use crate::base::{BaseModel, ModelType};

/// From this weight on tensors decide against everything else.
const TYPE_DECIDED_MIN: f32 = 0.8;
const BASE_DECIDED_MIN: f32 = 0.75;

/// A rival of what tensors say counts at most this much.
const RIVAL_OF_TENSORS_MAX: f32 = 0.8;

/// No automatic answer is certain.
const AUTOMATIC_MAX: f32 = 0.99;

/// Methods whose claims are independent of each other.
const METHODS: [Method; 7] =
    [Method::Tensors, Method::Metadata, Method::FileName, Method::Folder, Method::Size, Method::Hub, Method::Combined];

/// The answer for one field.
pub(super) struct Answer<V> {
    pub(super) value: V,
    pub(super) confidence: f32,
    pub(super) method: Method,
}

/// The type, or the best guess under the threshold.
pub(super) fn model_type(rules: &Rules, claims: &[Claim<'_>], evidence: &Evidence<'_>) -> Option<Answer<ModelType>> {
    type_field(rules, claims, evidence).answer()
}

/// Every type that a claim speaks for and how sure it would be, best first.
pub(super) fn candidates(rules: &Rules, claims: &[Claim<'_>], evidence: &Evidence<'_>) -> Vec<Answer<ModelType>> {
    type_field(rules, claims, evidence).candidates()
}

fn type_field<'a>(rules: &'a Rules, claims: &[Claim<'_>], evidence: &Evidence<'_>) -> Field<'a, ModelType> {
    Field {
        claims: claims
            .iter()
            .filter_map(|claim| {
                let value = claim.model_type?;
                if claim.method == Method::Hub && !is_said_by_tensors(rules, claims, value) {
                    return None;
                }
                let weight = claim.type_weight * size_factor(rules, value, claim.method, evidence);
                Some((value, claim.method, weight))
            })
            .collect(),
        is_under: Box::new(|value: &ModelType, ancestor: &ModelType| {
            value == ancestor || rules.kind_of(*value) == Some(*ancestor)
        }),
        parent: Box::new(|value: &ModelType| rules.kind_of(*value)),
        decided_min: TYPE_DECIDED_MIN,
    }
}

/// Whether tensors leave room for this type: where they name one, a hub does not add another.
fn is_said_by_tensors(rules: &Rules, claims: &[Claim<'_>], value: ModelType) -> bool {
    let related = |one: ModelType, other: ModelType| one == other || rules.kind_of(one) == Some(other);
    let mut by_tensors =
        claims.iter().filter(|claim| claim.method == Method::Tensors).filter_map(|claim| claim.model_type);
    let Some(first) = by_tensors.next() else { return true };
    std::iter::once(first).chain(by_tensors).any(|said| related(said, value) || related(value, said))
}

/// The deepest base that is certain enough.
pub(super) fn base(rules: &Rules, claims: &[Claim<'_>]) -> Option<Answer<BaseModel>> {
    let field = Field {
        claims: claims
            .iter()
            .filter_map(|claim| Some((claim.base.clone()?, claim.method, claim.base_weight)))
            .collect(),
        is_under: Box::new(|value: &BaseModel, ancestor: &BaseModel| rules.is_under(value, ancestor)),
        parent: Box::new(|value: &BaseModel| rules.family(value).nth(1).cloned()),
        decided_min: BASE_DECIDED_MIN,
    };
    field.answer().filter(|answer| answer.confidence >= CONFIDENCE_MIN)
}

/// The variant that fits type and base, of the strongest claim.
pub(super) fn sub_type(
    rules: &Rules,
    claims: &[Claim<'_>],
    model_type: ModelType,
    base: Option<&BaseModel>,
) -> Option<String> {
    let fits = |claim: &&Claim<'_>| {
        let type_fits = claim.model_type.is_none_or(|found| {
            found == model_type || rules.kind_of(found) == Some(model_type) || rules.kind_of(model_type) == Some(found)
        });
        let base_fits = match (&claim.base, base) {
            (None, _) => true,
            (Some(claimed), Some(base)) => rules.is_under(claimed, base) || rules.is_under(base, claimed),
            (Some(_), None) => claim.method == Method::Tensors,
        };
        claim.sub_type.is_some() && type_fits && base_fits
    };
    let strength = |claim: &Claim<'_>| claim.base_weight.max(claim.type_weight);
    // Of equals the later one: rules go from the family to its variants.
    let best = claims.iter().filter(fits).max_by(|a, b| strength(a).total_cmp(&strength(b)))?;
    best.sub_type.map(str::to_owned)
}

/// A size that is impossible for a type halves every claim of it that is not made by tensors.
fn size_factor(rules: &Rules, value: ModelType, method: Method, evidence: &Evidence<'_>) -> f32 {
    let impossible = method != Method::Tensors
        && rules.bounds.get(&value).is_some_and(|[min, max]| !(*min..=*max).contains(&evidence.size_bytes));
    if impossible { 0.5 } else { 1.0 }
}

type Under<'a, V> = Box<dyn Fn(&V, &V) -> bool + 'a>;
type Parent<'a, V> = Box<dyn Fn(&V) -> Option<V> + 'a>;

/// All claims about one field, whose values form a forest.
struct Field<'a, V> {
    claims: Vec<(V, Method, f32)>,
    is_under: Under<'a, V>,
    parent: Parent<'a, V>,
    decided_min: f32,
}

impl<V: Clone + Ord> Field<'_, V> {
    /// Every value that is claimed, and what it is a kind of.
    fn values(&self) -> BTreeSet<V> {
        let mut values: BTreeSet<V> = BTreeSet::new();
        for (value, ..) in self.claims.iter().filter(|(_, _, weight)| *weight > 0.0) {
            let line = std::iter::successors(Some(value.clone()), |value| (self.parent)(value));
            values.extend(line);
        }
        values
    }

    fn candidates(&self) -> Vec<Answer<V>> {
        let values = self.values();
        let answer = |value: &V| Answer {
            value: value.clone(),
            confidence: self.confidence(&values, value).min(AUTOMATIC_MAX),
            method: self.method(value),
        };
        let mut found: Vec<Answer<V>> = values.iter().map(answer).collect();
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        found
    }

    fn answer(&self) -> Option<Answer<V>> {
        let values = self.values();
        let roots = values.iter().filter(|value| (self.parent)(value).is_none());
        let root = match self.decided() {
            Some(value) => values.iter().find(|root| (self.parent)(root).is_none() && (self.is_under)(value, root))?,
            None => roots.max_by(|a, b| self.confidence(&values, a).total_cmp(&self.confidence(&values, b)))?,
        };
        let mut value = root;
        // The tree is finite and every step goes down.
        while let Some(child) = values
            .iter()
            .filter(|child| (self.parent)(child).as_ref() == Some(value))
            .filter(|child| self.confidence(&values, child) >= CONFIDENCE_MIN)
            .max_by(|a, b| self.confidence(&values, a).total_cmp(&self.confidence(&values, b)))
        {
            value = child;
        }
        let confidence = (self.confidence(&values, value).min(AUTOMATIC_MAX) * 100.0).round() / 100.0;
        Some(Answer { value: value.clone(), confidence, method: self.method(value) })
    }

    /// What tensors say, when they are sure.
    fn decided(&self) -> Option<&V> {
        self.claims
            .iter()
            .filter(|(_, method, weight)| *method == Method::Tensors && *weight >= self.decided_min)
            .max_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(value, ..)| value)
    }

    /// The strongest claim of a method that speaks for the value or a kind of it.
    fn strongest(&self, value: &V, method: Method) -> f32 {
        self.claims
            .iter()
            .filter(|(claimed, by, _)| *by == method && (self.is_under)(claimed, value))
            .map(|(_, _, weight)| *weight)
            .fold(0.0, f32::max)
    }

    fn support(&self, value: &V) -> f32 {
        1.0 - METHODS.iter().map(|method| 1.0 - self.strongest(value, *method)).product::<f32>()
    }

    fn confidence(&self, values: &BTreeSet<V>, value: &V) -> f32 {
        let rival = values
            .iter()
            .filter(|other| !(self.is_under)(other, value) && !(self.is_under)(value, other))
            .map(|other| self.support(other))
            .fold(0.0, f32::max);
        let by_tensors = self.strongest(value, Method::Tensors) >= self.decided_min;
        let rival = if by_tensors { rival.min(RIVAL_OF_TENSORS_MAX) } else { rival };
        self.support(value) * (1.0 - rival / 2.0)
    }

    fn method(&self, value: &V) -> Method {
        let strongest = METHODS.iter().map(|method| (*method, self.strongest(value, *method)));
        let (method, weight) =
            strongest.fold((Method::None, 0.0), |best, next| if next.1 > best.1 { next } else { best });
        if weight >= CONFIDENCE_MIN || method == Method::None { method } else { Method::Combined }
    }
}
