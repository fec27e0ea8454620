//! From colours as they are stored to RGB, as libtiff and Pillow convert them.

mod lab;
mod ycbcr;

use super::super::bitmap::{self, Channels};
use super::codec::Compression;
use super::damaged;
use super::directory::Directory;
use super::layout::Layout;
use super::meaning::{Alpha, Color};
use crate::budget::Budget;
use crate::error::Result;

const COLOR_MAP: u16 = 320;

/// Pixels that are converted before the budget is asked again.
const PIECE: usize = 1 << 16;

/// The colour of each index.
pub(super) type Palette = [[u8; 3]; 256];

/// All reds, then all greens, then all blues, 16 bits each, the high 8 of which count.
pub(super) fn palette(directory: &Directory<'_>) -> Result<Palette> {
    let map = directory.find(COLOR_MAP)?.ok_or_else(|| damaged("its palette is missing"))?;
    let colors = map.len() / 3;
    // As in Pillow, an index that the palette lacks is black.
    let mut palette = [[0; 3]; 256];
    for (index, color) in palette.iter_mut().enumerate().take(colors) {
        let part = |channel| map.get(channel * colors + index).unwrap_or(0);
        *color = [0, 1, 2].map(|channel| (part(channel) >> 8) as u8);
    }
    Ok(palette)
}

/// Turns the colours of the picture, one byte a channel, into those that its channels promise.
pub(super) fn convert(
    directory: &Directory<'_>,
    layout: &Layout,
    picture: &mut [u8],
    budget: &Budget<'_>,
) -> Result<()> {
    let channels = layout.channels();
    let count = channels.count();
    let mut each = |convert: &dyn Fn(&mut [u8])| {
        picture.chunks_mut(PIECE * count).try_for_each(|piece| {
            budget.check()?;
            convert(piece);
            Ok(())
        })
    };
    match layout.color {
        Color::Grey { inverted: true } => {
            each(&|piece| piece.iter_mut().step_by(count).for_each(|level| *level = !*level))?;
        }
        // Decoded to RGB already.
        Color::YCbCr { .. } if layout.compression == Compression::Jpeg && !layout.planar => {}
        Color::YCbCr { block } => {
            // Pillow reads what is not coded by itself, and takes it for the YCbCr of a JPEG.
            let plain =
                layout.compression == Compression::None && !layout.planar && block == (1, 1);
            let tables = if plain { ycbcr::Tables::jfif() } else { ycbcr::Tables::of(directory)? };
            each(&|piece| tables.convert(piece))?;
        }
        Color::Lab => {
            let tables = lab::Tables::new();
            each(&|piece| tables.convert(piece))?;
        }
        _ => {}
    }
    if layout.alpha == Alpha::Premultiplied {
        match channels {
            Channels::GreyAlpha => each(&bitmap::unmultiply::<2>)?,
            Channels::Rgba => each(&bitmap::unmultiply::<4>)?,
            _ => {}
        }
    }
    Ok(())
}
