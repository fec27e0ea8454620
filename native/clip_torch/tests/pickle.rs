//! `pytorch_model.bin` from strangers: nothing in it is run, and nothing ends the process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/torch_file.rs"]
mod torch_file;
#[path = "support/victim.rs"]
mod victim;

use std::fs;
use std::path::Path;

use clip_torch::ErrorKind;
use support::{fixture, on_a_small_stack};
use torch_file::{Described, Entry, archive, end, int, pickle, text, zip};
use victim::Victim;

const FILE: &str = "pytorch_model.bin";

fn victim() -> Victim {
    Victim::new("metaclip")
}

impl Victim {
    /// Expects these weights to be refused, and a message with this in it.
    fn refuses(&self, weights: &[u8], expected: &str) {
        self.expect(FILE, weights, ErrorKind::InvalidWeights, expected);
    }
}

fn weights_of(name: &str) -> Vec<u8> {
    fs::read(fixture("checkpoints").join(name).join("pytorch_model.bin")).unwrap()
}

/// Pickles that run `touch CANARY` when Python loads them.
fn hostile(canary: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let command = format!("touch {}", canary.display());
    let call = |module: &str, name: &str, argument: &str| {
        let mut out = format!("\x02c{module}\n{name}\n").into_bytes();
        out.insert(0, 0x80);
        out.extend(text(argument));
        out.extend(b"\x85R.");
        out
    };
    let mut stacked = vec![0x80, 4, 0x8c, 5];
    stacked.extend(b"posix\x8c\x06system\x93");
    stacked.extend(text(&command));
    stacked.extend(b"\x85R.");
    let python = format!("__import__('os').system('{command}')");
    vec![
        ("os.system", call("os", "system", &command)),
        ("posix.system", stacked),
        ("builtins.eval", call("builtins", "eval", &python)),
        ("builtins.exec", call("builtins", "exec", &python)),
        ("subprocess.Popen", call("subprocess", "Popen", &command)),
        ("torch.load", call("torch", "load", "elsewhere.bin")),
        ("torch.hub.load_state_dict_from_url", call("torch.hub", "load_state_dict_from_url", "x")),
        ("runpy.run_path", call("runpy", "run_path", "x.py")),
    ]
}

#[test]
fn what_a_pickle_wants_to_run_is_named_and_not_run() {
    let victim = self::victim();
    let canary = victim.path("canary");
    for (name, pickle) in hostile(&canary) {
        let bytes = archive(&pickle, &[]);
        victim.refuses(&bytes, &format!("its pickle asks for {name:?}"));
        victim.refuses(&bytes, "nothing of it was run");
        assert!(!canary.exists(), "{name} was run");
    }
    let old = b"\x80\x02(X\x01\0\0\0xios\nsystem\n.";
    victim.refuses(&archive(old, &[]), "its pickle has the instruction 0x69");
    // The names that are known call nothing either.
    victim
        .refuses(&archive(b"\x80\x02ctorch\nFloatStorage\n)R.", &[]), "calls what makes no tensor");
}

#[test]
fn other_formats_are_named_with_the_way_to_convert_them() {
    let victim = self::victim();
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    victim.refuses(legacy, "the format that PyTorch had before 1.6; convert it with Python");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    victim.refuses(&tar, "the tar format of the first PyTorch; convert it");
    victim.refuses(b"\x80\x04}.", "it is a bare pickle");
    victim.refuses(b"", "it is not a file of torch.save");
    victim.refuses(b"GGUF", "it is not a file of torch.save");
    victim.refuses(&zip(&[Entry::new("a/b", "c")]), "it has no data.pkl");
    let big = [Entry::new("a/data.pkl", "}."), Entry::new("a/byteorder", "big")];
    victim.refuses(&zip(&big), "its byte order is \"big\"");

    let safetensors = fs::read(fixture("checkpoints/laion-b32/model.safetensors")).unwrap();
    victim.refuses(&safetensors, "it is not a file of torch.save");
    victim.write("model.safetensors", weights_of("metaclip"));
    let error = victim.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidWeights);
    let expected = "model.safetensors cannot be used: it is a pickle of PyTorch by the name of";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_torchscript_program_is_not_weights() {
    let victim = self::victim();
    let model = victim.load().unwrap();
    let program = fs::read(model.info().encoders.clone().unwrap().join("text.pt")).unwrap();
    victim.refuses(&program, "it is a TorchScript program, which is never run");
}

#[test]
fn archives_that_lie_are_refused() {
    let victim = self::victim();
    let pickle = Entry::new("a/data.pkl", "\u{2}}.");
    let lie = |change: fn(&mut Entry)| {
        let mut entries = [pickle.clone(), Entry::new("a/data/0", vec![0; 64])];
        change(&mut entries[1]);
        zip(&entries)
    };
    victim.refuses(&lie(|entry| entry.method = 8), "is compressed or encrypted");
    victim.refuses(&lie(|entry| entry.flags = 1), "is compressed or encrypted");
    victim
        .refuses(&lie(|entry| entry.claimed_size = Some(1 << 30)), "\"a/data/0\" is out of bounds");
    victim.refuses(&lie(|entry| entry.claimed_start = Some(0)), "overlap");
    victim.refuses(&lie(|entry| entry.claimed_start = Some(7)), "is out of bounds");
    victim.refuses(&lie(|entry| entry.claimed_start = Some(u32::MAX)), "out of bounds");
    let record = |count, size, start| [b"PK\x03\x04".to_vec(), end(count, size, start)].concat();
    victim.refuses(&record(65_000, 10, 0), "out of bounds");
    victim.refuses(&record(1, u32::MAX - 1, 0), "its zip table is cut short");
    victim.refuses(&record(3, 4, 0), "its zip table is");
    victim.refuses(&record(0xffff, u32::MAX, u32::MAX), "its zip table is");
    victim.refuses(&record(0, 0, 0)[..20], "cut short");
    let huge = Entry::new("a/data.pkl", vec![b'N'; 11 << 20]);
    victim.refuses(&zip(&[huge]), "its data.pkl has more than 10485760 bytes");
}

#[test]
fn programs_that_no_pickler_writes_are_refused() {
    on_a_small_stack(|| {
        let victim = self::victim();
        let run = |program: &[u8], expected: &str| {
            victim.refuses(&archive(&[b"\x80\x02", program].concat(), &[]), expected);
        };
        run(b"", "its pickle is cut short");
        run(b"N", "its pickle is cut short");
        run(b"X\xff\xff\xff\xffab", "its pickle is cut short");
        run(b"X\x01\0\0\0\xff.", "a text that is not UTF-8");
        run(b"cos\nsystem", "its pickle is cut short");
        run(b"\x8a\xff", "its pickle is cut short");
        run(b"\x8a\x09123456789.", "a number of 9 bytes");
        run(b".", "takes more from the stack than is there");
        run(b"R", "takes more from the stack than is there");
        run(b"N(\x85.", "takes more from the stack than is there");
        run(b"t.", "takes more from the stack than is there");
        run(b"q\x01.", "takes more from the stack than is there");
        run(b"h\x05.", "recalls object 5, which it never stored");
        run(b"j\xff\xff\xff\xff.", "recalls object 4294967295");
        run(b"N(NNu.", "fills something that is not a container");
        run(b"}(Nu.", "fills something that is not a container");
        run(b"\x80\x00.", "its pickle is of protocol 0");
        run(b"KK\x93.", "asks for a name that is not text");
        run(b"\x82\x01.", "its pickle has the instruction 0x82");
        run(b"N.", "is not a dictionary of tensors");
        run(&b"}".repeat(2_000_000), "more than 1000000 objects");
        // Nested a million deep, and in a circle.
        let mut nested = b")".to_vec();
        nested.extend(b"\x85".repeat(900_000));
        nested.push(b'.');
        run(&nested, "is not a dictionary of tensors");
        run(b"}q\0X\x01\0\0\0ah\0s.", "it has no tensor");
        run(b"]q\0h\0a.", "is not a dictionary of tensors");
    });
}

/// The bias of the text tower's last normalisation, eight numbers: what tests describe wrongly.
const NAME: &str = "text_model.final_layer_norm.bias";

fn tensor() -> Described {
    Described {
        storage_type: "FloatStorage",
        key: "0".to_owned(),
        count: 8,
        offset: 0,
        shape: vec![8],
        strides: vec![1],
    }
}

fn described(change: impl Fn(&mut Described)) -> Vec<u8> {
    let mut tensor = tensor();
    change(&mut tensor);
    let size = if tensor.storage_type == "DoubleStorage" { 8 } else { 4 };
    archive(&pickle(NAME, &tensor), &[("0", vec![0; 8 * size])])
}

#[test]
fn tensors_that_leave_their_storage_are_refused_by_name() {
    let victim = self::victim();
    let lie = |change: fn(&mut Described), expected: &str| {
        let message = victim.refusal(FILE, &described(change), ErrorKind::InvalidWeights);
        assert!(message.contains(&format!("tensor {NAME:?}")), "{message}");
        assert!(message.contains(expected), "{message}");
    };
    lie(|tensor| tensor.offset = 1, "leaves its 8 numbers");
    lie(|tensor| tensor.offset = -1, "leaves its 8 numbers");
    lie(|tensor| tensor.offset = i64::MAX, "leaves its 8 numbers");
    lie(|tensor| tensor.strides = vec![2], "leaves its 8 numbers");
    lie(|tensor| tensor.strides = vec![i64::MAX], "leaves its 8 numbers");
    lie(|tensor| tensor.strides = vec![], "leaves its 8 numbers");
    // One number standing for many could claim any size.
    lie(|tensor| (tensor.shape, tensor.strides) = (vec![9], vec![0]), "leaves its 8 numbers");
    lie(|tensor| tensor.shape = vec![i64::MAX, i64::MAX], "leaves its 8 numbers");
    lie(|tensor| (tensor.shape, tensor.offset) = (vec![0], i64::MAX), "leaves its 8 numbers");
    lie(|tensor| tensor.strides = vec![-1], "among its sizes");
    lie(|tensor| tensor.shape = vec![1; 9], "has 9 dimensions");
    lie(|tensor| tensor.key = "1".to_owned(), "lies in data/1, which is not there");
    lie(|tensor| tensor.key = "../data.pkl".to_owned(), "which is not there");
    lie(|tensor| tensor.count = 9, "9 numbers that take 32 bytes");
    lie(|tensor| tensor.count = -1, "-1 numbers that take 32 bytes");
    lie(|tensor| tensor.count = i64::MAX, "numbers that take 32 bytes");
    lie(|tensor| tensor.storage_type = "HalfStorage", "8 numbers that take 32 bytes");
    victim.refuses(
        &described(|tensor| tensor.storage_type = "QUInt8Storage"),
        "its pickle asks for \"torch.QUInt8Storage\"",
    );
}

#[test]
fn long_names_make_no_long_messages() {
    let victim = self::victim();
    let refused = |weights: &[u8], expected: &str| {
        let message = victim.refusal(FILE, weights, ErrorKind::InvalidWeights);
        assert!(message.contains(expected), "{message}");
        assert!(message.len() < 1_000, "{} bytes", message.len());
    };
    let long = "n".repeat(60_000);
    let data = Entry::new("a/data.pkl", "\u{2}}.");
    let other = Entry::new(&format!("a/data/{long}"), vec![0; 64]);
    let lie = |change: fn(&mut Entry)| {
        let mut other = other.clone();
        change(&mut other);
        zip(&[data.clone(), other])
    };
    refused(&lie(|entry| entry.method = 8), "n...\" is compressed or encrypted");
    refused(&lie(|entry| entry.claimed_size = Some(1 << 30)), "n...\" is out of bounds");
    refused(&zip(&[data, other.clone(), Entry { claimed_start: Some(43), ..other }]), "overlap");
    refused(&described(|tensor| tensor.key = long.clone()), "n..., which is not there");
    refused(&archive(&pickle(&long, &tensor()), &[]), "tensor \"nnn");
    // A text in the place of a size.
    let mut sizes = pickle(NAME, &Described { shape: vec![77], ..tensor() });
    let size = int(77);
    let at = sizes.windows(size.len()).position(|window| window == size).unwrap();
    sizes.splice(at..at + size.len(), text(&long));
    refused(&archive(&sizes, &[("0", vec![0; 32])]), "among its sizes");
}

#[test]
fn tensors_that_are_not_the_models_are_refused_by_name() {
    let victim = self::victim();
    // Read first of all: it has to be sound, so that the rest is looked at.
    victim.refuses(&described(|_| {}), "it has no tensor \"vision_model.");
    let sound = weights_of("metaclip");
    // Another name of the same length: missing under its own.
    let renamed = replaced(&sound, b"visual_projection.weight", b"visual_projection.WEIGHT");
    victim.refuses(&renamed, "it has no tensor \"visual_projection.weight\"");
    let doubled = replaced(&sound, b"FloatStorage", b"NoneStorage!");
    victim.refuses(&doubled, "its pickle asks for \"torch.NoneStorage!\"");
    let config = String::from_utf8(victim.read("config.json")).unwrap();
    victim.write("config.json", config.replace("\"hidden_size\": 8", "\"hidden_size\": 24"));
    victim.refuses(&sound, "config.json says [24, 3, 16, 16]");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let at = out.windows(from.len()).position(|window| window == from).unwrap();
    out[at..at + to.len()].copy_from_slice(to);
    out
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let (victim, whole) = (self::victim(), weights_of("metaclip"));
    for part in 0..64 {
        victim.refuses(&whole[..whole.len() * part / 64], FILE);
    }
    victim.refuses(&whole[..whole.len() - 1], FILE);
}

#[test]
fn a_flipped_byte_never_ends_the_process() {
    let (victim, whole) = (self::victim(), weights_of("metaclip"));
    let pickle = whole.windows(2).position(|bytes| bytes == b"\x80\x02").unwrap();
    let table = whole.len() - 3_000;
    for at in (pickle..pickle + 3_000).step_by(37).chain((table..whole.len()).step_by(31)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        victim.write(FILE, damaged);
        if let Err(error) = victim.load() {
            assert_eq!(error.kind(), ErrorKind::InvalidWeights, "byte {at}: {error}");
        }
    }
}
