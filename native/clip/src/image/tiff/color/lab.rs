//! CIE L*a*b* under D50 to sRGB, as Little CMS converts it for Pillow: exactly on a grid of colours,
//! and by interpolation between them.

/// The white of D50.
const WHITE: [f32; 3] = [0.9642, 1.0, 0.8249];

/// X, Y and Z under D50 to linear red, green and blue of sRGB (Bradford's adaptation).
const TO_RGB: [[f32; 3]; 3] = [
    [3.134_136, -1.617_386, -0.490_662],
    [-0.978_796, 1.916_254, 0.033_443],
    [0.071_955, -0.228_977, 1.405_386],
];

/// Steps of the grid along each axis.
const STEPS: usize = 32;

/// How far apart neighbours on the grid are along each axis, in nodes.
const APART: [usize; 3] = [(STEPS + 1) * (STEPS + 1), STEPS + 1, 1];

/// Levels of a channel but one.
const LEVELS: usize = 255;

pub(super) struct Tables {
    /// Red, green and blue of each node, 16 bits each.
    grid: Vec<[u16; 3]>,
}

impl Tables {
    pub(super) fn new() -> Self {
        let node = |at: usize| {
            let [l, a, b] =
                APART.map(|apart| (at / apart % (STEPS + 1)) as f32 / STEPS as f32 * LEVELS as f32);
            rgb(l / 2.55, a - 128.0, b - 128.0).map(|level| (level * 65_535.0).round() as u16)
        };
        Self { grid: (0..APART[0] * (STEPS + 1)).map(node).collect() }
    }

    /// Lightness is 0 to 255 for 0 to 100, the other two have a sign.
    pub(super) fn convert(&self, pixels: &mut [u8]) {
        for pixel in pixels.as_chunks_mut::<3>().0 {
            let [l, a, b] = *pixel;
            *pixel = self.interpolate([l, a ^ 0x80, b ^ 0x80]);
        }
    }

    /// Mixes the corners of the tetrahedron of nodes that a colour lies in.
    fn interpolate(&self, color: [u8; 3]) -> [u8; 3] {
        let mut node = 0;
        let mut parts = [(0, 0); 3];
        for ((level, apart), part) in color.into_iter().zip(APART).zip(&mut parts) {
            let scaled = usize::from(level) * STEPS;
            let step = (scaled / LEVELS).min(STEPS - 1);
            node += step * apart;
            *part = (scaled - step * LEVELS, apart);
        }
        parts.sort_unstable_by(|left, right| right.cmp(left));
        let mut sum = [0; 3];
        let mut left = LEVELS;
        for (rest, apart) in parts.into_iter().chain([(0, 0)]) {
            let weight = left - rest;
            for (sum, level) in sum.iter_mut().zip(self.grid[node]) {
                *sum += weight * usize::from(level);
            }
            (left, node) = (rest, node + apart);
        }
        sum.map(|sum| ((sum + LEVELS * 257 / 2) / (LEVELS * 257)) as u8)
    }
}

fn rgb(l: f32, a: f32, b: f32) -> [f32; 3] {
    let y = (l + 16.0) / 116.0;
    let roots = [y + a / 500.0, y, y - b / 200.0];
    let xyz: [f32; 3] = std::array::from_fn(|at| WHITE[at] * linear(roots[at]));
    TO_RGB.map(|row| {
        let light: f32 = row.iter().zip(xyz).map(|(share, part)| share * part).sum();
        let light = light.clamp(0.0, 1.0);
        if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
    })
}

/// The inverse of the root of CIE L*a*b*: the cube, and a line near zero.
fn linear(root: f32) -> f32 {
    if root > 6.0 / 29.0 { root * root * root } else { (root - 4.0 / 29.0) * 108.0 / 841.0 }
}
