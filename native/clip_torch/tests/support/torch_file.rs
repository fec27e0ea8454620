//! Files as `torch.save` writes them, and as it never would.

#![allow(dead_code)]

/// An entry of a zip archive.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// What the table says of its size and place, if not the truth.
    pub(crate) claimed_size: Option<u32>,
    pub(crate) claimed_start: Option<u32>,
}

impl Entry {
    pub(crate) fn new(name: &str, content: impl Into<Vec<u8>>) -> Self {
        let (name, content) = (name.to_owned(), content.into());
        Self { name, content, method: 0, flags: 0, claimed_size: None, claimed_start: None }
    }
}

/// A zip archive of stored entries.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut table) = (Vec::new(), Vec::new());
    for entry in entries {
        let (start, name) = (out.len() as u32, entry.name.as_bytes());
        let size = entry.claimed_size.unwrap_or(entry.content.len() as u32);
        let mut fields = Vec::new();
        for field in [0, entry.flags, entry.method, 0, 0] {
            fields.extend(u16::to_le_bytes(field));
        }
        for field in [0, size, size] {
            fields.extend(u32::to_le_bytes(field));
        }
        fields.extend(u16::to_le_bytes(name.len() as u16));
        fields.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend(name);
        out.extend(&entry.content);
        table.extend(b"PK\x01\x02\0\0");
        table.extend(&fields);
        table.extend([0; 10]);
        table.extend(u32::to_le_bytes(entry.claimed_start.unwrap_or(start)));
        table.extend(name);
    }
    let start = out.len() as u32;
    out.extend(&table);
    out.extend(end(entries.len() as u16, table.len() as u32, start));
    out
}

/// The record at the end of an archive.
pub(crate) fn end(count: u16, size: u32, start: u32) -> Vec<u8> {
    let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
    record.extend(count.to_le_bytes().repeat(2));
    record.extend(size.to_le_bytes());
    record.extend(start.to_le_bytes());
    record.extend([0, 0]);
    record
}

/// An archive of `torch.save` with this pickle and these storages.
pub(crate) fn archive(pickle: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries =
        vec![Entry::new("archive/data.pkl", pickle), Entry::new("archive/byteorder", "little")];
    for (key, bytes) in storages {
        entries.push(Entry::new(&format!("archive/data/{key}"), bytes.clone()));
    }
    zip(&entries)
}

/// A tensor as a pickle describes it.
#[derive(Clone)]
pub(crate) struct Described {
    pub(crate) storage_type: &'static str,
    pub(crate) key: String,
    pub(crate) count: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

/// A pickle of a dictionary with one tensor.
pub(crate) fn pickle(name: &str, tensor: &Described) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    out.extend(text(name));
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    out.extend(text("storage"));
    out.extend(format!("ctorch\n{}\n", tensor.storage_type).into_bytes());
    out.extend(text(&tensor.key));
    out.extend(text("cpu"));
    out.extend(int(tensor.count));
    out.extend(b"tQ");
    out.extend(int(tensor.offset));
    for sizes in [&tensor.shape, &tensor.strides] {
        out.push(b'(');
        out.extend(sizes.iter().flat_map(|size| int(*size)));
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtRu.");
    out
}

/// The instruction for a text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut out = vec![b'X'];
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

/// The instruction for a number.
pub(crate) fn int(number: i64) -> Vec<u8> {
    let mut out = vec![0x8a, 8];
    out.extend(number.to_le_bytes());
    out
}
