//! `preprocessor_config.json` and `processor_config.json`, as written by Hugging Face transformers of any age.

use serde_json::{Map, Value};

use super::json;
use super::layout::PROCESSORS;
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::{CLIP_MEAN, CLIP_STD, Filter, Preprocessing, Processor, Resize};

/// No model takes larger pictures; a larger number is a mistake.
const MAX_SIZE: u32 = 4096;

/// The steps that are known, and so either taken or refused. Another `do_...: true` is refused.
const STEPS: [&str; 5] =
    ["do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"];

/// Reads the content of `file`, a `preprocessor_config.json` of the old form or the new or a
/// `processor_config.json`, for a model whose pictures are `image_size` x `image_size` pixels.
///
/// Missing fields take the values of the processor that the file names, or else of `processor`.
/// What cannot be done as the file says is refused; a `rescale_factor` other than 1/255 and
/// switched-off normalisation are worked into `mean` and `std`.
///
/// # Errors
/// `InvalidConfig`, naming the file and the field.
pub fn parse(
    file: &str,
    bytes: &[u8],
    image_size: u32,
    processor: Processor,
) -> Result<Preprocessing> {
    let cannot = |why: &str| invalid(file, &format!("cannot be used: {why}"));
    let json = json::parse(bytes).map_err(|why| cannot(&why))?;
    // The newer file is of all processors, and has the picture's in a field of its own.
    let (map, why) = match json.get("image_processor") {
        None if file != PROCESSORS[1] => (json.as_object(), "it is not a JSON object"),
        part => (part.and_then(Value::as_object), "it has no object image_processor"),
    };
    let map = map.ok_or_else(|| cannot(why))?;
    Fields { file, map, image_size }.preprocessing(processor)
}

struct Fields<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
    image_size: u32,
}

impl Fields<'_> {
    fn preprocessing(&self, default: Processor) -> Result<Preprocessing> {
        let processor = self.processor(default)?;
        self.refuse_unknown_steps()?;
        if !self.flag("do_resize", true)? {
            return Err(self.wrong("do_resize", "true, because pictures come in every size"));
        }
        let resize = self.resize(processor)?;
        let crop = self.flag("do_center_crop", processor == Processor::Clip)?;
        let crop = if crop { Some(self.crop()?) } else { None };
        self.check_output(resize, crop)?;
        let (mean, std) = self.normalisation(processor)?;
        Ok(Preprocessing { resize, crop, filter: self.filter()?, mean, std })
    }

    fn processor(&self, default: Processor) -> Result<Processor> {
        let name = self.get("image_processor_type").or(self.get("feature_extractor_type"));
        let Some(name) = name else { return Ok(default) };
        let plain = name.as_str().unwrap_or_default();
        let plain = plain.trim_end_matches("Fast").trim_end_matches("Pil");
        match plain {
            "CLIPImageProcessor" | "CLIPFeatureExtractor" => Ok(Processor::Clip),
            "SiglipImageProcessor" => Ok(Processor::Siglip),
            _ => Err(invalid(
                self.file,
                &format!(
                    "names the processor {name}, expected \"CLIPImageProcessor\" or \
                    \"SiglipImageProcessor\"; another one's steps are not known here"
                ),
            )),
        }
    }

    fn refuse_unknown_steps(&self) -> Result<()> {
        for (name, value) in self.map {
            let asked = name.starts_with("do_") && *value != Value::Bool(false) && !value.is_null();
            if asked && !STEPS.contains(&name.as_str()) {
                return Err(self.wrong(name, "false, because this step is not supported"));
            }
        }
        Ok(())
    }

    fn resize(&self, processor: Processor) -> Result<Resize> {
        match (self.get("size"), processor) {
            (None, Processor::Clip) => Ok(Resize::ShortestEdge(self.image_size)),
            (None, Processor::Siglip) => {
                Ok(Resize::Exact { height: self.image_size, width: self.image_size })
            }
            (Some(Value::Object(size)), _) => self.resize_from(size),
            (Some(value), Processor::Clip) => Ok(Resize::ShortestEdge(self.side("size", value)?)),
            (Some(value), Processor::Siglip) => {
                let side = self.side("size", value)?;
                Ok(Resize::Exact { height: side, width: side })
            }
        }
    }

    fn resize_from(&self, size: &Map<String, Value>) -> Result<Resize> {
        match (size.get("shortest_edge"), size.get("height"), size.get("width")) {
            (Some(edge), None, None) if size.len() == 1 => {
                Ok(Resize::ShortestEdge(self.side("size.shortest_edge", edge)?))
            }
            (None, Some(height), Some(width)) if size.len() == 2 => Ok(Resize::Exact {
                height: self.side("size.height", height)?,
                width: self.side("size.width", width)?,
            }),
            _ => Err(self.wrong("size", "a number, {shortest_edge} or {height, width}")),
        }
    }

    /// Height and width.
    fn crop(&self) -> Result<(u32, u32)> {
        match self.get("crop_size") {
            None => Ok((self.image_size, self.image_size)),
            Some(Value::Object(size)) => match (size.get("height"), size.get("width")) {
                (Some(height), Some(width)) if size.len() == 2 => Ok((
                    self.side("crop_size.height", height)?,
                    self.side("crop_size.width", width)?,
                )),
                _ => Err(self.wrong("crop_size", "a number or {height, width}")),
            },
            Some(value) => {
                let side = self.side("crop_size", value)?;
                Ok((side, side))
            }
        }
    }

    /// Whatever the picture, the result has to have the one size that the model takes.
    fn check_output(&self, resize: Resize, crop: Option<(u32, u32)>) -> Result<()> {
        let (resized, fixed) = match resize {
            Resize::ShortestEdge(edge) => ((edge, edge), false),
            Resize::Exact { height, width } => ((height, width), true),
        };
        if crop.is_none() && !fixed {
            let expected = "true, because pictures resized by their shortest edge differ in size";
            return Err(self.wrong("do_center_crop", expected));
        }
        let (height, width) = crop.unwrap_or(resized);
        if height > resized.0 || width > resized.1 {
            let expected = "no larger than size, or the crop has nothing to cut from";
            return Err(self.wrong("crop_size", expected));
        }
        let side = self.image_size;
        if (height, width) == (side, side) {
            return Ok(());
        }
        let problem = format!(
            "makes pictures of {height} x {width} pixels, the model takes {side} x {side} \
            (vision_config.image_size in config.json); the two files have to be of one model"
        );
        Err(invalid(self.file, &problem))
    }

    /// `resample` counts as Pillow does.
    fn filter(&self) -> Result<Filter> {
        match self.get("resample").map_or(Some(3), Value::as_u64) {
            Some(1) => Ok(Filter::Lanczos),
            Some(2) => Ok(Filter::Bilinear),
            Some(3) => Ok(Filter::Bicubic),
            Some(4) => Ok(Filter::Box),
            Some(5) => Ok(Filter::Hamming),
            _ => Err(self.wrong(
                "resample",
                "1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (Hamming)",
            )),
        }
    }

    /// Mean and deviation of pixels from 0 to 1, with a factor other than 1/255 worked in.
    fn normalisation(&self, processor: Processor) -> Result<([f32; 3], [f32; 3])> {
        let (mean, std) = match processor {
            Processor::Clip => (CLIP_MEAN, CLIP_STD),
            Processor::Siglip => ([0.5; 3], [0.5; 3]),
        };
        let (mean, std) = if self.flag("do_normalize", true)? {
            (self.triple("image_mean", mean)?, self.triple("image_std", std)?)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        if std.iter().any(|value| *value <= 0.0) {
            return Err(self.wrong("image_std", "three numbers greater than 0"));
        }
        let factor =
            if self.flag("do_rescale", true)? { self.rescale_factor()? * 255.0 } else { 255.0 };
        let scaled = |values: [f32; 3]| values.map(|value| (f64::from(value) / factor) as f32);
        Ok((scaled(mean), scaled(std)))
    }

    fn rescale_factor(&self) -> Result<f64> {
        let Some(value) = self.get("rescale_factor") else { return Ok(1.0 / 255.0) };
        let factor = value.as_f64().filter(|factor| (1e-6..=1e6).contains(factor));
        factor.ok_or_else(|| self.wrong("rescale_factor", "a number such as 1/255"))
    }

    /// Three numbers, or one for all three channels.
    fn triple(&self, name: &str, default: [f32; 3]) -> Result<[f32; 3]> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = |value: &Value| {
            let number = value.as_f64().filter(|number| number.abs() <= 1e6);
            number.map(|number| number as f32)
        };
        let numbers = match value {
            Value::Array(values) => values.iter().map(number).collect(),
            value => number(value).map(|number| vec![number; 3]),
        };
        let numbers: Option<[f32; 3]> =
            numbers.and_then(|numbers: Vec<f32>| numbers.try_into().ok());
        numbers.ok_or_else(|| self.wrong(name, "three numbers, one a channel"))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    fn side(&self, name: &str, value: &Value) -> Result<u32> {
        let side = value.as_u64().and_then(|side| u32::try_from(side).ok());
        side.filter(|side| (1..=MAX_SIZE).contains(side)).ok_or_else(|| {
            invalid(
                self.file,
                &format!("has {name} {value}, expected a number of pixels from 1 to {MAX_SIZE}"),
            )
        })
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        let value = self.get(name).unwrap_or(&Value::Null);
        invalid(self.file, &format!("has {name} {value}, expected {expected}"))
    }
}

fn invalid(file: &str, problem: &str) -> Error {
    let mut message = format!("{file} {problem}");
    // A hostile file must not fill a log.
    if message.len() > 400 {
        message = message.chars().take(400).chain("...".chars()).collect();
    }
    Error::new(ErrorKind::InvalidConfig, message)
}
