//! Writes what `torch.save` writes: a ZIP of stored entries around a pickle of protocol 2.
//!
//! Not through a ZIP library: readers use one, and a reader must not be tested against itself.

use super::tensors::{Tensor, noise};
use std::collections::BTreeMap;

/// Folder inside the archive.
const ROOT: &str = "archive";
/// Every entry's data start at a multiple of this.
const ALIGNMENT: usize = 64;

/// A Python object.
pub enum Object {
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Object>),
    Pair(Box<(Object, Object)>),
    Dict(Vec<(Object, Object)>),
    OrderedDict(Vec<(Object, Object)>),
    Tensor(Tensor),
    /// An object of a class outside of torch's tensors.
    Instance {
        class: (&'static str, &'static str),
        state: Box<Object>,
    },
}

impl Object {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A state dict: names to tensors.
    pub fn state(tensors: Vec<Tensor>) -> Self {
        let pair = |tensor: Tensor| (Self::Text(tensor.name.clone()), Self::Tensor(tensor));
        Self::OrderedDict(tensors.into_iter().map(pair).collect())
    }
}

/// The bytes of a file that holds `object`.
pub fn bytes(seed: &str, object: &Object) -> Vec<u8> {
    archive(object, |archive, storages| {
        for (key, length) in storages {
            archive.add(&format!("data/{key}"), &noise(&format!("{seed}/{key}"), length));
        }
    })
}

/// The same without the storages, for whoever reads only what the pickle says.
pub fn without_weights(object: &Object) -> Vec<u8> {
    archive(object, |_, _| {})
}

fn archive(object: &Object, add_storages: impl FnOnce(&mut Archive, BTreeMap<usize, usize>)) -> Vec<u8> {
    let mut pickler = Pickler { pickle: vec![0x80, 2], storages: BTreeMap::new() };
    pickler.write(object);
    pickler.pickle.push(b'.');
    let mut archive = Archive::default();
    archive.add("data.pkl", &pickler.pickle);
    archive.add(".format_version", b"1");
    archive.add("byteorder", b"little");
    add_storages(&mut archive, pickler.storages);
    archive.add("version", b"3\n");
    archive.add(".data/serialization_id", b"0000000000000000000000000000000000000000");
    archive.finish()
}

struct Pickler {
    pickle: Vec<u8>,
    /// Lengths in bytes by key.
    storages: BTreeMap<usize, usize>,
}

impl Pickler {
    fn write(&mut self, object: &Object) {
        match object {
            Object::None => self.pickle.push(b'N'),
            Object::Bool(value) => self.pickle.push(if *value { 0x88 } else { 0x89 }),
            Object::Int(value) => self.int(*value),
            Object::Text(text) => self.text(text),
            Object::List(items) => {
                self.pickle.extend_from_slice(b"](");
                items.iter().for_each(|item| self.write(item));
                self.pickle.push(b'e');
            }
            Object::Pair(pair) => {
                self.write(&pair.0);
                self.write(&pair.1);
                self.pickle.push(0x86);
            }
            Object::Dict(entries) => {
                self.pickle.push(b'}');
                self.entries(entries);
            }
            Object::OrderedDict(entries) => {
                self.global("collections", "OrderedDict");
                self.pickle.extend_from_slice(b")R");
                self.entries(entries);
            }
            Object::Tensor(tensor) => self.tensor(tensor),
            Object::Instance { class, state } => {
                self.global(class.0, class.1);
                self.pickle.extend_from_slice(b")\x81");
                self.write(state);
                self.pickle.push(b'b');
            }
        }
    }

    fn entries(&mut self, entries: &[(Object, Object)]) {
        self.pickle.push(b'(');
        for (key, value) in entries {
            self.write(key);
            self.write(value);
        }
        self.pickle.push(b'u');
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, tensor: &Tensor) {
        let (storage, value_bytes) = match tensor.dtype.as_str() {
            "F16" => ("HalfStorage", 2),
            "BF16" => ("BFloat16Storage", 2),
            "F32" => ("FloatStorage", 4),
            "I64" => ("LongStorage", 8),
            "U8" => ("ByteStorage", 1),
            dtype => panic!("`{dtype}` is no dtype that torch samples use"),
        };
        let values = tensor.values();
        let key = self.storages.len();
        self.storages.insert(key, usize::try_from(values * value_bytes).expect("a small file"));
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.pickle.extend_from_slice(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&key.to_string());
        self.text("cpu");
        self.int(i64::try_from(values).expect("a small file"));
        self.pickle.extend_from_slice(b"tQ");
        self.int(0);
        self.tuple(&tensor.shape);
        let mut strides = vec![1; tensor.shape.len()];
        for at in (1..strides.len()).rev() {
            strides[at - 1] = strides[at] * tensor.shape[at];
        }
        self.tuple(&strides);
        self.pickle.push(0x89);
        self.global("collections", "OrderedDict");
        self.pickle.extend_from_slice(b")RtR");
    }

    fn tuple(&mut self, numbers: &[u64]) {
        self.pickle.push(b'(');
        numbers.iter().for_each(|number| self.int(i64::try_from(*number).expect("a length")));
        self.pickle.push(b't');
    }

    fn int(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(value) => {
                self.pickle.push(b'J');
                self.pickle.extend_from_slice(&value.to_le_bytes());
            }
            Err(_) => {
                self.pickle.extend_from_slice(&[0x8a, 8]);
                self.pickle.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend_from_slice(&u32::try_from(text.len()).expect("a short text").to_le_bytes());
        self.pickle.extend_from_slice(text.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.pickle.extend_from_slice(format!("c{module}\n{name}\n").as_bytes());
    }
}

/// A ZIP without compression, padded by an extra field as torch does.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Archive {
    fn add(&mut self, name: &str, data: &[u8]) {
        let name = format!("{ROOT}/{name}");
        let size = u32::try_from(data.len()).expect("under 4 GiB");
        let offset = u32::try_from(self.bytes.len()).expect("under 4 GiB");
        // Version, flags, method, time and date of 1980-01-01, then hash and sizes: the same in both places.
        let mut shared = Vec::new();
        for word in [20u16, 0, 0, 0, 0x21] {
            shared.extend_from_slice(&word.to_le_bytes());
        }
        for word in [crc32fast::hash(data), size, size] {
            shared.extend_from_slice(&word.to_le_bytes());
        }
        shared.extend_from_slice(&u16::try_from(name.len()).expect("a short name").to_le_bytes());

        self.bytes.extend_from_slice(b"PK\x03\x04");
        self.bytes.extend_from_slice(&shared);
        let data_start = self.bytes.len() + 2 + name.len();
        let padding = (data_start + 4).next_multiple_of(ALIGNMENT) - data_start - 4;
        self.bytes.extend_from_slice(&u16::try_from(4 + padding).expect("under 100").to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"FB");
        self.bytes.extend_from_slice(&u16::try_from(padding).expect("under 100").to_le_bytes());
        self.bytes.resize(self.bytes.len() + padding, b'Z');
        self.bytes.extend_from_slice(data);

        self.directory.extend_from_slice(b"PK\x01\x02\0\0");
        self.directory.extend_from_slice(&shared);
        // No extra field, comment, disk number or attributes.
        self.directory.extend_from_slice(&[0; 12]);
        self.directory.extend_from_slice(&offset.to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        self.entries += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let start = u32::try_from(self.bytes.len()).expect("under 4 GiB");
        let length = u32::try_from(self.directory.len()).expect("under 4 GiB");
        self.bytes.append(&mut self.directory);
        self.bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend_from_slice(&self.entries.to_le_bytes());
        self.bytes.extend_from_slice(&self.entries.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&start.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
    }
}
