"""Compares the decoders with Pillow on every picture below some folders, and prints the table of README's promise.

From the project's root, with `pip install pillow==13.0.0 numpy`:

    python test/oracle/corpus.py FOLDER [FOLDER...]

Each file is decoded by native/clip and by Pillow (upright by Exif, over white, RGB). Printed are how many are
equal, how many differ by one level at most, and each of the others with both answers.
"""

import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from preprocess import upright_rgb

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
DECODE = ["cargo", "run", "--quiet", "--release", "-p", "clip", "--example", "decode"]


def main():
    warnings.simplefilter("ignore")
    folders = [Path(folder) for folder in sys.argv[1:]] or sys.exit(__doc__)
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    counts, others = Counter(), []
    with subprocess.Popen(DECODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ours:
        for path in files:
            verdict = compare(answer(ours, path), pillow(path))
            counts[verdict if verdict in ("equal", "within one level", "refused by both") else "other"] += 1
            if verdict not in ("equal", "within one level", "refused by both"):
                others.append((path, verdict))
    for verdict, count in counts.most_common():
        print(f"{count:5} {verdict}")
    for path, verdict in others:
        print(f"      {path}: {verdict}")


def answer(ours, path):
    """Our pixels, or the kind and the message of the error."""
    ours.stdin.write(f"{path}\n".encode())
    ours.stdin.flush()
    line = ours.stdout.readline().decode().rstrip("\n")
    if line.startswith("error "):
        return line.removeprefix("error ")
    width, height = map(int, line.split())
    pixels = ours.stdout.read(width * height * 3)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def pillow(path):
    try:
        return np.asarray(upright_rgb(path.read_bytes()))
    except Exception as error:
        return str(error) or type(error).__name__


def compare(ours, theirs):
    if isinstance(ours, str):
        return "refused by both" if isinstance(theirs, str) else f"refused, Pillow reads it: {ours}"
    if isinstance(theirs, str):
        return f"read, Pillow refuses it: {theirs}"
    if ours.shape != theirs.shape:
        return f"{ours.shape} pixels, Pillow has {theirs.shape}"
    off = np.abs(ours.astype(int) - theirs)
    if off.max() <= 1:
        return "within one level" if off.max() else "equal"
    return f"off by {off.max()} levels at most, {off.mean():.3f} in the mean"


if __name__ == "__main__":
    main()
