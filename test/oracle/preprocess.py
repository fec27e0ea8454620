"""Makes the pictures and goldens with which native/clip/tests checks decoding and preprocessing.

The oracle is Pillow with OpenAI's recipe (clip/clip.py of openai/CLIP): upright by Exif, RGB, bicubic resize of the
shortest edge, centre crop. Transparent pictures are laid over white as by convert_to_rgb of transformers 5. One rule
differs: grey of 16 bits keeps its high byte, which Pillow's convert("RGB") would clip to 255.

From the project's root, with `pip install pillow==13.0.0 numpy safetensors`:

    python test/oracle/preprocess.py pictures    # test/fixtures/pictures: one small file for each rule
    python test/oracle/preprocess.py goldens     # test/fixtures/goldens/pictures.safetensors

The goldens cover the fixtures and the larger corpora in the folder that CLIP_TEST_DATA names. A file's entry is the tensor
u8 [3, 32, 32] that preprocessing for 32 pixels gives, and in the metadata's JSON "WIDTHxHEIGHT CRC32" of its upright
RGB pixels, or "error" where Pillow does not read the file.
"""

import io
import json
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.numpy import save_file

PICTURES = Path("test/fixtures/pictures")
GOLDENS = Path("test/fixtures/goldens/pictures.safetensors")
DATA = Path(os.environ.get("CLIP_TEST_DATA", "test/fixtures"))
SIZE = 32
WHITE = (255, 255, 255)
BACKGROUND = (10, 200, 30)

CORPORA = [
    "corpora/pngsuite/*.png",
    "corpora/image-rs/bmp/**/*.bmp",
    "corpora/image-rs/gif/**/*.gif",
    "corpora/image-rs/jpg/**/*.jpg",
    "corpora/image-rs/png/**/*.png",
    "corpora/image-rs/tiff/**/*.tif*",
    "corpora/image-rs/webp/**/*.webp",
    "corpora/exif-orientation/*.jpg",
    "photos/*",
]

# Height and width of the pictures of `pattern`, chosen for their remainders and extremes.
SHAPES = [(1, 1), (1, 300), (300, 1), (5, 7), (32, 35), (35, 32), (39, 32), (64, 99), (97, 301), (480, 641)]


def main():
    warnings.simplefilter("ignore")
    match sys.argv[1:]:
        case ["pictures"]:
            PICTURES.mkdir(parents=True, exist_ok=True)
            write_pictures()
        case ["goldens"]:
            write_goldens()
        case _:
            sys.exit(__doc__)


# The oracle


def upright_rgb(data, background=WHITE):
    """Over a background, or with transparency dropped where that is None."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = high_bytes(picture)
    if background and ("A" in picture.getbands() or picture.info.get("transparency") is not None):
        under = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(under, picture.convert("RGBA"))
    return picture.convert("RGB")


def high_bytes(picture):
    """Grey of 16 bits to 8, transparent where it was."""
    samples = np.asarray(picture)
    grey = Image.fromarray((samples >> 8).astype(np.uint8))
    key = picture.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
    return grey


def resized(picture, size):
    """torchvision's Resize(size) on a picture of Pillow: the shortest edge fits, the other is truncated."""
    width, height = picture.size
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def clip(picture, size=SIZE, resample=Image.Resampling.BICUBIC):
    width, height = resized(picture, size)
    picture = picture.resize((width, height), resample)
    left, top = int(round((width - size) / 2.0)), int(round((height - size) / 2.0))
    return chw(picture.crop((left, top, left + size, top + size)))


def chw(picture):
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def pattern(height, width):
    """Noise and edges that the Rust test makes by the same formula."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = (x * 73 + y * 151 + c * 199 + x * y * 7) % 256
    return Image.fromarray(np.where((x // 9 + y // 7) % 3 == 0, 255 * (c % 2), noise).astype(np.uint8))


def write_goldens():
    tensors, facts = {}, {}
    files = {f"fixtures/{path.name}": path for path in sorted(PICTURES.iterdir())}
    for glob in CORPORA:
        files |= {str(path.relative_to(DATA)): path for path in sorted(DATA.glob(glob)) if path.is_file()}
    for name, path in files.items():
        add_file(name, path.read_bytes(), tensors, facts)
    for name in ["rgba.png", "la.png", "palette_trns.png", "animated.gif", "rgba.webp"]:
        data = (PICTURES / name).read_bytes()
        tensors[f"flattened/{name}"] = clip(upright_rgb(data, BACKGROUND))
        tensors[f"dropped/{name}"] = clip(upright_rgb(data, None))
    for height, width in SHAPES:
        tensors[f"pattern/{height}x{width}"] = clip(pattern(height, width))
    for resample in [1, 2, 4, 5]:
        tensors[f"resample/{resample}"] = clip(pattern(97, 301), resample=Image.Resampling(resample))
    squashed = pattern(97, 301).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    tensors["squashed"] = chw(squashed)
    # One string, because the order of metadata is a new one in every run.
    save_file(dict(sorted(tensors.items())), GOLDENS, metadata={"files": json.dumps(facts, sort_keys=True)})
    GOLDENS.chmod(0o644)


def add_file(name, data, tensors, facts):
    try:
        picture = upright_rgb(data)
    except Exception:
        facts[name] = "error"
        return
    width, height = picture.size
    facts[name] = f"{width}x{height} {zlib.crc32(picture.tobytes()):08x}"
    tensors[name] = clip(picture)


# The pictures


def scene(width=48, height=32):
    """A smooth picture with one edge, so that lossy formats stay close."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 5, y * 7, 255 - x * 2 - y * 3], -1)
    rgb[height // 4 : height // 2, width // 3 : width // 2] = [250, 40, 10]
    return rgb.clip(0, 255).astype(np.uint8)


def with_alpha():
    rgb = scene()
    ramp = np.linspace(0, 255, rgb.shape[1]).astype(np.uint8)
    return np.dstack([rgb, np.broadcast_to(ramp, rgb.shape[:2])])


def write_pictures():
    rgb, rgba = Image.fromarray(scene()), Image.fromarray(with_alpha())
    grey = rgb.convert("L")
    write_png(rgb, rgba, grey)
    write_jpeg(rgb, grey)
    write_gif(rgb)
    write_webp(rgb, rgba)
    write_tiff(rgb, rgba, grey)
    write_orientations(rgb)
    write_bmp(rgb, rgba)


def save(picture, name, **options):
    picture.save(PICTURES / name, **options)


def exif(orientation, kind="H"):
    """One tag, a number of two bytes (H) or four (I)."""
    value = struct.pack(">" + kind, orientation).ljust(4, b"\0")
    entry = struct.pack(">HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + value
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def write_png(rgb, rgba, grey):
    save(rgb, "rgb.png")
    save(rgba, "rgba.png")
    save(grey, "l.png")
    save(rgba.convert("LA"), "la.png")
    save(rgb.convert("1"), "one_bit.png")
    palette = rgb.quantize(16)
    save(palette, "palette.png")
    save(palette, "palette_trns.png", transparency=bytes(range(0, 240, 15)))
    save(rgb, "rgb_trns.png", transparency=(250, 40, 10))
    save(rgb, "orientation_6.png", exif=exif(6))
    save(rgb, "animated.png", save_all=True, append_images=[rgb.rotate(180), rgb.rotate(90)])
    for color, channels, name in [(0, 1, "l16"), (2, 3, "rgb16"), (4, 2, "la16"), (6, 4, "rgba16")]:
        samples = with_alpha()[..., [0] if channels == 1 else [0, 3] if channels == 2 else list(range(channels))]
        (PICTURES / f"{name}.png").write_bytes(png16(samples.astype(np.uint16) * 256 + 255 - samples, color))
    write_png_keys(np.asarray(grey))
    write_png_ends((PICTURES / "rgb.png").read_bytes())


def write_png_keys(grey):
    """One transparent colour, in the depths that Pillow compares in ways of their own."""
    levels = (grey // 64).astype(np.uint8)
    for depth, name in [(2, "l2_trns"), (8, "l8_trns")]:
        samples = levels if depth == 2 else levels * 64
        key = trns(int(samples[8, 8]))
        (PICTURES / f"{name}.png").write_bytes(png(pack(samples, depth), grey.shape, depth, 0, key))
    wide = np.dstack([grey.astype(np.uint16) // 32 * 0x2020] * 3)
    key = trns(*wide[8, 8].tolist())
    (PICTURES / "rgb16_trns.png").write_bytes(png(wide.astype(">u2").tobytes(), grey.shape, 16, 2, key))
    one = wide[..., 0].astype(">u2").tobytes()
    (PICTURES / "l16_trns.png").write_bytes(png(one, grey.shape, 16, 0, trns(int(wide[8, 8, 0]))))
    # Indices that the palette does not have, and fewer alphas than colours.
    colors = [(b"PLTE", bytes(range(30, 39))), (b"tRNS", bytes([255, 90]))]
    (PICTURES / "palette_short.png").write_bytes(png(pack(levels, 2), grey.shape, 2, 3, colors))


def write_png_ends(whole):
    """Files that lack what follows the pixels, and one with chunks that nobody knows."""
    (PICTURES / "no_end.png").write_bytes(whole[:-12])
    (PICTURES / "no_checksums.png").write_bytes(whole[:-20])
    at = whole.index(b"IDAT") - 4
    (PICTURES / "unknown_chunk.png").write_bytes(whole[:at] + chunk(b"ABCD", b"1234") + whole[at:])


def trns(*numbers):
    return [(b"tRNS", struct.pack(f">{len(numbers)}H", *numbers))]


def pack(samples, depth):
    """Rows of 2 or 8 bits a sample, the width a multiple of four."""
    if depth == 8:
        return samples.tobytes()
    quads = samples.reshape(samples.shape[0], -1, 4)
    return (quads[..., 0] << 6 | quads[..., 1] << 4 | quads[..., 2] << 2 | quads[..., 3]).astype(np.uint8).tobytes()


def png16(samples, color):
    """A PNG of 16 bits a sample, which Pillow does not write."""
    return png(samples.astype(">u2").tobytes(), samples.shape, 16, color)


def png(rows, shape, depth, color, chunks=()):
    height, width = shape[:2]
    step = len(rows) // height
    filtered = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step))
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    every = [head, *chunks, (b"IDAT", zlib.compress(filtered, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in every)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_bmp(rgb, rgba):
    save(rgb, "rgb.bmp")
    save(rgb.quantize(16), "palette.bmp")
    save(rgb.convert("1"), "one_bit.bmp")
    save(rgba, "rgba.bmp")
    pixels, indices = np.asarray(rgba).astype(int), np.asarray(rgb.quantize(16)).astype(int)
    palette = bytes(range(20, 84))
    rows = indices[::-1].astype(np.uint8).tobytes()
    files = {
        # Two offsets that mean the end of the palette, and a palette of fewer colours than it says.
        "offset_0": bmp(rgb.size, 8, rows, palette, colors=16, offset=0),
        "offset_54": bmp(rgb.size, 8, rows, palette, colors=16, offset=54),
        "short_palette": bmp(rgb.size, 8, rows, palette),
        "top_down": bmp((48, -32), 8, rows, palette, colors=16),
        "bgrx": bmp(rgb.size, 32, pixels[..., [2, 1, 0, 3]].astype(np.uint8).tobytes()),
        "rgb555": bmp(rgb.size, 16, bits(pixels, 10, 5, 0, 3, 3, 3)),
        "rgb565": bmp(rgb.size, 16, bits(pixels, 11, 5, 0, 3, 2, 3), mask(0xF800, 0x7E0, 0x1F), compression=3),
        "rle8": bmp(rgb.size, 8, runs(indices, 1), palette, colors=16, compression=1),
        "rle4": bmp(rgb.size, 4, runs(indices, 2), palette, colors=16, compression=2),
        "os2": b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, 26 + 768, 12, 48, 32, 1, 8) + bytes(range(256)) * 3 + rows,
    }
    for name, data in files.items():
        (PICTURES / f"{name}.bmp").write_bytes(data)


def bmp(size, depth, rows, palette=b"", colors=0, offset=None, compression=0):
    offset = 54 + len(palette) if offset is None else offset
    head = b"BM" + struct.pack("<IHHI", 54 + len(palette) + len(rows), 0, 0, offset)
    fields = (40, *size, 1, depth, compression, len(rows), 0, 0, colors, 0)
    return head + struct.pack("<IiiHHIIiiII", *fields) + palette + rows


def bits(pixels, red, green, blue, r, g, b):
    """Pixels of 16 bits: where each colour stands, and how many of its low bits are left out."""
    channels = pixels[..., 0] >> r << red, pixels[..., 1] >> g << green, pixels[..., 2] >> b << blue
    return (channels[0] | channels[1] | channels[2]).astype("<u2").tobytes()


def mask(*masks):
    return struct.pack("<III", *masks)


def runs(indices, per_byte):
    """Each row as a run, pixels as they are, a jump to its end; the last one ends the picture."""
    out = b""
    for row in indices.astype(int):
        first, rest = bytes([10, row[0] * (17 if per_byte == 2 else 1)]), row[10:40]
        literal = rest if per_byte == 1 else rest[::2] << 4 | rest[1::2]
        out += first + bytes([0, 30]) + bytes(literal.tolist()) + b"\0" * (len(literal) % 2) + b"\0\2\4\0" + b"\4\3\0\0"
    return out + b"\0\1"


def write_jpeg(rgb, grey):
    save(rgb, "rgb.jpg", quality=90)
    save(rgb, "full_chroma.jpg", quality=90, subsampling=0)
    save(rgb, "half_chroma.jpg", quality=90, subsampling=1)
    save(rgb, "progressive.jpg", quality=90, progressive=True)
    save(rgb, "restart.jpg", quality=90, restart_marker_blocks=1)
    save(rgb, "stored_rgb.jpg", quality=90, keep_rgb=True)
    save(grey, "l.jpg", quality=90)
    for orientation in range(1, 9):
        save(rgb, f"orientation_{orientation}.jpg", quality=90, exif=exif(orientation))
    save(cmyk(rgb), "cmyk.jpg", quality=90)
    inverted = (PICTURES / "cmyk.jpg").read_bytes()
    at = inverted.index(b"\xff\xee")
    # The last byte of Adobe's marker says how the colours are stored: 0 is CMYK, 2 is YCCK.
    (PICTURES / "ycck.jpg").write_bytes(inverted[: at + 15] + b"\2" + inverted[at + 16 :])
    (PICTURES / "cmyk_plain.jpg").write_bytes(inverted[:at] + inverted[at + 16 :])


def write_orientations(rgb):
    """Each way in which Pillow finds an orientation, beside Exif with a number of two bytes."""
    save(rgb, "orientation_long.jpg", quality=90, exif=exif(6, kind="I"))
    save(rgb, "orientation_two.jpg", quality=90, exif=exif(6))
    once = (PICTURES / "orientation_two.jpg").read_bytes()
    end = once.index(b"Exif") + len(exif(6))
    (PICTURES / "orientation_two.jpg").write_bytes(once[:end] + app1(exif(3)) + once[end:])
    save(rgb, "orientation_xmp.jpg", quality=90, xmp=xmp(6))
    save(rgb, "orientation_xmp.webp", lossless=True, xmp=xmp(6))
    save(rgb, "orientation_xmp.png", pnginfo=itxt("XML:com.adobe.xmp", xmp(6).decode(), zip=True))
    profile = f"\nexif\n{len(exif(6)):8}\n{exif(6).hex()}\n"
    save(rgb, "orientation_profile.png", pnginfo=itxt("Raw profile type exif", profile, zip=False))
    plain = (PICTURES / "orientation_6.png").read_bytes()
    start, end, last = plain.index(b"eXIf") - 4, plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    moved = plain[:start] + plain[end:last] + plain[start:end] + plain[last:]
    (PICTURES / "orientation_after.png").write_bytes(moved)


def app1(payload):
    return b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload


def xmp(orientation):
    return b'<rdf:Description tiff:Orientation="%d"/>' % orientation


def itxt(key, text, zip):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(key, text, zip=zip)
    return chunks


def cmyk(rgb):
    bands = rgb.convert("CMYK").split()
    return Image.merge("CMYK", [*bands[:3], bands[0].point(lambda value: value // 4)])


def write_gif(rgb):
    frames = [rgb.quantize(16), rgb.rotate(180).quantize(16)]
    save(frames[0], "animated.gif", save_all=True, append_images=frames[1:], transparency=3, duration=50)
    save(rgb.convert("L"), "l.gif")
    whole = (PICTURES / "animated.gif").read_bytes()
    # The canvas grows, the frame moves to (5, 3): its surroundings stay bare.
    at = whole.index(b"\x2c\0\0\0\0")
    moved = whole[:6] + struct.pack("<HH", 64, 44) + whole[10 : at + 1] + struct.pack("<HH", 5, 3) + whole[at + 5 :]
    (PICTURES / "small_frame.gif").write_bytes(moved)
    (PICTURES / "large_frame.gif").write_bytes(whole[:6] + struct.pack("<HH", 30, 20) + whole[10:])
    save(frames[0], "interlaced.gif", interlace=True)
    # Without a palette anywhere, and on a canvas that is nowhere transparent.
    plain = (PICTURES / "l.gif").read_bytes()
    colors = 3 << ((plain[10] & 7) + 1)
    bare = plain[:10] + bytes([plain[10] & 0x70]) + plain[11:13] + plain[13 + colors :]
    (PICTURES / "no_palette.gif").write_bytes(bare)
    opaque = (PICTURES / "interlaced.gif").read_bytes()
    (PICTURES / "bare_canvas.gif").write_bytes(opaque[:6] + struct.pack("<HH", 64, 44) + opaque[10:])


def write_webp(rgb, rgba):
    save(rgb, "rgb.webp", lossless=True)
    save(rgba, "rgba.webp", lossless=True, exact=True)
    save(rgb, "lossy.webp", quality=90)
    save(rgba, "lossy_alpha.webp", quality=90)
    save(rgb, "orientation_6.webp", lossless=True, exif=exif(6))
    save(rgba, "animated.webp", save_all=True, append_images=[rgba.rotate(180)], lossless=True, exact=True)


def write_tiff(rgb, rgba, grey):
    save(rgb, "lzw.tif", compression="tiff_lzw")
    save(rgb, "deflate.tif", compression="tiff_adobe_deflate")
    save(rgb, "packbits.tif", compression="packbits")
    save(rgba, "rgba.tif", compression="tiff_lzw")
    save(grey, "l.tif")
    save(Image.fromarray(np.asarray(grey).astype(np.uint16) * 200), "l16.tif")
    save(cmyk(rgb), "cmyk.tif", compression="tiff_lzw")
    save(rgb.quantize(16), "palette.tif", compression="tiff_lzw")
    save(rgb.convert("1"), "group4.tif", compression="group4")
    save(rgb, "orientation_6.tif", tiffinfo={274: 6}, compression="tiff_lzw")
    save(rgb, "pages.tif", save_all=True, append_images=[rgb.rotate(180)], compression="tiff_lzw")
    save(Image.fromarray(np.asarray(grey).astype(np.float32)), "float.tif")


if __name__ == "__main__":
    main()
