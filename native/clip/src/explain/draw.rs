//! A map over its picture.

use super::colour::{over, unseen};
use super::legend::{self, Canvas};
use super::view::View;
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::Window;

/// A map, and where it lies.
#[derive(Debug, Clone)]
pub struct Layer {
    /// A value for each patch, row by row: above 0 where it speaks for a label, below where against.
    pub values: Vec<f32>,
    /// Patches in a row.
    pub columns: u32,
    /// Where the patches lie in the picture.
    pub window: Window,
    /// The value that has the full colour; larger ones have it too.
    pub limit: f32,
    /// The share of the score that all patches account for, to write beside the map.
    pub explained: Option<f64>,
}

/// A map over its picture: orange where a patch speaks for the label, blue where against it. The
/// picture is grey below it, and faint where the model did not see it.
#[derive(Debug)]
pub struct Drawing<'a> {
    view: &'a View,
    layer: &'a Layer,
    /// For each column of pixels the columns of patches that it lies between, and for each row.
    columns: Vec<Option<Between>>,
    rows: Vec<Option<Between>>,
}

/// Two patches between whose centres a place lies, and how far it is from the first. At the edges both
/// are the same.
type Between = (usize, usize, f32);

impl<'a> Drawing<'a> {
    /// Lays the layer over the view.
    ///
    /// # Errors
    /// `InvalidArgument` if the values are not whole rows, or the bytes of the view not as many as it
    /// has pixels.
    pub fn new(view: &'a View, layer: &'a Layer) -> Result<Self> {
        let (columns, values) = (layer.columns as usize, layer.values.len());
        if columns == 0 || values == 0 || !values.is_multiple_of(columns) {
            return Err(invalid(format!("{values} values are not rows of {columns}")));
        }
        let pixels = u64::from(view.width) * u64::from(view.height);
        if pixels == 0 || view.planes.len() as u64 != pixels.saturating_mul(3) {
            let (bytes, width, height) = (view.planes.len(), view.width, view.height);
            return Err(invalid(format!(
                "{bytes} bytes are not three planes of {width} x {height}"
            )));
        }
        let ((wide, high), window) = (view.picture, &layer.window);
        let rows = between((view.height, high), (window.top, window.height), values / columns);
        let columns = between((view.width, wide), (window.left, window.width), columns);
        Ok(Self { view, layer, columns, rows })
    }

    /// The drawing with its legend as a PNG file.
    pub fn png(&self) -> Result<Vec<u8>> {
        let View { width, height, .. } = *self.view;
        let mut canvas = Canvas::new(width.max(legend::WIDTH), height + legend::HEIGHT)?;
        let left = (canvas.width - width) / 2;
        for y in 0..height {
            for x in 0..width {
                canvas.set(left + x, y, self.pixel(x, y));
            }
        }
        legend::draw(&mut canvas, height, self.layer.limit, self.layer.explained);
        encode(&canvas)
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.view.width, self.view.height)
    }

    pub(super) fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let pixel = self.view.pixel(x, y);
        match self.value(x, y) {
            Some(value) => over(pixel, value),
            None => unseen(pixel),
        }
    }

    /// The value at a pixel of the view, from -1 to 1: between the centres of patches in proportion.
    fn value(&self, x: u32, y: u32) -> Option<f32> {
        let (left, right, x) = self.columns[x as usize]?;
        let (above, below, y) = self.rows[y as usize]?;
        let value = |row: usize, column: usize| {
            self.layer.values[row * self.layer.columns as usize + column]
        };
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        let value = mix(
            mix(value(above, left), value(above, right), x),
            mix(value(below, left), value(below, right), x),
            y,
        );
        let is_scale = self.layer.limit > 0.0 && value.is_finite();
        Some(if is_scale { (value / self.layer.limit).clamp(-1.0, 1.0) } else { 0.0 })
    }
}

/// Along one side: which of `patches` the pixels of the view lie between, if the model saw them.
fn between(
    (shown, picture): (u32, u32),
    (start, length): (f64, f64),
    patches: usize,
) -> Vec<Option<Between>> {
    let share = |at: u32| {
        let at = (f64::from(at) + 0.5) * f64::from(picture) / f64::from(shown);
        (at - start) / length
    };
    let is_seen = |share: &f64| (0.0..1.0).contains(share);
    let between = |share: f64| neighbours(share as f32, patches);
    (0..shown).map(|at| Some(share(at)).filter(is_seen).map(between)).collect()
}

/// The patches of `count` that a share of their length lies between.
fn neighbours(share: f32, count: usize) -> Between {
    let last = (count - 1) as f32;
    let at = (share * count as f32 - 0.5).clamp(0.0, last);
    let first = at.floor();
    (first as usize, (first + 1.0).min(last) as usize, at - first)
}

fn encode(canvas: &Canvas) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, canvas.width, canvas.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&canvas.pixels)?;
        writer.finish()
    });
    written.map_err(|e| {
        let message = format!("the map cannot be written as PNG: {e}");
        Error::new(ErrorKind::Internal, message).with_source(e)
    })?;
    Ok(file)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::image::{self, DecodeOptions, Rgb};

    /// A grey picture of 400 x 200, of which the middle square is seen.
    fn view() -> View {
        let (width, height) = (400, 200);
        let planes = vec![128; 3 * 400 * 200];
        View { width, height, picture: (800, 400), planes }
    }

    fn layer(values: &[f32]) -> Layer {
        let window = Window { left: 200.0, top: 0.0, width: 400.0, height: 400.0 };
        Layer { values: values.to_vec(), columns: 2, window, limit: 0.5, explained: Some(0.62) }
    }

    fn decoded(file: &[u8]) -> Rgb {
        image::decode(file, &DecodeOptions::default(), &Budget::default()).unwrap()
    }

    #[test]
    fn patches_have_the_colour_of_their_value_where_they_lie() {
        let (view, layer) = (view(), layer(&[0.5, -0.5, 0.0, 0.1]));
        let drawing = Drawing::new(&view, &layer).unwrap();
        // The centres of the four patches, in pixels of the view.
        let [first, second] = [drawing.pixel(150, 50), drawing.pixel(250, 50)];
        assert!(first[0] > first[2] + 60 && second[2] > second[0] + 60, "{first:?} {second:?}");
        let [third, fourth] = [drawing.pixel(150, 150), drawing.pixel(250, 150)];
        let spread = |[red, _, blue]: [u8; 3]| i32::from(red) - i32::from(blue);
        assert!(spread(third).abs() < 6 && spread(fourth) > 20, "{third:?} {fourth:?}");
        // Beside the window.
        assert_eq!(spread(drawing.pixel(99, 50)), 0);
        assert_eq!(spread(drawing.pixel(300, 50)), 0);
        assert!(spread(drawing.pixel(101, 50)) > 60);
    }

    #[test]
    fn a_png_has_the_picture_and_the_legend_below() {
        let (view, layer) = (view(), layer(&[0.5, -0.5, 0.0, 0.1]));
        let drawing = Drawing::new(&view, &layer).unwrap();
        let picture = decoded(&drawing.png().unwrap());
        assert_eq!((picture.width(), picture.height()), (legend::WIDTH, 200 + legend::HEIGHT));
        let pixels = picture.pixels();
        let left = (legend::WIDTH - 400) / 2;
        let at = (50 * legend::WIDTH + left + 150) as usize * 3;
        assert_eq!(pixels[at..at + 3], drawing.pixel(150, 50));
        let below = &pixels[(200 * legend::WIDTH) as usize * 3..];
        assert!(below.iter().any(|level| *level < 60), "no digits");
    }

    #[test]
    fn a_map_of_nothing_is_no_colour() {
        let view = view();
        for (values, limit) in [([0.0; 4], 0.0), ([f32::NAN; 4], 1.0), ([1.0; 4], f32::NAN)] {
            let layer = Layer { limit, explained: None, ..layer(&values) };
            let drawing = Drawing::new(&view, &layer).unwrap();
            let [red, green, blue] = drawing.pixel(200, 100);
            assert!(red == green && green == blue);
            drawing.png().unwrap();
        }
    }

    #[test]
    fn values_and_bytes_that_do_not_fit_are_errors() {
        let (view, fitting) = (view(), layer(&[0.0; 4]));
        for columns in [0, 3] {
            assert!(Drawing::new(&view, &Layer { columns, ..fitting.clone() }).is_err());
        }
        assert!(Drawing::new(&view, &layer(&[])).is_err());
        for (width, height) in [(0, 200), (401, 200), (u32::MAX, u32::MAX)] {
            assert!(Drawing::new(&View { width, height, ..view.clone() }, &fitting).is_err());
        }
    }
}
