"""Pictures for the test suite, drawn with Pillow alone: another renderer than the training's, another seed."""

import colorsys
import json
import random
from pathlib import Path

from PIL import Image, ImageOps

import emoji

SEED = 20_260_214
COUNT = 200
CANDIDATES = 10
SIDES = (72, 80, 96, 112)
OUTPUT = Path(__file__).parent.parent / "test/fixtures/emoji"


def colour(rng: random.Random) -> tuple[int, int, int]:
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.5, 1))
    return tuple(round(255 * channel) for channel in rgb)


def background(size: tuple[int, int], rng: random.Random) -> Image.Image:
    kind = rng.randrange(3)
    if kind == 0:
        return Image.new("RGB", size, "white")
    if kind == 1:
        return Image.new("RGB", size, colour(rng))
    ramp = Image.linear_gradient("L").resize(size)
    return ImageOps.colorize(ramp, black=colour(rng), white=colour(rng))


def compose(glyph: Image.Image, rng: random.Random) -> Image.Image:
    """A little narrower or higher than square, so that the centre crop has something to cut."""
    side = rng.choice(SIDES)
    width, height = rng.choice([(side, side), (side + 16, side), (side, side + 16)])
    picture = background((width, height), rng)

    drawn = round(side * rng.uniform(0.6, 1.0))
    glyph = glyph.resize((drawn, drawn), Image.Resampling.BICUBIC)
    glyph = glyph.rotate(rng.uniform(-18, 18), Image.Resampling.BICUBIC, expand=True)
    reach = round(side * 0.1)
    left = (width - glyph.width) // 2 + rng.randint(-reach, reach)
    top = (height - glyph.height) // 2 + rng.randint(-reach, reach)
    picture.paste(glyph, (left, top), glyph)
    return picture


def main() -> None:
    rng = random.Random(SEED)
    kept, _ = emoji.load()
    names = [e.name for e in kept]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    entries = []
    for e in rng.sample(kept, COUNT):
        file = f"{ord(e.char):05x}.png"
        compose(emoji.draw(e.char), rng).save(OUTPUT / file, optimize=True)
        candidates = [e.name, *rng.sample([name for name in names if name != e.name], CANDIDATES - 1)]
        rng.shuffle(candidates)
        entries.append({"file": file, "label": e.name, "candidates": candidates})
    text = json.dumps(sorted(entries, key=lambda entry: entry["file"]), indent=1, ensure_ascii=False)
    (OUTPUT / "labels.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
