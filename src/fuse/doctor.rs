//! What `doctor` says about mounting. Changes nothing, and never waits for a mount without a bound.

use super::mounting::{self, HELPER, Liveness};
use super::mounts::{self, MountEntry};
use crate::base::Fault;
use crate::library::{Check, CheckStatus};
use std::fs;
use std::path::Path;

/// The bit of `CAP_SYS_ADMIN` in a set of capabilities.
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// First kernel with passthrough.
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);

pub fn checks(mount_point: &Path) -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut checks = vec![device(), helper(root), sharing(root), passthrough(), place(mount_point)];
    checks.extend(stale());
    checks
}

fn fine(name: &str, finding: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Fine, finding: finding.into(), remedy: String::new() }
}

fn notice(name: &str, finding: impl Into<String>, remedy: impl Into<String>) -> Check {
    let status = CheckStatus::Notice;
    Check { name: name.to_owned(), status, finding: finding.into(), remedy: remedy.into() }
}

fn broken(name: &str, fault: Fault) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Broken, finding: fault.what, remedy: fault.remedy }
}

fn device() -> Check {
    match mounting::check_device() {
        Ok(()) => fine("fuse device", "/dev/fuse can be opened"),
        Err(fault) => broken("fuse device", fault),
    }
}

fn helper(root: bool) -> Check {
    let name = "fusermount3";
    match (mounting::find_helper(), root) {
        (Some(path), _) => fine(name, format!("{} is there", path.display())),
        (None, true) => {
            let finding = format!("{HELPER} is not installed; root mounts without it, other users cannot");
            notice(name, finding, "install the package fuse3 (`apt install fuse3`)")
        }
        (None, false) => match mounting::check_user(false) {
            Ok(()) => fine(name, "not needed"),
            Err(fault) => broken(name, fault),
        },
    }
}

fn sharing(root: bool) -> Check {
    let name = "allow-other";
    if root || mounting::user_allow_other() {
        fine(name, "a mount can be shared with other users and containers")
    } else {
        let remedy = "add the line `user_allow_other` to /etc/fuse.conf to use --allow-other";
        notice(name, "a mount can be used by its owner alone, not by root or containers", remedy)
    }
}

pub fn passthrough() -> Check {
    let name = "passthrough";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel_version(&release).is_some_and(|version| version < PASSTHROUGH_SINCE) {
        let finding = "this kernel has no passthrough; files that are here are read through the page cache";
        return notice(name, finding, "use Linux 6.9 or newer for reads at the speed of the disk");
    }
    if may_administrate() {
        fine(name, "files that are here are read at the speed of the disk")
    } else {
        let finding = "the kernel lets root alone use passthrough; reads go through the page cache, somewhat slower";
        notice(name, finding, "mount as root with --allow-other for reads at the speed of the disk")
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The capability counts only outside any user namespace: a rootless container's root has it among its own.
fn may_administrate() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    capabilities(&status).is_some_and(|set| set & CAP_SYS_ADMIN != 0) && is_whole_machine(&users)
}

fn is_whole_machine(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn place(mount_point: &Path) -> Check {
    let name = "mount point";
    let path = match mounting::resolve(mount_point) {
        Ok(path) => path,
        Err(fault) => return broken(name, fault),
    };
    let Some(entry) = mounts::at(&path) else {
        return match mounting::check_place(&path) {
            Ok(()) => fine(name, format!("{} can be mounted on", path.display())),
            Err(fault) => broken(name, fault),
        };
    };
    if !entry.is_ours() {
        return fine(name, format!("{} is a mount of another kind ({})", path.display(), entry.kind));
    }
    match mounting::liveness(&path) {
        Liveness::Answers => fine(name, format!("modelfs is mounted at {}", path.display())),
        Liveness::Dead => fine(name, format!("{} has a stale mount, which the next mount heals", path.display())),
        Liveness::Silent => {
            let remedy = format!("see the log of its process, or end it with `umount -l {}`", path.display());
            notice(name, format!("the mount at {} does not answer", path.display()), remedy)
        }
    }
}

fn stale() -> Vec<Check> {
    let ours = mounts::all().unwrap_or_default().into_iter().filter(MountEntry::is_ours);
    ours.filter(|entry| mounting::liveness(&entry.mount_point) == Liveness::Dead)
        .map(|entry| {
            let path = entry.mount_point.display();
            let finding = format!("the process behind the mount at {path} is gone");
            notice("stale mount", finding, format!("clear it away with `modelfs unmount {path}`"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_of_the_process() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities("CapEff:\t0000000000000000\n"), Some(0));
        assert_eq!(capabilities("CapPrm:\t01\n"), None);
    }

    #[test]
    fn a_user_namespace_is_not_the_machine() {
        assert!(is_whole_machine("         0          0 4294967295\n"));
        assert!(!is_whole_machine("         0       1000          1\n") && !is_whole_machine(""));
    }

    #[test]
    fn the_kernel_says_its_version() {
        assert_eq!(kernel_version("6.18.44-x\n"), Some((6, 18)));
        assert!(kernel_version("5.15.0").is_some_and(|version| version < PASSTHROUGH_SINCE));
        assert_eq!(kernel_version(""), None);
    }

    #[test]
    fn every_line_that_is_not_fine_says_how_to_mend_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let checks = checks(folder.path());
        assert!(checks.len() >= 5);
        for check in checks {
            assert_eq!(check.status == CheckStatus::Fine, check.remedy.is_empty(), "{check:?}");
            assert!(!check.finding.is_empty());
        }
    }
}
