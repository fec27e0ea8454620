"""A handful of larger pictures for the demonstration, in the formats that people have."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageOps

import emoji

SIDE = 256
OUTPUT = Path(__file__).parent.parent / "priv/samples"

# File, name, colour of the sky, colour of the ground.
SAMPLES = (
    ("dog.jpg", "dog", "#cfe8f7", "#a9cf8f"),
    ("cat.png", "cat", "#f7e3d0", "#d8a98b"),
    ("pizza.webp", "pizza", "#fdf3dc", "#c9b08a"),
    ("rocket.png", "rocket", "#25325e", "#7a5c94"),
    ("guitar.png", "guitar", "#dfe7ea", "#9fb3bd"),
    ("red-apple.png", "red apple", "#e9f5e1", "#b7d3a0"),
    ("umbrella.png", "umbrella", "#d9e2ec", "#93a8bd"),
    ("airplane.png", "airplane", "#7fc0ee", "#e3f3fb"),
)
# A second picture of the same thing, to compare.
AGAIN = ("again/cat.png", "cat", "#2f4858", "#86bbd8")
TURNED = 12
# Two things in one picture, to tell apart.
TOGETHER = ("together/dog-and-pizza.png", ("dog", "pizza"), "#e8eef2", "#c3cdd6")

DISTRACTORS = ("banana", "bicycle", "sailboat", "sunflower", "penguin", "coffin", "brick", "snowman")


def scene(glyph: Image.Image, sky: str, ground: str) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
    picture = ImageOps.colorize(ramp, black=sky, white=ground)

    side = round(SIDE * 0.72)
    left, top = (SIDE - side) // 2, (SIDE - side) // 2 - 4
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((left + 20, top + side - 8, left + side - 20, top + side + 12), fill=70)
    picture.paste("black", mask=shadow.filter(ImageFilter.GaussianBlur(6)))

    glyph = glyph.resize((side, side), Image.Resampling.LANCZOS)
    picture.paste(glyph, (left, top), glyph)
    return picture


def together(glyphs: list[Image.Image], sky: str, ground: str) -> Image.Image:
    """The first on the left above, the second on the right below."""
    picture = ImageOps.colorize(Image.linear_gradient("L").resize((SIDE, SIDE)), black=sky, white=ground)
    side, margin = SIDE // 2 - 12, 8
    for glyph, at in zip(glyphs, (margin, SIDE - margin - side)):
        glyph = glyph.resize((side, side), Image.Resampling.LANCZOS)
        picture.paste(glyph, (at, at), glyph)
    return picture


def main() -> None:
    characters = {e.name: e.char for e in emoji.annotations()}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for file, name, sky, ground in SAMPLES:
        scene(emoji.draw(characters[name]), sky, ground).save(OUTPUT / file, quality=90)
    file, name, sky, ground = AGAIN
    (OUTPUT / file).parent.mkdir(exist_ok=True)
    turned = emoji.draw(characters[name]).rotate(TURNED, Image.Resampling.BICUBIC)
    scene(turned, sky, ground).save(OUTPUT / file)
    file, names, sky, ground = TOGETHER
    (OUTPUT / file).parent.mkdir(exist_ok=True)
    together([emoji.draw(characters[name]) for name in names], sky, ground).save(OUTPUT / file)
    labels = [name for _, name, _, _ in SAMPLES] + list(DISTRACTORS)
    (OUTPUT / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
