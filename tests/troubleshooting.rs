//! docs/TROUBLESHOOTING.md says nothing that users do not meet: its messages occur in the source, every kind of failure
//! has its row, and each command that a message or a document advises can be typed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use support::mounted::{Sandbox, walk};

/// Pieces of a message between its holes that are long enough to be told from others.
const PIECE_CHARS_MIN: usize = 4;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The source without its tests, by file.
fn sources() -> Vec<(PathBuf, String)> {
    let rust = walk(&root().join("src")).into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(|path| Path::new("src").join(path))
        .map(|path| (path.clone(), text_of(&path)))
        .map(|(path, text)| (path, text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()))
        .collect()
}

/// First cells of the tables whose header begins with `title`.
fn first_cells(document: &str, title: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        let cell = line.strip_prefix("| ").and_then(|row| row.split(" | ").next());
        match cell {
            Some(cell) if cell == title => inside = true,
            Some(cell) if inside && !cell.starts_with("---") => cells.push(cell.trim_matches('`').to_owned()),
            Some(_) => {}
            None => inside = false,
        }
    }
    cells
}

fn pieces(message: &str) -> Vec<&str> {
    let trimmed = message.split('…').map(str::trim);
    trimmed.map(|piece| piece.trim_matches([':', ','])).filter(|piece| piece.len() >= PIECE_CHARS_MIN).collect()
}

/// Messages in the source: the texts of errors and of faults, with their holes as `…`.
fn messages() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources() {
        let is_error = path.file_name().is_some_and(|name| name == "error.rs");
        let is_mounting = path.ends_with("fuse/mounting.rs");
        let starts: &[&str] = match (is_error, is_mounting) {
            (true, _) => &["#[error(\""],
            (_, true) => &["format!(\""],
            _ => continue,
        };
        for start in starts {
            for rest in text.split(start).skip(1) {
                found.insert(with_holes(rest.split('"').next().unwrap_or_default()));
            }
        }
    }
    found
}

fn with_holes(format: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for character in format.chars() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                text.push('…');
            }
            _ if depth == 0 => text.push(character),
            _ => {}
        }
    }
    text
}

#[test]
fn every_message_of_the_document_is_in_the_source() {
    let document = text_of("docs/TROUBLESHOOTING.md");
    let documented = first_cells(&document, "message");
    assert!(documented.len() > 40, "only {} messages were found", documented.len());
    let sources = sources();
    for message in &documented {
        let pieces = pieces(message);
        assert!(!pieces.is_empty(), "`{message}` has no words to look for");
        for piece in &pieces {
            // A long text may be wrapped in the source.
            let there = sources.iter().any(|(_, text)| text.contains(piece));
            assert!(there, "nobody says `{piece}` any more: correct `{message}` in docs/TROUBLESHOOTING.md");
        }
    }
    let known = |message: &String| {
        let covers = |documented: &String| pieces(documented).iter().any(|piece| message.contains(piece));
        pieces(message).is_empty() || documented.iter().any(covers)
    };
    let missing: Vec<String> = messages().into_iter().filter(|message| !known(message)).collect();
    // Not a failure: most messages need no more words than their own.
    let _ = writeln!(std::io::stderr(), "messages without a row in docs/TROUBLESHOOTING.md: {missing:#?}");
}

#[test]
fn every_kind_of_failure_has_its_row() {
    let source = text_of("src/base/fault.rs");
    let body = source.split("pub enum FaultKind {").nth(1).and_then(|rest| rest.split('}').next()).expect("the enum");
    let kinds: BTreeSet<&str> =
        body.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|line| !line.starts_with("//")).collect();
    let document = text_of("docs/TROUBLESHOOTING.md");
    let documented = first_cells(&document, "kind");
    assert_eq!(documented.iter().map(String::as_str).collect::<BTreeSet<_>>(), kinds);
    // Each row gives the numbers that the edges give.
    let (exit, errno) = (text_of("src/cli/exit.rs"), text_of("src/fuse/errno.rs"));
    for kind in kinds {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{kind}` |"))).expect("just found");
        let cells: Vec<&str> = row.split(" | ").collect();
        let code = arm(&exit, kind);
        let name = code.trim_end_matches(',');
        let number = exit.lines().find_map(|line| line.strip_prefix(&format!("pub const {name}: u8 = ")));
        assert_eq!(number.map(|number| number.trim_end_matches(';')), Some(cells[1]), "{kind}");
        let code = arm(&errno, kind);
        assert_eq!(format!("`{}`", code.trim_start_matches("Errno::").trim_end_matches(',')), cells[2], "{kind}");
    }
}

/// What a `match` in the source answers for this kind.
fn arm<'a>(source: &'a str, kind: &str) -> &'a str {
    let after = source.split(&format!("FaultKind::{kind}")).nth(1).unwrap_or_else(|| panic!("no arm for {kind}"));
    after.split("=> ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an arm")
}

/// Commands in backticks: `modelfs verb --flag`. Gives the words with the places that have them.
fn advised() -> BTreeMap<Vec<String>, String> {
    let mut found = BTreeMap::new();
    let documents = walk(&root().join("docs")).into_iter().filter(|path| path.ends_with(".md"));
    let documents = documents.map(|path| Path::new("docs").join(path));
    let documents =
        documents.chain(["README.md".into(), "CHANGELOG.md".into()]).filter(|path| root().join(path).exists());
    let all = sources().into_iter().chain(documents.map(|path| (path.clone(), text_of(path))));
    for (path, text) in all {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (index, piece) in line.split('`').enumerate() {
                // Messages are in backticks too: "modelfs is not mounted at".
                let is_command = index % 2 == 1 && !piece.starts_with("modelfs is ");
                if let Some(words) = piece.strip_prefix("modelfs ").filter(|_| is_command) {
                    let words = words.split_whitespace().map(str::to_owned).collect();
                    found.entry(words).or_insert_with(|| format!("{}: `{piece}`", path.display()));
                }
            }
        }
    }
    found
}

#[test]
fn every_command_that_is_advised_exists() {
    let sandbox = Sandbox::new();
    let advised = advised();
    assert!(advised.len() > 8, "{advised:?}");
    for (words, place) in advised {
        let is_verb = |word: &&String| word.chars().all(|c| c.is_ascii_lowercase());
        let verbs: Vec<&str> =
            words.iter().skip_while(|word| word.starts_with('-')).take_while(is_verb).map(String::as_str).collect();
        // What follows the verb may be an argument: the longest that is a verb counts.
        let help = (0..=verbs.len().min(2)).rev().find_map(|count| {
            let help = sandbox.run(verbs[..count].iter().copied().chain(["--help"]));
            (help.status.code() == Some(0)).then_some((count, help.stdout))
        });
        let (count, help) = help.expect("the help of the whole program");
        assert!(count > 0 || verbs.is_empty(), "{place}: there is no such verb");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let name = flag.split('=').next().unwrap_or_default().trim_end_matches(['.', ',', ':']);
            assert!(help.contains(name), "{place}: {} has no {name}", verbs[..count].join(" "));
        }
    }
}
