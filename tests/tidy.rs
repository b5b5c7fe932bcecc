//! The rules of the house, as tests: layers, owners of dependencies, opening comments, sizes, banned words.
//!
//! A rule that hurts is changed here, in the open, with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer; an arrow may only point to a lower layer.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["base"]),
    (1, &["formats", "classify", "query", "tree", "plan"]),
    (2, &["store", "catalog", "hub", "fetch"]),
    (3, &["library"]),
    (4, &["fuse", "cli", "http", "tui", "config"]),
];

/// Arrows inside one layer that are wanted, each with its reason.
const SIDEWAYS: &[(&str, &str)] = &[
    // A verdict is about what a header says.
    ("classify", "formats"),
    // The engine fills the chunk maps of the store and reads ranges from hubs.
    ("fetch", "store"),
    ("fetch", "hub"),
    // The command line turns settings into options.
    ("cli", "config"),
    // `modelfs mount` starts the kernel adapter.
    ("cli", "fuse"),
];

/// External crates that belong to some modules alone; a crate that is not named here may be used anywhere above `base`.
const OWNERS: &[(&str, &[&str])] = &[
    ("fuser", &["fuse"]),
    ("rusqlite", &["catalog"]),
    ("rusqlite_migration", &["catalog"]),
    ("reqwest", &["hub"]),
    ("backon", &["hub", "fetch"]),
    ("sha2", &["store"]),
    ("blake3", &["store"]),
    ("crc32fast", &["store"]),
    ("reflink_copy", &["store"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("comfy_table", &["cli"]),
    ("etcetera", &["config"]),
    ("tracing_subscriber", &["cli"]),
    ("imbl", &["tree"]),
    ("walkdir", &["store"]),
    // Shipped data (rules, application folders) is written in the same notation as the settings file.
    ("toml", &["config", "classify", "tree"]),
];

/// What the pure core must not touch.
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::env", "std::process", "SystemTime::now", "Instant::now", "libc::", "rustix::"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: PathBuf,
    /// Text before the unit tests.
    production: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(Path::new("src"), &mut found);
    assert!(found.len() > 10, "the walk found only {} files: it does not see the source", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8 source");
            let production = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text).to_owned();
            found.push(Source { path, production });
        }
    }
}

impl Source {
    /// The module under `src` this file belongs to, or nothing for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<String> {
        let rest = self.path.strip_prefix("src").expect("under src");
        let first = rest.components().next()?.as_os_str().to_str()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then(|| name.to_owned())
    }

    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.production
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

fn fail_on(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The modules named behind `crate::` in one line, braces included.
fn crate_modules(line: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for part in line.split("crate::").skip(1) {
        if let Some(group) = part.strip_prefix('{') {
            // `use crate::{a::{b, c}, d}`: only the words at the outer level are modules.
            let mut depth = 0;
            for item in group.split_inclusive([',', '{', '}']) {
                if depth == 0 {
                    modules.push(item.trim().split([':', ',', '}', '{']).next().unwrap_or("").to_owned());
                }
                match item.chars().last() {
                    Some('{') => depth += 1,
                    Some('}') if depth == 0 => break,
                    Some('}') => depth -= 1,
                    _ => {}
                }
            }
        } else {
            modules.push(part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned());
        }
    }
    modules
}

#[test]
fn arrows_point_downwards() {
    let mut problems = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(layer) = layer_of(&module) else {
            problems.push(format!("{}: module `{module}` has no layer in tests/tidy.rs", source.path.display()));
            continue;
        };
        for (number, line) in source.code_lines() {
            for target in crate_modules(line) {
                let Some(below) = layer_of(&target) else { continue };
                let sideways = below == layer && SIDEWAYS.contains(&(module.as_str(), target.as_str()));
                if target != module && below >= layer && !sideways {
                    problems.push(format!("{}:{number}: `{module}` must not use `{target}`", source.path.display()));
                }
            }
        }
    }
    fail_on(problems);
}

#[test]
fn each_dependency_has_its_owner() {
    let mut problems = Vec::new();
    for source in sources() {
        let module = source.module().unwrap_or_else(|| "main".to_owned());
        for (number, line) in source.code_lines() {
            for (dependency, owners) in OWNERS {
                let uses = line.contains(&format!("{dependency}::")) && !line.contains(&format!("_{dependency}::"));
                if uses && !owners.contains(&module.as_str()) && module != "main" {
                    problems.push(format!("{}:{number}: `{dependency}` belongs to {owners:?}", source.path.display()));
                }
            }
        }
    }
    fail_on(problems);
}

#[test]
fn the_core_is_pure() {
    let mut problems = Vec::new();
    for source in sources() {
        if source.module().as_deref().and_then(layer_of).is_none_or(|layer| layer > 1) {
            continue;
        }
        for (number, line) in source.code_lines() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{number}: `{word}` in the pure core", source.path.display()));
            }
        }
    }
    fail_on(problems);
}

#[test]
fn kernel_error_numbers_stay_at_the_edge() {
    let mut problems = Vec::new();
    for source in sources() {
        if source.module().as_deref().and_then(layer_of).is_none_or(|layer| layer > 3) {
            continue;
        }
        for (number, line) in source.code_lines() {
            let names_errno =
                line.split("libc::E").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
            if names_errno {
                problems.push(format!("{}:{number}: a kernel error number below layer 4", source.path.display()));
            }
        }
    }
    fail_on(problems);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.production.starts_with("//! "));
    fail_on(silent.map(|source| format!("{}: the first line is not `//! …`", source.path.display())).collect());
}

#[test]
fn files_and_functions_fit_a_reader() {
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.production.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path.display()));
        }
        let mut open: Option<(usize, usize, String)> = None;
        for (index, line) in source.production.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if open.is_none() && is_function_start(line) {
                open = Some((index, indent, line.trim().to_owned()));
            }
            let Some((start, depth, name)) = &open else { continue };
            let ends_here = indent == *depth && line.trim_start().starts_with('}');
            if ends_here || (index == *start && line.trim_end().ends_with(['}', ';'])) {
                let length = index - start + 1;
                if length > FUNCTION_LINES_MAX {
                    problems.push(format!("{}:{}: {length} lines in `{name}`", source.path.display(), start + 1));
                }
                open = None;
            }
        }
    }
    fail_on(problems);
}

fn is_function_start(line: &str) -> bool {
    let words = line
        .trim_start()
        .trim_start_matches("pub ")
        .trim_start_matches("pub(crate) ")
        .trim_start_matches("pub(super) ");
    ["fn ", "async fn ", "const fn ", "unsafe fn ", "extern \"C\" fn "].iter().any(|start| words.starts_with(start))
}

#[test]
fn banned_words() {
    let banned: BTreeMap<&str, &str> = BTreeMap::from([
        (".unwrap()", "say the invariant in `expect`, or handle it"),
        ("todo!(", "finish it"),
        ("unimplemented!(", "finish it"),
        ("dbg!(", "remove it"),
        ("println!(", "write through a handle: a closed pipe must not panic"),
    ]);
    let mut problems = Vec::new();
    for source in sources() {
        for (number, line) in source.code_lines() {
            for (word, instead) in banned.iter().filter(|(word, _)| line.contains(**word)) {
                problems.push(format!("{}:{number}: `{word}`: {instead}", source.path.display()));
            }
        }
        let name = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if ["utils", "util", "helpers", "common", "misc", "manager"].contains(&name.as_str()) {
            problems.push(format!("{}: name it after what it does", source.path.display()));
        }
    }
    fail_on(problems);
}

#[test]
fn the_checks_see_what_they_forbid() {
    assert_eq!(crate_modules("use crate::{base::Digest, store::Store};"), ["base", "store"]);
    assert_eq!(crate_modules("use crate::{base::{A, B}, hub::C};"), ["base", "", "hub"]);
    assert_eq!(crate_modules("let x = crate::fuse::mount();"), ["fuse"]);
    assert!(is_function_start("    pub(crate) async fn read() {") && !is_function_start("// fn "));
}
