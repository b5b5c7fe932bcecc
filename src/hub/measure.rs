//! Measures an answer to a range request against what was asked and what is known. Decides, reads no body.
//!
//! Invariant: an answer that passes holds exactly the asked bytes of exactly the registered file, as far as headers
//! can tell; the hash of the whole file tells the rest.

use super::answer::{self, ContentRange};
use super::client::{Linked, content_type, text_header};
use super::{Expected, HubError};
use crate::base::ByteRange;
use reqwest::header::{self, HeaderMap};

/// What the hub says the file is, against what was registered.
pub(super) fn check_identity(linked: &Linked, expected: &Expected, subject: &str) -> Result<(), HubError> {
    let changed = |detail: String| Err(HubError::Changed { subject: subject.to_owned(), detail });
    if let Some(size_bytes) = linked.size_bytes.filter(|size| *size != expected.size_bytes) {
        return changed(format!("it had {} bytes and now has {size_bytes}", expected.size_bytes));
    }
    let Some(etag) = &linked.etag else { return Ok(()) };
    match (answer::digest_of_etag(etag), &expected.sha256) {
        (Some(digest), Some(registered)) if digest != *registered => {
            return changed(format!("its sha256 was {registered} and now is {digest}"));
        }
        (Some(_), Some(_)) => return Ok(()),
        _ => {}
    }
    // Without a published hash the tag of the hub itself is the identity.
    match &expected.etag {
        Some(registered) if expected.sha256.is_none() && registered != etag => {
            changed("the hub's tag of it changed".to_owned())
        }
        _ => Ok(()),
    }
}

/// Status, place and length of an answer to `Range: range`. The status is 200, 206 or 416.
pub(super) fn check_range(
    status: u16,
    headers: &HeaderMap,
    size_bytes: u64,
    range: ByteRange,
    host: &str,
    subject: &str,
) -> Result<(), HubError> {
    let wrong =
        |detail: String| Err(HubError::WrongRange { host: host.to_owned(), subject: subject.to_owned(), detail });
    let changed = |detail: String| Err(HubError::Changed { subject: subject.to_owned(), detail });
    let length = text_header(headers, &header::CONTENT_LENGTH).and_then(answer::number);
    match status {
        416 => return changed(format!("it no longer reaches to byte {}", range.end())),
        206 => {
            let place = text_header(headers, &header::CONTENT_RANGE).and_then(answer::content_range);
            let Some(ContentRange { range: given, total_bytes }) = place else {
                return wrong("it does not say which".to_owned());
            };
            match total_bytes {
                Some(total) if total != size_bytes => {
                    return changed(format!("it had {size_bytes} bytes and now has {total}"));
                }
                Some(_) => {}
                None => return wrong("it does not say how large the whole is".to_owned()),
            }
            if given != range {
                return wrong(format!("asked {range}, given {given}"));
            }
        }
        _ => {
            refuse_page(headers, host, subject)?;
            if range.start() != 0 || range.len() != size_bytes {
                return wrong("the whole file".to_owned());
            }
        }
    }
    refuse_compressed(headers, host, subject)?;
    if let Some(length) = length.filter(|length| *length != range.len()) {
        return wrong(format!("{length} bytes announced for {} asked", range.len()));
    }
    Ok(())
}

/// A proxy's or a portal's page in place of a file.
fn refuse_page(headers: &HeaderMap, host: &str, subject: &str) -> Result<(), HubError> {
    let content_type = content_type(headers);
    let word = page_word(&content_type);
    let name = subject.to_ascii_lowercase();
    let is_page = match word.as_str() {
        "text/html" | "application/xhtml+xml" => !name.ends_with(".html") && !name.ends_with(".htm"),
        "application/json" => !name.contains(".json") && !name.ends_with(".ipynb"),
        _ => false,
    };
    if is_page {
        return Err(HubError::Page { host: host.to_owned(), subject: subject.to_owned(), content_type: word });
    }
    Ok(())
}

/// Asked for `identity`; a compressed body would make every offset a lie.
pub(super) fn refuse_compressed(headers: &HeaderMap, host: &str, subject: &str) -> Result<(), HubError> {
    match text_header(headers, &header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(_) => Err(HubError::Compressed { host: host.to_owned(), subject: subject.to_owned() }),
    }
}

/// The media type without its parameters, or a word for none.
pub(super) fn page_word(content_type: &str) -> String {
    const WORD_CHARS_MAX: usize = 60;
    let word: String = content_type.split(';').next().unwrap_or_default().trim().chars().take(WORD_CHARS_MAX).collect();
    if word.is_empty() { "nameless".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value"))).collect()
    }

    fn check(status: u16, pairs: &[(&'static str, &str)], start: u64, len: u64) -> Result<(), HubError> {
        let range = ByteRange::new(start, len).expect("not empty");
        check_range(status, &headers(pairs), 1000, range, "host", "org/name/file.bin")
    }

    #[test]
    fn ranges_that_are_what_was_asked() {
        check(206, &[("content-range", "bytes 10-19/1000"), ("content-length", "10")], 10, 10).expect("right");
        check(206, &[("content-range", "bytes 10-19/1000")], 10, 10).expect("no length is fine");
        check(200, &[("content-length", "1000")], 0, 1000).expect("the whole file was asked");
        check(200, &[("content-type", "application/octet-stream")], 0, 1000).expect("the whole file was asked");
    }

    #[test]
    fn ranges_that_are_not() {
        let wrong = |result| assert!(matches!(result, Err(HubError::WrongRange { .. })), "{result:?}");
        wrong(check(206, &[], 10, 10));
        wrong(check(206, &[("content-range", "bytes 0-9/1000")], 10, 10));
        wrong(check(206, &[("content-range", "bytes 10-18/1000")], 10, 10));
        wrong(check(206, &[("content-range", "bytes 10-19/*")], 10, 10));
        wrong(check(206, &[("content-range", "bytes 10-19/1000"), ("content-length", "9")], 10, 10));
        wrong(check(200, &[("content-length", "1000")], 0, 10));
        wrong(check(200, &[("content-length", "990")], 10, 990));
        wrong(check(200, &[("content-length", "999")], 0, 1000));
        let changed = |result| assert!(matches!(result, Err(HubError::Changed { .. })), "{result:?}");
        changed(check(206, &[("content-range", "bytes 10-19/2000")], 10, 10));
        changed(check(416, &[("content-range", "bytes */5")], 10, 10));
        let page = check(200, &[("content-type", "text/html; charset=utf-8")], 0, 1000);
        assert!(matches!(page, Err(HubError::Page { .. })), "{page:?}");
        let gzip = check(206, &[("content-range", "bytes 10-19/1000"), ("content-encoding", "gzip")], 10, 10);
        assert!(matches!(gzip, Err(HubError::Compressed { .. })), "{gzip:?}");
    }

    #[test]
    fn identities() {
        let digest = |digit: &str| Digest::parse(&digit.repeat(64)).expect("64 digits");
        let linked = |etag: String, size| Linked { etag: Some(etag), size_bytes: size, commit: None };
        let large = Expected { size_bytes: 5, sha256: Some(digest("a")), etag: None };
        let small = Expected { size_bytes: 5, sha256: None, etag: Some("b".repeat(40)) };
        check_identity(&linked("a".repeat(64), Some(5)), &large, "x").expect("same");
        check_identity(&linked("c".repeat(40), Some(5)), &large, "x").expect("a git tag says nothing about a sha256");
        check_identity(&linked("b".repeat(40), None), &small, "x").expect("same");
        check_identity(&Linked::default(), &large, "x").expect("an old mirror says nothing");
        assert!(check_identity(&linked("d".repeat(64), Some(5)), &large, "x").is_err());
        assert!(check_identity(&linked("a".repeat(64), Some(6)), &large, "x").is_err());
        assert!(check_identity(&linked("e".repeat(40), Some(5)), &small, "x").is_err());
    }
}
