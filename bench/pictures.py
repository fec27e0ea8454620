"""Times the way of a picture from bytes to the pixels that CLIP takes, beside others, on one core.

From the project's root, with `pip install pillow numpy hf-processors-rs`:

    taskset -c 1 python bench/pictures.py PICTURE [PICTURE...]    # PICTURE: a JPEG; without any, two are made

Each round gives each picture to each contender in turn. Printed are medians in milliseconds, and ratios to Pillow.
"""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hf_processors_rs
import numpy as np
from PIL import Image

ROUNDS = 41
OURS = ["cargo", "run", "--quiet", "--release", "-p", "clip", "--example", "pictures"]
CONFIG = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "do_resize": True,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def main():
    ours = subprocess.Popen(OURS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processor = hf_processors_rs.AutoImageProcessor.from_dict(CONFIG)
    contenders = {
        "ours": lambda path, _: ask(ours, "exact", path),
        "ours, :fast": lambda path, _: ask(ours, "fast", path),
        "Pillow": lambda _, data: timed(lambda: pillow(data)),
        "hf-processors-rs": lambda _, data: timed(lambda: processor(data, num_threads=1)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for path in sys.argv[1:] or made(Path(folder)):
            data = Path(path).read_bytes()
            rounds = [[run(path, data) for run in contenders.values()] for _ in range(ROUNDS)]
            medians = [statistics.median(times) for times in zip(*rounds)]
            print(Path(path).name, *Image.open(path).size, f"{len(data) / 1e6:.2f} MB")
            for name, median in zip(contenders, medians):
                print(f"  {name:18} {median:8.2f} ms  {median / medians[2]:.2f}")
    ours.stdin.close()


def ask(process, mode, path):
    process.stdin.write(f"{mode} {path}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def timed(job):
    start = time.perf_counter()
    job()
    return (time.perf_counter() - start) * 1000


def pillow(data, size=224):
    """OpenAI's recipe, up to where we stop too: pixels of 8 bits."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = size / min(image.size)
    image = image.resize([max(size, int(side * scale)) for side in image.size], Image.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1).copy()


def made(folder):
    """Smooth shapes with edges and a little noise: about as many bytes a pixel as a photo has."""
    random = np.random.default_rng(7)
    for width, height in [(640, 480), (4000, 3000)]:
        y, x = np.mgrid[:height, :width] / height
        waves = [np.sin(9 * x * (c + 1) + 7 * y) + np.sign(np.sin(40 * x * y + c)) for c in range(3)]
        noise = random.normal(0, 5, (height, width, 3))
        pixels = np.clip(128 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{width}x{height}.jpg", quality=85)
        yield str(folder / f"{width}x{height}.jpg")


if __name__ == "__main__":
    main()
