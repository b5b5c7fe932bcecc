//! Tests of the grammar: meaning, errors with their places, round trip.

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Query {
    Query::parse(text).unwrap_or_else(|error| panic!("{text}\n{}\n{error}", error.under(text)))
}

#[test]
fn terms_side_by_side_must_all_hold() {
    let query = parsed("sdxl lora \"red hair\" type:lora -tag:anime size<2GB sort:downloads limit:50");
    let Expression::And(parts) = &query.expression else { panic!("{query:?}") };
    assert_eq!(parts.len(), 6);
    assert_eq!((query.sort, query.limit), (Some(Sort::Downloads), Some(50)));
    assert!(matches!(&parts[2], Expression::Phrase(text) if text == "red hair"));
    assert!(matches!(&parts[4], Expression::Not(inner) if matches!(**inner, Expression::Key { key: Key::Tag, .. })));
}

#[test]
fn or_binds_less_than_standing_side_by_side() {
    let query = parsed("a b OR c");
    let Expression::Or(parts) = &query.expression else { panic!("{query:?}") };
    assert!(matches!(&parts[0], Expression::And(both) if both.len() == 2));
}

#[test]
fn refining_asks_for_both() {
    for (first, second, expected) in [
        ("a OR b sort:name limit:5", "c limit:3", "(a OR b) c sort:name limit:3"),
        ("a b", "-c d", "a b -c d"),
        ("", "a", "a"),
        ("a", "sort:size", "a sort:size"),
        ("", "", ""),
    ] {
        assert_eq!(parsed(first).refined_by(parsed(second)), parsed(expected), "{first} + {second}");
    }
}

#[test]
fn words_are_ordered_by_relevance_and_the_rest_by_name() {
    for (text, expected) in [
        ("a", Sort::Relevance),
        ("type:lora OR \"a b\"", Sort::Relevance),
        ("type:lora -a", Sort::Name),
        ("", Sort::Name),
        ("a sort:size", Sort::Size),
    ] {
        assert_eq!(parsed(text).order(), expected, "{text}");
    }
}

#[test]
fn sources_are_told() {
    assert_eq!(parsed("x source:huggingface|civitai").sources(), ["huggingface", "civitai"]);
    assert!(parsed("a OR source:all").sources().is_empty());
}

/// Each query with the caret line that its error draws.
#[test]
fn errors_point_at_their_place() {
    for (text, caret) in [
        ("a \"b", "  ^^"),
        ("(a", "^"),
        ("a)", " ^"),
        ("()", "^^"),
        ("a OR", "    ^"),
        ("OR a", "^^"),
        ("x - y", "  ^"),
        ("colour:red", "^^^^^^^^^^"),
        ("type:", "^^^^^"),
        ("type:checkpoints", "^^^^^^^^^^^^^^^^"),
        ("ä size<big", "  ^^^^^^^^"),
        ("tag<3", "^^^^^"),
        ("sort:name sort:size", "          ^^^^^^^^^"),
        ("(limit:3)", " ^^^^^^^"),
        ("limit:0", "^^^^^^^"),
        ("hash:xyz", "^^^^^^^^"),
        ("a\u{7}b", " ^"),
    ] {
        let error = Query::parse(text).expect_err(text);
        assert_eq!(error.under(text).lines().nth(1), Some(caret), "{text}: {error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn limits_hold() {
    assert!(Query::parse(&"a ".repeat(200)).is_err());
    assert!(Query::parse(&"(".repeat(100)).is_err());
    assert!(Query::parse(&format!("{}a", "-".repeat(100))).is_err());
}

struct Row {
    name: &'static str,
    tags: &'static [&'static str],
    size_bytes: f64,
}

impl Subject for Row {
    fn texts(&self) -> Vec<&str> {
        vec![self.name]
    }

    fn values(&self, key: Key) -> Vec<String> {
        match key {
            Key::Tag => self.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            Key::Base => vec!["wan2.1".to_owned()],
            Key::Hash => vec!["b94d27b9934d3e08".to_owned()],
            _ => Vec::new(),
        }
    }

    fn amount(&self, field: Field) -> Option<f64> {
        (field == Field::Size).then_some(self.size_bytes)
    }
}

#[test]
fn matching_means_what_it_says() {
    let row = Row { name: "animagineXLV3", tags: &["Anime", "style"], size_bytes: 6.9e9 };
    for (text, expected) in [
        ("", true),
        ("ANIMAGINE", true),
        ("xl v3", true),
        ("\"xl v3\"", false),
        ("tag:anime", true),
        ("-tag:anime", false),
        ("tag:x|style", true),
        ("base:wan", true),
        ("hash:B94D27B9", true),
        ("size>6GB size<7GB", true),
        ("downloads>1", false),
        ("nothing OR (xl tag:style)", true),
        ("source:all", true),
    ] {
        assert_eq!(matches(&parsed(text), &row), expected, "{text}");
    }
}

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9äß][a-z0-9._-]{0,6}".prop_filter("`OR` is the operator", |word| word != "OR")
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        word().prop_map(Expression::Word),
        "[ -~äß]{1,8}".prop_map(Expression::Phrase),
        (prop::sample::select(&[Key::Tag, Key::Base, Key::Creator][..]), prop::collection::vec(word(), 1..3))
            .prop_map(|(key, values)| Expression::Key { key, values }),
        (0..5u32).prop_map(|n| Query::parse(&format!("size>={n}GB")).expect("valid").expression),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Expression::Not(Box::new(part))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

/// `a (b c)` and `a b c` mean the same; the text keeps the grouping, so the round trip is exact.
fn check_round_trip(query: &Query) {
    let text = query.to_string();
    if text.len() <= QUERY_BYTES_MAX {
        assert_eq!(&parsed(&text), query, "{text}");
    }
}

proptest! {
    #[test]
    fn text_and_query_round_trip(expression in expression(), sort in prop::option::of(prop::sample::select(Sort::ALL)), limit in prop::option::of(1..LIMIT_MAX)) {
        check_round_trip(&Query { expression, sort, limit });
    }

    #[test]
    fn any_text_parses_or_explains(text in "\\PC{0,60}") {
        match Query::parse(&text) {
            Ok(query) => check_round_trip(&query),
            Err(error) => prop_assert!(error.under(&text).contains('^')),
        }
    }
}
