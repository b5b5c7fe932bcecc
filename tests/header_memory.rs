//! How much memory reading a header takes at its worst, measured at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use modelfs::formats::{FormatError, Header, read_header};

/// What `formats` promises.
const PEAK_BYTES_MAX: usize = 64 << 20;

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The outcome, and the most bytes that were in use beyond the file itself.
fn measure(bytes: &[u8]) -> (Result<Header, FormatError>, usize) {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let outcome = read_header(bytes);
    (outcome, PEAK.load(Ordering::Relaxed) - before)
}

fn pickle(opcodes: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02", opcodes.concat().as_slice(), b"."].concat()
}

/// A state dict in the words of `torch.save`; every value is remembered, as torch does it.
fn state_dict(tensors: u32) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut places = 0u32;
    let mut remember = |bytes: &mut Vec<u8>| {
        bytes.push(b'r');
        bytes.extend(places.to_le_bytes());
        places += 1;
    };
    for number in 0..tensors {
        bytes.extend(text(&format!("model.diffusion_model.blocks.{number}.attention.to_k.weight")));
        remember(&mut bytes);
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        bytes.extend(text("storage"));
        bytes.extend(b"ctorch\nHalfStorage\n");
        bytes.extend(text(&number.to_string()));
        remember(&mut bytes);
        bytes.extend(text("cpu"));
        bytes.extend(b"J\0\0\x10\0t");
        remember(&mut bytes);
        bytes.extend(b"QK\0M\0\x04M\0\x04\x86");
        remember(&mut bytes);
        bytes.extend(b"M\0\x04K\x01\x86");
        remember(&mut bytes);
        bytes.extend(b"\x89ccollections\nOrderedDict\n)R");
        remember(&mut bytes);
        bytes.push(b't');
        remember(&mut bytes);
        bytes.push(b'R');
        remember(&mut bytes);
    }
    bytes.extend(b"u.");
    bytes
}

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let wide: Vec<u8> = (0..200_000u32).flat_map(|key| [b"J", &key.to_le_bytes()[..], b"]"].concat()).collect();
    let remembered: Vec<u8> = (0..1_000_000u32).flat_map(|at| [b"r", &at.to_le_bytes()[..]].concat()).collect();
    let texts = [b"X\0\x10\0\0", &[b'a'; 4096][..], b"0"].concat().repeat(10_000);
    let dict = b"ccollections\nOrderedDict\nq\x000](";
    let copies = [&dict[..], b"K\x01K\x02\x86q\x02", &b"h\x02".repeat(200_000), b"e\x85q\x010"].concat();
    let entry = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    let json: String = (0..200_000).map(|n| format!(",\"{n:060}\":{entry}")).collect();
    let json = format!("{{{}}}", &json[1..]);
    let values: String = (0..300).map(|n| format!(",\"{n}\":\"{}\"", "v".repeat(80_000))).collect();
    let values = format!("{{\"__metadata__\":{{{}}}}}", &values[1..]);
    let sized = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    vec![
        ("values that are remembered", pickle(&[b"N", &remembered, b"](", &wide, b"e"])),
        ("tuples in tuples", pickle(&[b"N", &b"\x85".repeat(1_000_000)])),
        ("long texts", pickle(&[&texts, b"N"])),
        ("a dict copied again and again", pickle(&[&copies, &b"h\0h\x01R0".repeat(100), b"N"])),
        ("the stack full of lists", pickle(&[&b"]".repeat(260_000), b"N"])),
        ("many tensors in JSON", sized(&json)),
        ("many values in JSON", sized(&values)),
    ]
}

#[test]
fn a_header_never_takes_more_than_64_mib() {
    for (what, bytes) in hostile() {
        let (_, peak_bytes) = measure(&bytes);
        assert!(peak_bytes <= PEAK_BYTES_MAX, "{what}: {peak_bytes} bytes");
    }
    let real = state_dict(20_000);
    let (outcome, peak_bytes) = measure(&real);
    assert_eq!(outcome.expect("more tensors than any model has").tensors.len(), 20_000);
    assert!(peak_bytes <= PEAK_BYTES_MAX, "a large model: {peak_bytes} bytes");
}
