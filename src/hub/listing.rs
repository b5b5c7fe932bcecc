//! Turns what a hub says about its files into a listing that can be trusted. Pure.
//!
//! Invariants: the ones of `RepoListing`: sorted, no path twice, none both a file and a folder, every name showable.

use super::RemoteFile;
use crate::base::RelativePath;
use std::collections::{BTreeMap, HashMap};
use unicode_normalization::UnicodeNormalization;

/// How much of a refused name is shown.
pub(super) const NAME_SHOWN_CHARS_MAX: usize = 120;
/// Most files of one repository: ten times as many as Hugging Face recommends at most.
pub(super) const FILES_MAX: usize = 1_000_000;
/// Largest file that is believed: a pebibyte, far over any model and far under where arithmetic could overflow.
const FILE_BYTES_MAX: u64 = 1 << 50;

/// An entry as a hub spells it.
pub(super) struct RawFile {
    pub path: String,
    pub size_bytes: Option<u64>,
    pub sha256: Option<crate::base::Digest>,
    pub git_sha1: Option<String>,
    pub known_by: Option<RelativePath>,
    pub folders: Vec<String>,
}

#[derive(Default)]
pub(super) struct Sifted {
    pub files: Vec<RemoteFile>,
    pub refused: Vec<(String, String)>,
    pub folded: Vec<(RelativePath, RelativePath)>,
}

/// What is at a path or below it; without one, everything.
pub(super) fn sift_under(path: Option<&RelativePath>, raw: impl IntoIterator<Item = RawFile>) -> Sifted {
    let is_at_or_under = |file: &RawFile, folder: &RelativePath| {
        file.path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    sift(raw.into_iter().filter(|file| path.is_none_or(|path| is_at_or_under(file, path))))
}

/// Keeps what can be shown and says why the rest cannot.
pub(super) fn sift(raw: impl IntoIterator<Item = RawFile>) -> Sifted {
    let mut kept: BTreeMap<RelativePath, RemoteFile> = BTreeMap::new();
    let mut refused = Vec::new();
    for file in raw {
        match check(&file) {
            Err(reason) => refused.push((shown(&file.path), reason)),
            Ok((path, _)) if kept.contains_key(&path) => {
                refused.push((shown(&file.path), "the hub lists it twice".to_owned()));
            }
            Ok((path, size_bytes)) => {
                let etag = file.sha256.map(|digest| digest.to_string()).or_else(|| file.git_sha1.clone());
                let entry = RemoteFile {
                    path: path.clone(),
                    size_bytes,
                    sha256: file.sha256,
                    git_sha1: file.git_sha1,
                    etag,
                    known_by: file.known_by,
                    folders: file.folders,
                };
                kept.insert(path, entry);
            }
        }
    }
    refuse_files_that_are_folders(&mut kept, &mut refused);
    let folded = folded_pairs(kept.keys());
    Sifted { files: kept.into_values().collect(), refused, folded }
}

fn check(file: &RawFile) -> Result<(RelativePath, u64), String> {
    let path = RelativePath::new(&file.path).map_err(|error| error.to_string())?;
    let size_bytes = file.size_bytes.ok_or("the hub does not say its size")?;
    if size_bytes > FILE_BYTES_MAX {
        return Err(format!("its size of {size_bytes} bytes cannot be true"));
    }
    Ok((path, size_bytes))
}

/// The file loses: dropping a folder would hide all that is in it.
fn refuse_files_that_are_folders(kept: &mut BTreeMap<RelativePath, RemoteFile>, refused: &mut Vec<(String, String)>) {
    let folders: std::collections::BTreeSet<RelativePath> =
        kept.keys().flat_map(|path| std::iter::successors(path.parent(), RelativePath::parent)).collect();
    for path in folders {
        if kept.remove(&path).is_some() {
            refused.push((shown(path.as_str()), "the hub lists it as a file and as a folder".to_owned()));
        }
    }
}

fn folded_pairs<'a>(paths: impl Iterator<Item = &'a RelativePath>) -> Vec<(RelativePath, RelativePath)> {
    let mut first_of: HashMap<String, &RelativePath> = HashMap::new();
    let mut pairs = Vec::new();
    for path in paths {
        let fold: String = path.as_str().nfc().flat_map(char::to_lowercase).collect();
        match first_of.get(&fold) {
            Some(first) => pairs.push(((*first).clone(), path.clone())),
            None => {
                first_of.insert(fold, path);
            }
        }
    }
    pairs
}

/// A hostile name made fit to print.
fn shown(name: &str) -> String {
    let mut text: String =
        name.chars().take(NAME_SHOWN_CHARS_MAX).flat_map(|c| c.escape_debug().collect::<Vec<_>>()).collect();
    if name.chars().nth(NAME_SHOWN_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(path: &str, size_bytes: Option<u64>) -> RawFile {
        RawFile {
            path: path.to_owned(),
            size_bytes,
            sha256: None,
            git_sha1: Some("a".repeat(40)),
            known_by: None,
            folders: Vec::new(),
        }
    }

    #[test]
    fn hostile_names_are_refused_and_the_rest_is_kept_in_order() {
        let long = "x".repeat(300);
        let hostile =
            ["../x", "/etc/passwd", "a/../../b", "a\0b", "a//b", "", ".", "a\nb", "a/./b", "\u{202e}gpj.exe", &long];
        let names = ["b.bin", "a/c.bin"].iter().chain(&hostile);
        let sifted = sift(names.map(|name| raw(name, Some(1))));
        let kept: Vec<&str> = sifted.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(kept, ["a/c.bin", "b.bin"]);
        assert_eq!(sifted.refused.len(), hostile.len());
        assert!(sifted.refused.iter().all(|(name, _)| !name.chars().any(char::is_control) && name.len() < 1000));
    }

    #[test]
    fn a_folder_is_no_beginning_of_a_name() {
        let under = |path: &str| -> Vec<String> {
            let path = RelativePath::new(path).expect("a path");
            let all = ["a/b/c", "a/b/d/e", "a/bc", "b"].map(|path| raw(path, Some(1)));
            sift_under(Some(&path), all).files.iter().map(|file| file.path.to_string()).collect()
        };
        assert_eq!(under("a/b"), ["a/b/c", "a/b/d/e"]);
        assert_eq!(under("a/bc"), ["a/bc"]);
        assert_eq!(under("a/b/c/x"), [""; 0]);
    }

    #[test]
    fn doubles_folders_and_absurd_sizes_are_refused() {
        let sifted = sift([
            raw("a", Some(1)),
            raw("a/b", Some(1)),
            raw("c", Some(1)),
            raw("c", Some(2)),
            raw("d", None),
            raw("e", Some(u64::MAX)),
        ]);
        let kept: Vec<&str> = sifted.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(kept, ["a/b", "c"]);
        assert_eq!(sifted.refused.len(), 4);
    }

    #[test]
    fn names_that_fold_to_one_are_kept_and_reported() {
        let sifted =
            sift([raw("Model.bin", Some(1)), raw("model.bin", Some(1)), raw("e\u{301}", Some(1)), raw("é", Some(1))]);
        assert_eq!((sifted.files.len(), sifted.refused.len(), sifted.folded.len()), (4, 0, 2));
    }
}
