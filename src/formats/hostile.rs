//! Bytes made to harm a reader: every one is refused or read within the limits, none is followed.

use std::io::{self, Read as _};

use proptest::prelude::*;
use proptest::sample::Index;

use super::limits::{FACTS_BYTES_MAX, RANK_MAX, repeated_name};
use super::pickle::sample::{Writer, ZipMember, legacy, state_dict, torch_zip, zip, zip_of};
use super::{ByteSource, FormatError, Header, decode_header, encode_header, read_header};

/// A large file that is zero except for some pieces, and counts what is read of it.
struct Sparse {
    size_bytes: u64,
    pieces: Vec<(u64, Vec<u8>)>,
    read_bytes: std::cell::Cell<u64>,
}

impl Sparse {
    fn new(size_bytes: u64, pieces: Vec<(u64, Vec<u8>)>) -> Self {
        Self { size_bytes, pieces, read_bytes: 0.into() }
    }
}

impl ByteSource for Sparse {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        self.read_bytes.set(self.read_bytes.get() + count as u64);
        buffer[..count].fill(0);
        for (start, piece) in &self.pieces {
            for (at, byte) in (*start..).zip(piece) {
                if let Some(target) = at.checked_sub(offset).and_then(|at| buffer[..count].get_mut(at as usize)) {
                    *target = *byte;
                }
            }
        }
        Ok(count)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Outcome {
    Read,
    Truncated,
    OverLimit,
    Malformed,
}
use Outcome::{Malformed, OverLimit, Read, Truncated};

fn outcome<S: ByteSource + ?Sized>(source: &S) -> Outcome {
    match read_header(source) {
        Ok(header) => {
            check(&header);
            Read
        }
        Err(FormatError::Truncated { .. }) => Truncated,
        Err(FormatError::OverLimit { .. }) => OverLimit,
        Err(FormatError::Malformed { .. } | FormatError::NotAModel { .. }) => Malformed,
        Err(FormatError::Io(error)) => panic!("reading memory cannot fail: {error}"),
    }
}

/// What holds for every header that a reader returns.
fn check(header: &Header) {
    let text_bytes: usize = header.tensors.iter().map(|tensor| tensor.name.len() + 8 * tensor.shape.len()).sum();
    let value_bytes: usize = header.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(text_bytes + value_bytes <= FACTS_BYTES_MAX);
    assert!(header.tensors.iter().all(|tensor| tensor.shape.len() <= RANK_MAX));
    assert!(header.imports.is_sorted_by(|one, next| one < next));
    assert_eq!(repeated_name(&header.tensors), None);
    assert_eq!(decode_header(&encode_header(header)).expect("its own record"), *header);
}

fn assert_outcomes(cases: Vec<(&str, Vec<u8>, Outcome)>) {
    for (what, bytes, expected) in cases {
        assert_eq!(outcome(bytes.as_slice()), expected, "{what}");
    }
}

fn pickle(opcodes: &[u8]) -> Vec<u8> {
    Writer::new().raw(opcodes).stop()
}

#[test]
fn pickles_of_hostile_opcodes() {
    assert_outcomes(vec![
        ("a million marks", pickle(&b"(".repeat(1_000_000)), OverLimit),
        ("a million values", pickle(&b"N".repeat(1_000_000)), OverLimit),
        ("endless work", pickle(&b"N0".repeat(3_000_000)), OverLimit),
        ("a number of -1 bytes", pickle(b"\x8b\xff\xff\xff\xff"), Malformed),
        ("a number of 2 GiB", pickle(b"\x8b\xff\xff\xff\x7f"), Truncated),
        ("a text of 4 GiB", pickle(b"X\xff\xff\xff\xff"), Truncated),
        ("a text of 2^64 bytes", pickle(&[&[0x8d][..], &[0xff; 8]].concat()), Truncated),
        ("bytes of 2^64 bytes", pickle(&[&[0x8e][..], &[0xff; 8]].concat()), Truncated),
        ("a byte array of 2^63 bytes", pickle(b"\x96\0\0\0\0\0\0\0\x80"), Truncated),
        ("an old text of -1 bytes", pickle(b"T\xff\xff\xff\xff"), Malformed),
        ("a frame of 2^64 bytes", pickle(&[&[0x95][..], &[0xff; 8], b"N"].concat()), Read),
        ("a memo of 2^32", pickle(b"Nr\xff\xff\xff\xff"), OverLimit),
        ("a memo of 10^30", pickle(b"Np1000000000000000000000000000000\n"), Malformed),
        ("the last place of the memo", pickle(b"Nr\x3f\x42\x0f\0"), Read),
        ("a negative place of the memo", pickle(b"Np-1\n"), Malformed),
        ("a place of the memo that is empty", pickle(b"h\x05"), Malformed),
        ("a hole of the memo", pickle(b"Nq\x05h\x04"), Malformed),
        ("no end", b"\x80\x02N".to_vec(), Truncated),
        ("nothing at the end", pickle(b""), Malformed),
        ("only a mark at the end", pickle(b"N("), Malformed),
        ("no such opcode", pickle(b"N\xff"), Malformed),
        ("no such protocol", pickle(b"\x80\x09N"), Malformed),
        ("a call of nothing", pickle(b"R"), Malformed),
        ("a call below a mark", pickle(b"cos\nsystem\n(R"), Malformed),
        ("a pop of nothing", pickle(b"0"), Malformed),
        ("no mark", pickle(b"Nt"), Malformed),
        ("an object of nothing", pickle(b"(o"), Malformed),
        ("a change of nothing", pickle(b"Na"), Malformed),
        ("a line without end", pickle(&[b"I".as_slice(), &b"1".repeat(1_000_000)].concat()), OverLimit),
        ("an import without end", pickle(b"cos"), Truncated),
        ("texts that are not UTF-8", pickle(b"}X\x02\0\0\0\xff\xfeU\x01\x80s"), Read),
        ("an import that is not UTF-8", pickle(b"c\xff\xfe\n\xfd\n"), Read),
        ("an odd number of keys and values", pickle(b"}(NNNu"), Read),
        ("entries of a number", pickle(b"K\x01(NNuNaNNsNb"), Read),
    ]);
}

/// Values that are small to write and large to follow.
#[test]
fn pickles_of_hostile_values() {
    // A list that holds the one before ten times, 60 levels of it.
    let copies = |level: u8| [&b"]("[..], &[b'h', level].repeat(10), &[b'e', b'q', level + 1]].concat();
    let bomb: Vec<u8> = (0..60).flat_map(copies).collect();
    // A dict made of itself again and again, which would double it.
    let own_copy = b"h\x00h\x01\x85R(h\x02h\x03uq\x01".repeat(400_000);
    let many_keys: Vec<u8> = (0..50_000u32).flat_map(|key| [b"J", &key.to_le_bytes()[..], b"N"].concat()).collect();
    let classes: Vec<u8> = (0..200_000).flat_map(|number| format!("cm\n{number:050}\n0").into_bytes()).collect();
    let deep_calls = b"(ctorch._tensor\n_rebuild_from_type_v2\nN".repeat(5_000);
    let from_type = [b"ctorch._tensor\n_rebuild_from_type_v2\n", &deep_calls[..], b")", &b"Nt".repeat(5_000), b"R"];
    let tensor = Writer::default().tensor("FloatStorage", "0", &[1]).bytes;
    let long_key = Writer::default().text(&"k".repeat(4_000)).bytes;
    let same_names = [&b"}"[..], &long_key, b"}(", &tensor, b"q\x090", &b"K\x01h\x09".repeat(100_000), b"us"].concat();
    let long_path = [&[b"}", &long_key[..]].concat().repeat(90)[..], &tensor, &b"s".repeat(90)].concat();
    let shared_state = [&b"cm\nC\nq\x000}("[..], &many_keys, b"uq\x010](", &b"h\x00)\x81h\x01b".repeat(50_000), b"e"];
    let looked_through =
        [&b"ccollections\nOrderedDict\nq\x000]("[..], &b"N".repeat(200_000)[..], b"e\x85q\x010"].concat();
    let shapes = |shape: &[i32]| Writer::new().tensor("FloatStorage", "0", shape).stop();
    assert_outcomes(vec![
        ("a list in itself", pickle(b"]q\0h\0a"), Read),
        ("a dict in itself", pickle(b"}q\0K\x01h\0s"), Read),
        ("an object that is its own state", pickle(b"cm\nC\n)\x81q\0h\0b"), Read),
        ("a tuple in its own list", pickle(b"]q\0h\0\x85a"), Read),
        ("references that multiply", pickle(&[b"Nq\x000", &bomb[..], b"N"].concat()), Read),
        ("references that multiply, at the end", pickle(&[b"Nq\x00", &bomb[..]].concat()), Read),
        (
            "a dict that doubles",
            pickle(&[b"ccollections\nOrderedDict\nq\0}q\x01K\x01q\x02K\x01q\x03", &own_copy[..]].concat()),
            OverLimit,
        ),
        (
            "a list looked through again and again",
            pickle(&[&looked_through[..], &b"h\0h\x01R0".repeat(800_000), b"N"].concat()),
            OverLimit,
        ),
        ("imports without end", pickle(&[&classes[..], b"N"].concat()), OverLimit),
        ("tuples in tuples", pickle(&[b"N", &b"\x85".repeat(1_000_000)[..]].concat()), OverLimit),
        ("lists in lists", pickle(&[&b"]".repeat(100_000)[..], &b"a".repeat(99_999)].concat()), Read),
        ("calls in calls", pickle(&from_type.concat()), Read),
        ("one name many times", pickle(&same_names), Read),
        ("names longer than any", pickle(&long_path), Read),
        ("one state of many objects", pickle(&shared_state.concat()), Read),
        ("a negative length", shapes(&[-1]), Read),
        ("lengths that overflow", shapes(&[0x7fff_ffff; 3]), Read),
        ("more dimensions than any", shapes(&[1; 65]), Read),
    ]);
}

#[test]
fn archives_that_lie() {
    let whole = zip(&[("a/data.pkl", &state_dict(&[("w", "FloatStorage", &[1])]))]);
    let end = whole.len() - 22;
    let directory = end - 46 - "a/data.pkl".len();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let packed = |method, bytes: &[u8], unpacked_bytes| {
        zip_of(&[ZipMember { name: "a/data.pkl", bytes, method, unpacked_bytes }])
    };
    assert_outcomes(vec![
        ("as it is", whole.clone(), Read),
        ("more members than there are", with(end + 10, &[0xfe, 0xff]), Malformed),
        ("fewer members than there are", with(end + 10, &[0, 0]), Malformed),
        ("a directory past the end", with(end + 16, &[0xfe; 4]), Truncated),
        ("a longer directory", with(end + 12, &[0xfe; 4]), Truncated),
        ("a directory elsewhere", with(end + 16, &[0; 4]), Malformed),
        ("a comment past the end", with(end + 20, &[0xff, 0xff]), Truncated),
        ("64 bits that are not there", with(end + 10, &[0xff; 10]), Truncated),
        ("a member of 4 GiB", with(directory + 20, &[0xfe; 4]), Truncated),
        ("a member past the end", with(directory + 42, &[0xfe; 4]), Truncated),
        ("a member in the directory", with(directory + 42, &[60, 0, 0, 0]), Malformed),
        ("a member elsewhere", with(directory + 42, &[1, 0, 0, 0]), Malformed),
        ("a member of two sizes", with(directory + 24, &[1, 0, 0, 0]), Malformed),
        ("a member of two names", with(30, b"b"), Malformed),
        ("a name of 64 KiB", with(directory + 28, &[0xff, 0xff]), Truncated),
        ("a name that is not UTF-8", zip(&[("\u{fffd}/data.pkl", b"\x80\x02N.")]), Read),
        ("an encrypted member", with(directory + 8, &[1]), Malformed),
        ("an unknown method", packed(99, b"N.", 2), Malformed),
        ("a packed member of nothing", packed(8, b"", 0), Malformed),
        ("a pickle without end", zip(&[("a/data.pkl", b"\x80\x02N")]), Malformed),
        ("an empty pickle", zip(&[("a/data.pkl", b"")]), Malformed),
        ("only the first four bytes", b"PK\x03\x04".to_vec(), Truncated),
        ("zeros after the start", [&b"PK\x03\x04"[..], &[0; 100_000]].concat(), Truncated),
    ]);
}

/// Counts and lengths that a large file could hold; little of it is read.
#[test]
fn large_files_that_lie() {
    const SIZE: u64 = 1 << 40;
    let wide_end = |entries: u64, size_bytes: u64, offset: u64, at: u64| {
        let mut bytes = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
        for number in [entries, entries, size_bytes, offset] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(at.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([0xff; 12]);
        bytes.extend([0, 0]);
        bytes
    };
    let archive = |entries, size_bytes, offset| {
        let at = SIZE - 98;
        vec![(0, b"PK\x03\x04".to_vec()), (at, wide_end(entries, size_bytes, offset, at))]
    };
    let start = |bytes: &[u8]| vec![(0, bytes.to_vec())];
    let cases = vec![
        ("an archive of 2^34 members", archive(1 << 34, (1 << 34) * 46, 1 << 34), OverLimit),
        ("an archive of 2^64 members", archive(u64::MAX, 1 << 30, 4), OverLimit),
        ("a directory of 2^64 bytes", archive(1, u64::MAX, u64::MAX), Truncated),
        ("a directory of zeros", archive(100_000, 100_000 * 46, 1 << 30), Malformed),
        (
            "a directory elsewhere",
            vec![(0, b"PK\x03\x04".to_vec()), (SIZE - 98, wide_end(1, 46, 4, SIZE - 10))],
            Malformed,
        ),
        ("a number of 2 GiB", start(b"\x80\x02\x8b\xff\xff\xff\x7f"), Malformed),
        ("bytes of 2^39", start(b"\x80\x04\x8e\0\0\0\0\x80\0\0\0"), Malformed),
        ("a safetensors header of 2^40 bytes", start(b"\0\0\0\0\xff\0\0\0{\""), OverLimit),
        ("a safetensors header of 90 MB", start(b"\x80\x4a\x5d\x05\0\0\0\0{\""), OverLimit),
        ("a safetensors header of 20 MB of nothing", start(b"\0\x2d\x31\x01\0\0\0\0{\""), Malformed),
        ("2^64 tensors", start(b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), OverLimit),
        ("2^64 keys", start(b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), OverLimit),
        ("an ONNX graph of 2^60 bytes", start(b"\x08\x07\x12\x01p\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x0f"), Truncated),
    ];
    for (what, pieces, expected) in cases {
        let source = Sparse::new(SIZE, pieces);
        assert_eq!(outcome(&source), expected, "{what}");
        assert!(source.read_bytes.get() <= 32 << 20, "{what}: {} bytes were read", source.read_bytes.get());
    }
}

/// A remote archive has its first and last chunks: the header of a large one needs no others.
#[test]
fn the_header_of_a_large_archive_lies_at_its_ends() {
    const STORAGE: u64 = 3 << 30;
    let small =
        zip(&[("a/data.pkl", &state_dict(&[("w", "FloatStorage", &[1])])), ("a/version", b"3"), ("a/data/0", b"")]);
    let end = small.len() - 22;
    let directory_bytes = u32::from_le_bytes(small[end + 12..end + 16].try_into().expect("four bytes")) as usize;
    let directory = end - directory_bytes;
    let mut tail = small[directory..].to_vec();
    // The last member grows, and the directory moves behind it.
    let sizes = directory_bytes - "a/data/0".len() - 26;
    for at in [sizes, sizes + 4] {
        tail[at..at + 4].copy_from_slice(&(STORAGE as u32).to_le_bytes());
    }
    let moved = directory as u64 + STORAGE;
    tail[directory_bytes + 16..directory_bytes + 20].copy_from_slice(&(moved as u32).to_le_bytes());
    let source = Sparse::new(moved + tail.len() as u64, vec![(0, small[..directory].to_vec()), (moved, tail)]);
    let header = read_header(&source).expect("whole");
    assert_eq!(header.tensors.len(), 1);
    assert!(source.read_bytes.get() < 128 << 10, "{} bytes were read", source.read_bytes.get());
}

fn safetensors(json: &str, data_bytes: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data_bytes]].concat()
}

fn whole_safetensors() -> Vec<u8> {
    let json = r#"{"__metadata__":{"format":"pt","note":"é"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[8,11]}}"#;
    safetensors(json, 11)
}

fn gguf_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn whole_gguf() -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    bytes.extend(gguf_text("general.architecture"));
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(gguf_text("llama"));
    bytes.extend(gguf_text("tokenizer.ggml.tokens"));
    bytes.extend([9, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(gguf_text("a"));
    bytes.extend(gguf_text("b"));
    bytes.extend(gguf_text("output.weight"));
    bytes.extend([1, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    bytes.extend([0; 8]);
    bytes.resize(bytes.len().next_multiple_of(32) + 18, 0);
    bytes
}

fn whole_onnx() -> Vec<u8> {
    onnx(1)
}

/// A model with as many initializers, all of one name.
fn onnx(initializers: usize) -> Vec<u8> {
    let tensor = b"\x08\x02\x08\x03\x10\x01\x42\x01w\x4a\x04\0\0\0\0";
    let input = b"\x0a\x01x\x12\x0e\x0a\x0c\x08\x01\x12\x08\x0a\x02\x08\x01\x0a\x02\x12\0";
    let mut graph = b"\x0a\x03\x22\x01R\x12\x01g".to_vec();
    for _ in 0..initializers {
        graph.extend([0x2a, tensor.len() as u8]);
        graph.extend(tensor);
    }
    graph.push(0x5a);
    graph.push(input.len() as u8);
    graph.extend(input);
    let mut bytes = b"\x08\x07\x12\x05torch\x3a".to_vec();
    bytes.push(graph.len() as u8);
    bytes.extend(graph);
    bytes.extend(b"\x72\x08\x0a\x01k\x12\x03val");
    bytes
}

const TENSORS: &[(&str, &str, &[i32])] = &[("w", "FloatStorage", &[4, 4]), ("b", "HalfStorage", &[4])];

fn samples() -> Vec<Vec<u8>> {
    vec![
        whole_safetensors(),
        whole_gguf(),
        whole_onnx(),
        torch_zip(TENSORS),
        legacy(&state_dict(TENSORS), &[("0", 64), ("1", 8)]),
        state_dict(TENSORS),
    ]
}

#[test]
fn the_samples_are_whole() {
    for (bytes, tensor_count) in samples().iter().zip([2, 1, 1, 2, 2, 2]) {
        let header = read_header(bytes.as_slice()).expect("whole");
        check(&header);
        assert_eq!(header.tensors.len(), tensor_count, "{:?}", header.format);
    }
}

#[test]
fn texts_and_records_that_lie() {
    let deep = format!("{{\"a\":{}", "{\"b\":".repeat(100_000));
    let deep_metadata = format!("{{\"__metadata__\":{{\"a\":{}", "[".repeat(100_000));
    let entry = |begin: u64, end: u64| format!(r#"{{"dtype":"U8","shape":[2],"data_offsets":[{begin},{end}]}}"#);
    let pair = |one: String, two: String| safetensors(&format!(r#"{{"a":{one},"b":{two}}}"#), 4);
    let overflow = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,16],"data_offsets":[0,4]}}"#;
    let ranks = format!(r#"{{"a":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(1_000));
    let mut bad_text = safetensors(r#"{"a__":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, 2);
    bad_text[11] = 0xff;
    let nested = [&b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"[..], &gguf_text("k"), b"\x09\0\0\0"].concat();
    let nested = [nested, b"\x09\0\0\0\x01\0\0\0\0\0\0\0".repeat(100)].concat();
    assert_outcomes(vec![
        ("deep JSON", safetensors(&deep, 0), Malformed),
        ("deep JSON in the metadata", safetensors(&deep_metadata, 0), Malformed),
        ("overlapping tensors", pair(entry(0, 2), entry(1, 3)), Malformed),
        ("a hole between tensors", pair(entry(0, 2), entry(3, 5)), Malformed),
        ("a tensor that ends before it begins", pair(entry(2, 0), entry(2, 4)), Malformed),
        ("two tensors of one name", safetensors(&format!(r#"{{"a":{0},"a":{0}}}"#, entry(0, 0)), 0), Malformed),
        ("a shape that overflows", safetensors(overflow, 4), Malformed),
        ("a thousand dimensions", safetensors(&ranks, 1), Malformed),
        ("a name that is not UTF-8", bad_text, Malformed),
        ("arrays in arrays", nested, OverLimit),
        ("two initializers of one name", onnx(2), Malformed),
    ]);
    let bomb = {
        let mut encoder = flate2::write::ZlibEncoder::new(b"MFH\x01".to_vec(), flate2::Compression::fast());
        io::copy(&mut io::repeat(0).take(2 * FACTS_BYTES_MAX as u64 + 1), &mut encoder).expect("in memory");
        encoder.finish().expect("in memory")
    };
    assert!(matches!(decode_header(&bomb), Err(FormatError::OverLimit { .. })));
    for record in [&b""[..], b"MFH", b"MFH\x02", b"MFH\x01\x78\x9c", b"xyz\x01"] {
        assert!(matches!(decode_header(record), Err(FormatError::Malformed { .. })), "{record:?}");
    }
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    /// Numbers at the edges of their widths, where lengths are kept.
    Number(Index, u64),
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let numbers = prop::sample::select(vec![0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX]);
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        3 => (any::<Index>(), numbers).prop_map(|(at, number)| Change::Number(at, number)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), 1..16usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => *at.get_mut(bytes) = *byte,
        Change::Number(at, number) => {
            let start = at.index(bytes.len());
            bytes[start..].iter_mut().zip(number.to_le_bytes()).for_each(|(target, byte)| *target = byte);
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Remove(at, count) => {
            let start = at.index(bytes.len());
            bytes.drain(start..bytes.len().min(start + count));
        }
        Change::Insert(at, more) => {
            let start = at.index(bytes.len());
            bytes.splice(start..start, more.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn changed_files_are_read_or_refused(which in any::<Index>(), changes in prop::collection::vec(change(), 1..6)) {
        let mut bytes = which.get(&samples()).clone();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        outcome(bytes.as_slice());
    }

    #[test]
    fn changed_records_are_read_or_refused(which in any::<Index>(), changes in prop::collection::vec(change(), 1..6)) {
        let header = read_header(which.get(&samples()).as_slice()).expect("whole");
        let mut record = encode_header(&header);
        changes.iter().for_each(|change| apply(&mut record, change));
        if let Ok(header) = decode_header(&record) {
            prop_assert!(header.tensors.len() <= record.len() * 1_032);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(start in any::<Index>(), rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let starts: &[&[u8]] = &[
            b"", b"GGUF", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"(d", b"cos\n", b"\x08\x07\x12",
            b"\x40\0\0\0\0\0\0\0{\"", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
        ];
        let bytes = [*start.get(starts), &rest].concat();
        outcome(bytes.as_slice());
    }

    /// Only opcodes, so that what they make is reached.
    #[test]
    fn any_opcodes_are_read_or_refused(opcodes in prop::collection::vec(prop::sample::select(OPCODES.to_vec()), 0..200)) {
        outcome(pickle(&opcodes.concat()).as_slice());
    }
}

const OPCODES: &[&[u8]] = &[
    b"N",
    b"(",
    b"(",
    b"t",
    b"]",
    b"}",
    b"l",
    b"d",
    b"a",
    b"e",
    b"s",
    b"u",
    b"0",
    b"1",
    b"2",
    b")",
    b"\x85",
    b"\x86",
    b"\x87",
    b"q\0",
    b"q\x01",
    b"h\0",
    b"h\x01",
    b"\x94",
    b"K\x01",
    b"K\x02",
    b"X\x01\0\0\0w",
    b"X\x07\0\0\0storage",
    b"R",
    b"Q",
    b"b",
    b"\x81",
    b"\x92",
    b"\x93",
    b"o",
    b"\x8f",
    b"\x90",
    b"\x91",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nfloat16\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch\nSize\n",
    b"c__torch__.a\nB\n",
    b"X\x08\0\0\0_modules",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy\ndtype\n",
    b"icm\nC\n",
];
