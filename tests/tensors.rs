//! Whole tensors guide the order of fetching, once the header is here; probes stay exact.

mod support;

use modelfs::fetch::Activity;
use support::downloading::{
    MIB, NEVER, PATH, Process, Setting, check_resident, folder, hub_with, wait_for, wait_until, wanted,
};
use support::fake_hub::{Content, Origin};

/// Sizes of the tensors, in MiB; the last one makes the rest of the file long.
const TENSORS_MIB: [u64; 4] = [8, 20, 30, 70];
/// The first tensor begins a little behind the header.
const HEADER_BYTES: u64 = 5000;

fn tensor_start(index: usize) -> u64 {
    HEADER_BYTES + TENSORS_MIB[..index].iter().sum::<u64>() * MIB
}

fn safetensors() -> Content {
    let tensors = TENSORS_MIB.iter().enumerate().map(|(index, mib)| {
        let start = tensor_start(index) - HEADER_BYTES;
        let end = start + mib * MIB;
        format!("\"t{index}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}", mib * MIB)
    });
    let json = format!("{{{}}}", tensors.collect::<Vec<String>>().join(","));
    let mut head = (HEADER_BYTES - 8).to_le_bytes().to_vec();
    head.extend_from_slice(json.as_bytes());
    // JSON may end in spaces.
    head.resize(usize::try_from(HEADER_BYTES).expect("small"), b' ');
    Content::joined(head, &Content::generated(1, TENSORS_MIB.iter().sum::<u64>() * MIB))
}

/// The same in GGUF.
fn gguf() -> Content {
    let mut head = b"GGUF".to_vec();
    head.extend_from_slice(&3u32.to_le_bytes());
    head.extend_from_slice(&(TENSORS_MIB.len() as u64).to_le_bytes());
    head.extend_from_slice(&0u64.to_le_bytes());
    for (index, mib) in TENSORS_MIB.iter().enumerate() {
        let name = format!("t{index}");
        head.extend_from_slice(&(name.len() as u64).to_le_bytes());
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&1u32.to_le_bytes());
        head.extend_from_slice(&(mib * MIB).to_le_bytes());
        // 8-bit numbers.
        head.extend_from_slice(&24u32.to_le_bytes());
        head.extend_from_slice(&(tensor_start(index) - HEADER_BYTES).to_le_bytes());
    }
    head.resize(head.len().next_multiple_of(32), 0);
    Content::joined(head, &Content::generated(2, TENSORS_MIB.iter().sum::<u64>() * MIB))
}

/// Chunks that a range touches.
fn chunks(start: u64, end: u64) -> u64 {
    end.div_ceil(MIB) - start / MIB
}

#[test]
fn a_tensor_that_is_read_comes_whole_and_before_the_rest_and_a_probe_is_exact() {
    for content in [safetensors(), gguf()] {
        let (hub, store) = (hub_with(&content), folder());
        let process = Process::start(&hub, &store, Setting { promote_after_bytes: NEVER, ..Setting::default() });
        let file = process.open(&wanted(&content));
        process.read(&file, 0, 4096).expect("the header");
        let present = || file.progress().bytes_present / MIB;
        // Two reads in order are no probe: the rest of this tensor is fetched, and nothing beyond.
        let first = tensor_start(0);
        process.read(&file, first, MIB).expect("of the first tensor");
        process.read(&file, first + MIB, MIB).expect("of the first tensor");
        let of_first = chunks(0, tensor_start(1));
        wait_until("the rest of the tensor", || present() >= of_first);
        wait_for(&file, Activity::Idle);
        assert_eq!(present(), of_first);

        let probed = tensor_start(2) + 10 * MIB + MIB / 2;
        process.read(&file, probed, 4096).expect("a probe");
        wait_for(&file, Activity::Idle);
        assert_eq!(present(), of_first + 1, "a far seek is exact");
        assert_eq!(hub.cdn_bytes_sent(PATH), (of_first + 1) * MIB);

        hub.forget_requests();
        file.fetch_all();
        wait_for(&file, Activity::Done);
        check_resident(&store, &content);
        assert_eq!(hub.cdn_bytes_sent(PATH), content.size_bytes() - (of_first + 1) * MIB, "no byte twice");
        let requests = hub.requests();
        let ranges = requests.iter().filter(|request| request.origin == Origin::Cdn);
        let starts: Vec<u64> = ranges
            .map(|request| {
                let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
                range.and_then(|range| range.split('-').next()?.parse().ok()).expect("a range")
            })
            .collect();
        // The rest of the tensor has three pieces of at most 8 MiB, and four requests are made at once.
        let within = |start: &&u64| (probed / MIB * MIB..tensor_start(3)).contains(*start);
        assert_eq!(starts.iter().take(4).filter(within).count(), 3, "{starts:?}");
    }
}
