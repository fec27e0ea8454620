"""CLIP's tokenizer with a small vocabulary: byte-level BPE over lower-cased text, words closed by </w>."""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
VOCABULARY = 4096
POSITIONS = 32

SPLIT = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def pipeline(model: models.BPE) -> Tokenizer:
    """Everything but the vocabulary is CLIP's own."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn_merges(lines: list[str], count: int) -> list[tuple[str, str]]:
    learner = pipeline(models.BPE(end_of_word_suffix=END_OF_WORD))
    trainer = trainers.BpeTrainer(
        # Single bytes, plain and word-final, come on top of the merges.
        vocab_size=count + 512,
        end_of_word_suffix=END_OF_WORD,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    return [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]][:count]


def train(lines: list[str]) -> Tokenizer:
    """Ids in CLIP's order: bytes, word-final bytes, merges, start, end.

    Listing every byte leaves no text without a token; the end having the highest id keeps
    argmax pooling, which older code uses to find it, right.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(lines, VOCABULARY - 2 * len(alphabet) - 2)
    tokens = alphabet + [byte + END_OF_WORD for byte in alphabet] + ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]
    vocabulary = {token: id for id, token in enumerate(tokens)}

    tokenizer = pipeline(
        models.BPE(vocabulary, merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix=END_OF_WORD)
    )
    tokenizer.add_special_tokens([AddedToken(START, normalized=True), AddedToken(END, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(END, vocabulary[END]), cls_token=(START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer
