use super::super::lines::{half, halves, signed, single, singles, unsigned};
use super::*;

/// Pseudorandom numbers from -1 to 1.
fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The result that the module promises, computed one number at a time.
fn reference(row: &[f32], query: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (i, (x, y)) in row.iter().zip(query).enumerate() {
        let product = x * y;
        sums[i % 16] += product;
    }
    let eight: Vec<f32> = (0..8).map(|i| sums[i] + sums[i + 8]).collect();
    let four: Vec<f32> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
    (four[0] + four[2]) + (four[1] + four[3])
}

const DIMS: [usize; 9] = [1, 2, 15, 16, 17, 64, 65, 512, 1000];
const COUNTS: [usize; 6] = [1, 3, 4, 7, 33, 70];
const QUERIES: [usize; 4] = [1, 3, 4, 9];

fn for_all_shapes(check: impl Fn(Instructions, usize, usize, usize)) {
    assert_eq!(Instructions::available()[0], Instructions::Portable);
    for instructions in Instructions::available() {
        for dim in DIMS {
            for count in COUNTS {
                for queries in QUERIES {
                    check(instructions, dim, count, queries);
                }
            }
        }
    }
}

fn check_floats<R: Row<Query = F32x16, Sum = f32>>(stored: impl Fn(&[f32]) -> (Vec<R>, Vec<f32>)) {
    for_all_shapes(|instructions, dim, count, queries| {
        let rows: Vec<_> = (1..=count).map(|i| stored(&noise(i as u32, dim))).collect();
        let queries: Vec<_> = (1..=queries).map(|i| noise(1000 + i as u32, dim)).collect();
        let (lines, numbers): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let lines: Vec<R> = lines.into_iter().flatten().collect();
        let prepared: Vec<_> = queries.iter().map(|query| singles(query)).collect();
        let prepared: Vec<&[F32x16]> = prepared.iter().map(|query| &query[..]).collect();
        let mut products = vec![0.0; count * queries.len()];
        R::products(instructions, &lines, &prepared, &mut products);
        let expected = queries.iter().flat_map(|q| numbers.iter().map(|row| reference(row, q)));
        for (product, expected) in products.iter().zip(expected) {
            assert_eq!(product.to_bits(), expected.to_bits(), "{instructions:?} {dim} {count}");
        }
    });
}

#[test]
fn every_path_returns_the_same_bits_for_f32() {
    check_floats(|row| (singles(row), row.to_vec()));
}

#[test]
fn every_path_returns_the_same_bits_for_f16() {
    check_floats(|row| {
        let bits: Vec<u16> = row.iter().copied().map(half).collect();
        (halves(&bits), bits.into_iter().map(single).collect())
    });
}

#[test]
fn every_path_returns_the_same_numbers_for_bytes() {
    for_all_shapes(|instructions, dim, count, queries| {
        let bytes = |seed: usize, last: i32| -> Vec<i32> {
            let mut bytes: Vec<i32> =
                noise(seed as u32, dim).iter().map(|x| (x * 127.0) as i32).collect();
            bytes[dim - 1] = last;
            bytes
        };
        let rows: Vec<_> = (0..count).map(|i| bytes(i + 1, 127)).collect();
        let queries: Vec<_> = (0..queries).map(|i| bytes(1000 + i, -127)).collect();
        let line =
            |row: &Vec<i32>| unsigned(&row.iter().map(|x| (x + 128) as u8).collect::<Vec<_>>());
        let lines: Vec<U8x64> = rows.iter().flat_map(line).collect();
        let prepared: Vec<_> = queries
            .iter()
            .map(|q| signed(&q.iter().map(|x| *x as i8).collect::<Vec<_>>()))
            .collect();
        let prepared: Vec<&[I8x64]> = prepared.iter().map(|query| &query[..]).collect();
        let mut products = vec![0; count * queries.len()];
        U8x64::products(instructions, &lines, &prepared, &mut products);
        let expected = queries.iter().flat_map(|query| {
            rows.iter()
                .map(move |row| row.iter().zip(query).map(|(x, y)| (x + 128) * y).sum::<i32>())
        });
        assert!(products.iter().copied().eq(expected), "{instructions:?} {dim} {count}");
    });
}

#[test]
fn the_longest_vectors_of_the_largest_bytes_fit_their_sum() {
    let dim = super::super::MAX_DIM;
    for instructions in Instructions::available() {
        let mut product = [0];
        let (row, query) = (unsigned(&vec![255; dim]), signed(&vec![127; dim]));
        U8x64::products(instructions, &row, &[&query], &mut product);
        assert_eq!(product, [255 * 127 * 65_536], "{instructions:?}");
    }
}
