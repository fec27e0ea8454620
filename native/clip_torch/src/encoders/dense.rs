//! Prompts as rows of one length, for text towers that attend to padding: nothing of a prompt can be
//! left out, and nothing shared with another one.

use tch::Device;

use crate::encoders::encoder::{TextPass, shares};
use crate::error::Result;
use crate::tensor::from_rows;

/// Prompts of a pass, of 64 tokens each in most models. More are not faster on a CPU, and memory grows
/// with them.
const MAX_PROMPTS_CPU: usize = 16;
/// Prompts for each thread, at least: with fewer, they work on each pass together, as one of them would wait long.
const MIN_PROMPTS_THREAD: usize = 4;
/// Prompts of a pass on a GPU.
const MAX_PROMPTS_GPU: usize = 128;

/// Rows of token ids, all of one length, as our text tower takes them: as many for each thread, if
/// there are enough.
pub(crate) fn passes(rows: &[Vec<u32>], device: Device, threads: usize) -> Result<Vec<TextPass>> {
    let number = if device.is_cuda() {
        rows.len().div_ceil(MAX_PROMPTS_GPU)
    } else if rows.len() < threads * MIN_PROMPTS_THREAD {
        rows.len().div_ceil(MAX_PROMPTS_CPU)
    } else {
        threads * rows.len().div_ceil(threads * MAX_PROMPTS_CPU)
    };
    let mut next = 0;
    let pass = |prompts: usize| {
        let numbers: Vec<usize> = (next..next + prompts).collect();
        next += prompts;
        let ids: Vec<&[u32]> = numbers.iter().map(|row| rows[*row].as_slice()).collect();
        Ok(TextPass { inputs: vec![from_rows(&ids)?], rows: numbers })
    };
    shares(rows.len(), number).into_iter().map(pass).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_row_is_in_one_pass_and_every_thread_has_one() {
        for (prompts, threads, sizes) in [
            (0, 2, &[][..]),
            (1, 2, &[1]),
            (7, 2, &[7]),
            (9, 2, &[5, 4]),
            (33, 2, &[9, 8, 8, 8]),
            (17, 1, &[9, 8]),
        ] {
            let rows: Vec<Vec<u32>> = (0..prompts).map(|row| vec![row, 7]).collect();
            let passes = passes(&rows, Device::Cpu, threads).unwrap();
            let taken: Vec<usize> = passes.iter().map(|pass| pass.rows.len()).collect();
            assert_eq!(taken, sizes);
            let all: Vec<usize> = passes.iter().flat_map(|pass| pass.rows.clone()).collect();
            assert!(all.into_iter().eq(0..prompts as usize));
            for pass in passes {
                let ids = Vec::<Vec<i64>>::try_from(&pass.inputs[0]).unwrap();
                assert!(pass.rows.iter().zip(ids).all(|(row, ids)| ids == [*row as i64, 7]));
            }
        }
    }
}
