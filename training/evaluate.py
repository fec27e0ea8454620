"""How often the right name comes first, on pictures made with a seed that training never uses."""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPModel

import augment
import emoji
from captions import prompt
from model import embed_images, embed_texts, token_ids

HELD_OUT_SEED = 20_260_131
CANDIDATES = 10


@torch.no_grad()
def accuracy(
    model: CLIPModel,
    tokenizer: Tokenizer,
    names: list[str],
    glyphs: torch.Tensor,
    mirrorable: torch.Tensor,
    rounds: int = 1,
) -> tuple[float, float]:
    """Right among ten random names, and right among all of them, over `rounds` pictures of each emoji."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    texts = torch.cat([embed_texts(model, ids) for ids in token_ids(tokenizer, [prompt(n) for n in names]).split(256)])
    among_ten, among_all = 0, 0
    for _ in range(rounds):
        for rows in torch.arange(len(names)).split(256):
            pictures = augment.augment(glyphs[rows], mirrorable[rows], generator)
            similarity = embed_images(model, augment.normalise(pictures)) @ texts.T
            right = similarity.gather(1, rows[:, None])
            better = (similarity > right).float()
            among_all += (better.sum(1) == 0).sum().item()

            others = torch.stack([torch.randperm(len(names) - 1, generator=generator)[: CANDIDATES - 1] for _ in rows])
            others += others >= rows[:, None]
            among_ten += (better.gather(1, others).sum(1) == 0).sum().item()
    total = rounds * len(names)
    return among_ten / total, among_all / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "priv/models/emoji-clip")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()

    model = CLIPModel.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    kept, drawn = emoji.load()
    glyphs = emoji.premultiplied(drawn)
    names = [e.name for e in kept]
    ten, everything = accuracy(model, tokenizer, names, glyphs, emoji.mirrorable(glyphs), options.rounds)
    print(f"{len(names) * options.rounds} pictures: {ten:.1%} among 10 names, {everything:.1%} among all {len(names)}")


if __name__ == "__main__":
    main()
