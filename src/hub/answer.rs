//! Reads the headers of an answer: ranges, identities, waits, links. Pure functions on text.

use crate::base::{ByteRange, Digest};
use std::time::Duration;

/// Longest wait a server can ask for; a day's wait would be a hang in disguise.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What `Content-Range` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ContentRange {
    pub range: ByteRange,
    /// `None` for `*`.
    pub total_bytes: Option<u64>,
}

/// Parses `bytes 0-99/1000`. Anything else, `bytes */1000` included, is nothing.
pub(super) fn content_range(text: &str) -> Option<ContentRange> {
    let rest = text.trim().strip_prefix("bytes")?.trim_start();
    let (span, total) = rest.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let end = number(last)?.checked_add(1)?;
    let total_bytes = match total.trim() {
        "*" => None,
        digits => Some(number(digits)?),
    };
    Some(ContentRange { range: ByteRange::from_bounds(number(first)?, end)?, total_bytes })
}

/// Digits only: `u64::from_str` would accept a plus sign.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// An entity tag without its weakness mark and quotes.
pub(super) fn etag(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// The sha256 in a hub's linked entity tag: 64 hex digits; 40 would be git's sha1.
pub(super) fn digest_of_etag(etag: &str) -> Option<Digest> {
    Digest::parse(etag).ok()
}

/// How long a 429 asks to wait: `r=0;t=<seconds>` of the draft rate-limit header, else `Retry-After` in seconds.
pub(super) fn retry_after(rate_limit: Option<&str>, retry_after: Option<&str>) -> Option<Duration> {
    let from_draft = rate_limit.and_then(|text| {
        let field = |name: &str| text.split(';').find_map(|part| number(part.trim().strip_prefix(name)?));
        // The window ends within second t, so one more is needed to be past it.
        (field("r=") == Some(0)).then(|| field("t=")).flatten().map(|seconds| seconds.saturating_add(1))
    });
    let seconds = from_draft.or_else(|| retry_after.and_then(number))?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The target of `rel="next"` in a `Link` header.
pub(super) fn next_link(header: &str) -> Option<&str> {
    // Links are split at `<`, not at commas: a URL may hold commas.
    header.split('<').skip(1).find_map(|part| {
        let (url, parameters) = part.split_once('>')?;
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            key.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        is_next.then_some(url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let good = content_range("bytes 5-9/100").expect("well formed");
        assert_eq!((good.range.start(), good.range.end(), good.total_bytes), (5, 10, Some(100)));
        assert_eq!(content_range("bytes 0-0/*").expect("well formed").total_bytes, None);
        for bad in [
            "",
            "bytes",
            "bytes */100",
            "bytes 9-5/100",
            "bytes -5/100",
            "bytes 5-/100",
            "bytes 0-+5/9",
            "items 0-5/9",
            "bytes 0-18446744073709551615/1",
            "bytes 1-2/x",
            "bytes 99999999999999999999-5/9",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn entity_tags_lose_their_dress() {
        assert_eq!(etag("W/\"abc\"").as_deref(), Some("abc"));
        assert_eq!(etag("abc").as_deref(), Some("abc"));
        assert_eq!(etag("\"\""), None);
    }

    #[test]
    fn waits() {
        let seconds = |rate: Option<&str>, retry: Option<&str>| retry_after(rate, retry).map(|wait| wait.as_secs());
        assert_eq!(seconds(Some("\"api\";r=0;t=7"), Some("99")), Some(8));
        assert_eq!(seconds(Some("\"api\";r=12;t=7"), Some("3")), Some(3));
        assert_eq!(seconds(None, Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(seconds(None, Some("99999999999")), Some(300));
        assert_eq!(seconds(None, None), None);
    }

    #[test]
    fn links() {
        let url = "https://huggingface.co/api/x?cursor=a,b";
        assert_eq!(next_link(&format!("<{url}>; rel=\"next\"")), Some(url));
        assert_eq!(next_link(&format!("<https://x>; rel=\"prev\", <{url}>; rel=next")), Some(url));
        assert_eq!(next_link("<https://x>; rel=\"prev\""), None);
        assert_eq!(next_link("garbage"), None);
    }
}
