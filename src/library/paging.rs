//! Where a search of several sources goes on: a cursor that can be typed, and says nothing to anybody else. Pure.
//!
//! Invariant: a cursor is ours or it is refused; whatever it holds, it only names a place in an answer of a source that
//! can be searched. Not here: what a hub calls its pages (`hub`).

use super::gateway::HUBS;
use crate::tree::Source;

/// Most sources of one cursor: three hubs and this store, and room for some more.
const PARTS_MAX: usize = 8;

/// A place in the answer of one source: the page, as its hub calls it, and the rows of it that were looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Position {
    /// Nothing for the first page, and for this store, which has one.
    pub page: Option<String>,
    pub skip: usize,
}

/// `huggingface.3.<hex>`, several with commas: the rows to skip, and the page.
pub(super) fn write(places: &[(Source, Position)]) -> Option<String> {
    let parts = places.iter().map(|(source, place)| {
        let page = place.page.as_deref().unwrap_or_default();
        let digits: String = page.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{}.{digits}", source.as_str(), place.skip)
    });
    (!places.is_empty()).then(|| parts.collect::<Vec<_>>().join(","))
}

pub(super) fn read(text: &str) -> Option<Vec<(Source, Position)>> {
    let parts: Option<Vec<(Source, Position)>> = text.split(',').take(PARTS_MAX).map(part).collect();
    let parts = parts?;
    let is_double = |index: usize| parts[..index].iter().any(|(source, _)| *source == parts[index].0);
    (!(0..parts.len()).any(is_double)).then_some(parts)
}

fn part(text: &str) -> Option<(Source, Position)> {
    let (source, place) = text.split_once('.')?;
    let (skip, digits) = place.split_once('.')?;
    let source = Source::parse(source).filter(|source| *source == Source::Local || HUBS.contains(source))?;
    let digits = digits.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let page = String::from_utf8(bytes.filter(|_| digits.len().is_multiple_of(2))?).ok()?;
    let is_ours = page.is_empty() || source != Source::Local;
    let place = Position { page: Some(page).filter(|page| !page.is_empty()), skip: skip.parse().ok()? };
    is_ours.then_some((source, place))
}

/// How many rows each source gives to a page: as even as can be, and none is left free that another could fill.
pub(super) fn shares(counts: &[usize], limit: usize) -> Vec<usize> {
    let mut shares = vec![0; counts.len()];
    let mut left = limit;
    while left > 0 {
        let open: Vec<usize> = (0..counts.len()).filter(|source| shares[*source] < counts[*source]).collect();
        if open.is_empty() {
            break;
        }
        let each = (left / open.len()).max(1);
        for source in &open {
            let more = each.min(left).min(counts[*source] - shares[*source]);
            shares[*source] += more;
            left -= more;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_read_back_and_a_forged_one_is_refused() {
        let places = [
            (Source::Local, Position { page: None, skip: 12 }),
            (Source::HuggingFace, Position { page: Some("a=1&cursor=é".to_owned()), skip: 0 }),
            (Source::Civitai, Position { page: None, skip: 3 }),
        ];
        assert_eq!(read(&write(&places).expect("places")), Some(places.to_vec()));
        assert_eq!(write(&[]), None);
        for wrong in [
            "",
            "huggingface",
            "huggingface.61",
            "huggingface.0.6",
            "huggingface.0.zz",
            "huggingface.-1.61",
            "huggingface.x.61",
            "local.1.61",
            "folder.1.",
            "x.0.61",
            "local.1.,local.2.",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_page_is_full_and_fair(counts in prop::collection::vec(0..20_usize, 0..5), limit in 0..60_usize) {
            let shares = shares(&counts, limit);
            let total: usize = counts.iter().sum();
            prop_assert_eq!(shares.iter().sum::<usize>(), total.min(limit));
            for (share, count) in shares.iter().zip(&counts) {
                prop_assert!(share <= count);
                // Who gives less than another by more than one had no more to give.
                prop_assert!(share == count || shares.iter().all(|other| *other <= share + 1));
            }
        }
    }
}
