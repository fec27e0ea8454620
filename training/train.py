"""Trains the two towers on pictures and captions made on the fly."""

import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import augment
import captions
import emoji
import tokenizer as bpe
from bf16 import use_bf16
from evaluate import accuracy
from export import export
from model import build, embed_images, embed_texts, token_ids

SEED = 7
BATCH = 128
RUN = 8
LEARNING_RATE = 1e-3
WARM_UP = 100
DECAY = 0.3
WEIGHT_DECAY = 0.05
GRADIENT_NORM = 1.0
MAX_LOGIT_SCALE = math.log(100)
EVALUATE_EVERY = 100
CHECKPOINT = Path(__file__).parent / "build" / "checkpoint.pt"


def rate(step: int, steps: int) -> float:
    """Warm up, hold, then fall to nothing over the last third: a run may be lengthened before that."""
    return LEARNING_RATE * min(1, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


class Trainer:
    def __init__(self) -> None:
        torch.manual_seed(SEED)
        self.rng = random.Random(SEED)
        self.generator = torch.Generator().manual_seed(SEED)
        self.step = 0

        self.emoji, drawn = emoji.load()
        self.glyphs = emoji.premultiplied(drawn)
        self.mirrorable = emoji.mirrorable(self.glyphs)
        self.names = [e.name for e in self.emoji]
        self.keywords = captions.specific_keywords(self.emoji)
        self.tokenizer = bpe.train(captions.corpus(self.emoji))
        self.model = build(self.tokenizer)
        use_bf16(self.model)

        # Gains, biases and the logit scale have no business shrinking.
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)

    def choose(self) -> torch.Tensor:
        """Runs of neighbours in Unicode, which keeps faces by faces and clocks by clocks: a batch of
        strangers would seldom hold two that are hard to tell apart."""
        count = len(self.emoji)
        starts = torch.randperm(count // RUN, generator=self.generator)[: BATCH // RUN] * RUN
        offset = torch.randint(count, (1,), generator=self.generator)
        return ((starts + offset)[:, None] + torch.arange(RUN)).flatten() % count

    def loss(self) -> torch.Tensor:
        """CLIP's own: each picture finds its caption in the batch, each caption its picture."""
        chosen = self.choose()
        said = [captions.caption(self.names[i], self.keywords[i], self.rng) for i in chosen.tolist()]
        pictures = augment.augment(self.glyphs[chosen], self.mirrorable[chosen], self.generator)

        images = embed_images(self.model, augment.normalise(pictures))
        texts = embed_texts(self.model, token_ids(self.tokenizer, said))
        similarity = self.model.logit_scale.exp() * images @ texts.T
        target = torch.arange(BATCH)
        return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2

    def advance(self, steps: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, steps)
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.model.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        self.step += 1
        return loss.item()

    def save(self) -> None:
        """Everything the next step depends on: a resumed run is the same run."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.getstate(),
            "generator": self.generator.get_state(),
        }
        CHECKPOINT.parent.mkdir(exist_ok=True)
        beside = CHECKPOINT.with_suffix(".new")
        torch.save(state, beside)
        beside.rename(CHECKPOINT)

    def resume(self) -> None:
        # Our own file, written by `save` above; the Python generator's state is no tensor.
        state = torch.load(CHECKPOINT, weights_only=False)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.setstate(state["rng"])
        self.generator.set_state(state["generator"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "priv/models/emoji-clip")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    trainer = Trainer()
    if options.resume:
        trainer.resume()
    started = time.monotonic()
    losses = []
    while trainer.step < options.steps:
        losses.append(trainer.advance(options.steps))
        if trainer.step % EVALUATE_EVERY == 0 or trainer.step == options.steps:
            ten, everything = accuracy(
                trainer.model, trainer.tokenizer, trainer.names, trainer.glyphs, trainer.mirrorable
            )
            trainer.save()
            print(
                f"| {trainer.step:,} | {sum(losses) / len(losses):.2f} | {ten:.1%} | {everything:.1%} "
                f"| {time.monotonic() - started:.0f} s |",
                flush=True,
            )
            losses.clear()
    export(trainer.model, trainer.tokenizer, options.output)


if __name__ == "__main__":
    main()
