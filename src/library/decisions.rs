//! Decisions by hand: the type and base of a model, and its tags.
//!
//! Invariant: a decision stands above everything automatic until a person takes it back; names follow at once.
//! Not here: where decisions are kept (`catalog::decisions`), how they are typed (`cli`, attributes of a mount).

use super::shelf::Shelf;
use super::{Library, LibraryError, TagSummary, judging, reference};
use crate::base::{BaseModel, Label, ModelId, ModelType};
use crate::catalog::{CatalogError, Manual, Writer};
use crate::classify::Rules;

/// Most tags of one model by hand: more is a mistake in a script.
const TAGS_MAX: usize = 256;

/// One decision. What is not named stays as it was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Type(ModelType),
    Base(BaseModel),
    /// Back to the automatic one.
    NoType,
    NoBase,
}

/// `TYPE`, `TYPE/BASE` or `/BASE` as decisions.
pub(super) fn parse(text: &str) -> Result<Vec<Decision>, LibraryError> {
    let (model_type, base) = text.split_once('/').map_or((text, ""), |(model_type, base)| (model_type, base));
    let mut decisions = Vec::new();
    if !model_type.is_empty() {
        decisions.push(Decision::Type(parse_type(model_type)?));
    }
    if !base.is_empty() {
        decisions.push(Decision::Base(parse_base(base)?));
    }
    if decisions.is_empty() {
        return Err(bad_word(text, "write TYPE, TYPE/BASE or /BASE, such as `lora/sdxl`"));
    }
    Ok(decisions)
}

pub(super) fn parse_type(word: &str) -> Result<ModelType, LibraryError> {
    ModelType::parse(word).map_err(|_| {
        let words: Vec<&str> = ModelType::ALL.iter().map(|known| known.as_str()).collect();
        bad_word(word, &format!("types are {}", words.join(", ")))
    })
}

pub(super) fn parse_base(word: &str) -> Result<BaseModel, LibraryError> {
    BaseModel::parse(word).map_err(|_| bad_word(word, "a base is a word of a-z, 0-9, `.`, `-` and `_`, such as `sdxl`"))
}

fn bad_word(word: &str, remedy: &str) -> LibraryError {
    LibraryError::BadWord { word: word.to_owned(), remedy: remedy.to_owned() }
}

/// Makes decisions about one model.
pub(super) fn decide(library: &Library, reference: &str, decisions: &[Decision]) -> Result<String, LibraryError> {
    let rules = library.rules();
    library.catalog().write(library.now(), |w| {
        let row = reference::resolve(w, reference)?;
        decide_in(w, &rules, row.id, decisions)?;
        Ok(row.name.to_string())
    })
}

pub(super) fn decide_model(library: &Library, model: ModelId, decisions: &[Decision]) -> Result<(), LibraryError> {
    let rules = library.rules();
    library.catalog().write(library.now(), |w| Ok(decide_in(w, &rules, model, decisions)?))
}

fn decide_in(w: &mut Writer<'_>, rules: &Rules, model: ModelId, decisions: &[Decision]) -> Result<(), CatalogError> {
    let Some(row) = w.model(model)? else { return Ok(()) };
    let mut manual: Manual = row.manual.clone();
    for decision in decisions {
        match decision {
            Decision::Type(word) => manual.model_type = Some(*word),
            Decision::Base(word) => manual.base = Some(word.clone()),
            Decision::NoType => manual.model_type = None,
            Decision::NoBase => manual.base = None,
        }
    }
    if manual == row.manual {
        return Ok(());
    }
    w.set_manual(model, &manual)?;
    let mut shelf = Shelf::begin(w)?;
    judging::again(w, &mut shelf, rules, &row)
}

/// `+tag` and `-tag` by hand; none of them only tells the tags.
pub(super) fn tag(library: &Library, reference: &str, changes: &[String]) -> Result<TagSummary, LibraryError> {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for change in changes {
        let list = match change.as_bytes().first() {
            Some(b'+') => &mut added,
            Some(b'-') => &mut removed,
            _ => return Err(bad_word(change, "write +TAG to add a tag and -TAG to take one away")),
        };
        list.push(parse_tag(&change[1..])?);
    }
    if changes.is_empty() {
        let row = library.catalog().read(|r| reference::resolve(r, reference))?;
        return Ok(TagSummary { name: row.name.to_string(), tags: row.tags.iter().map(ToString::to_string).collect() });
    }
    library.catalog().write(library.now(), |w| {
        let row = reference::resolve(w, reference)?;
        retag(w, row.id, |w| w.decide_tags(row.id, &added, &removed))?;
        let tags = w.model(row.id)?.map(|row| row.tags).unwrap_or_default();
        Ok(TagSummary { name: row.name.to_string(), tags: tags.iter().map(ToString::to_string).collect() })
    })
}

/// Exactly these tags by hand, or the automatic ones again.
pub(super) fn set_tags(library: &Library, model: ModelId, text: Option<&str>) -> Result<(), LibraryError> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    let wanted: Vec<Label> = words.map(parse_tag).collect::<Result<_, _>>()?;
    if wanted.len() > TAGS_MAX {
        return Err(bad_word(&format!("{} tags", wanted.len()), &format!("write at most {TAGS_MAX}")));
    }
    library.catalog().write(library.now(), |w| {
        let Some(row) = w.model(model)? else { return Ok(()) };
        retag(w, model, |w| match text {
            None => w.forget_tag_decisions(model),
            Some(_) => {
                let removed: Vec<Label> = row.tags.iter().filter(|tag| !wanted.contains(tag)).cloned().collect();
                w.decide_tags(model, &wanted, &removed)
            }
        })?;
        Ok(())
    })
}

fn parse_tag(word: &str) -> Result<Label, LibraryError> {
    let label = Label::new(word).ok().filter(|label| !label.as_str().contains(','));
    label.ok_or_else(|| bad_word(word, "a tag is a text without `,`, and short enough for the name of a folder"))
}

/// Changes tags; the folders under `by/tag` follow.
fn retag(
    w: &mut Writer<'_>,
    model: ModelId,
    change: impl FnOnce(&mut Writer<'_>) -> Result<(), CatalogError>,
) -> Result<(), CatalogError> {
    let mut shelf = Shelf::begin(w)?;
    let before = shelf.homes_of(w, model)?;
    change(w)?;
    shelf.reshelve_model(w, model, &before)
}
