//! The applications that are known, and showing or hiding them.

use super::shelf::Shelf;
use super::{AppInfo, Library, LibraryError};
use crate::tree::Target;

pub(super) fn list(library: &Library) -> Result<Vec<AppInfo>, LibraryError> {
    let targets = library.catalog().read(|r| r.targets())?;
    Ok(targets.into_iter().map(info).collect())
}

fn info(target: Target) -> AppInfo {
    let folder = |folder: &crate::tree::TargetFolder| (format!("{}/{}", target.name, folder.path), folder.model_type);
    AppInfo {
        folders: target.folders.iter().map(folder).collect(),
        name: target.name.as_str().to_owned(),
        display_name: target.display_name,
        enabled: target.enabled,
    }
}

pub(super) fn set_enabled(library: &Library, name: &str, enabled: bool) -> Result<bool, LibraryError> {
    library.catalog().write(library.now(), |w| {
        let targets = w.targets()?;
        let Some(target) = targets.iter().find(|target| target.name.as_str() == name) else {
            return Err(LibraryError::UnknownApp { name: name.to_owned() });
        };
        if target.enabled == enabled {
            return Ok(false);
        }
        w.set_target_enabled(name, enabled)?;
        let mut shelf = Shelf::begin(w)?;
        if enabled {
            shelf.place_target(w, name)?;
        }
        shelf.touch_root(w)?;
        Ok(true)
    })
}
