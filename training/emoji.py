"""The pictures and their words: Noto Color Emoji drawn once, named by Unicode CLDR."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
ANNOTATIONS = "/usr/share/unicode/cldr/common/annotations/en.xml"

# The font holds bitmaps of one size only; FreeType refuses any other.
FONT_SIZE = 109
GLYPH_SIZE = 96

# Swatches carry no shape: once the colours are shifted, nobody could tell their names apart.
SWATCH = re.compile(r"skin tone|\b(square|square button|circle)$|^(small|large) .* diamond$")

# Between mean-pooled 32 px glyphs; below it lie clock faces, moons and arrows, above it the animals.
MIRROR_DISTANCE = 6.5


@dataclass(frozen=True)
class Emoji:
    char: str
    name: str
    keywords: tuple[str, ...]


def draw(char: str) -> Image.Image | None:
    """The glyph, cut to its ink and made square, or None where the font has no colour glyph."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    canvas = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(canvas).text((20, 20), char, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        return None
    # Pillow has blended the edges with the canvas's transparent black: the colours are premultiplied.
    glyph = Image.frombytes("RGBa", canvas.size, canvas.tobytes()).convert("RGBA").crop(box)
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return square


def annotations() -> list[Emoji]:
    """Every emoji of one code point that CLDR names in English."""
    names, keywords = {}, {}
    for node in ElementTree.parse(ANNOTATIONS).getroot().iter("annotation"):
        char = node.get("cp")
        if len(char) != 1 or ord(char) < 0x2000:
            continue
        if node.get("type") == "tts":
            names[char] = node.text.strip()
        else:
            keywords[char] = [word.strip() for word in node.text.split("|")]

    return [
        Emoji(char, name, tuple(k for k in keywords.get(char, []) if k != name))
        for char, name in sorted(names.items())
        if not SWATCH.search(name)
    ]


def load() -> tuple[list[Emoji], np.ndarray]:
    """The emoji kept, and their glyphs as u8 RGBA of shape (n, GLYPH_SIZE, GLYPH_SIZE, 4)."""
    kept, glyphs, seen = [], [], set()
    for emoji in annotations():
        glyph = draw(emoji.char)
        # A character outside the font draws nothing, and a few share one drawing with another.
        if glyph is None or (key := glyph.tobytes()) in seen:
            continue
        seen.add(key)
        kept.append(emoji)
        glyphs.append(np.asarray(glyph.resize((GLYPH_SIZE, GLYPH_SIZE), Image.Resampling.LANCZOS)))
    return kept, np.stack(glyphs)


def premultiplied(glyphs: np.ndarray) -> torch.Tensor:
    """Float RGBA, channels first. Premultiplied, or interpolation bleeds the colour of empty pixels."""
    rgba = torch.from_numpy(glyphs).permute(0, 3, 1, 2).float() / 255
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)


def mirrorable(glyphs: torch.Tensor) -> torch.Tensor:
    """False where the mirror image looks like another glyph: arrows, moon phases, clock faces."""
    small = torch.nn.functional.adaptive_avg_pool2d(glyphs, 32)
    distance = torch.cdist(small.flip(-1).flatten(1), small.flatten(1))
    return distance.fill_diagonal_(torch.inf).amin(dim=1) > MIRROR_DISTANCE
