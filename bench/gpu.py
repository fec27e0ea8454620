"""Ours beside Hugging Face transformers on one GPU, in turn. Called by bin/check-gpu.

    python bench/gpu.py DEVICE_CHECK MODEL_DIRECTORY...

DEVICE_CHECK is the built example of that name. u8 pixels in and unit embeddings out, copies to and
from the GPU included; f32 is without TF32; medians. "files" are JPEGs of 640x480: both sides decode and
prepare them on all cores while the GPU works, transformers by Pillow in the workers of a DataLoader.
Needs torch, transformers and Pillow.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPImageProcessor, CLIPModel

ADJECTIVES = "red old small wooden striped wild electric great paper sea blue young tall iron soft tame".split()
NOUNS = "dog cat shark car cup rocket house balloon bird tree boat clock hammer spider train piano".split()
PROMPTS = [f"a photo of a {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# Files on the disk, and the batch in which transformers takes them.
FILES, FILE_BATCH = 64, 128
# A row is measured for so many seconds, in at least 3 rounds and at most 30.
SECONDS, ROUNDS = 2.0, (3, 30)


class Ours:
    def __init__(self, program, model, device, precision):
        command = [program, model, device, "serve", precision]
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

    def files(self, count, directory):
        return self.ask(f"files {directory} {count}")

    def ask(self, task):
        print(task, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        if self.process.wait(60) != 0:
            sys.exit(f"device_check ended with status {self.process.returncode}")


class Transformers:
    def __init__(self, model, device, dtype, compiled):
        self.model, self.device = CLIPModel.from_pretrained(model, dtype=dtype).eval().to(device), device
        self.dtype, self.directory = dtype, model
        self.tokens = Tokenizer.from_file(f"{model}/tokenizer.json")
        end = self.model.config.text_config.eos_token_id
        self.tokens.enable_padding(pad_id=end)
        self.size = self.model.config.vision_config.image_size
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        self.mean, self.std = ((torch.tensor(v, device=device) * 255).view(3, 1, 1) for v in (mean, std))
        wrap = (lambda run: torch.compile(run, dynamic=False)) if compiled else (lambda run: run)
        self.image, self.text = wrap(self.image), wrap(self.text)

    def image(self, pixels):
        return unit(self.model.get_image_features(pixel_values=((pixels.float() - self.mean) / self.std).to(self.dtype)))

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


    def files(self, count, directory):
        files = Files(sorted(Path(directory).iterdir()), count, CLIPImageProcessor.from_pretrained(self.directory))
        workers = min(os.cpu_count(), 16)
        loader = torch.utils.data.DataLoader(files, FILE_BATCH, num_workers=workers, pin_memory=self.device != "cpu")
        run = self.model.get_image_features

        def all_files():
            rows = [unit(run(pixel_values=b.to(self.device, self.dtype, non_blocking=True))) for b in loader]
            return torch.cat(rows).cpu()

        return timed(all_files)


class Files(torch.utils.data.Dataset):
    def __init__(self, paths, count, processor):
        self.paths, self.count, self.processor = paths, count, processor

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        picture = Image.open(self.paths[index % len(self.paths)]).convert("RGB")
        return self.processor(picture, return_tensors="pt")["pixel_values"][0]


def write_files(directory):
    """JPEGs of 640x480 that are as large as a camera's."""
    random = numpy.random.default_rng(1)
    for number in range(FILES):
        small = random.integers(0, 256, (60, 80, 3), dtype=numpy.uint8)
        picture = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        Path(directory, f"{number}.jpg").write_bytes(buffer.getvalue())


def unit(out):
    out = getattr(out, "pooler_output", out).float()
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
def measure(model, precision, batches, options, deadline):
    dtype, device = DTYPES[precision], options.device
    ours = Ours(options.program, model, device, precision)
    eager, compiled = (Transformers(model, device, dtype, c) for c in (False, True))
    print("| | ours, ms | eager, ms | compiled, ms | ours, a second | ours / eager | ours / compiled |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = [("images", count) for count in batches] + [("texts", count) for count in options.prompts]
    for task, count in rows:
        compiles = task == "images" and precision in options.compile_in and count in options.compiled
        others = [compiled] if compiles and time.perf_counter() < deadline else []
        row(f"{count} {task}", count, medians([ours, eager] + others, task, count))
    if precision == options.precisions[0]:
        with tempfile.TemporaryDirectory() as directory:
            write_files(directory)
            count = options.files
            times = [[c.files(count, directory) for c in (ours, eager)] for _ in range(3)]
            row(f"{count} files", count, [statistics.median(t) for t in zip(*times)])
    ours.close()


def row(name, count, times):
    ours, eager, *rest = times
    rest = (f"{rest[0]:.2f}", f"{ours / rest[0]:.2f}") if rest else ("", "")
    print(f"| {name} | {ours:.2f} | {eager:.2f} | {rest[0]} | {count / ours * 1000:.0f} "
          f"| {ours / eager:.2f} | {rest[1]} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256, 1024])
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--compiled", type=int, nargs="*", default=[64, 256, 1024], help="batches to compile for")
    parser.add_argument("--compile-seconds", type=float, default=150, help="after them nothing more is compiled")
    parser.add_argument("--compile-in", nargs="*", default=["f16"], help="precisions to compile for")
    parser.add_argument("--precisions", nargs="+", default=["f16", "bf16", "f32"])
    parser.add_argument("--files", type=int, default=8192, help="files to embed in the first precision")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    deadline = time.perf_counter() + options.compile_seconds
    for precision in options.precisions:
        for model in options.models:
            # The others are the same kernels at other speeds.
            batches = options.batches if precision == options.precisions[0] else options.batches[::2]
            measure(model, precision, batches, options, deadline)


if __name__ == "__main__":
    main()
