//! Deflate with the header and checksum of zlib.

use fdeflate::{DecompressionError, Decompressor};

use super::super::damaged;
use super::{PIECE, short};
use crate::budget::Budget;
use crate::error::Result;

pub(super) fn decode(mut chunk: &[u8], out: &mut [u8], budget: &Budget<'_>) -> Result<()> {
    let mut decoder = Decompressor::new();
    let mut at = 0;
    // Past the last pixel for the checksum, unless more pixels follow.
    while !decoder.is_done() {
        let (input, room) = (chunk.len().min(PIECE), out.len().min(at + PIECE));
        let whole = input == chunk.len();
        let (consumed, produced) = match decoder.read(&chunk[..input], &mut out[..room], at, whole)
        {
            Err(error) => return failed(&error, at == out.len()),
            Ok(counts) => counts,
        };
        chunk = &chunk[consumed..];
        at += produced;
        budget.work(consumed + produced)?;
        if consumed + produced == 0 {
            break;
        }
    }
    if at == out.len() { Ok(()) } else { Err(short()) }
}

/// With all pixels there, only a checksum that contradicts them counts.
fn failed(error: &DecompressionError, complete: bool) -> Result<()> {
    match error {
        DecompressionError::WrongChecksum => Err(damaged("the checksum of its pixels is wrong")),
        _ if complete => Ok(()),
        DecompressionError::InsufficientInput => Err(short()),
        _ => Err(damaged(&format!("its Deflate coding is broken ({error:?})"))),
    }
}
