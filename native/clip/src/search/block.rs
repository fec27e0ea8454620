//! Rows of a storage, and their comparison with queries.

use super::kernel::{Instructions, Row};
use super::lines::{F16x16, F32x16, I8x64, U8x64, half, halves, signed, single, singles, unsigned};
use super::{Id, Storage};

/// About the size of a block: small enough to copy for one change, large enough to read in one go.
const BYTES: usize = 1 << 20;

/// The largest number of two signed bytes; the second one is a remainder of at most 127.
const LARGEST: f32 = 127.0 * 256.0 + 127.0;

/// A vector as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Vector {
    F32(Vec<F32x16>),
    F16(Vec<F16x16>),
    I8 { high: Vec<U8x64>, low: Vec<U8x64>, scale: f32 },
}

impl Vector {
    pub(super) fn new(storage: Storage, values: &[f32]) -> Self {
        match storage {
            Storage::F32 => Self::singles(values),
            Storage::F16 => Self::halves(&values.iter().copied().map(half).collect::<Vec<_>>()),
            Storage::I8 => {
                let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
                let scale = largest / LARGEST;
                let (high, low): (Vec<u8>, Vec<u8>) =
                    values.iter().map(|x| parts((x / scale).round())).unzip();
                Self::bytes(&high, &low, scale)
            }
        }
    }

    pub(super) fn singles(values: &[f32]) -> Self {
        Self::F32(singles(values))
    }

    pub(super) fn halves(bits: &[u16]) -> Self {
        Self::F16(halves(bits))
    }

    pub(super) fn bytes(high: &[u8], low: &[u8], scale: f32) -> Self {
        Self::I8 { high: unsigned(high), low: unsigned(low), scale }
    }

    /// Its numbers.
    pub(super) fn values(&self, dim: usize) -> Vec<f32> {
        let mut values: Vec<f32> = match self {
            Self::F32(lines) => lines.iter().flat_map(|line| line.0).collect(),
            Self::F16(lines) => lines.iter().flat_map(|line| line.0.map(single)).collect(),
            Self::I8 { high, low, scale } => {
                wholes(high, low).iter().flat_map(|line| line.0).map(|x| x * scale).collect()
            }
        };
        values.truncate(dim);
        values
    }
}

/// The whole numbers of a row's bytes. It works by lines, which the compiler vectorizes, because a search
/// does this for more than a hundred rows.
fn wholes(high: &[U8x64], low: &[U8x64]) -> Vec<F32x16> {
    let mut lines = vec![F32x16::default(); 4 * high.len()];
    for (four, (high, low)) in lines.as_chunks_mut::<4>().0.iter_mut().zip(high.iter().zip(low)) {
        for (at, line) in four.iter_mut().enumerate() {
            for (lane, number) in line.0.iter_mut().enumerate() {
                *number = whole(high.0[16 * at + lane], low.0[16 * at + lane]);
            }
        }
    }
    lines
}

/// A whole number as two bytes, each plus 128.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn parts(number: f32) -> (u8, u8) {
    let number = number.clamp(-LARGEST, LARGEST) as i32;
    let high = (number + 128) >> 8;
    ((high + 128) as u8, (number - (high << 8) + 128) as u8)
}

/// The number of two such bytes.
fn whole(high: u8, low: u8) -> f32 {
    ((i32::from(high) - 128) * 256 + i32::from(low) - 128) as f32
}

/// A query for rows of one storage.
#[derive(Debug)]
pub(super) struct Prepared {
    singles: Vec<F32x16>,
    bytes: Option<Bytes>,
}

#[derive(Debug)]
struct Bytes {
    lines: Vec<I8x64>,
    scale: f32,
    /// The part of a product that comes from the 128 added to each component of a row.
    offset: i32,
}

impl Prepared {
    pub(super) fn new(storage: Storage, query: &[f32]) -> Self {
        let bytes = (storage == Storage::I8).then(|| Bytes::new(query));
        Self { singles: singles(query), bytes }
    }
}

impl Bytes {
    #[allow(clippy::cast_possible_truncation)]
    fn new(query: &[f32]) -> Self {
        let largest = query.iter().fold(0f32, |most, x| most.max(x.abs()));
        let scale = largest / 127.0;
        let bytes: Vec<i8> = query.iter().map(|x| (x / scale).round() as i8).collect();
        let offset = 128 * bytes.iter().map(|x| i32::from(*x)).sum::<i32>();
        Self { lines: signed(&bytes), scale, offset }
    }
}

/// Some rows of an index, with their ids.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) ids: Vec<Id>,
    /// When each id was first put: a lower number came first.
    pub(super) numbers: Vec<u64>,
    rows: Rows,
    dim: usize,
}

#[derive(Debug, Clone)]
enum Rows {
    F32(Vec<F32x16>),
    F16(Vec<F16x16>),
    I8 { high: Vec<U8x64>, low: Vec<U8x64>, scales: Vec<f32> },
}

/// The bytes of a row.
pub(super) fn row_bytes(storage: Storage, dim: usize) -> usize {
    match storage {
        Storage::F32 => dim.div_ceil(16) * 64,
        Storage::F16 => dim.div_ceil(16) * 32,
        Storage::I8 => dim.div_ceil(64) * 128 + 4,
    }
}

/// How many rows a block has.
pub(super) fn rows_of_block(storage: Storage, dim: usize) -> usize {
    (BYTES / row_bytes(storage, dim)).clamp(1, 4096)
}

impl Block {
    pub(super) fn new(storage: Storage, dim: usize) -> Self {
        let rows = match storage {
            Storage::F32 => Rows::F32(Vec::new()),
            Storage::F16 => Rows::F16(Vec::new()),
            Storage::I8 => Rows::I8 { high: Vec::new(), low: Vec::new(), scales: Vec::new() },
        };
        Self { ids: Vec::new(), numbers: Vec::new(), rows, dim }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn push(&mut self, id: Id, number: u64, vector: Vector) {
        self.ids.push(id);
        self.numbers.push(number);
        match (&mut self.rows, vector) {
            (Rows::F32(rows), Vector::F32(row)) => rows.extend(row),
            (Rows::F16(rows), Vector::F16(row)) => rows.extend(row),
            (Rows::I8 { high, low, scales }, Vector::I8 { high: h, low: l, scale }) => {
                high.extend(h);
                low.extend(l);
                scales.push(scale);
            }
            // An index makes all its vectors for its storage.
            _ => {}
        }
    }

    /// Replaces a vector.
    pub(super) fn set(&mut self, at: usize, vector: &Vector) {
        match (&mut self.rows, vector) {
            (Rows::F32(rows), Vector::F32(row)) => copy(rows, at, row),
            (Rows::F16(rows), Vector::F16(row)) => copy(rows, at, row),
            (Rows::I8 { high, low, scales }, Vector::I8 { high: h, low: l, scale }) => {
                copy(high, at, h);
                copy(low, at, l);
                scales[at] = *scale;
            }
            _ => {}
        }
    }

    /// Removes the last row.
    pub(super) fn pop(&mut self) -> Option<(Id, u64, Vector)> {
        let vector = self.vector(self.len().checked_sub(1)?);
        let (id, number) = (self.ids.pop()?, self.numbers.pop()?);
        let left = self.len();
        match &mut self.rows {
            Rows::F32(rows) => rows.truncate(left * self.dim.div_ceil(16)),
            Rows::F16(rows) => rows.truncate(left * self.dim.div_ceil(16)),
            Rows::I8 { high, low, scales } => {
                high.truncate(left * self.dim.div_ceil(64));
                low.truncate(left * self.dim.div_ceil(64));
                scales.truncate(left);
            }
        }
        Some((id, number, vector))
    }

    pub(super) fn vector(&self, at: usize) -> Vector {
        match &self.rows {
            Rows::F32(rows) => Vector::F32(row(rows, at, self.dim.div_ceil(16)).to_vec()),
            Rows::F16(rows) => Vector::F16(row(rows, at, self.dim.div_ceil(16)).to_vec()),
            Rows::I8 { high, low, scales } => {
                let lines = self.dim.div_ceil(64);
                let (high, low) = (row(high, at, lines).to_vec(), row(low, at, lines).to_vec());
                Vector::I8 { high, low, scale: scales[at] }
            }
        }
    }

    /// The score of each row for each query, those for the first query first. For rows of bytes these are
    /// estimates, see [`Block::exact`].
    pub(super) fn scores(&self, queries: &[&Prepared], scores: &mut Vec<f32>) {
        self.scores_of(0, self.len(), queries, scores);
    }

    /// The score of one row.
    pub(super) fn score(&self, at: usize, query: &Prepared) -> f32 {
        let mut scores = Vec::with_capacity(1);
        match &self.rows {
            Rows::I8 { .. } => self.exact(at, query),
            _ => {
                self.scores_of(at, 1, &[query], &mut scores);
                scores[0]
            }
        }
    }

    fn scores_of(&self, at: usize, count: usize, queries: &[&Prepared], scores: &mut Vec<f32>) {
        let best = Instructions::best();
        scores.clear();
        scores.resize(count * queries.len(), 0.0);
        let singles: Vec<&[F32x16]> = queries.iter().map(|query| &query.singles[..]).collect();
        let lines = self.dim.div_ceil(16);
        match &self.rows {
            Rows::F32(rows) => {
                F32x16::products(best, part(rows, at, count, lines), &singles, scores);
            }
            Rows::F16(rows) => {
                F16x16::products(best, part(rows, at, count, lines), &singles, scores);
            }
            Rows::I8 { high, scales, .. } => {
                let bytes: Vec<&Bytes> =
                    queries.iter().filter_map(|query| query.bytes.as_ref()).collect();
                let lines: Vec<&[I8x64]> = bytes.iter().map(|bytes| &bytes.lines[..]).collect();
                let mut products = vec![0; scores.len()];
                U8x64::products(best, high, &lines, &mut products);
                let rows = scores.chunks_exact_mut(count).zip(products.chunks_exact(count));
                for ((scores, products), query) in rows.zip(bytes) {
                    for ((score, product), scale) in scores.iter_mut().zip(products).zip(scales) {
                        let product = (product - query.offset) as f32;
                        *score = product * (scale * 256.0 * query.scale);
                    }
                }
                return;
            }
        }
        scores.iter_mut().for_each(|score| *score = score.clamp(-1.0, 1.0));
    }

    /// The score of a row with both its bytes.
    pub(super) fn exact(&self, at: usize, query: &Prepared) -> f32 {
        let Rows::I8 { high, low, scales } = &self.rows else { return self.score(at, query) };
        let lines = self.dim.div_ceil(64);
        let mut whole = wholes(row(high, at, lines), row(low, at, lines));
        whole.truncate(query.singles.len());
        let mut product = [0.0];
        F32x16::products(Instructions::best(), &whole, &[&query.singles], &mut product);
        (product[0] * scales[at]).clamp(-1.0, 1.0)
    }
}

fn row<T>(rows: &[T], at: usize, lines: usize) -> &[T] {
    part(rows, at, 1, lines)
}

fn part<T>(rows: &[T], at: usize, count: usize, lines: usize) -> &[T] {
    &rows[at * lines..][..count * lines]
}

fn copy<T: Copy>(rows: &mut [T], at: usize, row: &[T]) {
    rows[at * row.len()..][..row.len()].copy_from_slice(row);
}
