//! A picture as a model takes it, with what is needed to show where the model looked.

use clip::Preprocessing;
use clip::explain::View;
use clip::image::Rgb;
use clip::preprocess::Window;
use rustler::{Binary, Encoder, Env, NewBinary, NifMap, Term};

/// `%{patch: 32, view: true}`: the side of a patch, and whether the picture itself is wanted too.
#[derive(NifMap)]
pub(crate) struct Show {
    patch: u32,
    view: bool,
}

impl Show {
    /// Whether the picture itself is wanted, all of its pixels.
    pub(crate) fn views(show: Option<&Self>) -> bool {
        show.is_some_and(|show| show.view)
    }
}

/// The pixels, or `%{pixels: pixels, size: {width, height}, window: {left, top, width, height}, view: view}`
/// with the upright picture's size, the part of it that the patches cover, and either `nil` or a
/// [`ViewMap`].
pub(crate) struct Prepared {
    pixels: Vec<u8>,
    shown: Option<Shown>,
}

struct Shown {
    size: (u32, u32),
    window: Window,
    view: Option<View>,
}

impl Prepared {
    /// Of all pixels of a picture.
    pub(crate) fn of_rgb(
        rgb: &Rgb,
        preprocessing: &Preprocessing,
        show: Option<&Show>,
    ) -> clip::Result<Self> {
        let pixels = preprocessing.apply(rgb)?;
        let mut prepared = Self::new(pixels, rgb.whole_size(), preprocessing, show)?;
        if let (Some(shown), true) = (&mut prepared.shown, Show::views(show)) {
            shown.view = Some(View::new(rgb)?);
        }
        Ok(prepared)
    }

    /// Without a view of the picture. `size`: its width and height upright.
    pub(crate) fn new(
        pixels: Vec<u8>,
        size: (u32, u32),
        preprocessing: &Preprocessing,
        show: Option<&Show>,
    ) -> clip::Result<Self> {
        let shown = match show {
            None => None,
            Some(show) => {
                let window = preprocessing.window(size, show.patch)?;
                Some(Shown { size, window, view: None })
            }
        };
        Ok(Self { pixels, shown })
    }
}

impl Encoder for Prepared {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let pixels = binary(env, &self.pixels);
        let Some(Shown { size, window, view }) = &self.shown else { return pixels.encode(env) };
        let window = (window.left, window.top, window.width, window.height);
        let view = view.as_ref().map(|view| ViewMap {
            width: view.width,
            height: view.height,
            picture: view.picture,
            planes: binary(env, &view.planes),
        });
        ShownMap { pixels, size: *size, window, view }.encode(env)
    }
}

#[derive(NifMap)]
#[rustler(encode)]
struct ShownMap<'a> {
    pixels: Binary<'a>,
    size: (u32, u32),
    window: (f64, f64, f64, f64),
    view: Option<ViewMap<'a>>,
}

/// `%{width: 448, height: 336, picture: {1600, 1200}, planes: bytes}`.
#[derive(NifMap)]
pub(crate) struct ViewMap<'a> {
    width: u32,
    height: u32,
    picture: (u32, u32),
    planes: Binary<'a>,
}

impl ViewMap<'_> {
    pub(crate) fn view(&self) -> View {
        View {
            width: self.width,
            height: self.height,
            picture: self.picture,
            planes: self.planes.to_vec(),
        }
    }
}

/// Bytes as a binary.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Binary<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}
