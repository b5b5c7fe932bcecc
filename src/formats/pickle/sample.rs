//! Writes pickles and torch files for tests, opcode by opcode, as torch does.

use crate::formats::archive;

/// The bytes of a pickle under construction.
#[derive(Clone, Default)]
pub(in crate::formats) struct Writer {
    pub(in crate::formats) bytes: Vec<u8>,
}

impl Writer {
    pub(in crate::formats) fn new() -> Self {
        Self { bytes: vec![0x80, 2] }
    }

    pub(in crate::formats) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(in crate::formats) fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub(in crate::formats) fn int(self, number: i32) -> Self {
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    pub(in crate::formats) fn global(self, module: &str, name: &str) -> Self {
        self.raw(b"c").raw(module.as_bytes()).raw(b"\n").raw(name.as_bytes()).raw(b"\n")
    }

    pub(in crate::formats) fn lengths(self, lengths: &[i32]) -> Self {
        lengths.iter().fold(self.raw(b"("), |writer, &length| writer.int(length)).raw(b"t")
    }

    pub(in crate::formats) fn storage(self, class: &str, key: &str, elements: i32) -> Self {
        let id = self.raw(b"(").text("storage").global("torch", class).text(key).text("cpu").int(elements);
        id.raw(b"tQ")
    }

    /// What `torch.save` writes for a dense tensor.
    pub(in crate::formats) fn tensor(self, class: &str, key: &str, shape: &[i32]) -> Self {
        let product = |lengths: &[i32]| lengths.iter().fold(1i32, |product, &length| product.wrapping_mul(length));
        let strides: Vec<i32> = (0..shape.len()).map(|axis| product(&shape[axis + 1..])).collect();
        let call = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(");
        let arguments = call.storage(class, key, product(shape)).int(0).lengths(shape).lengths(&strides);
        arguments.raw(b"\x89").global("collections", "OrderedDict").raw(b")RtR")
    }

    pub(in crate::formats) fn stop(self) -> Vec<u8> {
        self.raw(b".").bytes
    }
}

/// A state dict of the given tensors, as an `OrderedDict`.
pub(in crate::formats) fn state_dict(tensors: &[(&str, &str, &[i32])]) -> Vec<u8> {
    let mut writer = Writer::new().global("collections", "OrderedDict").raw(b")R(");
    for (number, (name, class, shape)) in tensors.iter().enumerate() {
        writer = writer.text(name).tensor(class, &number.to_string(), shape);
    }
    writer.raw(b"u").stop()
}

/// The stream of `torch.save` before 1.6: the object and its storages, each of `storage_bytes` bytes.
pub(in crate::formats) fn legacy(object: &[u8], storages: &[(&str, usize)]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    let system = Writer::new().raw(b"}(").text("protocol_version").int(1001).text("little_endian").raw(b"\x88");
    bytes.extend(system.text("type_sizes").raw(b"}u").stop());
    bytes.extend_from_slice(object);
    let keys = storages.iter().fold(Writer::new().raw(b"]("), |writer, (key, _)| writer.text(key));
    bytes.extend(keys.raw(b"e").stop());
    for (_, storage_bytes) in storages {
        bytes.extend_from_slice(&(*storage_bytes as u64).to_le_bytes());
        bytes.extend(std::iter::repeat_n(7, *storage_bytes));
    }
    bytes
}

/// A ZIP as torch writes it: members that are not packed.
pub(in crate::formats) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members: Vec<ZipMember<'_>> = members
        .iter()
        .map(|&(name, bytes)| ZipMember { name, bytes, method: 0, unpacked_bytes: bytes.len() })
        .collect();
    zip_of(&members)
}

pub(in crate::formats) struct ZipMember<'a> {
    pub(in crate::formats) name: &'a str,
    pub(in crate::formats) bytes: &'a [u8],
    pub(in crate::formats) method: u16,
    pub(in crate::formats) unpacked_bytes: usize,
}

/// A ZIP of members that are packed already.
pub(in crate::formats) fn zip_of(members: &[ZipMember<'_>]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let offset = bytes.len() as u32;
        // What the local header and the directory share: version to length of the name.
        let mut shared = vec![20, 0, 0, 0];
        shared.extend(member.method.to_le_bytes());
        shared.extend([0; 8]);
        shared.extend((member.bytes.len() as u32).to_le_bytes());
        shared.extend((member.unpacked_bytes as u32).to_le_bytes());
        shared.extend((member.name.len() as u16).to_le_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&shared);
        bytes.extend([0, 0]);
        bytes.extend(member.name.as_bytes());
        bytes.extend(member.bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&shared);
        directory.extend([0; 12]);
        directory.extend(offset.to_le_bytes());
        directory.extend(member.name.as_bytes());
    }
    let directory_offset = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((members.len() as u16).to_le_bytes());
    bytes.extend((members.len() as u16).to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(directory_offset.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A small whole torch file with one storage per tensor.
pub(in crate::formats) fn torch_zip(tensors: &[(&str, &str, &[i32])]) -> Vec<u8> {
    let pickle = state_dict(tensors);
    let data = vec![7; 64];
    let names: Vec<String> = (0..tensors.len()).map(|number| format!("archive/data/{number}")).collect();
    let mut members: Vec<(&str, &[u8])> = vec![("archive/data.pkl", &pickle), ("archive/byteorder", b"little")];
    members.extend(names.iter().map(|name| (name.as_str(), data.as_slice())));
    members.push(("archive/version", b"3\n"));
    let bytes = zip(&members);
    let mut count = 0;
    archive::entries(&bytes.as_slice(), |_| count += 1).expect("the sample is whole");
    assert_eq!(count, members.len());
    bytes
}
