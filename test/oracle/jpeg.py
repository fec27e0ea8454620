"""Writes what Pillow makes of the files in test/fixtures/jpeg, for native/clip/tests/jpeg.rs.

From the project's root, with `pip install pillow==13.0.0`:

    python test/oracle/jpeg.py > test/fixtures/jpeg/pillow.txt

Each line is a file's name and "WIDTHxHEIGHT CRC32" of its upright RGB pixels.
"""

import zlib
from pathlib import Path

from PIL import Image, ImageOps

for path in sorted(Path("test/fixtures/jpeg").glob("*.jpg")):
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    print(f"{path.name} {picture.width}x{picture.height} {zlib.crc32(picture.tobytes()):08x}")
