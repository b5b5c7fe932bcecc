//! A locator that parses never leaves its repository, and means the same when it is written in the short form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelfs::base::Locator;

fuzz_target!(|text: &str| {
    for text in [text.to_owned(), format!("hf:{text}"), format!("https://huggingface.co/{text}")] {
        let Ok(locator) = Locator::parse(&text) else { continue };
        let Locator::HuggingFace { repo, revision, path } = &locator;
        let revision = revision.as_ref().map(|revision| revision.as_str().replace('/', "%2F"));
        let path = path.as_ref().map(ToString::to_string);
        if let Some(path) = &path {
            assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{path:?}");
        }
        if repo.as_str().contains('/') || (path.is_none() && revision.is_none()) {
            let revision = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
            let path = path.map(|path| format!("/{path}")).unwrap_or_default();
            let short = format!("hf:{repo}{revision}{path}");
            assert_eq!(Locator::parse(&short).as_ref(), Ok(&locator), "{short:?}");
        }
    }
});
