//! `preprocessor_config.json` in its forms, and in forms that make no sense.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip::checkpoint::processor;
use clip::error::ErrorKind;
use clip::preprocess::{Filter, Preprocessing, Processor, Resize};

const FILE: &str = "preprocessor_config.json";

fn parse(json: &str) -> Preprocessing {
    processor::parse(FILE, json.as_bytes(), 224, Processor::Clip).unwrap()
}

fn refuse(json: &str) -> String {
    let error = processor::parse(FILE, json.as_bytes(), 224, Processor::Clip).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    error.to_string()
}

/// The problem with one field, after the file's name.
#[track_caller]
fn refused(field: &str, problem: &str) {
    let message = refuse(&format!("{{{field}}}"));
    assert_eq!(message, format!("preprocessor_config.json {problem}"));
}

#[test]
fn old_new_and_empty_forms_are_openais_recipe() {
    let old = r#"{"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
    let new = r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true,
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_processor_type": "CLIPImageProcessorFast",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224}}"#;
    let nested = format!(r#"{{"image_processor": {new}, "processor_class": "CLIPProcessor"}}"#);
    for json in [old, new, &nested, "{}", r#"{"size": null, "do_pad": null}"#] {
        assert_eq!(parse(json), Preprocessing::clip(224));
    }
    assert_eq!(
        processor::parse(FILE, b"{}", 64, Processor::Clip).unwrap(),
        Preprocessing::clip(64)
    );
}

#[test]
fn published_configs_are_read() {
    let published = support::project("test/fixtures/published");
    let read =
        |name: &str| std::fs::read(published.join(name).join("preprocessor_config.json")).unwrap();
    let clip =
        processor::parse(FILE, &read("clip-vit-base-patch32"), 224, Processor::Clip).unwrap();
    assert_eq!(clip, Preprocessing::clip(224));
    let siglip =
        processor::parse(FILE, &read("siglip-base-patch16-224"), 224, Processor::Clip).unwrap();
    assert_eq!(siglip.resize, Resize::Exact { height: 224, width: 224 });
    assert_eq!((siglip.crop, siglip.filter), (None, Filter::Bicubic));
    assert_eq!((siglip.mean, siglip.std), ([0.5; 3], [0.5; 3]));
}

#[test]
fn variants_are_honoured() {
    assert_eq!(parse(r#"{"size": 256}"#).resize, Resize::ShortestEdge(256));
    assert_eq!(
        parse(r#"{"size": {"height": 240, "width": 230}}"#).resize,
        Resize::Exact { height: 240, width: 230 }
    );
    assert_eq!(parse(r#"{"resample": 2}"#).filter, Filter::Bilinear);
    let plain = parse(r#"{"do_normalize": false}"#);
    assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    let unscaled = parse(r#"{"do_rescale": false, "image_mean": 127.5, "image_std": 255}"#);
    assert_eq!((unscaled.mean, unscaled.std), ([0.5; 3], [1.0; 3]));
    let halved =
        parse(r#"{"rescale_factor": 0.00784313725490196, "image_mean": 1, "image_std": 1}"#);
    assert_eq!((halved.mean, halved.std), ([0.5; 3], [0.5; 3]));
}

#[test]
fn sizes_without_sense_are_refused_by_name() {
    let pixels = "expected a number of pixels from 1 to 4096";
    refused(r#""size": 0"#, &format!("has size 0, {pixels}"));
    refused(r#""size": "224""#, &format!("has size \"224\", {pixels}"));
    refused(r#""size": {"shortest_edge": -3}"#, &format!("has size.shortest_edge -3, {pixels}"));
    refused(
        r#""size": {"height": 224, "width": 1e300}"#,
        &format!("has size.width 1e+300, {pixels}"),
    );
    refused(r#""crop_size": 4294967520"#, &format!("has crop_size 4294967520, {pixels}"));
    refused(
        r#""size": {"shortest_edge": 224, "longest_edge": 500}"#,
        "has size {\"longest_edge\":500,\"shortest_edge\":224}, expected a number, \
         {shortest_edge} or {height, width}",
    );
}

#[test]
fn other_nonsense_is_refused_by_name() {
    refused(r#""crop_size": {}"#, "has crop_size {}, expected a number or {height, width}");
    refused(
        r#""do_resize": false"#,
        "has do_resize false, expected true, because pictures come in every size",
    );
    refused(
        r#""do_center_crop": false"#,
        "has do_center_crop false, expected true, because pictures resized by their \
         shortest edge differ in size",
    );
    refused(r#""do_center_crop": 1"#, "has do_center_crop 1, expected true or false");
    refused(
        r#""do_pad": true"#,
        "has do_pad true, expected false, because this step is not supported",
    );
    refused(
        r#""resample": 0"#,
        "has resample 0, expected 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (Hamming)",
    );
    refused(
        r#""image_mean": [0.5, 0.5]"#,
        "has image_mean [0.5,0.5], expected three numbers, one a channel",
    );
    refused(
        r#""image_std": [1, 0, 1]"#,
        "has image_std [1,0,1], expected three numbers greater than 0",
    );
    refused(
        r#""rescale_factor": "x""#,
        "has rescale_factor \"x\", expected a number such as 1/255",
    );
    refused(
        r#""image_processor_type": "ViTImageProcessor""#,
        "names the processor \"ViTImageProcessor\", expected \"CLIPImageProcessor\" or \
         \"SiglipImageProcessor\"; another one's steps are not known here",
    );
}

#[test]
fn sizes_have_to_fit_each_other_and_the_model() {
    refused(
        r#""size": 200"#,
        "has crop_size null, expected no larger than size, or the crop has nothing to cut from",
    );
    refused(
        r#""size": 336, "crop_size": 336"#,
        "makes pictures of 336 x 336 pixels, the model takes 224 x 224 \
         (vision_config.image_size in config.json); the two files have to be of one model",
    );
}

#[test]
fn what_is_no_object_is_refused() {
    assert!(refuse("").starts_with("preprocessor_config.json cannot be used: it is not JSON: "));
    assert_eq!(refuse("[]"), "preprocessor_config.json cannot be used: it is not a JSON object");
    assert_eq!(
        refuse(r#"{"image_processor": 3}"#),
        "preprocessor_config.json cannot be used: it has no object image_processor"
    );
    let long = format!(r#"{{"size": "{}"}}"#, "x".repeat(100_000));
    assert!(refuse(&long).len() < 500);
}

#[test]
fn errors_name_the_file_that_was_read() {
    let newer = "processor_config.json";
    let refusal = |json: &str| {
        processor::parse(newer, json.as_bytes(), 224, Processor::Clip).unwrap_err().to_string()
    };
    let none = "processor_config.json cannot be used: it has no object image_processor";
    for json in ["{}", "[]", r#"{"image_processor": 3}"#, r#"{"size": 224}"#] {
        assert_eq!(refusal(json), none);
    }
    assert!(refusal("{").starts_with("processor_config.json cannot be used: it is not JSON: "));
    let wrong = refusal(r#"{"image_processor": {"size": 0}}"#);
    assert!(wrong.starts_with("processor_config.json has size 0, "), "{wrong}");
    let inner = r#"{"image_processor": {"size": 224}}"#;
    let read = processor::parse(newer, inner.as_bytes(), 224, Processor::Clip).unwrap();
    assert_eq!(read, Preprocessing::clip(224));
}
