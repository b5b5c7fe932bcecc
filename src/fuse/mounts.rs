//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo`.
//!
//! Invariant: reads no file below a mount point, so a dead mount cannot stall it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Type under which our mounts are shown.
const KIND: &str = "fuse.modelfs";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountEntry {
    pub mount_point: PathBuf,
    pub kind: String,
    /// Minor number of the device: names the connection under `/sys/fs/fuse`.
    pub device_minor: u32,
}

impl MountEntry {
    pub fn is_ours(&self) -> bool {
        self.kind == KIND
    }
}

pub fn all() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The topmost mount at exactly this path.
pub fn at(path: &Path) -> Option<MountEntry> {
    all().unwrap_or_default().into_iter().rfind(|entry| entry.mount_point == path)
}

fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 0:42 / /mnt/x rw,nosuid shared:1 - fuse.modelfs modelfs rw`: the optional fields end with `-`.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let device = std::str::from_utf8(fields.get(2)?).ok()?;
    let device_minor = device.split_once(':')?.1.parse().ok()?;
    let mount_point = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.get(4)?)));
    let dash = fields.iter().position(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.get(dash + 1)?).into_owned();
    Some(MountEntry { mount_point, kind, device_minor })
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields() {
        let text = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            36 22 0:42 / /mnt/my\\040models rw,nosuid shared:1 master:2 - fuse.modelfs modelfs rw,user_id=0\n\
            broken line\n\
            37 22 0:43 / /mnt/a\\134b rw - fuse.sshfs host: rw\n";
        let entries = parse(text);
        let points: Vec<_> = entries.iter().map(|entry| entry.mount_point.to_str().expect("UTF-8")).collect();
        assert_eq!(points, ["/", "/mnt/my models", "/mnt/a\\b"]);
        assert_eq!(entries.iter().map(MountEntry::is_ours).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(entries[1].device_minor, 42);
    }

    #[test]
    fn the_root_of_this_machine_is_found() {
        assert!(at(Path::new("/")).is_some());
        assert_eq!(at(Path::new("/no/such/mount")), None);
    }
}
