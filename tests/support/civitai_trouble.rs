//! Answers of a hub, or of what stands in front of it, that are none.

use super::two_origins::Answer;
use serde_json::{Value, json};

/// How a question is answered instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    Unauthorized,
    Forbidden,
    /// With seconds in `Retry-After`.
    TooMany(u32),
    Overloaded,
    /// The first half of a JSON answer.
    HalfJson,
    /// A page for people, with status 200.
    Page,
    /// The page of the firewall.
    Firewall,
    Null,
    /// Texts where lists, and lists where objects are expected.
    WrongTypes,
}

pub fn troubled(trouble: Trouble) -> Answer {
    match trouble {
        Trouble::Unauthorized => Answer::json(401, &json!({ "error": "Unauthorized" })),
        Trouble::Forbidden => Answer::json(403, &json!({ "error": "Forbidden" })),
        Trouble::TooMany(seconds) => {
            Answer::json(429, &json!({ "error": "too many requests" })).with("retry-after", seconds)
        }
        Trouble::Overloaded => Answer::json(503, &json!({ "error": "temporarily overloaded" })),
        Trouble::HalfJson => Answer::new(200, "application/json", r#"[{"id": 1, "modelId": 2, "na"#),
        Trouble::Page => Answer::new(200, "text/html; charset=utf-8", "<html>Welcome to this hotel</html>"),
        Trouble::Firewall => Answer::new(403, "text/html", "<html>Attention Required!</html>"),
        Trouble::Null => Answer::json(200, &Value::Null),
        Trouble::WrongTypes => Answer::json(200, &json!("not found")),
    }
}
