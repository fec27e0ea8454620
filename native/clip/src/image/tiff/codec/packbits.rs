//! PackBits: runs of bytes.

use super::short;
use crate::budget::Budget;
use crate::error::Result;

pub(super) fn decode(chunk: &[u8], out: &mut [u8], budget: &Budget<'_>) -> Result<()> {
    let mut rest = chunk;
    let mut at = 0;
    while at < out.len() {
        let (begun, length) = (at, rest.len());
        let (&[code], after) = rest.split_first_chunk().ok_or_else(short)?;
        let room = out.len() - at;
        match code as i8 {
            // Nothing.
            i8::MIN => rest = after,
            repeats @ ..0 => {
                let count = room.min(1 + usize::from(repeats.unsigned_abs()));
                let (&[byte], after) = after.split_first_chunk().ok_or_else(short)?;
                out[at..at + count].fill(byte);
                (at, rest) = (at + count, after);
            }
            literal => {
                let count = room.min(1 + literal as usize);
                let (bytes, after) = after.split_at_checked(count).ok_or_else(short)?;
                out[at..at + count].copy_from_slice(bytes);
                (at, rest) = (at + count, after);
            }
        }
        budget.work(at - begun + length - rest.len())?;
    }
    Ok(())
}
