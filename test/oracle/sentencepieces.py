"""Makes the tokenizers with which native/clip_torch/tests checks that SigLIP's and MetaCLIP 2's prompts become the same ids.

From the project's root, with the packages of training/requirements.txt, and sentencepiece and protobuf:

    python test/oracle/sentencepieces.py                    # test/fixtures/tokenizers
    python test/oracle/sentencepieces.py full DIRECTORY     # a tokenizer of SigLIP 2's and one of MetaCLIP 2's size

Each is a vocabulary of some hundred pieces in the layout of a repository on the Hub. Beside it lie transformers' ids of
prompts.json, and of the published tokenizer of SigLIP. transformers reads SigLIP's out of spiece.model, which is made
here of tokenizer.json and not kept; SigLIP 2's and MetaCLIP 2's it reads out of tokenizer.json.
"""

import base64
import io
import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto
from transformers import Siglip2Tokenizer, SiglipTokenizer, XLMRobertaTokenizer
from transformers.tokenization_utils_base import generate_merges

OUTPUT = Path("test/fixtures/tokenizers")
PUBLISHED = Path("test/fixtures/published/siglip-base-patch16-224")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CLASSES = {"siglip": SiglipTokenizer, "siglip2": Siglip2Tokenizer, "metaclip-2": XLMRobertaTokenizer}

# What sentencepiece's tables have, as few of it as tells the ways of reading them apart: replacements of one character
# and of two, of a letter alone that also stands before a mark, of white space, longer ones, nothing at all.
RULES = [
    ("Ａ", "A"), ("ａ", "a"), ("＜", "<"), ("＞", ">"), ("ﬁ", "fi"), ("½", "1⁄2"), ("㎏", "kg"), ("e\u0301", "é"),
    ("E\u0301", "É"), ("ﷺ", "صلى الله عليه وسلم"), ("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\n", " "),
    ("▁", " "), ("\u200b", " "), ("\u00ad", ""), ("…", "..."), ("ｶ", "カ"), ("ｶﾞ", "ガ"),
]
TEXT = """
a photo of a dog | a photo of a cat | the cat sat on the mat | a painting of a house by the river
an image of two dogs and one fish | a close-up photo of the guitar | it's 12 o'clock, isn't it? 3.14 1/2
un chien et un chat sur la photo, déjà vu, résumé, café | ein Hund und eine Katze im schönen Zürich, straße
una foto de un perro en la montaña | фото собаки и кошки на улице | φωτογραφία ενός σκύλου και μιας γάτας
犬の写真 猫の写真 | 一只狗的照片 一只猫 | 강아지 사진 고양이 사진 | صورة كلب وقطة | תמונה של כלב | कुत्ते की तस्वीर
""".replace("|", "\n").split("\n")


def train(size: int, **options) -> proto.ModelProto:
    """A unigram model of the text above."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        for source, target in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        rules.flush()
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line.strip() for line in TEXT * 3 if line.strip()), model_writer=model,
            vocab_size=size, model_type="unigram", hard_vocab_limit=False, normalization_rule_tsv=rules.name,
            minloglevel=2, **options,
        )
    return proto.ModelProto.FromString(model.getvalue())


def added(token: str, number: int, special: bool = True, strip: bool = False) -> dict:
    return {"id": number, "content": token, "single_word": False, "lstrip": strip, "rstrip": strip,
            "normalized": False, "special": special}


def document(tokens: list, normalizer, words, model: dict, *around: str) -> dict:
    """around: the special tokens around a text, an empty one for the text itself."""
    special = {token["content"]: {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}
               for token in tokens if token["content"] in around}
    single = [{"SpecialToken": {"id": token, "type_id": 0}} if token else {"Sequence": {"id": "A", "type_id": 0}}
              for token in around]
    processor = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": words, "post_processor": processor, "decoder": None, "model": model}


def unigram(model: proto.ModelProto, tokens: list, pieces: list, unknown: int, words: dict, *around: str) -> dict:
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    steps = [{"type": "Precompiled", "precompiled_charsmap": charsmap},
             {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    return document(tokens, {"type": "Sequence", "normalizers": steps}, words,
                    {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": False}, *around)


METASPACE = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "always"}


def siglip(size: int = 420) -> tuple[dict, dict]:
    """The first SigLIP's, in the layout of google/siglip-base-patch16-224."""
    model = train(256 + size, byte_fallback=True, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    pieces = [[piece.piece, piece.score] for piece in model.pieces]
    tokens = [added("</s>", 1, strip=True), added("<unk>", 2, strip=True)]
    config = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "eos_token": "</s>", "pad_token": "</s>",
              "unk_token": "<unk>", "model_max_length": 64}
    return unigram(model, tokens, pieces, 2, METASPACE, "", "</s>"), config


def metaclip_2(size: int = 400) -> tuple[dict, dict]:
    """XLM-R's, in the layout of facebook/metaclip-2-worldwide-huge-quickgelu."""
    model = train(size, pad_id=1, eos_id=2, unk_id=3, bos_id=0)
    pieces = [[piece.piece, piece.score] for piece in model.pieces] + [["<mask>", 0.0]]
    tokens = [added(token, number) for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])]
    tokens.append(added("<mask>", len(pieces) - 1) | {"lstrip": True})
    config = {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
              "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    words = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}
    return unigram(model, tokens, pieces, 3, words, "<s>", "", "</s>"), config


def siglip2(words: list[str], size: int) -> tuple[dict, dict]:
    """Gemma's, in the layout of google/siglip2-base-patch16-224: every way to join a piece is a merge."""
    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<unused0>"]
    runs = ["\n" * n for n in range(1, 6)] + ["▁" * n for n in range(2, 8)]
    characters = sorted({c for word in words for c in word} - set(runs) - {" "})
    pieces = dict.fromkeys(c for word in words for c in word if c != " ")
    frequent: dict[str, int] = {}
    for word in words:
        for start in range(len(word)):
            for end in range(start + 2, min(start + 7, len(word)) + 1):
                frequent[word[start:end]] = frequent.get(word[start:end], 0) + 1
    # A piece is made of two that are there already.
    ordered = sorted(frequent, key=lambda piece: (-frequent[piece] * len(piece), piece))
    known = set(pieces)
    joined = []
    for length in range(2, 8):
        for piece in (piece for piece in ordered if len(piece) == length):
            halves = any(piece[:at] in known and piece[at:] in known for at in range(1, length))
            if halves and len(joined) < size:
                known.add(piece)
                joined.append(piece)
    rank = {piece: number for number, piece in enumerate(ordered)}
    joined.sort(key=rank.__getitem__)
    vocabulary = {piece: number for number, piece in enumerate([*control, *runs, *BYTES, *joined, *characters])}
    skipped = {*control, *BYTES}
    merges = [list(pair) for pair in generate_merges(vocabulary, skip_tokens=skipped)]
    tokens = [added(token, vocabulary[token]) for token in control]
    tokens += [added(token, vocabulary[token], special=False) for token in runs]
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary, "merges": merges}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True, "bos_token": "<bos>",
              "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "padding_side": "right"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return document(tokens, replace, split, model, "", "<eos>"), config


def write(directory: Path, made: tuple[dict, dict], indent=None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in zip(("tokenizer.json", "tokenizer_config.json"), made):
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def spiece(directory: Path, into: Path) -> None:
    """spiece.model out of the tokenizer.json of a SigLIP."""
    whole = json.loads((directory / "tokenizer.json").read_text())
    model, kinds = proto.ModelProto(), proto.ModelProto.SentencePiece
    for text, score in whole["model"]["vocab"]:
        kind = {"<unk>": kinds.UNKNOWN, "<pad>": kinds.CONTROL, "</s>": kinds.CONTROL}.get(text, kinds.NORMAL)
        model.pieces.add(piece=text, score=score, type=kinds.BYTE if text in BYTES else kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = 1, True, len(model.pieces)
    trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 0, 1, 2, -1
    steps = {step["type"]: step for step in whole["normalizer"]["normalizers"]}
    normalizer.precompiled_charsmap = base64.b64decode(steps["Precompiled"]["precompiled_charsmap"])
    (into / "spiece.model").write_bytes(model.SerializeToString())


def reference(directory: Path, name: str):
    """transformers' tokenizer of a directory."""
    if name != "siglip":
        return CLASSES[name].from_pretrained(directory)
    with tempfile.TemporaryDirectory() as scratch:
        spiece(directory, Path(scratch))
        (Path(scratch) / "tokenizer_config.json").write_text((directory / "tokenizer_config.json").read_text())
        return CLASSES[name].from_pretrained(scratch)


def ids(tokenizer, prompts: list[str], length: int) -> list[list[int]]:
    padded = {"padding": "max_length", "padding_side": "right"} if not isinstance(tokenizer, XLMRobertaTokenizer) else {}
    return [tokenizer(prompt, truncation=True, max_length=length, **padded).input_ids for prompt in prompts]


def full(directory: Path) -> None:
    """Vocabularies of pseudo-words, as large as the real ones."""
    chance = random.Random(1)
    syllables = ["".join(chance.choice(letters) for letters in ("bdfgklmnprstvz", "aeiou", "lmnrst")) for _ in range(900)]
    words = ["▁" * (n % 2) + "".join(chance.choices(syllables, k=1 + n % 3)) for n in range(120_000)]
    made = siglip2(words, 255_000)
    write(directory / "siglip2", made, indent=2)
    print(len(made[0]["model"]["vocab"]), "pieces", len(made[0]["model"]["merges"]), "merges")
    made = metaclip_2()
    vocabulary, known = made[0]["model"]["vocab"], {piece for piece, _ in made[0]["model"]["vocab"]}
    while len(known) < 901_629:
        piece = "▁" * chance.randrange(2) + "".join(chance.choices(syllables, k=chance.randrange(2, 5)))
        if piece not in known:
            known.add(piece)
            vocabulary.append([piece, -8 - 6 * chance.random()])
    write(directory / "metaclip-2", made, indent=2)


def main() -> None:
    labels = [line for line in TEXT if line.strip()]
    made = {"siglip": siglip(), "siglip2": siglip2([f"▁{word.lower()}" for line in labels for word in line.split()], 500),
            "metaclip-2": metaclip_2()}
    prompts = json.loads((OUTPUT / "prompts.json").read_text())
    for name, content in made.items():
        write(OUTPUT / name, content)
    directories = {name: OUTPUT / name for name in made} | {"published": PUBLISHED}
    answers = {name: ids(reference(directory, "siglip" if name == "published" else name), prompts, 20)
               for name, directory in directories.items()}
    (OUTPUT / "goldens.json").write_text("{\n" + ",\n".join(
        f"{json.dumps(name)}: {json.dumps(answers[name], separators=(',', ':'))}" for name in answers) + "\n}\n")


if __name__ == "__main__":
    full(Path(sys.argv[2])) if sys.argv[1:2] == ["full"] else main()
