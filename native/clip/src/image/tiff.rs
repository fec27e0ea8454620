//! The first page of a TIFF.
//!
//! A TIFF says where its strips or tiles lie, how they are coded and what their samples mean, and
//! may say anything. So all of that is checked before memory is taken: no two strips or tiles share
//! bytes, and each decodes to its place in the picture and not to more.

mod chunks;
mod codec;
mod color;
mod directory;
mod layout;
mod meaning;
mod samples;

use std::ops::Range;

use image::metadata::Orientation;

use self::chunks::Place;
use self::codec::{Compression, Decoder};
use self::directory::Directory;
use self::layout::Layout;
use self::meaning::Color;
use self::samples::Placer;
use super::bitmap::Bitmap;
use super::format::Format;
use super::jpeg::{self, RawColor, RawInfo};
use super::{broken, orientation, unsupported, zeroed};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::limits::Limits;

const ORIENTATION: u16 = 274;
const XMP: u16 = 700;
const PROFILE: u16 = 34_675;
const JPEG_TABLES: u16 = 347;

/// Width and height by the first directory.
pub(super) fn stated_size(bytes: &[u8]) -> Option<(u32, u32)> {
    layout::size(&Directory::parse(bytes).ok()?).ok()
}

/// Tables of a JPEG are a few hundred bytes. They are read again for each strip or tile.
const MAX_TABLES: usize = 1 << 14;

/// What a strip or tile takes beside its pixels: its place in lists, and the state of its decoder.
const LIST_ENTRY: u64 = 64;
const DECODER: u64 = 1 << 18;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let directory = Directory::parse(bytes)?;
    let layout = Layout::of(&directory, budget.limits())?;
    let ranges = chunks::ranges(&directory, &layout, bytes.len())?;
    let tables = jpeg_tables(&directory)?;
    budget.reserve(memory(&layout, bytes, &ranges, budget.limits())?)?;
    let palette = match layout.color {
        Color::Palette => Some(color::palette(&directory)?),
        _ => None,
    };
    let channels = layout.channels();
    let pixels = layout.width as usize * layout.height as usize;
    let mut picture = zeroed(pixels * channels.count())?;
    let mut reader = Reader {
        layout: &layout,
        decoder: Decoder::new(layout.compression, layout.chunk.0),
        placer: Placer::new(&layout, palette.as_ref()),
        tables,
        turned: Vec::new(),
        rows: Vec::new(),
    };
    for (range, place) in ranges.into_iter().zip(chunks::places(&layout)) {
        budget.charge_read(range.len() as u64, bytes.len() as u64)?;
        budget.work(range.len())?;
        reader.read(&bytes[range], place, &mut picture, budget)?;
    }
    color::convert(&directory, &layout, &mut picture, budget)?;
    let bitmap = Bitmap::new(layout.width, layout.height, channels, picture);
    Ok(bitmap.with_orientation(orientation(&directory)))
}

/// The colour profile, or what is wrong with it. CIE Lab needs none.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    // The decoder says why.
    let Ok(directory) = Directory::parse(bytes) else { return Ok(None) };
    if directory.number_of(meaning::PHOTOMETRIC).ok().flatten() == Some(meaning::LAB) {
        return Ok(None);
    }
    let values = directory.find(PROFILE).map_err(|_| "it lies outside the file")?;
    Ok(values.map(|values| values.bytes()))
}

fn damaged(reason: &str) -> Error {
    broken(Format::Tiff, reason)
}

fn cannot(what: &str) -> Error {
    unsupported(Format::Tiff, what)
}

/// Where Pillow finds it: in the tag, or in XMP where that is missing. A picture of an orientation
/// that makes no sense, or is not of a type of numbers, is still a picture.
fn orientation(directory: &Directory<'_>) -> Orientation {
    let find = |tag| directory.find(tag).ok().flatten();
    let Some(tag) = find(ORIENTATION) else {
        let xmp = find(XMP).and_then(|packet| orientation::from_xmp(packet.bytes()));
        return xmp.unwrap_or(Orientation::NoTransforms);
    };
    let value = tag.float(0).filter(|_| tag.are_numbers());
    let code = (1..=8).find(|code| value == Some(f32::from(*code)));
    code.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

fn jpeg_tables<'a>(directory: &Directory<'a>) -> Result<&'a [u8]> {
    let tables = directory.find(JPEG_TABLES)?.map_or(&[][..], |values| values.bytes());
    if tables.len() > MAX_TABLES {
        return Err(damaged(&format!("the tables of its JPEG are {} bytes", tables.len())));
    }
    Ok(tables)
}

/// What decoding holds, in bytes: the picture, the RGB that it becomes, and the largest strip or
/// tile.
fn memory(layout: &Layout, bytes: &[u8], ranges: &[Range<usize>], limits: &Limits) -> Result<u64> {
    let channels = layout.channels().count() as u64;
    let pixels = u64::from(layout.width) * u64::from(layout.height);
    let rgb = if channels == 3 { 0 } else { 3 };
    let rows = match layout.compression {
        Compression::None | Compression::Jpeg => 0,
        _ if samples::are_rows(layout) => 0,
        _ => layout.lengths(layout.chunk_rows()).0 as u64,
    };
    let (mut chunk, mut nanos) = (0, 0);
    for range in ranges {
        chunk = chunk.max(match layout.compression {
            Compression::Jpeg => {
                let jpeg = jpeg_info(layout, &bytes[range.clone()])?;
                nanos += jpeg.nanos;
                jpeg.memory
            }
            _ if layout.reversed => range.len() as u64,
            _ => 0,
        });
    }
    jpeg::check_nanos(nanos, "TIFF picture of JPEGs", limits)?;
    Ok(pixels * (channels + rgb) + rows + chunk + LIST_ENTRY * ranges.len() as u64 + DECODER)
}

/// What a JPEG says of itself, if it has the size that it should have.
fn jpeg_info(layout: &Layout, chunk: &[u8]) -> Result<RawInfo> {
    let jpeg = jpeg::inspect_raw(chunk)?;
    let (width, height) = layout.chunk;
    if jpeg.width != width
        || jpeg.height > height
        || usize::from(jpeg.channels) != layout.together()
    {
        let reason = format!(
            "a JPEG in it is {} x {} pixels of {} channels, its place {width} x {height} of {}",
            jpeg.width,
            jpeg.height,
            jpeg.channels,
            layout.together()
        );
        return Err(damaged(&reason));
    }
    Ok(jpeg)
}

/// Reads strips or tiles into the picture.
struct Reader<'a> {
    layout: &'a Layout,
    decoder: Decoder,
    placer: Placer<'a>,
    tables: &'a [u8],
    /// A strip or tile with the bits of each byte turned round.
    turned: Vec<u8>,
    /// A decoded one.
    rows: Vec<u8>,
}

impl Reader<'_> {
    fn read(
        &mut self,
        chunk: &[u8],
        place: Place,
        picture: &mut [u8],
        budget: &Budget<'_>,
    ) -> Result<()> {
        let layout = self.layout;
        if layout.compression == Compression::Jpeg {
            return self.read_jpeg(chunk, place, picture, budget);
        }
        let turned = layout.reversed;
        if turned {
            self.turned.clear();
            self.turned.extend(chunk.iter().map(|byte| byte.reverse_bits()));
        }
        let chunk = if turned { &self.turned } else { chunk };
        let (length, row) = layout.lengths(place.rows as u32);
        if samples::are_rows(layout) {
            let out = &mut picture[place.top * row..][..length];
            self.decoder.decode(chunk, out, budget)?;
            if layout.differences {
                samples::add_up(layout, out, row);
            }
            return Ok(());
        }
        if layout.compression == Compression::None {
            self.placer.place(chunk, row, place, picture);
            return Ok(());
        }
        if self.rows.len() < length {
            self.rows = zeroed(layout.lengths(layout.chunk_rows()).0)?;
        }
        let rows = &mut self.rows[..length];
        self.decoder.decode(chunk, rows, budget)?;
        if layout.differences {
            samples::add_up(layout, rows, row);
        }
        self.placer.place(rows, row, place, picture);
        Ok(())
    }

    fn read_jpeg(
        &mut self,
        chunk: &[u8],
        place: Place,
        picture: &mut [u8],
        budget: &Budget<'_>,
    ) -> Result<()> {
        let converted = matches!(self.layout.color, Color::YCbCr { .. }) && !self.layout.planar;
        let color = if converted { RawColor::YCbCr } else { RawColor::AsIs };
        let jpeg = jpeg::decode_raw(self.tables, chunk, color, budget)?;
        let row = jpeg.width as usize * usize::from(jpeg.channels);
        if row != self.layout.lengths(1).1 || (jpeg.height as usize) < place.rows {
            return Err(damaged("a JPEG in it is smaller than its place"));
        }
        self.placer.place(&jpeg.data, row, place, picture);
        Ok(())
    }
}
