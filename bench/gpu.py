"""Ours beside Hugging Face transformers on one GPU, in turn. Called by bin/check-gpu.

    python bench/gpu.py DEVICE_CHECK MODEL_DIRECTORY...

DEVICE_CHECK is the built example of that name. u8 pixels in and unit embeddings out, copies to and
from the GPU included, f32 without TF32; medians. Needs torch and transformers.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPModel

ADJECTIVES = "red old small wooden striped wild electric great paper sea blue young tall iron soft tame".split()
NOUNS = "dog cat shark car cup rocket house balloon bird tree boat clock hammer spider train piano".split()
PROMPTS = [f"a photo of a {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
# A row is measured for so many seconds, in at least 3 rounds and at most 30.
SECONDS, ROUNDS = 2.0, (3, 30)


class Ours:
    def __init__(self, program, model, device):
        command = [program, model, device, "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.prompts = tempfile.NamedTemporaryFile("w", suffix=".txt")
        print(f"\n{Path(model).name}: {self.process.stdout.readline().strip()}", flush=True)

    def images(self, count):
        return self.ask(f"images {count}")

    def texts(self, count):
        self.prompts.seek(0)
        self.prompts.truncate()
        print("\n".join(PROMPTS[:count]), file=self.prompts, flush=True)
        return self.ask(f"texts {self.prompts.name}")

    def ask(self, task):
        print(task, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        if self.process.wait(60) != 0:
            sys.exit(f"device_check ended with status {self.process.returncode}")


class Transformers:
    def __init__(self, model, device, compiled):
        self.model, self.device = CLIPModel.from_pretrained(model, dtype=torch.float32).eval().to(device), device
        self.tokens = Tokenizer.from_file(f"{model}/tokenizer.json")
        end = self.model.config.text_config.eos_token_id
        self.tokens.enable_padding(pad_id=end)
        self.size = self.model.config.vision_config.image_size
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        self.mean, self.std = ((torch.tensor(v, device=device) * 255).view(3, 1, 1) for v in (mean, std))
        wrap = (lambda run: torch.compile(run, dynamic=False)) if compiled else (lambda run: run)
        self.image, self.text = wrap(self.image), wrap(self.text)

    def image(self, pixels):
        return unit(self.model.get_image_features(pixel_values=(pixels.float() - self.mean) / self.std))

    def text(self, ids, mask):
        return unit(self.model.get_text_features(input_ids=ids, attention_mask=mask))

    def images(self, count):
        pixels = torch.randint(0, 256, (count, 3, self.size, self.size), dtype=torch.uint8)
        return timed(lambda: self.image(pixels.to(self.device)).cpu())

    def texts(self, count):
        def run():
            rows = self.tokens.encode_batch(PROMPTS[:count])
            tensors = ([row.ids for row in rows], [row.attention_mask for row in rows])
            return self.text(*(torch.tensor(values).to(self.device) for values in tensors)).cpu()

        return timed(run)


def unit(out):
    out = getattr(out, "pooler_output", out)
    return out / out.norm(dim=-1, keepdim=True)


def timed(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def medians(contenders, task, count):
    """Milliseconds of each contender, who take turns."""
    for contender in contenders:
        getattr(contender, task)(count)
    start, rounds = time.perf_counter(), []
    least, most = ROUNDS
    while len(rounds) < least or (len(rounds) < most and time.perf_counter() - start < SECONDS):
        rounds.append([getattr(contender, task)(count) for contender in contenders])
    return [statistics.median(times) for times in zip(*rounds)]


@torch.no_grad()
def measure(model, options, deadline):
    contenders = [Ours(options.program, model, options.device), Transformers(model, options.device, False)]
    compiled = Transformers(model, options.device, True)
    print("| | ours, ms | eager, ms | compiled, ms | ours, a second | ours / eager | ours / compiled |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = [("images", count) for count in options.batches] + [("texts", count) for count in options.prompts]
    for task, count in rows:
        others = [compiled] if task == "images" and count in options.compiled and time.perf_counter() < deadline else []
        ours, eager, *rest = medians(contenders + others, task, count)
        rest = (f"{rest[0]:.2f}", f"{ours / rest[0]:.2f}") if rest else ("", "")
        print(f"| {count} {task} | {ours:.2f} | {eager:.2f} | {rest[0]} | {count / ours * 1000:.0f} "
              f"| {ours / eager:.2f} | {rest[1]} |", flush=True)
    contenders[0].close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256, 1024])
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--compiled", type=int, nargs="*", default=[64, 256, 1024], help="batches to compile for")
    parser.add_argument("--compile-seconds", type=float, default=120, help="after them nothing more is compiled")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    deadline = time.perf_counter() + options.compile_seconds
    for model in options.models:
        measure(model, options, deadline)


if __name__ == "__main__":
    main()
