//! The processor time of one thread that compares 100,000 rows of 512 numbers with 1 and with 64 queries, beside that
//! of reading the rows once, by each set of instructions. Others on the machine change little about it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use clip::search::{F16x16, F32x16, I8x64, Instructions, Row, U8x64};
use rustix::time::{ClockId, clock_gettime};

const ROWS: usize = 100_000;
const BLOCK: usize = 512;

fn main() {
    println!("| rows | instructions | queries | ms | ms to read | ratio |");
    println!("| --- | --- | --- | --- | --- | --- |");
    scan("f32", F32x16([0.04; 16]), F32x16([0.04; 16]), 32);
    scan("f16", F16x16([0x2900; 16]), F32x16([0.04; 16]), 32);
    scan("i8", U8x64([140; 64]), I8x64([12; 64]), 8);
}

fn scan<R: Row + Copy>(name: &str, row: R, query: R::Query, lines: usize)
where
    R::Query: Copy,
{
    let (rows, query) = (vec![row; ROWS * lines], vec![query; lines]);
    let memory = vec![1u64; size_of_val(&rows[..]) / 8];
    for instructions in Instructions::available() {
        for count in [1, 64] {
            let queries: Vec<&[R::Query]> = vec![&query; count];
            let mut products = vec![R::Sum::default(); BLOCK * count];
            let read = || {
                black_box(memory.iter().fold(0, |all, word| all ^ word));
            };
            let compare = || {
                for part in rows.chunks(BLOCK * lines) {
                    let products = &mut products[..part.len() / lines * count];
                    R::products(instructions, part, &queries, products);
                    black_box(&products);
                }
            };
            let (read, compare) = (fastest_third(read), fastest_third(compare));
            let ratio = compare / read;
            println!(
                "| {name} | {instructions:?} | {count} | {compare:.2} | {read:.2} | {ratio:.2} |"
            );
        }
    }
}

/// In milliseconds: the slowest of the fastest third.
fn fastest_third(mut job: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let start = processor_time();
            job();
            processor_time() - start
        })
        .collect();
    times.sort();
    times[4].as_secs_f64() * 1e3
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}
