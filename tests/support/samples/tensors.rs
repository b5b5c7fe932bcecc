//! Lists of tensors, written as text.
//!
//! One a line: `NAME [LENGTH,…] DTYPE`, the dtype as safetensors spells it, `F16` when it is left out. `{0..12}` in a
//! name stands for each number below 12, `{q,k}` for each word. Invariant: a text that cannot be read panics.

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    /// Outermost first, as torch prints it.
    pub shape: Vec<u64>,
}

impl Tensor {
    pub fn values(&self) -> u64 {
        self.shape.iter().product()
    }
}

pub fn parse(text: &str) -> Vec<Tensor> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(parse_line).collect()
}

fn parse_line(line: &str) -> Vec<Tensor> {
    let (name, rest) = line.split_once(" [").unwrap_or_else(|| panic!("no shape in `{line}`"));
    let (shape, dtype) = rest.split_once(']').unwrap_or_else(|| panic!("no end of the shape in `{line}`"));
    let lengths = shape.split(',').filter(|length| !length.is_empty());
    let shape: Vec<u64> = lengths
        .map(|length| length.trim().parse().unwrap_or_else(|_| panic!("`{length}` is no length in `{line}`")))
        .collect();
    let dtype = if dtype.trim().is_empty() { "F16" } else { dtype.trim() };
    let names = expand(name.trim());
    names.into_iter().map(|name| Tensor { name, dtype: dtype.to_owned(), shape: shape.clone() }).collect()
}

fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let (choice, after) = rest.split_once('}').unwrap_or_else(|| panic!("no `}}` in `{name}`"));
    let words: Vec<String> = match choice.split_once("..") {
        Some((first, end)) => {
            let number =
                |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("`{text}` is no number in `{name}`"));
            (number(first)..number(end)).map(|number| number.to_string()).collect()
        }
        None => choice.split(',').map(str::to_owned).collect(),
    };
    let tails = expand(after);
    words.iter().flat_map(|word| tails.iter().map(move |tail| format!("{before}{word}{tail}"))).collect()
}

/// The noise repeats after this: nobody looks for a pattern in weights, and a test should not wait for arithmetic.
const PAGE_BYTES: usize = 64 << 10;

/// `length` bytes that are the same every time for one `seed`, and others for another.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut state = seed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
        | 1;
    let mut bytes = Vec::with_capacity(length.max(PAGE_BYTES) + 8);
    while bytes.len() < length.min(PAGE_BYTES) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    while bytes.len() < length {
        let more = (length - bytes.len()).min(bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes.truncate(length);
    bytes
}
