//! What stands below a map: the scale of its colours with numbers, and the share that it explains.

use super::colour::diverging;
use super::glyphs;
use crate::error::{Error, ErrorKind, Result};

/// Least width of a drawing.
pub(super) const WIDTH: u32 = 448;
pub(super) const HEIGHT: u32 = 60;

const MARGIN: u32 = 10;
const GAP: u32 = 8;
const BAR: (u32, u32) = (160, 14);
const PAPER: u8 = 255;
const INK: [u8; 3] = [34; 3];

/// White pixels to draw on.
pub(super) struct Canvas {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Result<Self> {
        let bytes = 3 * width as usize * height as usize;
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(bytes).map_err(|e| {
            Error::new(ErrorKind::OutOfMemory, "no memory to draw a map").with_source(e)
        })?;
        pixels.resize(bytes, PAPER);
        Ok(Self { width, height, pixels })
    }

    pub(super) fn set(&mut self, x: u32, y: u32, color: [u8; 3]) {
        let at = 3 * (y as usize * self.width as usize + x as usize);
        self.pixels[at..at + 3].copy_from_slice(&color);
    }

    fn write(&mut self, x: u32, y: u32, text: &str) {
        for (dx, dy) in glyphs::dots(text) {
            self.set(x + dx, y + dy, INK);
        }
    }
}

/// Draws the legend of a scale from `-limit` to `limit` from row `top` on.
pub(super) fn draw(canvas: &mut Canvas, top: u32, limit: f32, explained: Option<f64>) {
    let (first, second) = (top + MARGIN, top + MARGIN + BAR.1 + GAP);
    canvas.write(MARGIN, first, "against");
    let bar = MARGIN + glyphs::width("against") + GAP;
    for x in 0..BAR.0 {
        let color = diverging(2.0 * (x as f32 + 0.5) / BAR.0 as f32 - 1.0);
        for y in 0..BAR.1 {
            canvas.set(bar + x, first + y, color.map(|channel| channel.round() as u8));
        }
    }
    canvas.write(bar + BAR.0 + GAP, first, "for");
    let number = number(limit);
    if number != "0" {
        let centred = |at: u32, text: &str| at - glyphs::width(text) / 2;
        canvas.write(centred(bar, &format!("-{number}")), second, &format!("-{number}"));
        canvas.write(centred(bar + BAR.0, &format!("+{number}")), second, &format!("+{number}"));
    }
    canvas.write(bar + (BAR.0 - glyphs::width("0")) / 2, second, "0");
    if let Some(share) = explained {
        let lines = ["explained".to_owned(), percent(share)];
        for (text, y) in lines.iter().zip([first, second]) {
            canvas.write(canvas.width - MARGIN - glyphs::width(text), y, text);
        }
    }
}

/// Two digits that count, such as 0.021.
fn number(limit: f32) -> String {
    if !(1e-5..1e4).contains(&limit) {
        return "0".to_owned();
    }
    let digits = (1.0 - limit.log10().floor()).max(0.0) as usize;
    format!("{limit:.digits$}")
}

fn percent(share: f64) -> String {
    let percent = (share * 100.0).round();
    if percent.abs() < 1000.0 { format!("{percent:.0} %") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_digits_that_count() {
        for (limit, expected) in [
            (0.02149, "0.021"),
            (0.5, "0.50"),
            (1.0, "1.0"),
            (12.3, "12"),
            (0.000_123, "0.00012"),
            (0.0, "0"),
            (f32::NAN, "0"),
            (f32::INFINITY, "0"),
            (-1.0, "0"),
        ] {
            assert_eq!(number(limit), expected);
        }
    }

    #[test]
    fn shares_are_percentages_unless_they_say_nothing() {
        for (share, expected) in
            [(0.624, "62 %"), (1.3, "130 %"), (-0.2, "-20 %"), (1e9, "-"), (f64::NAN, "-")]
        {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn the_widest_legend_fits() {
        for limit in [0.000_01, 9_999.0, 0.021] {
            let mut canvas = Canvas::new(WIDTH, HEIGHT).unwrap_or_else(|e| unreachable!("{e}"));
            draw(&mut canvas, 0, limit, Some(-9.99));
            let row = |y: u32| &canvas.pixels[(y * WIDTH * 3) as usize..][..(WIDTH * 3) as usize];
            assert!((HEIGHT - MARGIN..HEIGHT).all(|y| row(y).iter().all(|level| *level == PAPER)));
        }
    }
}
