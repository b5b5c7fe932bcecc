//! Decisions by hand that are made by writing an attribute of a file in the mount.
//!
//! Invariant: when a write returns, the tree of this process shows it. Not here: what a decision does
//! (`library::decisions`), attributes that are only read (`attributes`).

use super::super::{Decision, LibraryError, decisions};
use super::Mounted;
use super::attributes::XDG_TAGS;
use crate::base::{BlobId, Fault, FaultKind};

/// Attributes that a person decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decided {
    Type,
    Base,
    Tags,
}

impl Decided {
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "user.modelfs.type" => Some(Self::Type),
            "user.modelfs.base" => Some(Self::Base),
            "user.modelfs.tags" | XDG_TAGS => Some(Self::Tags),
            _ => None,
        }
    }
}

impl Mounted {
    /// Records a decision, or takes it back where there is no value.
    pub(super) fn decide(&self, blob: BlobId, what: Decided, value: Option<&[u8]>) -> Result<(), Fault> {
        let text = value.map(str::from_utf8).transpose().map_err(|_| {
            Fault::new(FaultKind::Invalid, "the value of the attribute is not UTF-8", "write a word such as `lora`")
        })?;
        self.decide_text(blob, what, text.map(str::trim)).map_err(|error| error.fault())
    }

    fn decide_text(&self, blob: BlobId, what: Decided, text: Option<&str>) -> Result<(), LibraryError> {
        let library = &self.inner.library;
        let models = library.catalog().read(|r| r.models_of_blob(blob))?;
        let Some(model) = models.first() else {
            return Err(LibraryError::Part(Fault::new(
                FaultKind::NotPermitted,
                "the file is a part of a folder, not a model by itself",
                "decide about the model it belongs to",
            )));
        };
        let decision = match (what, text) {
            (Decided::Type, Some(word)) => Decision::Type(decisions::parse_type(word)?),
            (Decided::Base, Some(word)) => Decision::Base(decisions::parse_base(word)?),
            (Decided::Type, None) => Decision::NoType,
            (Decided::Base, None) => Decision::NoBase,
            (Decided::Tags, text) => {
                decisions::set_tags(library, model.id, text)?;
                return Ok(self.inner.current.refresh()?);
            }
        };
        decisions::decide_model(library, model.id, &[decision])?;
        Ok(self.inner.current.refresh()?)
    }
}
