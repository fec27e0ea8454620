//! The header of a safetensors file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use clip::checkpoint::json;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use tch::Kind;

use super::{Stored, Wrong};

/// Largest header that is read. Real ones take some 50 KB.
const MAX_HEADER: u64 = 10 * 1024 * 1024;

/// Reads the header and checks it: sizes, offsets, and that they cover the whole file.
pub(super) fn tensors(file: &mut File, number: usize) -> Result<HashMap<String, Stored>, Wrong> {
    let length = file.metadata()?.len();
    let header = read_header(file, length)?;
    json::check_depth(&header).map_err(|why| format!("in its header, {why}"))?;
    // Checks gaps, overlaps and overflow too.
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| {
        let culprit = culprit(&header).map(|name| format!(" (tensor {name:?})"));
        format!("its header is wrong: {e}{}", culprit.unwrap_or_default())
    })?;
    let data_start = header.len() as u64 + 8;
    let expected = data_start + metadata.data_len() as u64;
    if expected != length {
        Err(format!("expected {expected} bytes, found {length}: is it cut short?"))?;
    }
    let stored = metadata.tensors().into_iter().map(|(name, info)| {
        let shape = info.shape.iter().map(|side| *side as i64).collect();
        let start = data_start + info.data_offsets.0 as u64;
        (name, Stored { file: number, start, kind: kind(info.dtype), shape, strides: None })
    });
    Ok(stored.collect())
}

fn kind(dtype: Dtype) -> Result<Kind, String> {
    match dtype {
        Dtype::F32 => Ok(Kind::Float),
        Dtype::F16 => Ok(Kind::Half),
        Dtype::BF16 => Ok(Kind::BFloat16),
        Dtype::F64 => Ok(Kind::Double),
        other => Err(format!("{other:?}")),
    }
}

/// The JSON after the length prefix, no more than a sound file can have.
fn read_header(file: &mut File, length: u64) -> Result<Vec<u8>, Wrong> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)
        .map_err(|_| format!("it has {length} bytes, too few for a safetensors header"))?;
    if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"\x80\x02") {
        let what = "it is a pickle of PyTorch by the name of a safetensors file";
        return Err(Wrong::Content(format!("{what}; pytorch_model.bin is read with care")));
    }
    let size = u64::from_le_bytes(prefix);
    if size > MAX_HEADER.min(length.saturating_sub(8)) {
        Err(format!("its safetensors header claims {size} bytes of {length}"))?;
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header)?;
    Ok(header)
}

/// The tensor whose entry contradicts itself: the crate's own message does not always name it.
fn culprit(header: &[u8]) -> Option<String> {
    let entries: HashMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let contradictory = |info: TensorInfo| {
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, side| n.checked_mul(*side));
        let (start, end) = info.data_offsets;
        bits.zip(end.checked_sub(start)).is_none_or(|(bits, bytes)| bits / 8 != bytes)
    };
    let mut wrong = entries.into_iter().filter(|(name, entry)| {
        name != "__metadata__"
            && serde_json::from_value::<TensorInfo>(entry.clone()).map_or(true, contradictory)
    });
    wrong.next().map(|(name, _)| name)
}
