//! How places of a content are shown to people.

use crate::catalog::OriginRow;
use crate::tree::Source;

/// Digits of an AutoV2, the short form of a sha256 that model pages print.
pub(super) const AUTOV2_DIGITS: usize = 10;

/// The page a person can open, never a signed address; nothing for a local path.
pub(super) fn page_url(origin: &OriginRow) -> Option<String> {
    match origin.source {
        Source::HuggingFace => {
            Some(format!("https://huggingface.co/{}/blob/{}/{}", origin.repo, origin.revision, escaped(&origin.path)))
        }
        Source::Local | Source::Civitai | Source::ModelScope => None,
    }
}

/// A path as part of a URL: what would end it or its segments is percent-encoded.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Bytes as lower-case hex, in their order.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: Source, path: &str) -> OriginRow {
        OriginRow { source, repo: "org/name".to_owned(), revision: "main".to_owned(), path: path.to_owned() }
    }

    #[test]
    fn a_page_is_named_by_repository_revision_and_escaped_path() {
        let url = page_url(&origin(Source::HuggingFace, "vae/my model#1?.safetensors"));
        assert_eq!(url.as_deref(), Some("https://huggingface.co/org/name/blob/main/vae/my%20model%231%3F.safetensors"));
        assert_eq!(page_url(&origin(Source::Local, "/data/a.safetensors")), None);
    }
}
