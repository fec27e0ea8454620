//! The few characters that a legend needs, of 5 x 9 dots: the last two rows are for what hangs below.

/// Width of a character's dots, and of a character with the space behind it.
const DOTS: u32 = 5;
const STEP: u32 = 6;
const ROWS: usize = 9;
/// Pixels along a side of a dot.
const SCALE: u32 = 2;

/// Rows from the top, the leftmost dot in bit 4.
const GLYPHS: [(char, [u8; ROWS]); 28] = [
    ('0', [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110, 0, 0]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110, 0, 0]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111, 0, 0]),
    ('3', [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110, 0, 0]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010, 0, 0]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110, 0, 0]),
    ('6', [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110, 0, 0]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000, 0, 0]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110, 0, 0]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100, 0, 0]),
    ('+', [0b00000, 0b00100, 0b00100, 0b11111, 0b00100, 0b00100, 0b00000, 0, 0]),
    ('-', [0b00000, 0b00000, 0b00000, 0b11111, 0b00000, 0b00000, 0b00000, 0, 0]),
    ('.', [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100, 0, 0]),
    ('%', [0b11000, 0b11001, 0b00010, 0b00100, 0b01000, 0b10011, 0b00011, 0, 0]),
    ('a', [0b00000, 0b00000, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111, 0, 0]),
    ('d', [0b00001, 0b00001, 0b01101, 0b10011, 0b10001, 0b10001, 0b01111, 0, 0]),
    ('e', [0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110, 0, 0]),
    ('f', [0b00110, 0b01001, 0b01000, 0b11100, 0b01000, 0b01000, 0b01000, 0, 0]),
    ('g', [0b00000, 0b00000, 0b01111, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110]),
    ('i', [0b00100, 0b00000, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110, 0, 0]),
    ('l', [0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110, 0, 0]),
    ('n', [0b00000, 0b00000, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001, 0, 0]),
    ('o', [0b00000, 0b00000, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110, 0, 0]),
    ('p', [0b00000, 0b00000, 0b11110, 0b10001, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000]),
    ('r', [0b00000, 0b00000, 0b10110, 0b11001, 0b10000, 0b10000, 0b10000, 0, 0]),
    ('s', [0b00000, 0b00000, 0b01110, 0b10000, 0b01110, 0b00001, 0b11110, 0, 0]),
    ('t', [0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110, 0, 0]),
    ('x', [0b00000, 0b00000, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0, 0]),
];

/// Width of a text in pixels.
pub(super) fn width(text: &str) -> u32 {
    (text.chars().count() as u32 * STEP).saturating_sub(STEP - DOTS) * SCALE
}

/// The pixels of a text that are inked. What has no glyph is a space.
pub(super) fn dots(text: &str) -> impl Iterator<Item = (u32, u32)> {
    text.chars().zip(0..).flat_map(|(char, place)| {
        let rows =
            GLYPHS.iter().find(|(known, _)| *known == char).map_or([0; ROWS], |(_, rows)| *rows);
        let pixels = (0..ROWS as u32 * SCALE).flat_map(|y| (0..DOTS * SCALE).map(move |x| (x, y)));
        pixels
            .filter(move |(x, y)| rows[(y / SCALE) as usize] >> (DOTS - 1 - x / SCALE) & 1 == 1)
            .map(move |(x, y)| (place * STEP * SCALE + x, y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_a_legend_has_dots_of_its_own() {
        for text in ["against", "for", "explained", "+-0.123456789%"] {
            assert!(text.chars().all(|char| dots(&char.to_string()).next().is_some()), "{text}");
            assert!(dots(text).all(|(x, y)| x < width(text) && y < 18));
        }
        let mut all: Vec<_> = GLYPHS.iter().map(|(_, rows)| rows).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), GLYPHS.len());
    }
}
