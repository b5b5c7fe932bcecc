//! Sizes, times and counts in comparisons: `size<2GB`, `added>=2025-01-01`, `downloads>1000`.

use super::words;
use std::fmt;
use std::ops::{Bound, RangeBounds};

words!(
    /// What can be compared.
    Field {
        Size = "size",
        Added = "added",
        Updated = "updated",
        Downloads = "downloads",
        Rating = "rating",
    }
);

/// The comparison signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

impl Comparison {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "=",
        }
    }

    /// The values that stand so to an amount. A day, a month or a year is a span of time: on it is equal to it.
    pub fn range(self, amount: &Amount) -> (Bound<f64>, Bound<f64>) {
        let (start, after) = (amount.value, amount.end_s);
        match self {
            Self::Less => (Bound::Unbounded, Bound::Excluded(start)),
            Self::LessOrEqual => (Bound::Unbounded, after.map_or(Bound::Included(start), Bound::Excluded)),
            Self::Greater => (after.map_or(Bound::Excluded(start), Bound::Included), Bound::Unbounded),
            Self::GreaterOrEqual => (Bound::Included(start), Bound::Unbounded),
            Self::Equal => (Bound::Included(start), after.map_or(Bound::Included(start), Bound::Excluded)),
        }
    }

    /// Whether a value stands so to an amount.
    pub fn holds(self, value: f64, amount: &Amount) -> bool {
        self.range(amount).contains(&value)
    }
}

/// What a field is compared with, with the text it was written as.
#[derive(Clone, PartialEq, Debug)]
pub struct Amount {
    /// Bytes, seconds since 1970 at 00:00 UTC of the day, a count, or a rating.
    pub value: f64,
    /// For a time: the first second after it.
    end_s: Option<f64>,
    written: String,
}

/// Decimal and binary units of size, in bytes; a bare number means bytes.
const UNITS: &[(&str, f64)] = &[
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("k", 1e3),
    ("m", 1e6),
    ("g", 1e9),
    ("t", 1e12),
    ("b", 1.0),
];

impl Amount {
    pub(super) fn parse(field: Field, text: &str) -> Option<Self> {
        if let Field::Added | Field::Updated = field {
            let (value, end_s) = span_s(text)?;
            return Some(Self { value, end_s: Some(end_s), written: text.to_owned() });
        }
        let value = match field {
            Field::Size => size_bytes(text),
            Field::Added | Field::Updated => None,
            Field::Downloads => {
                plain_number(text).or_else(|| size_bytes(text.strip_suffix(['k', 'K', 'm', 'M']).map(|_| text)?))
            }
            Field::Rating => plain_number(text),
        }?;
        Some(Self { value, end_s: None, written: text.to_owned() })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Field {
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Size => "`500MB` or `2GiB`",
            Self::Added | Self::Updated => "`2025-01-31`",
            Self::Downloads => "`1000` or `10k`",
            Self::Rating => "`4.5`",
        }
    }
}

fn plain_number(text: &str) -> Option<f64> {
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.then(|| text.parse().ok()).flatten()
}

fn size_bytes(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let unit =
        UNITS.iter().find_map(|(suffix, factor)| lower.strip_suffix(suffix).map(|number| (number.to_owned(), *factor)));
    let (number, factor) = unit.unwrap_or((lower, 1.0));
    plain_number(&number).map(|number| number * factor)
}

/// `YYYY-MM-DD`, `YYYY-MM` or `YYYY` in UTC: its first second since 1970, and the first one after it.
fn span_s(text: &str) -> Option<(f64, f64)> {
    let mut parts = text.split('-');
    let year: i64 = number_of_width(parts.next()?, 4)?;
    let written_month = parts.next();
    let written_day = parts.next();
    let month = written_month.map_or(Some(1), |month| number_of_width(month, 2))?;
    let day = written_day.map_or(Some(1), |day| number_of_width(day, 2))?;
    let valid = parts.next().is_none()
        && (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day);
    if !valid {
        return None;
    }
    let first = days_since_1970(year, month, day);
    let days = match (written_month, written_day) {
        (None, _) => days_since_1970(year + 1, 1, 1) - first,
        (Some(_), None) => days_in(year, month),
        (Some(_), Some(_)) => 1,
    };
    let seconds = |days: i64| days as f64 * 86_400.0;
    Some((seconds(first), seconds(first + days)))
}

fn number_of_width(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before `year`, counted from year 1, less those before 1970.
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let whole_years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    whole_years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, Query};
    use super::*;

    #[test]
    fn amounts_have_their_values() {
        for (field, text, expected) in [
            (Field::Size, "2GB", Some(2e9)),
            (Field::Size, "1.5gib", Some(1.5 * 1_073_741_824.0)),
            (Field::Size, "17", Some(17.0)),
            (Field::Size, "x", None),
            (Field::Size, "-1", None),
            (Field::Size, "1e9", None),
            (Field::Downloads, "10k", Some(10_000.0)),
            (Field::Rating, "4.5", Some(4.5)),
            (Field::Added, "1970-01-02", Some(86_400.0)),
            (Field::Added, "2024-02-29", Some(1_709_164_800.0)),
            (Field::Added, "2025", Some(1_735_689_600.0)),
            (Field::Added, "2025-02-29", None),
            (Field::Added, "1969-01-01", None),
        ] {
            assert_eq!(Amount::parse(field, text).map(|amount| amount.value), expected, "{field:?} {text}");
        }
    }

    #[test]
    fn a_day_is_a_span_and_a_size_a_point() {
        let holds = |text: &str, value: f64| {
            let Expression::Compare { comparison, amount, .. } = Query::parse(text).expect(text).expression else {
                panic!("{text} compares")
            };
            comparison.holds(value, &amount)
        };
        const JANUARY_31: f64 = 1_738_281_600.0;
        let noon = JANUARY_31 + 43_200.0;
        for (text, value, expected) in [
            ("added=2025-01-31", noon, true),
            ("added=2025-01", noon, true),
            ("added=2025", noon, true),
            ("added=2025-01-30", noon, false),
            ("added<2025-01-31", noon, false),
            ("added<=2025-01-31", noon, true),
            ("added>2025-01-31", noon, false),
            ("added>2025-01-30", noon, true),
            ("added>=2025-02", noon, false),
            ("size=2GB", 2e9, true),
            ("size=2GB", 2e9 + 1.0, false),
            ("size<=2GB", 2e9, true),
            ("size>2GB", 2e9, false),
        ] {
            assert_eq!(holds(text, value), expected, "{text} of {value}");
        }
    }
}
