"""Makes the pictures and goldens with which native/clip_base/tests checks decoding and preprocessing.

The oracle is Pillow with OpenAI's recipe (clip/clip.py of openai/CLIP): upright by Exif, convert("RGB"), bicubic
resize of the shortest edge, centre crop. One rule differs: grey of 16 bits keeps its high byte, which Pillow's
convert("RGB") would clip to 255.

From the project's root, with `pip install pillow==13.0.0 numpy safetensors`:

    python test/oracle/preprocess.py pictures    # test/fixtures/pictures: one small file for each rule
    python test/oracle/preprocess.py goldens     # test/fixtures/goldens/pictures.safetensors

The goldens cover the fixtures and, where ../shared/data is there, its corpora. A file's entry is the tensor
u8 [3, 32, 32] that preprocessing for 32 pixels gives, and in the metadata's JSON "WIDTHxHEIGHT CRC32" of its upright
RGB pixels, or "error" where Pillow does not read the file.
"""

import io
import json
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
SHARED = Path("../shared/data")
SIZE = 32
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


def upright_rgb(data):
    picture = Image.open(io.BytesIO(data))
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


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


def flattened(data):
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    under = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
    return Image.alpha_composite(under, picture).convert("RGB")


def pattern(height, width):
    """Noise and edges that the Rust test makes by the same formula."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = (x * 73 + y * 151 + c * 199 + x * y * 7) % 256
    return Image.fromarray(np.where((x // 9 + y // 7) % 3 == 0, 255 * (c % 2), noise).astype(np.uint8))


def write_goldens():
    tensors, facts = {}, {}
    files = {f"fixtures/{path.name}": path for path in sorted(PICTURES.iterdir())}
    for glob in CORPORA:
        files |= {str(path.relative_to(SHARED)): path for path in sorted(SHARED.glob(glob)) if path.is_file()}
    for name, path in files.items():
        add_file(name, path.read_bytes(), tensors, facts)
    for name in ["rgba.png", "la.png", "palette_trns.png", "animated.gif", "rgba.webp"]:
        tensors[f"flattened/{name}"] = clip(flattened((PICTURES / name).read_bytes()))
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
    save(rgb, "rgb.bmp")
    save(rgb.quantize(16), "palette.bmp")
    save(rgb.convert("1"), "one_bit.bmp")
    save(rgba, "rgba.bmp")


def save(picture, name, **options):
    picture.save(PICTURES / name, **options)


def exif(orientation, kind="H"):
    """One tag, a number of two bytes (H) or four (I)."""
    entry = struct.pack(">HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + struct.pack(">" + kind, orientation).ljust(4, b"\0")
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


def png16(samples, color):
    """A PNG of 16 bits a sample, which Pillow does not write."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9))]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*chunks, (b"IEND", b"")]:
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


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
