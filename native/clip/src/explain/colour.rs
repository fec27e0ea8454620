//! Colours of a diverging scale that colour blindness does not confuse: blue, white, orange.

/// What speaks against a label, as far as anything does.
const AGAINST: [f32; 3] = [24.0, 98.0, 189.0];
/// What speaks for it.
const FOR: [f32; 3] = [235.0, 110.0, 0.0];

/// The darkest that a pixel of the picture becomes, where colours can still be told apart.
const DARKEST: f32 = 0.45;

/// The colour of a value from -1 (against) to 1 (for); 0 is white.
pub(super) fn diverging(value: f32) -> [f32; 3] {
    let end = if value < 0.0 { AGAINST } else { FOR };
    let strength = value.abs().min(1.0);
    end.map(|channel| 255.0 + (channel - 255.0) * strength)
}

/// A pixel of the picture in shades of grey, under the colour of a value.
pub(super) fn over(pixel: [u8; 3], value: f32) -> [u8; 3] {
    let light = DARKEST + (1.0 - DARKEST) * luminance(pixel) / 255.0;
    diverging(value).map(|channel| byte(channel * light))
}

/// A pixel of the picture that the model did not see: faint.
pub(super) fn unseen(pixel: [u8; 3]) -> [u8; 3] {
    [byte(190.0 + luminance(pixel) * 0.16); 3]
}

/// The nearest byte: the cast cuts the fraction off, without a call of `round`.
fn byte(level: f32) -> u8 {
    (level + 0.5) as u8
}

fn luminance([red, green, blue]: [u8; 3]) -> f32 {
    0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_white_and_the_ends_are_orange_and_blue() {
        assert_eq!(diverging(0.0), [255.0; 3]);
        assert_eq!(diverging(1.0), FOR);
        assert_eq!(diverging(-1.0), AGAINST);
        assert_eq!(diverging(7.0), FOR);
    }

    #[test]
    fn the_ends_differ_in_blue_against_yellow_which_nearly_everybody_sees() {
        let yellow = |[red, green, blue]: [f32; 3]| (red + green) / 2.0 - blue;
        assert!(yellow(FOR) > 150.0 && yellow(AGAINST) < -100.0);
    }

    #[test]
    fn a_value_shows_on_black_and_on_white() {
        for pixel in [[0; 3], [255; 3]] {
            let [red, _, blue] = over(pixel, 1.0);
            assert!(red > blue + 60);
            let [red, _, blue] = over(pixel, -1.0);
            assert!(blue > red + 45);
        }
    }
}
