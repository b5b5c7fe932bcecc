//! A locator that parses never leaves its repository, and means the same when it is written in the short form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelfs::base::{Locator, RelativePath, RepoId, Revision};

fuzz_target!(|text: &str| {
    let starts = ["", "hf:", "modelscope:", "civitai:", "dir:", "https://huggingface.co/", "https://modelscope.cn/models/"];
    for start in starts {
        let text = format!("{start}{text}");
        let Ok(locator) = Locator::parse(&text) else { continue };
        match &locator {
            Locator::HuggingFace { repo, revision, path } => check("hf", &locator, repo, revision.as_ref(), path.as_ref()),
            Locator::ModelScope { repo, revision, path } => {
                check("modelscope", &locator, repo, revision.as_ref(), path.as_ref());
            }
            Locator::Civitai { model, version, .. } => assert!(model.is_some() || version.is_some(), "{text:?}"),
            Locator::Web(_) | Locator::Folder(_) => {}
        }
    }
});

fn check(scheme: &str, locator: &Locator, repo: &RepoId, revision: Option<&Revision>, path: Option<&RelativePath>) {
    let revision = revision.map(|revision| revision.as_str().replace('/', "%2F"));
    let path = path.map(ToString::to_string);
    if let Some(path) = &path {
        assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{path:?}");
    }
    if repo.as_str().contains('/') || (path.is_none() && revision.is_none()) {
        let revision = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
        let path = path.map(|path| format!("/{path}")).unwrap_or_default();
        let short = format!("{scheme}:{repo}{revision}{path}");
        assert_eq!(Locator::parse(&short).as_ref(), Ok(locator), "{short:?}");
    }
}
