//! A drawing as text, for terminals that know colours.

use std::fmt::Write;

use super::draw::Drawing;

/// Which colours a terminal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// All of 24 bits.
    True,
    /// The 256 of xterm.
    Palette,
}

impl Drawing<'_> {
    /// The drawing without its legend as lines of half blocks. The longer side has `side` of them: half
    /// blocks are about square.
    pub fn ansi(&self, side: u32, colours: Colours) -> String {
        let (width, height) = self.size();
        let scaled = |length: u32| (length * side / width.max(height)).max(1);
        let (columns, rows) = (scaled(width), scaled(height));
        let mut text = String::new();
        for y in (0..rows).step_by(2) {
            for x in 0..columns {
                let upper = self.mean((x, columns), (y, rows));
                let lower = (y + 1 < rows).then(|| self.mean((x, columns), (y + 1, rows)));
                // Writing to a string cannot fail.
                let _ = write!(text, "\x1b[38;{}m", colours.code(upper));
                match lower {
                    Some(lower) => _ = write!(text, "\x1b[48;{}m▀", colours.code(lower)),
                    None => text.push_str("\x1b[49m▀"),
                }
            }
            text.push_str("\x1b[0m\n");
        }
        text
    }

    /// The mean colour of one of so many columns and rows.
    fn mean(&self, (x, columns): (u32, u32), (y, rows): (u32, u32)) -> [u8; 3] {
        let (width, height) = self.size();
        let part = |at: u32, count: u32, length: u32| {
            let start = at * length / count;
            start..((at + 1) * length / count).max(start + 1)
        };
        let (mut sums, mut count) = ([0u32; 3], 0);
        for y in part(y, rows, height) {
            for x in part(x, columns, width) {
                let pixel = self.pixel(x, y);
                sums.iter_mut().zip(pixel).for_each(|(sum, channel)| *sum += u32::from(channel));
                count += 1;
            }
        }
        sums.map(|sum| (sum / count) as u8)
    }
}

impl Colours {
    /// What stands behind `38;` or `48;`.
    fn code(self, [red, green, blue]: [u8; 3]) -> String {
        match self {
            Self::True => format!("2;{red};{green};{blue}"),
            Self::Palette => format!("5;{}", palette([red, green, blue])),
        }
    }
}

/// The nearest of the 6 x 6 x 6 colours and the 24 greys.
fn palette(color: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let level = |place: u8| LEVELS[usize::from(place)];
    let cube = (0..216u8).map(|i| (16 + i, [level(i / 36), level(i / 6 % 6), level(i % 6)]));
    let greys = (0..24u8).map(|i| (232 + i, [8 + 10 * i; 3]));
    let nearest = cube.chain(greys).min_by_key(|(_, other)| distance(color, *other));
    nearest.map_or(0, |(number, _)| number)
}

/// A tint that is not there is seen sooner than another brightness.
fn distance(one: [u8; 3], other: [u8; 3]) -> i32 {
    let [red, green, blue] = [0, 1, 2].map(|i| i32::from(one[i]) - i32::from(other[i]));
    let brightness = red + green + blue;
    brightness.pow(2) + 4 * ((red - green).pow(2) + (green - blue).pow(2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Layer, View};
    use super::*;
    use crate::preprocess::Window;

    fn drawn(width: u32, height: u32, side: u32, colours: Colours) -> String {
        let planes = vec![255; 3 * (width * height) as usize];
        let view = View { width, height, picture: (width, height), planes };
        let (wide, high) = (f64::from(width), f64::from(height));
        let window = Window { left: 0.0, top: 0.0, width: wide, height: high };
        let values = vec![1.0, 0.0, 0.0, -1.0];
        let layer = Layer { values, columns: 2, window, limit: 1.0, explained: None };
        Drawing::new(&view, &layer).unwrap().ansi(side, colours)
    }

    #[test]
    fn lines_have_half_as_many_blocks_as_the_picture_is_wide() {
        let text = drawn(40, 20, 10, Colours::True);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.matches('▀').count() == 10));
        assert!(lines.iter().all(|line| line.ends_with("\x1b[0m")));
        assert!(lines[0].starts_with("\x1b[38;2;235;110;0m"), "{}", lines[0]);
        assert!(lines[2].contains("\x1b[49m"));
    }

    #[test]
    fn a_terminal_of_256_colours_gets_their_numbers() {
        let text = drawn(8, 8, 2, Colours::Palette);
        assert!(text.contains("\x1b[38;5;") && !text.contains(";2;"), "{text:?}");
    }

    #[test]
    fn the_thinnest_picture_has_a_line() {
        assert_eq!(drawn(1, 400, 8, Colours::True).lines().count(), 4);
        assert_eq!(drawn(400, 1, 8, Colours::True).lines().count(), 1);
    }

    #[test]
    fn the_nearest_colour_of_the_palette_is_taken() {
        assert_eq!(palette([0, 0, 0]), 16);
        assert_eq!(palette([255, 255, 255]), 231);
        assert_eq!(palette([128, 128, 128]), 244);
        assert_eq!(palette([255, 95, 0]), 202);
    }
}
