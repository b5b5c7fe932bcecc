//! Places of a content: as a listing names them, as the catalog keeps them, as people see them.
//!
//! Invariant: no page is a signed address.

use crate::base::{RelativePath, RepoId, Revision, WebAddress};
use crate::catalog::OriginRow;
use crate::hub::{HubOptions, Origin};
use crate::tree::Source;

/// Digits of an AutoV2, the short form of a sha256 that model pages print.
pub(super) const AUTOV2_DIGITS: usize = 10;

/// A place for the catalog.
pub(super) fn row_of(origin: &Origin) -> OriginRow {
    OriginRow {
        source: origin.source,
        repo: origin.repo.to_string(),
        revision: origin.commit.to_string(),
        path: origin.path.to_string(),
    }
}

/// A place that can be fetched from; nothing for a path that was imported.
pub(super) fn fetchable(row: &OriginRow) -> Option<Origin> {
    Some(Origin {
        source: row.source,
        repo: RepoId::new(&row.repo).ok()?,
        commit: Revision::new(&row.revision).ok()?,
        path: RelativePath::new(&row.path).ok()?,
    })
}

/// The page a person can open, never a signed address; nothing for a local path. A mirror of Hugging Face has its pages.
pub(super) fn page_url(hubs: &HubOptions, origin: &OriginRow) -> Option<String> {
    let OriginRow { source, repo, revision, path } = origin;
    match source {
        Source::HuggingFace => Some(format!("{}/{repo}/blob/{}/{}", hubs.hf_pages(), escaped(revision), escaped(path))),
        Source::Civitai => Some(format!("https://civitai.com/models/{repo}?modelVersionId={revision}")),
        Source::ModelScope => {
            Some(format!("https://modelscope.cn/models/{repo}/file/view/{}/{}", escaped(revision), escaped(path)))
        }
        Source::Web => WebAddress::from_parts(&RepoId::new(repo).ok()?, &RelativePath::new(path).ok()?)
            .map(|address| address.to_string()),
        Source::Local | Source::Folder => None,
    }
}

/// The page of a repository, or of a version of it; nothing where hubs have none.
pub(super) fn page_of_repository(hubs: &HubOptions, source: Source, repo: &str, revision: &str) -> Option<String> {
    match source {
        _ if repo.is_empty() => None,
        Source::HuggingFace => Some(format!("{}/{repo}", hubs.hf_pages())),
        Source::Civitai if revision.is_empty() => Some(format!("https://civitai.com/models/{repo}")),
        Source::Civitai => Some(format!("https://civitai.com/models/{repo}?modelVersionId={revision}")),
        Source::ModelScope => Some(format!("https://modelscope.cn/models/{repo}")),
        Source::Local | Source::Web | Source::Folder => None,
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
        let page_url = |origin: &OriginRow| page_url(&HubOptions::default(), origin);
        let url = page_url(&origin(Source::HuggingFace, "vae/my model#1?.safetensors"));
        assert_eq!(url.as_deref(), Some("https://huggingface.co/org/name/blob/main/vae/my%20model%231%3F.safetensors"));
        assert_eq!(page_url(&origin(Source::Local, "/data/a.safetensors")), None);
        assert_eq!(page_url(&origin(Source::Folder, "data/a.safetensors")), None);
        let scope = page_url(&origin(Source::ModelScope, "a b.gguf"));
        assert_eq!(scope.as_deref(), Some("https://modelscope.cn/models/org/name/file/view/main/a%20b.gguf"));
        let numbers = OriginRow { repo: "12".to_owned(), revision: "34".to_owned(), ..origin(Source::Civitai, "5") };
        assert_eq!(page_url(&numbers).as_deref(), Some("https://civitai.com/models/12?modelVersionId=34"));
        let web = OriginRow { repo: "https/h.example:8443".to_owned(), ..origin(Source::Web, "a/x.gguf?y=1") };
        assert_eq!(page_url(&web).as_deref(), Some("https://h.example:8443/a/x.gguf?y=1"));
    }
}
