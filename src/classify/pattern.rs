//! Tests of one tensor: a pattern for its name, and what its shape and dtype must be.
//!
//! Notation: `double_blocks.#.img_attn.{qkv,proj}.weight [*,3072] @F16|BF16`. In a name `*` is any text, `#` a whole
//! number, `#20-` one of at least 20, `#0-37` one of a range, `{a,b}` either. In a shape `*` is any length, `a|b`
//! either, `a-b` a range, and a last `..` any further lengths.
//! Invariants: matching takes time proportional to pattern times name, and never allocates.
//! Not here: which tensors are asked (`view`).

/// Most names one `{…}` notation may stand for: more is a mistake in a rule.
const ALTERNATIVES_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Box<str>),
    Any,
    Number { min: u64, max: u64 },
}

/// A name with wildcards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    /// The same with every number replaced by `#`: what a skeleton of a name is matched with.
    skeleton: Vec<Piece>,
    print: Print,
}

/// Which pairs of bytes a text has, roughly: a text that lacks a pair of a pattern cannot match it. One comparison
/// of four numbers instead of a search settles nearly every pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Print([u64; 4]);

impl Print {
    pub(super) fn of(text: &str) -> Self {
        let mut print = Self::default();
        for pair in text.as_bytes().windows(2) {
            let bit = (usize::from(pair[0]).wrapping_mul(37) ^ usize::from(pair[1]).wrapping_mul(101)) & 255;
            print.0[bit / 64] |= 1 << (bit % 64);
        }
        print
    }

    fn has(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(own, needed)| own & needed == needed)
    }

    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] | other.0[index]))
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match first {
                '*' => {
                    rest = &rest[1..];
                    if pieces.last() != Some(&Piece::Any) {
                        pieces.push(Piece::Any);
                    }
                }
                '#' => {
                    let (piece, after) = number_piece(&rest[1..])?;
                    pieces.push(piece);
                    rest = after;
                }
                _ => {
                    let end = rest.find(['*', '#']).unwrap_or(rest.len());
                    pieces.push(Piece::Text(rest[..end].into()));
                    rest = &rest[end..];
                }
            }
        }
        if pieces.is_empty() {
            return Err("a name is empty".to_owned());
        }
        let skeleton = skeleton_pieces(&pieces);
        let print = skeleton.iter().fold(Print::default(), |print, piece| match piece {
            Piece::Text(text) => print.and(Print::of(text)),
            Piece::Any | Piece::Number { .. } => print,
        });
        Ok(Self { pieces, skeleton, print })
    }

    /// The skeleton itself, when there is no `*`.
    pub(super) fn exact_skeleton(&self) -> Option<&str> {
        match self.skeleton.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        glob(&self.pieces, name)
    }

    /// Whether a text with this print, or a part of it, can be a skeleton that matches.
    pub(super) fn can_match(&self, print: Print) -> bool {
        print.has(self.print)
    }

    pub(super) fn matches_skeleton(&self, skeleton: &str) -> bool {
        glob(&self.skeleton, skeleton)
    }
}

/// What follows a `#`: nothing, `20-`, or `0-37`.
fn number_piece(rest: &str) -> Result<(Piece, &str), String> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count = digits(rest);
    if count == 0 {
        return Ok((Piece::Number { min: 0, max: u64::MAX }, rest));
    }
    let bound = |text: &str| text.parse::<u64>().map_err(|_| format!("the number {text} is too large"));
    let min = bound(&rest[..count])?;
    let after = rest[count..].strip_prefix('-').ok_or("a number behind `#` needs a `-`: `#20-` or `#0-37`")?;
    let count = digits(after);
    let max = if count == 0 { u64::MAX } else { bound(&after[..count])? };
    if min > max {
        return Err(format!("the range {min}-{max} is empty"));
    }
    Ok((Piece::Number { min, max }, &after[count..]))
}

fn skeleton_pieces(pieces: &[Piece]) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => push_skeleton(&mut text, part),
            Piece::Number { .. } => text.push('#'),
            Piece::Any => {
                if !text.is_empty() {
                    found.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                found.push(Piece::Any);
            }
        }
    }
    if !text.is_empty() {
        found.push(Piece::Text(text.into()));
    }
    found
}

/// Appends `name` with every run of digits as one `#`.
pub(super) fn push_skeleton(out: &mut String, name: &str) {
    let mut rest = name;
    while let Some(start) = rest.bytes().position(|byte| byte.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        if start > 0 || !out.ends_with('#') {
            out.push('#');
        }
        let count = rest.as_bytes()[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &rest[start + count..];
    }
    out.push_str(rest);
}

/// Whether the whole text fits, going back to the last `*` at most once per byte.
fn glob(pieces: &[Piece], text: &str) -> bool {
    if let Some(Piece::Text(last)) = pieces.last()
        && !text.ends_with(&**last)
    {
        return false;
    }
    let (mut piece, mut at) = (0, 0);
    let mut star = None;
    loop {
        let advanced = match pieces.get(piece) {
            None if at == text.len() => return true,
            None => None,
            Some(Piece::Any) => {
                star = Some((piece, at));
                Some(at)
            }
            Some(Piece::Text(part)) => text.as_bytes()[at..].starts_with(part.as_bytes()).then_some(at + part.len()),
            Some(Piece::Number { min, max }) => number_end(text.as_bytes(), at, *min, *max),
        };
        if let Some(next) = advanced {
            (piece, at) = (piece + 1, next);
            continue;
        }
        match star {
            Some((_, tried)) if tried >= text.len() => return false,
            Some((star_piece, tried)) => {
                star = Some((star_piece, tried + 1));
                (piece, at) = (star_piece + 1, tried + 1);
            }
            None => return false,
        }
    }
}

/// The end of the whole number that starts at `at`, when it is inside the range.
fn number_end(text: &[u8], at: usize, min: u64, max: u64) -> Option<usize> {
    let inside = at > 0 && text[at - 1].is_ascii_digit();
    let count = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if inside || count == 0 {
        return None;
    }
    let number = text[at..at + count]
        .iter()
        .fold(0u64, |number, byte| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
    (min..=max).contains(&number).then_some(at + count)
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Length {
    Any,
    OneOf(Vec<u64>),
    Range(u64, u64),
}

/// What the lengths of a tensor must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ShapeTest {
    lengths: Vec<Length>,
    open: bool,
}

impl ShapeTest {
    /// The text between the brackets.
    fn parse(text: &str) -> Result<Self, String> {
        let mut lengths = Vec::new();
        let mut open = false;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            if open {
                return Err("`..` must be the last of a shape".to_owned());
            }
            match part {
                ".." => open = true,
                "*" => lengths.push(Length::Any),
                _ => lengths.push(Length::parse(part)?),
            }
        }
        Ok(Self { lengths, open })
    }

    pub(super) fn fits(&self, shape: &[u64]) -> bool {
        let rank_fits = if self.open { shape.len() >= self.lengths.len() } else { shape.len() == self.lengths.len() };
        rank_fits
            && self.lengths.iter().zip(shape).all(|(length, actual)| match length {
                Length::Any => true,
                Length::OneOf(values) => values.contains(actual),
                Length::Range(min, max) => (min..=max).contains(&actual),
            })
    }
}

impl Length {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<u64>().map_err(|_| format!("`{part}` is not a length"));
        match text.split_once('-') {
            Some((min, "")) => Ok(Self::Range(number(min)?, u64::MAX)),
            Some((min, max)) => Ok(Self::Range(number(min)?, number(max)?)),
            None => text.split('|').map(number).collect::<Result<_, _>>().map(Self::OneOf),
        }
    }
}

/// One condition of a rule: some tensor has one of these names and fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyTest {
    /// As it is written.
    pub(super) text: Box<str>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) shape: Option<ShapeTest>,
    pub(super) dtypes: Vec<Box<str>>,
}

impl KeyTest {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split_whitespace();
        let name = parts.next().ok_or("a condition is empty")?;
        let patterns = alternatives(name)?.iter().map(|name| Pattern::parse(name)).collect::<Result<_, _>>()?;
        let (mut shape, mut dtypes) = (None, Vec::new());
        for part in parts {
            if let Some(inner) = part.strip_prefix('[').and_then(|part| part.strip_suffix(']')) {
                shape = Some(ShapeTest::parse(inner)?);
            } else if let Some(words) = part.strip_prefix('@') {
                dtypes = words.split('|').map(Into::into).collect();
            } else {
                return Err(format!("`{part}` is neither a shape nor a dtype; a shape has no spaces: `[*,768]`"));
            }
        }
        Ok(Self { text: text.into(), patterns, shape, dtypes })
    }
}

/// Every name that `{a,b}` groups stand for.
fn alternatives(name: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        let Some((before, rest)) = next.split_once('{') else {
            done.push(next);
            continue;
        };
        let (inner, after) = rest.split_once('}').ok_or("a `{` has no `}`")?;
        // Taken from the end of `open`, so that the first alternative comes first.
        open.extend(inner.split(',').rev().map(|choice| format!("{before}{choice}{after}")));
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(format!("the groups stand for more than {ALTERNATIVES_MAX} names"));
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("*attn2.to_k.weight", "down_blocks.0.attn2.to_k.weight", true),
            ("*attn2.to_k.weight", "down_blocks.0.attn21to_k.weight", false),
            ("*a*b*c", "xaybzbc", true),
            ("*a*b*c", "xaybzb", false),
            ("x.#.y", "x.12.y", true),
            ("x.#.y", "x.a.y", false),
            ("x.#20-.y", "x.19.y", false),
            ("x.#20-.y", "x.20.y", true),
            ("x.#0-37.y*", "x.38.y", false),
            ("x_#0-37_y*", "x_37_yz", true),
            ("*#9-.y", "x.19.y", true),
            ("*#0-9.y", "x.19.y", false),
            ("*\u{e9}#", "\u{e9}\u{e9}7", true),
            ("#", "99999999999999999999999999", true),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(name), expected, "{pattern} on {name}");
            let mut skeleton = String::new();
            push_skeleton(&mut skeleton, name);
            let fits = parsed.can_match(Print::of(&skeleton)) && parsed.matches_skeleton(&skeleton);
            assert!(!expected || fits, "{pattern} on {skeleton}");
        }
    }

    #[test]
    fn a_condition_reads_names_shape_and_dtype() {
        let test = KeyTest::parse("{,model.}a.{b,c}.weight [*,768|1024,3-,..] @F16|F32").expect("valid");
        let names: Vec<_> = test.patterns.iter().filter_map(Pattern::exact_skeleton).collect();
        assert_eq!(names, ["a.b.weight", "a.c.weight", "model.a.b.weight", "model.a.c.weight"]);
        assert_eq!(test.dtypes.len(), 2);
        let shape = test.shape.expect("a shape");
        for (lengths, expected) in [
            (&[1, 768, 3][..], true),
            (&[1, 1024, 9, 9, 9], true),
            (&[1, 768, 2], false),
            (&[1, 769, 3], false),
            (&[1, 768], false),
        ] {
            assert_eq!(shape.fits(lengths), expected, "{lengths:?}");
        }
        assert!(KeyTest::parse("a []").expect("rank 0").shape.expect("a shape").fits(&[]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["", "a{b", "x#5", "x#9-2", "a [x]", "a [..,3]", "a [1] b", "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"] {
            assert!(KeyTest::parse(text).is_err(), "{text}");
        }
    }
}
