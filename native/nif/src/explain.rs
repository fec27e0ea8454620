//! Where the score of a label comes from: numbers, and pictures of them.

use clip::explain::{self, Account, Colours, Drawing, Layer};
use clip::preprocess::Window;
use nif_terms::{Failure, Floats, guarded};
use rustler::{Binary, Env, NifMap, NifTaggedEnum, NifUnitEnum};

use crate::ScoringTerm;
use crate::prepared::{ViewMap, binary};

/// `[{index, score, account}]` as `rank` answers, of one picture's `parts`.
#[rustler::nif(schedule = "DirtyCpu")]
fn explain(
    parts: Binary,
    dim: usize,
    texts: Binary,
    background: Binary,
    scoring: ScoringTerm,
) -> Result<Vec<(usize, f64, AccountTerm)>, Failure> {
    guarded(|| {
        let (parts, texts) = (Floats::read(&parts)?, Floats::read(&texts)?);
        let background = Floats::read(&background)?;
        let explained = explain::explain(&parts, dim, &texts, &background, &scoring.into())?;
        Ok(explained
            .into_iter()
            .map(|(index, score, account)| (index, score, account.into()))
            .collect())
    })
}

#[derive(NifMap)]
#[rustler(encode)]
struct AccountTerm {
    cosine: f64,
    rest: f64,
    explained: Option<f64>,
    map: Floats,
    contrast: Floats,
}

impl From<Account> for AccountTerm {
    fn from(account: Account) -> Self {
        let Account { cosine, rest, explained, map, contrast } = account;
        Self { cosine, rest, explained, map: Floats(map), contrast: Floats(contrast) }
    }
}

/// A map over its picture: a PNG file, or text for a terminal.
#[rustler::nif(schedule = "DirtyCpu")]
fn draw<'a>(
    env: Env<'a>,
    view: ViewMap<'a>,
    layer: LayerTerm<'a>,
    format: Format,
) -> Result<Binary<'a>, Failure> {
    let bytes = guarded(|| {
        let (view, layer) = (view.view(), layer.layer()?);
        let drawing = Drawing::new(&view, &layer)?;
        match format {
            Format::Png => drawing.png(),
            Format::Ansi(side, colours) => Ok(drawing.ansi(side, colours.into()).into_bytes()),
        }
    })?;
    Ok(binary(env, &bytes))
}

/// `%{values: floats, columns: 7, window: {0.0, 0.0, 640.0, 480.0}, limit: 0.02, explained: 0.62}`.
#[derive(NifMap)]
#[rustler(decode)]
struct LayerTerm<'a> {
    values: Binary<'a>,
    columns: u32,
    window: (f64, f64, f64, f64),
    limit: f64,
    explained: Option<f64>,
}

impl LayerTerm<'_> {
    fn layer(&self) -> clip::Result<Layer> {
        let (left, top, width, height) = self.window;
        Ok(Layer {
            values: Floats::read(&self.values)?.into_owned(),
            columns: self.columns,
            window: Window { left, top, width, height },
            limit: self.limit as f32,
            explained: self.explained,
        })
    }
}

/// `:png` or `{:ansi, 48, :palette}`.
#[derive(NifTaggedEnum)]
enum Format {
    Png,
    Ansi(u32, ColoursTerm),
}

#[derive(NifUnitEnum)]
enum ColoursTerm {
    True,
    Palette,
}

impl From<ColoursTerm> for Colours {
    fn from(term: ColoursTerm) -> Self {
        match term {
            ColoursTerm::True => Self::True,
            ColoursTerm::Palette => Self::Palette,
        }
    }
}
