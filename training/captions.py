"""What is said about a picture while training."""

import random
from collections import Counter

from emoji import Emoji

# The first is the classifier's default prompt template: half of all captions use it.
TEMPLATE = "a photo of {}"
OTHERS = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a picture of a {}",
    "a picture of {}",
    "an emoji of a {}",
    "a drawing of {}",
)
NAMED = 0.8

# A keyword such as "face" fits a hundred emoji and would call ninety-nine right pairs wrong.
KEYWORD_SHARED_BY = 4


def prompt(label: str) -> str:
    return TEMPLATE.format(label)


def specific_keywords(emoji: list[Emoji]) -> list[tuple[str, ...]]:
    """Of each emoji, the keywords that few others have and that are no other's name."""
    count = Counter(keyword for e in emoji for keyword in e.keywords)
    names = {e.name for e in emoji}
    return [
        tuple(k for k in e.keywords if count[k] <= KEYWORD_SHARED_BY and k not in names) for e in emoji
    ]


def caption(name: str, keywords: tuple[str, ...], rng: random.Random) -> str:
    words = rng.choice(keywords) if keywords and rng.random() > NAMED else name
    template = TEMPLATE if rng.random() < 0.5 else rng.choice(OTHERS)
    return template.format(words)


def corpus(emoji: list[Emoji]) -> list[str]:
    """The text the tokenizer learns from: names weigh more, being what is asked for."""
    lines = [template.format("") for template in (TEMPLATE, *OTHERS)] * 20
    for e in emoji:
        lines += [e.name] * 3 + list(e.keywords)
    return lines
