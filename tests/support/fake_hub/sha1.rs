//! SHA-1, only to name small files as git does. Not for anything that must be safe.

pub struct Sha1 {
    state: [u32; 5],
    pending: Vec<u8>,
    length_bytes: u64,
}

const BLOCK_BYTES: usize = 64;

impl Sha1 {
    pub fn new() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Self { state, pending: Vec::new(), length_bytes: 0 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.length_bytes += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / BLOCK_BYTES * BLOCK_BYTES;
        for block in self.pending[..whole].chunks_exact(BLOCK_BYTES) {
            self.state = mix(self.state, block);
        }
        self.pending.drain(..whole);
    }

    pub fn finish(mut self) -> [u8; 20] {
        let length_bits = self.length_bytes * 8;
        let mut tail = vec![0x80];
        tail.resize(1 + (2 * BLOCK_BYTES - 9 - self.pending.len()) % BLOCK_BYTES, 0);
        tail.extend_from_slice(&length_bits.to_be_bytes());
        self.update(&tail);
        let mut digest = [0; 20];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

fn mix(state: [u32; 5], block: &[u8]) -> [u32; 5] {
    let mut words = [0u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    }
    for at in 16..80 {
        words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = state;
    for (round, word) in words.into_iter().enumerate() {
        let (function, constant) = match round {
            0..20 => (b & c | !b & d, 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next = a.rotate_left(5).wrapping_add(function).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    [
        state[0].wrapping_add(a),
        state[1].wrapping_add(b),
        state[2].wrapping_add(c),
        state[3].wrapping_add(d),
        state[4].wrapping_add(e),
    ]
}
