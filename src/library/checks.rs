//! What `doctor` looks at in a store, each with how to mend it. Changes nothing.

use super::import::orphans;
use super::{Check, CheckStatus};
use crate::base::Fault;
use crate::catalog::Catalog;
use crate::classify::Rules;
use crate::store::Store;
use bytesize::ByteSize;
use rustix::fs::{Access, access};
use std::path::Path;

/// Below this, the next model will hardly fit.
const FREE_BYTES_LOW: u64 = 5 << 30;
/// Findings of a database shown; more of them say nothing more.
const PROBLEMS_MAX: usize = 5;
/// A file that is there in every store, to try the sharing of blocks with.
const SAMPLE: &str = "modelhub.db";

pub(super) fn checks(root: &Path) -> Vec<Check> {
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(error) => return vec![broken("store", error.fault())],
    };
    let mut checks = vec![fine("store", format!("{} on a local filesystem", store.root().display()))];
    checks.push(writable(&store));
    checks.push(space(&store));
    checks.push(reflink(&store));
    match Catalog::open(store.root()) {
        Ok(catalog) => {
            checks.push(databases(&catalog));
            checks.push(rules(&catalog));
            checks.push(orphan_files(&store, &catalog));
        }
        Err(error) => checks.push(broken("databases", error.fault())),
    }
    checks.push(leftovers(&store));
    checks
}

fn fine(name: &str, finding: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Fine, finding: finding.into(), remedy: String::new() }
}

fn notice(name: &str, finding: impl Into<String>, remedy: &str) -> Check {
    let (name, finding, remedy) = (name.to_owned(), finding.into(), remedy.to_owned());
    Check { name, status: CheckStatus::Notice, finding, remedy }
}

fn broken(name: &str, fault: Fault) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Broken, finding: fault.what, remedy: fault.remedy }
}

fn writable(store: &Store) -> Check {
    let name = "writable";
    match store.is_read_only() {
        Err(error) => broken(name, error.fault()),
        Ok(true) => notice(
            name,
            "the store's filesystem is mounted read-only: reading works, importing and downloading do not",
            "mount it read-write, or choose another store with --store",
        ),
        Ok(false) if access(store.root(), Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            let finding = format!("this user cannot write to {}", store.root().display());
            let remedy = "change the owner of the folder, or run as the user it belongs to".to_owned();
            Check { name: name.to_owned(), status: CheckStatus::Broken, finding, remedy }
        }
        Ok(false) => fine(name, "this user can write to the store"),
    }
}

fn space(store: &Store) -> Check {
    let name = "free space";
    match store.free_bytes() {
        Err(error) => broken(name, error.fault()),
        Ok(free) if free < FREE_BYTES_LOW => notice(
            name,
            format!("{} are free", ByteSize(free).display().iec()),
            "free some space before importing or downloading large models",
        ),
        Ok(free) => fine(name, format!("{} are free", ByteSize(free).display().iec())),
    }
}

fn reflink(store: &Store) -> Check {
    if store.can_reflink(&store.root().join(SAMPLE)) {
        fine("reflink", "this filesystem can share blocks: imports from it take no space")
    } else {
        notice(
            "reflink",
            "this filesystem cannot share blocks: imports copy",
            "use --mode move or --mode link to save space, or keep the store on btrfs or xfs",
        )
    }
}

fn databases(catalog: &Catalog) -> Check {
    match catalog.check() {
        Err(error) => broken("databases", error.fault()),
        Ok(problems) if problems.is_empty() => fine("databases", "both databases are sound"),
        Ok(problems) => Check {
            name: "databases".to_owned(),
            status: CheckStatus::Broken,
            finding: problems.iter().take(PROBLEMS_MAX).map(String::as_str).collect::<Vec<_>>().join("; "),
            remedy: "copy the store's folder first, then restore the databases from a copy or import again".to_owned(),
        },
    }
}

fn rules(catalog: &Catalog) -> Check {
    let name = "rules";
    let user = match catalog.user_rules() {
        Ok(user) => user,
        Err(error) => return broken(name, error.fault()),
    };
    let (_, bad) = Rules::with_user(&user);
    if bad.is_empty() {
        return fine(name, format!("the built-in rules and {} of yours", user.len()));
    }
    let shown: Vec<String> =
        bad.iter().take(PROBLEMS_MAX).map(|rule| format!("{}: {}", rule.place, rule.reason)).collect();
    let finding =
        format!("{} of your {} rules in classification.db are left out: {}", bad.len(), user.len(), shown.join("; "));
    notice(name, finding, "correct or delete these rows; then run `modelfs classify --diff`")
}

fn orphan_files(store: &Store, catalog: &Catalog) -> Check {
    let name = "orphans";
    match orphans::find(store, catalog) {
        Err(error) => broken(name, error.fault()),
        Ok(orphans) if orphans.is_empty() => fine(name, "every file of the store has its row"),
        Ok(orphans) => notice(
            name,
            format!("{} files in the store are in no listing: an import was killed", orphans.len()),
            "run that import again: it takes them up",
        ),
    }
}

fn leftovers(store: &Store) -> Check {
    let name = "leftovers";
    match store.staging_leftovers() {
        Err(error) => broken(name, error.fault()),
        Ok(0) => fine(name, "nothing is left over from killed imports"),
        Ok(count) => notice(name, format!("{count} unfinished files lie in staging/"), "the next import removes them"),
    }
}
