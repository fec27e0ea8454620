"""Makes the files in test/fixtures/tiff and writes what Pillow makes of them, for native/clip/tests/tiff.rs.

From the project's root, with `pip install pillow==13.0.0 numpy`:

    python test/oracle/tiff.py files                             # test/fixtures/tiff/*.tif
    python test/oracle/tiff.py > test/fixtures/tiff/pillow.txt

Each line is a file's name and "WIDTHxHEIGHT CRC32" of its upright RGB pixels. Of 16 bits the high 8 count. The pixels
of lab.tif, which Little CMS rounds now and then otherwise, are in lab.png.

The strips are coded by libtiff, in Pillow; the files around them are written here, because Pillow writes few layouts.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from preprocess import scene, upright_rgb, with_alpha

FOLDER = Path("test/fixtures/tiff")
TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ROWS = 12
FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 16: "Q"}


def main():
    if sys.argv[1:] == ["files"]:
        FOLDER.mkdir(exist_ok=True)
        for name, data in files().items():
            (FOLDER / f"{name}.tif").write_bytes(data)
        upright_rgb((FOLDER / "lab.tif").read_bytes()).save(FOLDER / "lab.png")
    else:
        for path in sorted(path for path in FOLDER.glob("*.tif") if path.stem != "lab"):
            picture = upright_rgb(path.read_bytes())
            print(f"{path.name} {picture.width}x{picture.height} {zlib.crc32(picture.tobytes()):08x}")


def files():
    return fax() | turned() | palettes() | planes() | colours() | odd()


# The files


def drawing():
    return Image.fromarray(scene()[..., 0]).convert("1")


def fax():
    """Strips of every fax coding."""
    bilevel = tags(48, 32, bits=[1], photometric=1)
    kinds = {
        "fax_rle": (2, "tiff_ccitt", {}),
        "fax_group3": (3, "group3", {}),
        "fax_group3_fill": (3, "group3", {292: 4}),
        "fax_group3_2d": (3, "group3", {292: 1}),
        "fax_group4": (4, "group4", {}),
    }
    out = {}
    for name, (number, coding, options) in kinds.items():
        strips = [coded(strip, coding, options) for strip in cut(drawing())]
        entries = bilevel | {259: (3, [number]), 278: (4, [ROWS])}
        entries |= {tag: (4, [value]) for tag, value in options.items()}
        out[name] = strips_of(entries, strips)
        out[f"{name}_turned"] = strips_of(entries | {266: (3, [2])}, [strip.translate(TURNED) for strip in strips])
    page = [coded(drawing(), "group4", {})]
    group4 = bilevel | {259: (3, [4])}
    out["strip_of_2_31_rows"] = strips_of(group4 | {278: (4, [2**31 - 1])}, page)
    out["strip_of_default_rows"] = strips_of({tag: value for tag, value in group4.items() if tag != 278}, page)
    out["strip_without_length"] = strips_of(group4, page, lengths=None)
    out["strip_of_length_0"] = strips_of(group4, page, lengths=[0])
    return out


def turned():
    """The first pixel in the lowest bits."""
    grey = scene()[..., 1]
    out = {}
    for name, coding, number in [("raw", None, 1), ("packbits", "packbits", 32773), ("lzw", "tiff_lzw", 5)]:
        for bits in (1, 8):
            picture = drawing() if bits == 1 else Image.fromarray(grey)
            strips = [coded(strip, coding, {}) for strip in cut(picture)]
            entries = tags(48, 32, bits=[bits], photometric=1) | {266: (3, [2]), 259: (3, [number]), 278: (4, [ROWS])}
            out[f"turned_{name}_{bits}"] = strips_of(entries, [strip.translate(TURNED) for strip in strips])
    packed = packed_nibbles(grey).translate(TURNED)
    out["turned_raw_4"] = strips_of(tags(48, 32, bits=[4], photometric=1) | {266: (3, [2])}, [packed])
    return out


def palettes():
    indices, map_ = scene()[..., 0], [int(value) for value in np.random.default_rng(7).integers(0, 65536, 768)]
    extra = np.dstack([indices, with_alpha()[..., 3]])
    two = tags(48, 32, bits=[8, 8], photometric=3) | {320: (3, map_)}
    four = tags(48, 32, bits=[4], photometric=3) | {320: (3, map_[:48])}
    return {
        "palette_alpha": strips_of(two | {338: (3, [2])}, [extra.tobytes()]),
        "palette_unspecified": strips_of(two | {338: (3, [0])}, [extra.tobytes()]),
        "palette_4_big": strips_of(four, [packed_nibbles(indices)], big=True),
        "palette_big_order": strips_of(four, [packed_nibbles(indices)], order=">"),
    }


def planes():
    """Tiles, and samples apart."""
    rgb, rgba = scene(), with_alpha()
    wide = (rgba.astype(np.uint16) * 257).astype(">u2")
    out = {}
    for side in (16, 40):
        grid = {322: (4, [side]), 323: (4, [16])}
        entries = tags(48, 32, bits=[8] * 3, photometric=2) | grid
        out[f"tiles_{side}"] = strips_of(entries, tiles(rgb, side))
        apart = [tile for plane in np.moveaxis(rgb, 2, 0) for tile in tiles(plane, side)]
        out[f"tiles_apart_{side}"] = strips_of(entries | {284: (3, [2])}, apart)
        deflated = [zlib.compress(tile) for tile in apart]
        out[f"tiles_apart_deflate_{side}"] = strips_of(entries | {284: (3, [2]), 259: (3, [32946])}, deflated)
    deep = tags(48, 32, bits=[16] * 4, photometric=2) | {284: (3, [2]), 259: (3, [8]), 338: (3, [1])}
    strips = [zlib.compress(plane.tobytes()) for plane in np.moveaxis(wide, 2, 0)]
    out["premultiplied_16_apart"] = strips_of(deep, strips, order=">")
    differences = rgb.copy()
    differences[:, 1:] -= rgb[:, :-1]
    entries = tags(48, 32, bits=[8] * 3, photometric=2) | {259: (3, [8]), 317: (3, [2])}
    out["predictor"] = strips_of(entries, [zlib.compress(differences.tobytes())])
    return out


def colours():
    """Colour spaces."""
    rgb = scene()
    three = tags(48, 32, bits=[8] * 3)
    out = {"lab": strips_of(three | {262: (3, [8])}, [rgb.tobytes()])}
    for block in [(1, 1), (2, 1), (2, 2), (4, 2)]:
        entries = three | {262: (3, [6]), 530: (3, list(block)), 259: (3, [8])}
        out["ycbcr_{}x{}".format(*block)] = strips_of(entries, [zlib.compress(shared(rgb, *block))])
    entries = three | {262: (3, [6]), 530: (3, [1, 1]), 259: (3, [8])}
    entries |= {529: (5, [2126, 10000, 7152, 10000, 722, 10000]), 532: (5, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])}
    out["ycbcr_of_video"] = strips_of(entries, [zlib.compress(rgb.tobytes())])
    out["ycbcr_raw"] = strips_of(three | {262: (3, [6]), 530: (3, [1, 1])}, [rgb.tobytes()])
    for name, picture in [("jpeg", Image.fromarray(rgb)), ("jpeg_grey", Image.fromarray(rgb).convert("L"))]:
        file = io.BytesIO()
        picture.save(file, "TIFF", compression="jpeg", quality=85)
        out[name] = file.getvalue()
    return out


def odd():
    """What some writers do."""
    grey, rgb = scene()[..., 1], scene()
    one, three = tags(48, 32, bits=[8]), tags(48, 32, bits=[8] * 3, photometric=2)
    xmp = list(b'<rdf:Description tiff:Orientation="6"/>')
    raw = strips_of(one | {262: (3, [1])}, [grey.tobytes()], order=">")
    return {
        "lzw_of_old": strips_of(one | {262: (3, [1]), 259: (3, [5])}, [old_lzw(grey.tobytes())]),
        "without_photometric": strips_of(one, [grey.tobytes()]),
        "orientation_xmp": strips_of(three | {700: (1, xmp)}, [rgb.tobytes()]),
        "magic_turned": b"MM*\0" + raw[4:],
        "rgb_and_two_more": strips_of(
            tags(48, 32, bits=[8] * 5, photometric=2) | {338: (3, [2, 0])},
            [np.dstack([with_alpha(), grey]).tobytes()],
        ),
    }


# Coding


def cut(picture):
    width, height = picture.size
    return [picture.crop((0, top, width, min(top + ROWS, height))) for top in range(0, height, ROWS)]


def coded(picture, coding, options):
    """The one strip that libtiff makes of a picture."""
    if coding is None:
        return picture.tobytes()
    file = io.BytesIO()
    picture.save(file, "TIFF", compression=coding, tiffinfo=options | {278: picture.height})
    entries = Image.open(file).tag_v2
    (start,), (length,) = entries[273], entries[279]
    return file.getvalue()[start : start + length]


def packed_nibbles(samples):
    high = samples >> 4
    return (high[:, 0::2] << 4 | high[:, 1::2]).astype(np.uint8).tobytes()


def tiles(samples, side):
    """Tiles of 16 rows, filled up by repeating the edge."""
    padding = [(0, -samples.shape[0] % 16), (0, -samples.shape[1] % side)] + [(0, 0)] * (samples.ndim - 2)
    filled = np.pad(samples, padding, mode="edge")
    rows, columns = range(0, filled.shape[0], 16), range(0, filled.shape[1], side)
    return [filled[top : top + 16, left : left + side].tobytes() for top in rows for left in columns]


def shared(pixels, across, down):
    """Blocks of pixels that share their colour: their brightnesses, and then the mean of each colour."""
    height, width, _ = pixels.shape
    blocks = pixels.reshape(height // down, down, width // across, across, 3).transpose(0, 2, 1, 3, 4)
    blocks = blocks.reshape(-1, across * down, 3)
    return np.hstack([blocks[..., 0], blocks[..., 1:].mean(1).round().astype(np.uint8)]).tobytes()


def old_lzw(data):
    """Codes of single bytes, lowest bit first, none of which grows: cleared in time."""
    codes = []
    for at in range(0, len(data), 200):
        codes += [256, *data[at : at + 200]]
    bits = "".join(f"{code:09b}"[::-1] for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


# Files


def tags(width, height, bits, photometric=None):
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, bits), 277: (3, [len(bits)]), 278: (4, [height])}
    return entries if photometric is None else entries | {262: (3, [photometric])}


def strips_of(entries, chunks, lengths=(), order="<", big=False):
    """A file of these tags and strips or tiles. Their lengths are true unless given; `None` leaves them out."""
    start, data, offsets = 16 if big else 8, b"", []
    for chunk in chunks:
        offsets.append(start + len(data))
        data += chunk + b"\0" * (len(chunk) % 2)
    places, counts = (324, 325) if 322 in entries else (273, 279)
    entries = entries | {places: (16 if big else 4, offsets)}
    if lengths is not None:
        entries |= {counts: (4, list(lengths) or [len(chunk) for chunk in chunks])}
    word, at = "Q" if big else "I", start + len(data)
    size = struct.calcsize(order + word)
    behind = at + (8 if big else 2) + len(entries) * (4 + 2 * size) + size
    directory, values = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for tag, (kind, numbers) in sorted(entries.items()):
        value = b"".join(struct.pack(order + FORMATS[kind], number) for number in numbers)
        directory += struct.pack(f"{order}HH{word}", tag, kind, len(numbers) // (2 if kind == 5 else 1))
        if len(value) > size:
            directory += struct.pack(order + word, behind + len(values))
            values += value + b"\0" * (len(value) % 2)
        else:
            directory += value.ljust(size, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at)
    return mark + head + data + directory + b"\0" * size + values


if __name__ == "__main__":
    main()
