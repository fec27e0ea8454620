//! Where strips and tiles lie: in the file and in the picture.

use std::ops::Range;

use super::codec::Compression;
use super::damaged;
use super::directory::{Directory, Values};
use super::layout::Layout;
use crate::error::{Error, Result};

const STRIP_OFFSETS: u16 = 273;
const STRIP_LENGTHS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_LENGTHS: u16 = 325;

/// Length of the shortest header of a file.
const HEADER: u64 = 8;

/// How many times the length of the file the lengths of coded pieces may add up to. Some writers
/// round them up, and so let a piece reach into the next one.
const MAX_CLAIMED: u64 = 4;

/// A piece of the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The sample it holds, where each has pieces of its own.
    pub(super) plane: usize,
    pub(super) left: usize,
    pub(super) top: usize,
    /// Its part inside the picture.
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The pieces in the order of the file.
pub(super) fn places(layout: &Layout) -> impl Iterator<Item = Place> {
    let (across, down) = layout.grid();
    let (width, height) = (layout.width as usize, layout.height as usize);
    let (wide, high) = (layout.chunk.0 as usize, layout.chunk.1 as usize);
    let place = move |plane, row, column| {
        let (left, top) = (column as usize * wide, row as usize * high);
        let (columns, rows) = (wide.min(width - left), high.min(height - top));
        Place { plane, left, top, columns, rows }
    };
    // Planes that do not matter come last.
    let planes = if layout.planar { layout.used().into() } else { 1 };
    (0..planes).flat_map(move |plane| {
        (0..down).flat_map(move |row| (0..across).map(move |column| place(plane, row, column)))
    })
}

/// The bytes of every piece in [`places`], no two of which share any: a file cannot be decoded for
/// longer than it is. A coded piece ends where the next one begins.
pub(super) fn ranges(
    directory: &Directory<'_>,
    layout: &Layout,
    file: usize,
) -> Result<Vec<Range<usize>>> {
    let name = if layout.tiled { "tiles" } else { "strips" };
    let (offsets, lengths) = tables(directory, layout.tiled)?;
    let offsets = offsets.ok_or_else(|| damaged(&format!("it has no {name}")))?;
    let starts = starts(layout, offsets, name)?;
    let mut sorted = starts.clone();
    sorted.sort_unstable();
    let coded = layout.compression != Compression::None;
    let range = |(at, (place, start)): (usize, (Place, &u64))| {
        let length = match lengths.and_then(|lengths| lengths.get(at)).unwrap_or(0) {
            _ if !coded => layout.lengths(place.rows as u32).0 as u64,
            // Some writers leave out the lengths, or write zeros.
            0 => next(&sorted, *start).unwrap_or(file as u64).saturating_sub(*start),
            length => length,
        };
        let end = start.checked_add(length).filter(|end| *end <= file as u64);
        // Where nothing lies, as some writers mean by zero.
        let end = end.filter(|_| *start >= HEADER && length > 0);
        let end = end.ok_or_else(|| outside(name, at, *start, length, file))?;
        Ok(*start as usize..end as usize)
    };
    let mut ranges: Vec<_> =
        places(layout).zip(&starts).enumerate().map(range).collect::<Result<_>>()?;
    let claimed: u64 = ranges.iter().map(|range| range.len() as u64).sum();
    if coded && claimed <= MAX_CLAIMED * file as u64 {
        for range in &mut ranges {
            let next = next(&sorted, range.start as u64).map_or(file, |next| next as usize);
            range.end = range.end.min(next);
        }
    }
    check_apart(&ranges, name)?;
    Ok(ranges)
}

/// Where every piece in [`places`] begins.
fn starts(layout: &Layout, offsets: Values<'_>, name: &str) -> Result<Vec<u64>> {
    let (across, down) = layout.grid();
    let planes = if layout.planar { usize::from(layout.samples) } else { 1 };
    let count = across as usize * down as usize * planes;
    // Those that are too many are not read. Pillow puts them over the first ones if they are not
    // coded, so such a picture is not what it shows.
    let coded = layout.compression != Compression::None;
    if offsets.len() < count || (offsets.len() > count && !coded) {
        let named = offsets.len();
        let reason = format!("the number of its {name} is {named}, its size asks for {count}");
        return Err(damaged(&reason));
    }
    let start = |(at, _)| offsets.get(at).ok_or_else(|| damaged("its offsets are not numbers"));
    places(layout).enumerate().map(start).collect()
}

/// The first of these offsets that is behind another.
fn next(sorted: &[u64], start: u64) -> Option<u64> {
    sorted.get(sorted.partition_point(|other| *other <= start)).copied()
}

/// Offsets and lengths. Some writers of tiles use the tags of strips.
fn tables<'a>(
    directory: &Directory<'a>,
    tiled: bool,
) -> Result<(Option<Values<'a>>, Option<Values<'a>>)> {
    let tiles = (TILE_OFFSETS, TILE_LENGTHS);
    let (offsets, lengths) = match tiled && directory.find(tiles.0)?.is_some() {
        true => tiles,
        false => (STRIP_OFFSETS, STRIP_LENGTHS),
    };
    Ok((directory.find(offsets)?, directory.find(lengths)?))
}

fn outside(name: &str, at: usize, start: u64, length: u64, file: usize) -> Error {
    damaged(&format!(
        "number {at} of its {name} is {length} bytes at {start}, the file ends at {file}"
    ))
}

fn check_apart(ranges: &[Range<usize>], name: &str) -> Result<()> {
    let mut sorted: Vec<_> = ranges.iter().map(|range| (range.start, range.end)).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        None => Ok(()),
        Some(pair) => {
            let reason = format!("two of its {name} share the bytes at {}", pair[1].0);
            Err(damaged(&reason))
        }
    }
}
