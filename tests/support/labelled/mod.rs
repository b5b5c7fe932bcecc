//! Models of every type and base with the structure of real ones and without their weights, and what each of them is.
//!
//! The text files hold what publishers and trainers write; every model is then given in the forms in which people have
//! it: behind prefixes, packed, wrapped, renamed, with other metadata. Invariants: the same every time; a label says
//! what tensors, folders and metadata can tell, `?` where they cannot. Not here: what the rules make of them.
#![allow(dead_code, reason = "each program that includes this uses its own part")]

mod adapters;
mod bundles;
mod files;
mod forms;
mod graphs;
mod unets;

use super::samples::tensors::{self, Tensor};
use files::Sparse;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// One model: a file, or a folder of them.
pub struct Labelled {
    /// Of the file, or of the folder.
    pub path: String,
    /// A word of the application folders.
    pub model_type: String,
    /// The base or the family; `?` where nothing in the file can tell it.
    pub base: String,
    pub content: Content,
}

pub enum Content {
    File(Sparse),
    /// Files by their path below the folder.
    Folder(Vec<(String, Inner)>),
}

pub enum Inner {
    Weights(Sparse),
    Text(String),
}

/// A model of a text file.
#[derive(Clone)]
struct Entry {
    words: Vec<String>,
    tensors: Vec<Tensor>,
}

impl Entry {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// For names of files, in the order of the text.
    fn label(&self) -> String {
        let given = self.value("name").map(|name| format!("-{name}")).unwrap_or_default();
        let names = if self.has("diffusers") { "-diffusers" } else { "" };
        format!("{}{given}{names}", self.words[0].replace('?', "any"))
    }
}

/// Reads `= WORDS`, `& FRAGMENT`, `+ FRAGMENT` and lines of tensors.
fn entries(text: &str) -> Vec<Entry> {
    let mut fragments: BTreeMap<&str, Vec<Tensor>> = BTreeMap::new();
    let mut fragment = None;
    let mut found: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(words) = line.strip_prefix("= ") {
            fragment = None;
            found.push(Entry { words: words.split_whitespace().map(str::to_owned).collect(), tensors: Vec::new() });
            continue;
        }
        if let Some(name) = line.strip_prefix("& ") {
            fragment = Some(name);
            continue;
        }
        let more = match line.strip_prefix("+ ") {
            Some(name) => fragments.get(name).unwrap_or_else(|| panic!("no fragment `{name}`")).clone(),
            None => tensors::parse(line),
        };
        match fragment {
            Some(name) => fragments.entry(name).or_default().extend(more),
            None => found.last_mut().expect("a model begins with `=`").tensors.extend(more),
        }
    }
    found
}

/// Every model of the set.
pub fn all() -> Vec<Labelled> {
    let mut found = Vec::new();
    for entry in entries(include_str!("transformers.txt")) {
        forms::diffusion(&entry, &mut found);
    }
    for unet in unets::UNETS {
        forms::unet(unet, &mut found);
    }
    for entry in entries(include_str!("adapters.txt")) {
        adapters::forms(&entry, &mut found);
    }
    for text in [include_str!("control.txt"), include_str!("parts.txt"), include_str!("small.txt")] {
        for entry in entries(text) {
            forms::plain(&entry, &mut found);
        }
    }
    graphs::all(&mut found);
    bundles::all(&mut found);
    found
}

/// Writes models below `folder`, with `labels.tsv` beside them.
pub fn write(models: &[Labelled], folder: &Path) -> io::Result<()> {
    let mut labels = String::from("path\ttype\tbase\n");
    for model in models {
        let path = folder.join(&model.path);
        match &model.content {
            Content::File(file) => file.write(&path)?,
            Content::Folder(parts) => {
                for (name, part) in parts {
                    let inner = path.join(name);
                    match part {
                        Inner::Weights(file) => file.write(&inner)?,
                        Inner::Text(text) => {
                            fs::create_dir_all(inner.parent().expect("inside the folder"))?;
                            fs::write(&inner, text)?;
                        }
                    }
                }
            }
        }
        labels.push_str(&format!("{}\t{}\t{}\n", model.path, model.model_type, model.base));
    }
    fs::write(folder.join("labels.tsv"), labels)
}
