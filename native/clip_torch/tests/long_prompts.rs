//! Long prompts are cut before they are tokenized, and have the ids that they would have uncut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clip_torch::Tokenizer;
use clip_torch::config::Config;
use support::{fixture, project};

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// Any character at all.
    fn character(&mut self) -> char {
        (0..).find_map(|_| char::from_u32(self.below(0x11_0000) as u32)).unwrap()
    }
}

/// What texts are made of, each kind so that something else could go wrong at a cut.
const KINDS: [&[&str]; 15] = [
    &["a photo of ", "the ", "dog", "labels ", "isn't ", "we'll ", "X", "12 ", "naïve "],
    &[" ", "  ", "\t", "\n", "\u{a0}", "\u{3000}", "\u{2000}", "\u{85}", "a"],
    &[" "],
    &["a"],
    &["ab", "a", "b", "the", "ing", "er", "re", "in", "th", "x"],
    &["!", "!!", "...", "-", "'", "'l", "'r", "<|", "|>"],
    &["0", "1", "7", "\u{663}", "\u{bd}"],
    &["日", "本", "語", "の", "犬", "写", "真", "한", "국", "어", "ไ", "ท"],
    &["😀", "😂", "❤️", "👩‍👩‍👧", "🏳️‍🌈", "🇫🇷", "👍🏽"],
    &["e\u{301}", "a\u{308}\u{323}", "o", "\u{1100}\u{1161}\u{11a8}", "\u{ac00}\u{11a8}"],
    &["\u{301}", "\u{323}", "\u{308}", "\u{345}", "\u{315}"],
    &["<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|endoftext", "|>", "a", " "],
    &["don't", "'s", "'re", "'ve", "'", "'l", "l", "d'", "S"],
    &["\u{130}", "\u{1e9e}", "ﬁ", "\u{212a}", "Σ", "ǅ", "\u{1f71}", "\u{958}"],
    &["http://", "example.org/", "a?b=c", "&d=", "e#", "f_g", "%20", "Q/w+8"],
];

fn text(numbers: &mut Numbers, kind: usize, length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        match kind.checked_sub(KINDS.len()) {
            None => text.push_str(numbers.of(KINDS[kind])),
            // Letters, anything at all, and of everything some.
            Some(0) => text.push((b'a' + numbers.below(26) as u8) as char),
            Some(1) => text.push(numbers.character()),
            Some(_) => {
                let kind = numbers.below(KINDS.len());
                for _ in 0..1 + numbers.below(60) {
                    text.push_str(numbers.of(KINDS[kind]));
                }
            }
        }
    }
    text
}

fn open(folder: &Path) -> (Tokenizer, usize) {
    let config = fs::read(folder.join("config.json")).unwrap();
    let config = Config::from_json(&config).unwrap().text;
    (Tokenizer::open(folder, &config).unwrap(), config.max_positions as usize)
}

/// The ids and the flag of a prompt that is tokenized as a whole, as far as the pooled token.
fn uncut(tokenizer: &Tokenizer, text: &str, most: usize) -> (Vec<u32>, bool) {
    let mut ids = tokenizer.ids(text).unwrap();
    let (end, truncated) = (*ids.last().unwrap(), ids.len() > most);
    if truncated {
        ids.truncate(most - 1);
        ids.push(end);
    }
    let pooled = ids.iter().position(|id| *id == end).unwrap();
    ids.truncate(pooled + 1);
    (ids, truncated)
}

fn compare(folder: &Path, rounds: usize) {
    let (tokenizer, most) = open(folder);
    let (mut numbers, mut cut) = (Numbers(7), 0);
    for round in 0..rounds {
        for kind in 0..KINDS.len() + 3 {
            let length = [300, 390, 401, 450, 800, 1_600, 4_000][numbers.below(7)];
            let text = text(&mut numbers, kind, length);
            let tokens = tokenizer.encode(&text).unwrap();
            let expected = uncut(&tokenizer, &text, most);
            assert_eq!((tokens.ids, tokens.truncated), expected, "{round} {kind}: {text:?}");
            cut += usize::from(tokens.truncated);
        }
    }
    assert!(cut > rounds * KINDS.len() / 2, "{cut}");
}

#[test]
fn cut_prompts_have_the_ids_of_whole_ones() {
    compare(&project("priv/models/emoji-clip"), 20);
    // Out of vocab.json and merges.txt, and with hardly any merges.
    compare(&fixture("checkpoints/metaclip"), 8);
}

#[test]
fn cut_prompts_have_the_ids_of_whole_ones_by_the_real_tokenizer() {
    compare(&fixture("published/clip-vit-base-patch32"), 20);
}

/// Every length round the first cut, so that it falls on every place of the text once.
#[test]
fn a_cut_may_fall_anywhere() {
    let (tokenizer, most) = open(&project("priv/models/emoji-clip"));
    let mut numbers = Numbers(3);
    for kind in 0..KINDS.len() + 3 {
        let whole = text(&mut numbers, kind, 900);
        for shift in 0..40 {
            let text = format!("{}{whole}", "x ".repeat(shift));
            let tokens = tokenizer.encode(&text).unwrap();
            let expected = uncut(&tokenizer, &text, most);
            assert_eq!((tokens.ids, tokens.truncated), expected, "{shift} {kind}: {text:?}");
        }
    }
}

/// A tokenizer that works in another way than CLIP's is not cut short.
#[test]
fn another_tokenizer_reads_the_whole_prompt() {
    let folder = project("priv/models/emoji-clip");
    let config = Config::from_json(&fs::read(folder.join("config.json")).unwrap()).unwrap().text;
    let mut document: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    // Takes away what comes before the last of these: no beginning tells anything.
    document["normalizer"]["normalizers"][1] = serde_json::json!({
        "type": "Replace", "pattern": {"Regex": "(?s).*#"}, "content": " ",
    });
    let scratch = support::Scratch::new();
    let path = scratch.path().join("tokenizer.json");
    fs::write(&path, document.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path, &config).unwrap();
    let text = format!("{}# dog", "cat ".repeat(500));
    let tokens = tokenizer.encode(&text).unwrap();
    assert_eq!(tokens.ids, tokenizer.encode(" dog").unwrap().ids);
    assert!(!tokens.truncated);
}

/// Generous, since the machine may be busy: uncut, each of these takes ten times as long.
#[test]
fn a_long_prompt_costs_no_more_than_its_beginning() {
    let (tokenizer, _) = open(&project("priv/models/emoji-clip"));
    let mut numbers = Numbers(5);
    for kind in [0, 1, 2, 3, 4, 5, 7, 8, KINDS.len()] {
        let texts: Vec<String> = (0..8).map(|_| text(&mut numbers, kind, 16_000)).collect();
        let best = |work: &dyn Fn(&str)| {
            let runs = (0..3).map(|_| {
                let start = Instant::now();
                texts.iter().for_each(|text| work(text));
                start.elapsed()
            });
            runs.min().unwrap_or(Duration::MAX)
        };
        let cut = best(&|text| drop(tokenizer.encode(text).unwrap()));
        let whole = best(&|text| drop(tokenizer.ids(text).unwrap()));
        println!("kind {kind}: {cut:?} cut, {whole:?} whole");
        assert!(cut < whole / 2, "kind {kind}: {cut:?} cut, {whole:?} whole");
    }
}
