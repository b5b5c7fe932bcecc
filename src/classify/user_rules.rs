//! Rules of a user, beside the built-in ones.
//!
//! Invariants: a rule that cannot be used is named and left out, and never changes what the others do; size never
//! decides alone, whoever says so. Not here: where the rows are kept (`catalog`).

use super::rules::{RawRule, Rules, builtin_text};

/// Weight of a size at most: enough to break ties.
const SIZE_WEIGHT_MAX: f32 = 0.3;

/// One rule as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct UserRule {
    /// Where it is written: `size_rules row 7`. Also its name in explanations.
    pub place: String,
    pub says: UserRuleKind,
}

#[derive(Clone, PartialEq, Debug)]
pub enum UserRuleKind {
    /// A word in the name of a file of this type tells a variant.
    SubType { model_type: String, sub_type: String, words: String, weight: f32 },
    /// Files of this size may be of this type.
    Size { model_type: String, base: Option<String>, bytes: [u64; 2], weight: f32 },
    /// A tensor with such a name tells the type.
    Tensors { model_type: String, pattern: String, base: Option<String>, weight: f32 },
    /// The lines of a `[[rule]]`.
    Notation(String),
}

/// A rule that is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRule {
    pub place: String,
    pub reason: String,
}

impl Rules {
    /// The built-in rules, then those of a user that can be used; and those that cannot.
    pub fn with_user(user: &[UserRule]) -> (Rules, Vec<BadRule>) {
        let mut rules = Rules::parse(&builtin_text()).expect("the shipped rules are tested");
        let mut bad = Vec::new();
        for rule in user {
            if let Err(reason) = raw_of(rule).and_then(|raw| rules.add(raw)) {
                bad.push(BadRule { place: rule.place.clone(), reason });
            }
        }
        (rules, bad)
    }
}

fn raw_of(rule: &UserRule) -> Result<RawRule, String> {
    let raw = match &rule.says {
        UserRuleKind::SubType { model_type, sub_type, words, weight } => RawRule {
            method: "name".to_owned(),
            words: vec![words.clone()],
            if_type: vec![model_type.clone()],
            sub_type: Some(sub_type.as_str().into()),
            weight: Some(*weight),
            ..RawRule::default()
        },
        UserRuleKind::Size { model_type, base, bytes: [min, max], weight } => {
            if min > max {
                return Err(format!("the band from {min} to {max} bytes is empty"));
            }
            RawRule {
                method: "size".to_owned(),
                size_bytes: Some([*min, *max]),
                model_type: Some(model_type.clone()),
                base: base.clone(),
                weight: Some(weight.min(SIZE_WEIGHT_MAX)),
                ..RawRule::default()
            }
        }
        UserRuleKind::Tensors { model_type, pattern, base, weight } => {
            let is_plain = !pattern.contains(['*', '#', '{', ' ', '[', '@']);
            RawRule {
                method: "tensors".to_owned(),
                all: vec![if is_plain { format!("*{pattern}*") } else { pattern.clone() }],
                model_type: Some(model_type.clone()),
                base: base.clone(),
                weight: Some(*weight),
                ..RawRule::default()
            }
        }
        UserRuleKind::Notation(text) => {
            let mut raw: RawRule = toml::from_str(text).map_err(|error| error.message().trim().replace('\n', " "))?;
            if raw.method == "size" {
                raw.weight = raw.weight.map(|weight| weight.min(SIZE_WEIGHT_MAX));
                raw.base_weight = raw.base_weight.map(|weight| weight.min(SIZE_WEIGHT_MAX));
            }
            raw
        }
    };
    Ok(RawRule { name: rule.place.clone(), ..raw })
}

#[cfg(test)]
mod tests {
    use super::super::{Evidence, classify};
    use super::*;
    use crate::base::ModelType;
    use crate::formats::{Format, Header, Tensor};

    fn rule(says: UserRuleKind) -> UserRule {
        UserRule { place: "row 1".to_owned(), says }
    }

    fn tensors(pattern: &str, model_type: &str) -> UserRule {
        let (pattern, model_type) = (pattern.to_owned(), model_type.to_owned());
        rule(UserRuleKind::Tensors { model_type, pattern, base: Some("my-base".to_owned()), weight: 0.9 })
    }

    fn verdict(rules: &Rules, name: &str, size_bytes: u64) -> super::super::Verdict {
        let tensors = vec![Tensor { name: "mine.0.gizmo.weight".into(), dtype: "F16".into(), shape: [4, 4].into() }];
        let header = Header {
            format: Format::Safetensors,
            tensors,
            metadata: Vec::new(),
            imports: Vec::new(),
            data_start: None,
        };
        classify(rules, &Evidence { header: Some(&header), file_name: name, folders: &[], size_bytes, hub: &[] })
    }

    #[test]
    fn a_rule_of_a_user_decides_without_a_new_program() {
        assert_eq!(verdict(Rules::builtin(), "a.safetensors", 99).model_type, ModelType::Unknown);
        for pattern in ["gizmo.", "mine.#.gizmo.weight [*,4]"] {
            let (rules, bad) = Rules::with_user(&[tensors(pattern, "upscaler")]);
            assert_eq!(bad, []);
            let verdict = verdict(&rules, "a.safetensors", 99);
            assert_eq!(verdict.model_type, ModelType::Upscaler, "{pattern}");
            assert_eq!(verdict.base.map(|base| base.to_string()).as_deref(), Some("my-base"));
            assert!(verdict.reasons.iter().any(|reason| reason.rule == "row 1"));
        }
        let notation = "method = \"tensors\"\nall = [\"*.gizmo.weight\"]\ntype = \"vae\"\nweight = 0.9";
        let (rules, bad) = Rules::with_user(&[rule(UserRuleKind::Notation(notation.to_owned()))]);
        assert_eq!((bad, verdict(&rules, "a.pt", 99).model_type), (Vec::new(), ModelType::Vae));
    }

    #[test]
    fn variants_and_sizes_add_up_and_size_never_decides() {
        let size = |weight| UserRuleKind::Size { model_type: "vae".to_owned(), base: None, bytes: [90, 100], weight };
        let (rules, bad) = Rules::with_user(&[rule(size(1.0))]);
        assert_eq!((bad, verdict(&rules, "a.pt", 99).model_type), (Vec::new(), ModelType::Unknown));
        let variant = rule(UserRuleKind::SubType {
            model_type: "upscaler".to_owned(),
            sub_type: "crisp".to_owned(),
            words: "crispy".to_owned(),
            weight: 0.4,
        });
        let (rules, bad) = Rules::with_user(&[tensors("gizmo", "upscaler"), variant]);
        assert_eq!(bad, []);
        assert_eq!(verdict(&rules, "my_crispy_v2.pt", 99).sub_type.as_deref(), Some("crisp"));
        assert_eq!(verdict(&rules, "my_plain_v2.pt", 99).sub_type, None);
    }

    #[test]
    fn whoever_must_be_surer_knows_less() {
        let (rules, _) = Rules::with_user(&[tensors("gizmo", "upscaler")]);
        let rules = rules.needing(0.95);
        let found = verdict(&rules, "a.pt", 99);
        assert_eq!((found.model_type, found.method), (ModelType::Unknown, super::super::Method::None));
        assert!(found.confidence > 0.8, "how sure it would be is told: {}", found.confidence);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_left_out() {
        let user = [
            tensors("gizmo", "upscalers"),
            rule(UserRuleKind::Notation("colour = 1".to_owned())),
            tensors("{a", "vae"),
            rule(UserRuleKind::Size { model_type: "vae".to_owned(), base: None, bytes: [9, 1], weight: 0.1 }),
            tensors("gizmo", "vae"),
        ];
        let (rules, bad) = Rules::with_user(&user);
        let reasons: Vec<&str> = bad.iter().map(|bad| bad.reason.as_str()).collect();
        assert_eq!(bad.len(), 4, "{reasons:?}");
        assert!(reasons[0].contains("`upscalers`") && reasons[1].contains("colour") && reasons[3].contains("empty"));
        assert_eq!(verdict(&rules, "a.pt", 99).model_type, ModelType::Vae);
    }
}
