//! What `torch.save` writes: a ZIP with `data.pkl`, or a row of pickles followed by raw storages.
//!
//! Invariants: tensor data is never read; a ZIP that holds no `data.pkl` is `Other`, not an error; a legacy stream is
//! at least as long as its storages need. Not here: the opcodes (`pickle`), the directory of a ZIP (`archive`).

use std::collections::HashMap;

use super::archive::{self, Entry, Member};
use super::header::ByteSource;
use super::limits::{Collector, WALK_BYTES_MAX};
use super::pickle::{self, Heap, Machine, Value};
use super::window::{Window, read_up_to};
use super::{Format, FormatError, Header};

/// Torch never packs its pickle and pickles have at most 3 MB; a packed one shares the memory of the reader.
const PACKED_PICKLE_BYTES_MAX: u64 = 8 << 20;

/// `version` holds a number, `byteorder` a word.
const WORD_BYTES_MAX: usize = 64;

/// Most members of one name kept for choosing between them.
const CANDIDATES_MAX: usize = 8;

/// What the first pickle of a legacy stream is: `0x1950a86a20f9469cfc6c`.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_MAGIC_LOW: u64 = 0xa86a_20f9_469c_fc6c;
const LEGACY_PROTOCOL: i64 = 1001;

pub(super) fn read_zip(source: &dyn ByteSource) -> Result<Header, FormatError> {
    let mut members = Members::default();
    archive::entries(source, |entry| members.see(entry))?;
    let Some(entry) = members.pickles.first() else {
        let mut other = Collector::new(Format::Other);
        other.metadata("container", "zip")?;
        return Ok(other.finish());
    };
    if members.pickles.iter().skip(1).any(|other| other.name.eq_ignore_ascii_case(&entry.name)) {
        return Err(FormatError::malformed(Format::TorchZip, format_args!("it holds two `{}`", entry.name)));
    }
    let root = root_of(&entry.name);
    let member = archive::open(source, entry, PACKED_PICKLE_BYTES_MAX)?;
    let is_packed = matches!(member, Member::Unpacked(_));
    let mut machine = Machine::new(Window::new(&member, Format::TorchZip, 0, WALK_BYTES_MAX), Format::TorchZip);
    let value = machine.run().map_err(|error| match error {
        FormatError::Truncated { .. } => FormatError::malformed(Format::TorchZip, "its pickle has no end"),
        other => other,
    })?;
    let heap = machine.into_heap();
    drop(member);

    let mut facts = Collector::new(Format::TorchZip);
    for (key, candidates) in [("torch.version", &members.versions), ("torch.byteorder", &members.byteorders)] {
        if let Some(entry) = candidates.iter().find(|entry| root_of(&entry.name) == root) {
            let member = archive::open(source, entry, WORD_BYTES_MAX as u64)?;
            let word = read_up_to(&member, 0, WORD_BYTES_MAX)?;
            facts.metadata(key, String::from_utf8_lossy(&word).trim())?;
        }
    }
    if members.is_script {
        facts.metadata("torch.script", "true")?;
    }
    if is_packed {
        facts.note("its pickle is packed, which torch never does")?;
    }
    if members.pickles.len() > 1 {
        facts.note("it holds several `data.pkl`, read is the first")?;
    }
    pickle::collect(&heap, value, &mut facts)?;
    Ok(facts.finish())
}

/// The members that say what a ZIP is.
#[derive(Default)]
struct Members {
    pickles: Vec<Entry>,
    versions: Vec<Entry>,
    byteorders: Vec<Entry>,
    is_script: bool,
}

impl Members {
    fn see(&mut self, entry: Entry) {
        let inner = entry.name.get(root_of(&entry.name).len()..).unwrap_or_default().trim_start_matches('/');
        // The reader of torch does not tell capitals apart.
        let candidates = match inner.to_ascii_lowercase().as_str() {
            "data.pkl" => &mut self.pickles,
            "version" => &mut self.versions,
            "byteorder" => &mut self.byteorders,
            inner => {
                self.is_script |= inner == "constants.pkl" || inner.starts_with("code/");
                return;
            }
        };
        if candidates.len() < CANDIDATES_MAX {
            candidates.push(entry);
        }
    }
}

/// The folder at the top that a member lies in.
fn root_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(root, _)| root)
}

/// A file that begins as a pickle of protocol 2 or later.
pub(super) fn read_pickle(source: &dyn ByteSource) -> Result<Header, FormatError> {
    let start = read_up_to(source, 0, 32)?;
    if start.windows(LEGACY_MAGIC.len()).any(|bytes| bytes == LEGACY_MAGIC) {
        return read_legacy(source);
    }
    read_plain(source)
}

/// A file that may begin as a pickle of the oldest protocols, which have no magic number.
pub(super) fn read_unmarked_pickle(source: &dyn ByteSource) -> Result<Option<Header>, FormatError> {
    match read_plain(source) {
        Ok(header) => Ok(Some(header)),
        Err(error @ FormatError::Io(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What an unpickler would import from bytes that are no pickle to the end, before it gives up: it runs what it reads.
pub(super) fn stray_imports(source: &dyn ByteSource, facts: &mut Collector) -> Result<(), FormatError> {
    let mut machine = Machine::new(Window::new(source, Format::Pickle, 0, WALK_BYTES_MAX), Format::Pickle);
    match machine.run() {
        Err(error @ FormatError::Io(_)) => return Err(error),
        Err(FormatError::OverLimit { .. }) => facts.note("it begins as a pickle that is too long to be followed")?,
        Ok(_) | Err(_) => {}
    }
    // No module has another name, so the unpickler ends there. Numbers that look like opcodes by chance end here too.
    let can_be_found = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let imports: Vec<&str> = machine.heap().imports().take_while(can_be_found).collect();
    if !imports.is_empty() {
        facts.note("it begins as a pickle and goes on as none")?;
    }
    imports.into_iter().try_for_each(|name| facts.import(name.to_owned()))
}

fn read_plain(source: &dyn ByteSource) -> Result<Header, FormatError> {
    let mut machine = Machine::new(Window::new(source, Format::Pickle, 0, WALK_BYTES_MAX), Format::Pickle);
    let value = machine.run()?;
    let mut facts = Collector::new(Format::Pickle);
    let rest_bytes = source.size_bytes() - machine.position();
    if rest_bytes > 0 {
        facts.note(&format!("{rest_bytes} bytes follow its pickle"))?;
    }
    pickle::collect(&machine.into_heap(), value, &mut facts)?;
    Ok(facts.finish())
}

fn read_legacy(source: &dyn ByteSource) -> Result<Header, FormatError> {
    let format = Format::TorchLegacy;
    let mut machine = Machine::new(Window::new(source, format, 0, WALK_BYTES_MAX), format);
    if machine.run()? != Value::Long(LEGACY_MAGIC_LOW) || machine.run()? != Value::Int(LEGACY_PROTOCOL) {
        return Err(FormatError::malformed(format, "its protocol is unknown"));
    }
    let system = machine.run()?;
    let byteorder = match machine.heap().get(system, "little_endian") {
        Some(Value::Bool(false)) => "big",
        _ => "little",
    };
    let value = machine.run()?;
    let keys = machine.run()?;
    let data_start = machine.position();
    let heap = machine.into_heap();
    let claimed_bytes = data_start.checked_add(stored_bytes(&heap, keys));
    let actual_bytes = source.size_bytes();
    if claimed_bytes.is_none_or(|claimed| claimed > actual_bytes) {
        return Err(FormatError::Truncated { claimed_bytes, actual_bytes });
    }
    let mut facts = Collector::new(format);
    facts.metadata("torch.byteorder", byteorder)?;
    pickle::collect(&heap, value, &mut facts)?;
    Ok(facts.finish())
}

/// What the storages behind `keys` take at least: a count and the elements of each.
fn stored_bytes(heap: &Heap, keys: Value) -> u64 {
    let mut sizes: HashMap<&str, u64> = HashMap::new();
    for storage in heap.storages() {
        sizes.insert(heap.text_of(storage.key), storage.size_bytes().unwrap_or(u64::MAX));
    }
    let mut sum_bytes = 0u64;
    for key in heap.members(keys) {
        if let Value::Text(key) = *key {
            // Taken out, so that a key which is there twice counts once.
            let elements = sizes.remove(heap.text_of(key)).unwrap_or(0);
            sum_bytes = sum_bytes.saturating_add(8).saturating_add(elements);
        }
    }
    sum_bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::pickle::sample::{Writer, ZipMember, legacy, state_dict, torch_zip, zip, zip_of};
    use super::super::{NOTE_KEY, read_header};
    use super::*;

    const TENSORS: &[(&str, &str, &[i32])] = &[("w", "FloatStorage", &[4, 4]), ("b", "HalfStorage", &[4])];

    fn names(header: &Header) -> Vec<&str> {
        header.tensors.iter().map(|tensor| &*tensor.name).collect()
    }

    fn value<'a>(header: &'a Header, key: &str) -> Option<&'a str> {
        header.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_torch_zip_gives_its_tensors() {
        let header = read_header(torch_zip(TENSORS).as_slice()).expect("whole");
        assert_eq!(header.format, Format::TorchZip);
        assert_eq!(names(&header), ["w", "b"]);
        assert_eq!(&*header.tensors[0].shape, [4, 4]);
        assert_eq!(value(&header, "torch.version"), Some("3"));
        assert_eq!(value(&header, "torch.byteorder"), Some("little"));
        assert_eq!(value(&header, "torch.script"), None);
    }

    #[test]
    fn archives_are_told_apart() {
        let pickle = state_dict(TENSORS);
        let cases: &[(&[&str], Format, &str, &str)] = &[
            (&["net/data.pkl", "net/code/__torch__.py", "net/constants.pkl"], Format::TorchZip, "torch.script", "true"),
            (&["a.npy", "b.npy"], Format::Other, "container", "zip"),
            (&["a/b/data.pkl"], Format::Other, "container", "zip"),
            (&[], Format::Other, "container", "zip"),
        ];
        for (members, format, key, expected) in cases {
            let members: Vec<(&str, &[u8])> = members.iter().map(|name| (*name, pickle.as_slice())).collect();
            // An archive without members begins with its end, so it is not one by its first bytes.
            let header = read_zip(&zip(&members).as_slice()).expect("whole");
            assert_eq!(header.format, *format, "{key}");
            assert_eq!(value(&header, key), Some(*expected));
        }
        let twice = zip(&[("a/data.pkl", &pickle), ("a/data.pkl", &pickle)]);
        assert!(matches!(read_header(twice.as_slice()), Err(FormatError::Malformed { .. })));
        let several = zip(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]);
        assert!(value(&read_header(several.as_slice()).expect("whole"), NOTE_KEY).is_some());
    }

    #[test]
    fn a_packed_pickle_is_unpacked_within_its_limit() {
        let pack = |bytes: &[u8]| {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).expect("writing to a vector");
            encoder.finish().expect("writing to a vector")
        };
        let archive = |packed: &[u8], unpacked_bytes| {
            zip_of(&[ZipMember { name: "a/data.pkl", bytes: packed, method: 8, unpacked_bytes }])
        };
        let pickle = state_dict(TENSORS);
        let header = read_header(archive(&pack(&pickle), pickle.len()).as_slice()).expect("whole");
        assert_eq!(names(&header), ["w", "b"]);
        assert!(value(&header, NOTE_KEY).is_some());

        let bomb = pack(&vec![b'N'; 2 * PACKED_PICKLE_BYTES_MAX as usize]);
        assert!(bomb.len() < 64 << 10);
        for claimed in [100, 2 * PACKED_PICKLE_BYTES_MAX as usize] {
            let refused = read_header(archive(&bomb, claimed).as_slice());
            assert!(matches!(refused, Err(FormatError::OverLimit { .. })), "{refused:?}");
        }
        let noise = read_header(archive(&[0xff; 50], 50).as_slice());
        assert!(matches!(noise, Err(FormatError::Malformed { .. })), "{noise:?}");
    }

    /// The archives of the library that others write with are read alike, ZIP64 included.
    #[test]
    fn archives_of_another_writer_are_read() {
        for (method, large) in [(zip::CompressionMethod::Stored, true), (zip::CompressionMethod::Deflated, false)] {
            let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default().compression_method(method).large_file(large);
            for (name, bytes) in [("m/data.pkl", state_dict(TENSORS)), ("m/version", b"3".to_vec())] {
                writer.start_file(name, options).expect("in memory");
                writer.write_all(&bytes).expect("in memory");
            }
            writer.set_comment("PK\u{5}\u{6} a comment").expect("short enough");
            let bytes = writer.finish().expect("in memory").into_inner();
            let header = read_header(bytes.as_slice()).expect("whole");
            assert_eq!(names(&header), ["w", "b"]);
            assert_eq!(value(&header, "torch.version"), Some("3"));
        }
    }

    #[test]
    fn a_directory_of_64_bits_is_read() {
        let mut bytes = zip(&[("a/data.pkl", &state_dict(TENSORS))]);
        let end = bytes.len() - 22;
        let directory_bytes = u32::from_le_bytes(bytes[end + 12..end + 16].try_into().expect("four bytes"));
        let directory_offset = u32::from_le_bytes(bytes[end + 16..end + 20].try_into().expect("four bytes"));
        let mut last = bytes.split_off(end);
        bytes.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        for number in [1, 1, u64::from(directory_bytes), u64::from(directory_offset)] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend((end as u64).to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        last[8..20].fill(0xff);
        bytes.extend(last);
        assert_eq!(names(&read_header(bytes.as_slice()).expect("whole")), ["w", "b"]);
    }

    /// Where torch would read another pickle than the one that was looked at.
    #[test]
    fn an_archive_is_read_in_one_way_only() {
        let (harmless, other) = (state_dict(TENSORS), Writer::new().global("os", "system").stop());
        let capitals = read_header(zip(&[("a/DATA.PKL", &other)]).as_slice()).expect("whole");
        assert_eq!(
            (capitals.format, capitals.imports.as_slice()),
            (Format::TorchZip, ["os.system".to_owned()].as_slice())
        );
        let both = zip(&[("a/data.pkl", &harmless), ("a/Data.pkl", &other)]);
        assert!(matches!(read_header(both.as_slice()), Err(FormatError::Malformed { .. })));

        // A second end behind the first one, whose comment would not fit.
        let mut two_ends = zip(&[("a/data.pkl", &harmless)]);
        let mut end = two_ends[two_ends.len() - 22..].to_vec();
        end[20..].fill(0xff);
        let start = two_ends.len() - 2;
        two_ends[start..].copy_from_slice(&22u16.to_le_bytes());
        two_ends.extend(end);
        let refused = read_header(two_ends.as_slice());
        assert!(matches!(refused, Err(FormatError::Truncated { .. })), "{refused:?}");

        // An end of 64 bits for another directory than the one of 32 bits.
        let mut wide = zip(&[("a/data.pkl", &harmless)]);
        let last = wide.split_off(wide.len() - 22);
        let end = wide.len() as u64;
        wide.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        [1, 1, 50, 0].iter().for_each(|number: &u64| wide.extend(number.to_le_bytes()));
        wide.extend(b"PK\x06\x07\0\0\0\0");
        wide.extend(end.to_le_bytes());
        wide.extend([1, 0, 0, 0]);
        wide.extend(last);
        let refused = read_header(wide.as_slice());
        assert!(matches!(refused, Err(FormatError::Malformed { .. })), "{refused:?}");
    }

    #[test]
    fn every_cut_of_an_archive_is_seen() {
        let whole = torch_zip(TENSORS);
        for end in 4..whole.len() {
            let refused = read_zip(&&whole[..end]);
            assert!(matches!(refused, Err(FormatError::Truncated { .. })), "cut at {end}: {refused:?}");
        }
    }

    /// Where a piece in the middle is missing, the directory claims more than there is.
    #[test]
    fn an_archive_with_a_hole_is_truncated() {
        let mut holed = torch_zip(TENSORS);
        holed.drain(200..260);
        let refused = read_header(holed.as_slice());
        assert!(matches!(refused, Err(FormatError::Truncated { .. })), "{refused:?}");
    }

    #[test]
    fn a_legacy_stream_is_as_long_as_its_storages() {
        let whole = legacy(&state_dict(TENSORS), &[("0", 64), ("1", 8)]);
        let header = read_header(whole.as_slice()).expect("whole");
        assert_eq!(header.format, Format::TorchLegacy);
        assert_eq!(names(&header), ["w", "b"]);
        assert_eq!(value(&header, "torch.byteorder"), Some("little"));
        for end in 16..whole.len() {
            let refused = read_header(&whole[..end]);
            assert!(matches!(refused, Err(FormatError::Truncated { .. })), "cut at {end}: {refused:?}");
        }
        let claimed = match read_header(&whole[..whole.len() - 1]) {
            Err(FormatError::Truncated { claimed_bytes, .. }) => claimed_bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(claimed, Some(whole.len() as u64));
    }

    #[test]
    fn bare_pickles_are_told_from_torch_streams() {
        let header = read_header(state_dict(TENSORS).as_slice()).expect("whole");
        assert_eq!((header.format, names(&header)), (Format::Pickle, vec!["w", "b"]));
        let followed = [state_dict(TENSORS), vec![0; 9]].concat();
        let header = read_header(followed.as_slice()).expect("whole");
        assert_eq!(value(&header, NOTE_KEY), Some("9 bytes follow its pickle"));
        // The oldest protocol has no magic number.
        let old = Writer::default().raw(b"(dp0\nS'a'\nI1\nscos\nsystem\n(S'\xff'\ntR.").bytes;
        let header = read_header(old.as_slice()).expect("whole");
        assert_eq!((header.format, header.imports.as_slice()), (Format::Pickle, ["os.system".to_owned()].as_slice()));
        let old = Writer::default().raw(b"}q\0").text("epoch").int(3).raw(b"s.").bytes;
        assert_eq!(value(&read_header(old.as_slice()).expect("whole"), "epoch"), Some("3"));
        assert_eq!(read_header(b"(d but no pickle \xff".as_slice()).expect("unknown").format, Format::Other);
    }
}
