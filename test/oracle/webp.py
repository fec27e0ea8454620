"""Makes the files in test/fixtures/webp and writes what Pillow makes of them, for native/clip/tests/webp.rs.

From the project's root, with `pip install pillow==13.0.0 numpy`:

    python test/oracle/webp.py files                             # test/fixtures/webp/*.webp
    python test/oracle/webp.py > test/fixtures/webp/pillow.txt

Each line is a file's name and "WIDTHxHEIGHT CRC32 CRC32" of its upright RGB pixels, over white and with alpha dropped,
or "refused" where Pillow does not read it.

Pixels are coded by libwebp, in Pillow; the files around them are written here, because Pillow writes few layouts.
"""

import io
import itertools
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from preprocess import exif, upright_rgb, xmp

FOLDER = Path("test/fixtures/webp")
WIDTH, HEIGHT = 21, 15
ANIMATION, XMP, EXIF, ALPHA = 2, 4, 8, 16
WHITE = (255, 255, 255)


def main():
    if sys.argv[1:] == ["files"]:
        FOLDER.mkdir(exist_ok=True)
        for name, data in files().items():
            (FOLDER / f"{name}.webp").write_bytes(data)
    else:
        for path in sorted(FOLDER.glob("*.webp")):
            print(path.name, facts(path.read_bytes()))


def facts(data):
    try:
        pictures = [upright_rgb(data, background) for background in (WHITE, None)]
    except Exception:
        return "refused"
    width, height = pictures[0].size
    return " ".join([f"{width}x{height}", *(f"{zlib.crc32(picture.tobytes()):08x}" for picture in pictures)])


def files():
    return lossy() | alpha() | stills() | lengths() | animations() | metadata()


# Pictures


def picture(width=WIDTH, height=HEIGHT):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 12 % 256, y * 16 % 256, (x // 3 + y // 4) % 2 * 200], -1).astype(np.uint8))


def plane():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (x * 11 + y * 7).astype(np.uint8)


def coded(image, **options):
    """The chunk of pixels alone."""
    file = io.BytesIO()
    image.save(file, "WEBP", **options)
    data = file.getvalue()
    at = max(data.find(b"VP8 "), data.find(b"VP8L"))
    return data[at + 8 : at + 8 + struct.unpack_from("<I", data, at + 4)[0]]


COLOUR = coded(picture(), quality=60)
OTHER = coded(picture().rotate(180), quality=60)


def lossless(transparent):
    """Pixels with alpha, and whether they say that it counts."""
    image = picture()
    image.putalpha(Image.fromarray(plane()))
    data = bytearray(coded(image, lossless=True, exact=True))
    data[4] = data[4] & 0xEF | transparent << 4
    return bytes(data)


def predicted(values, kind):
    """Alpha less what a filter predicts: nothing, the value to the left, above, or both less the one between."""
    padded = np.pad(values.astype(int), ((1, 0), (1, 0)))
    left, above, between = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    guess = [0 * left, left.copy(), above.copy(), np.clip(left + above - between, 0, 255)][kind]
    if kind:
        guess[0], guess[:, 0] = left[0], above[:, 0]
    return ((values - guess) % 256).astype(np.uint8)


def coded_plane(kind, compressed, reduced=0, reserved=0):
    values = predicted(plane(), kind)
    head = bytes([compressed | kind << 2 | reduced << 4 | reserved << 6])
    if not compressed:
        return head + values.tobytes()
    green = np.stack([0 * values, values, 0 * values], -1)
    return head + coded(Image.fromarray(green), lossless=True)[5:]


PLANE = coded_plane(1, 1)


# Files


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff(*chunks):
    return chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def canvas(flags, width=WIDTH, height=HEIGHT):
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + u24(width - 1) + u24(height - 1))


def extended(flags, *chunks):
    return riff(canvas(flags), *chunks)


def u24(number):
    return struct.pack("<I", number)[:3]


COLOURS, OTHERS, PLANES = chunk(b"VP8 ", COLOUR), chunk(b"VP8 ", OTHER), chunk(b"ALPH", PLANE)
UNKNOWN = chunk(b"UNKN", b"odd")
BARE = {bit: chunk(b"VP8L", lossless(bit)) for bit in (0, 1)}


def lossy():
    """Sizes at which blocks and colours end differently."""
    sizes = [(1, 1), (2, 1), (1, 33), (16, 16), (17, 15), (32, 18), (40, 31)]
    made = {}
    for (width, height), quality in zip(sizes, itertools.cycle((10, 75, 100))):
        made[f"lossy_{width}x{height}"] = riff(chunk(b"VP8 ", coded(picture(width, height), quality=quality)))
    return made


def alpha():
    whole = coded_plane(1, 0)
    kinds = {f"alpha_{kind}_{how}": coded_plane(kind, how) for kind in range(4) for how in (0, 1)} | {
        "alpha_reduced": coded_plane(3, 1, reduced=1),
        "alpha_reduced_unknown": coded_plane(3, 1, reduced=2),
        "alpha_reserved": coded_plane(0, 0, reserved=1),
        "alpha_method_unknown": b"\2" + PLANE[1:],
        "alpha_short": whole[:-1],
        "alpha_long": whole + b"\1\2",
        "alpha_coded_short": PLANE[: len(PLANE) // 2],
        "alpha_empty": b"",
    }
    made = {name: extended(ALPHA, chunk(b"ALPH", data), COLOURS) for name, data in kinds.items()}
    return made | {"alpha_damaged_ignored": extended(0, chunk(b"ALPH", b"\xff"), COLOURS)}


def stills():
    """What a file of one picture may hold, and in which order."""
    bodies = {
        "colour": [COLOURS],
        "alpha_colour": [PLANES, COLOURS],
        "colour_alpha": [COLOURS, PLANES],
        "alpha_twice": [PLANES, PLANES, COLOURS],
        "alpha_apart": [PLANES, UNKNOWN, COLOURS],
        "alpha_lossless": [PLANES, BARE[1]],
        "unknown_around": [UNKNOWN, PLANES, COLOURS, UNKNOWN],
        "two": [COLOURS, OTHERS],
        "lossless": [BARE[0]],
        "lossless_alpha": [BARE[1]],
    }
    made = {f"still_{name}_{flag}": extended(flag, *body) for name, body in bodies.items() for flag in (0, ALPHA)}
    made |= {f"simple_{name}": riff(*body) for name, body in bodies.items()}
    difference = bytes([COLOUR[0] | 1]) + COLOUR[1:]
    hidden = bytes([COLOUR[0] & ~16]) + COLOUR[1:]
    scaled = COLOUR[:7] + bytes([COLOUR[7] | 0x40]) + COLOUR[8:]
    return made | {
        "still_canvas_larger": riff(canvas(0, WIDTH + 1), COLOURS),
        "still_canvas_smaller": riff(canvas(0, WIDTH, HEIGHT - 1), COLOURS),
        "still_canvas_twice": extended(0, canvas(0), COLOURS),
        "still_canvas_long": riff(chunk(b"VP8X", canvas(0)[8:] + b"\0\0"), COLOURS),
        "still_flags_unknown": extended(1, COLOURS),
        "still_profile_flag": extended(32, COLOURS),
        "simple_difference": riff(chunk(b"VP8 ", difference)),
        "simple_hidden": riff(chunk(b"VP8 ", hidden)),
        "simple_scaled": riff(chunk(b"VP8 ", scaled)),
        "simple_odd": riff(chunk(b"VP8 ", COLOUR + b"\0" * (1 - len(COLOUR) % 2))),
    }


def lengths():
    """Lengths that are not those of the bytes."""
    odd = COLOUR + b"\0" * (1 - len(COLOUR) % 2)
    unpadded = b"RIFF" + struct.pack("<I", 12 + len(odd)) + b"WEBPVP8 " + struct.pack("<I", len(odd)) + odd
    whole = {"simple": riff(COLOURS), "extended": extended(ALPHA, PLANES, COLOURS), "lossless": riff(BARE[1])}
    made = {"length_unpadded": unpadded}
    for name, data in whole.items():
        length = struct.unpack_from("<I", data, 4)[0]
        sized = lambda length, rest=b"", data=data: b"RIFF" + struct.pack("<I", length) + data[8:] + rest
        made |= {
            f"length_{name}_trailing": data + b"\1" * 9,
            f"length_{name}_inside": sized(length + 4, b"\0" * 4),
            f"length_{name}_more": sized(length + 2),
            f"length_{name}_less": sized(length - 2),
            f"length_{name}_cut": data[:-2],
        }
    short = lossless(1)
    even = short if len(short) % 2 == 0 else short + b"\0"
    return made | {"length_lossless_by_padding": riff(chunk(b"VP8L", even[:-1]))}


def frame(x, y, *chunks, width=WIDTH, height=HEIGHT, how=0):
    place = u24(x // 2) + u24(y // 2) + u24(width - 1) + u24(height - 1) + u24(40) + bytes([how])
    return chunk(b"ANMF", place + b"".join(chunks))


def animations():
    head = chunk(b"ANIM", bytes([10, 20, 200, 128, 0, 0]))
    bodies = {
        "colour": [COLOURS],
        "alpha": [PLANES, COLOURS],
        "lossless": [BARE[1]],
        "lossless_opaque": [BARE[0]],
        "unknown_first": [UNKNOWN, COLOURS],
        "unknown_last": [COLOURS, UNKNOWN],
        "alpha_damaged": [chunk(b"ALPH", b"\xff\0"), COLOURS],
        "empty": [],
    }
    made = {}
    for (name, body), flags in itertools.product(bodies.items(), (ANIMATION, ANIMATION | ALPHA)):
        for how in range(4) if name == "alpha" else (0,):
            first = frame(4, 2, *body, how=how)
            made[f"frames_{name}_{flags}_{how}"] = riff(canvas(flags, 30, 20), head, first, frame(0, 0, OTHERS))
    flags = ANIMATION | ALPHA
    whole = frame(0, 0, COLOURS)
    return made | {
        "frames_full": extended(flags, head, frame(0, 0, PLANES, COLOURS)),
        "frames_no_head": extended(flags, whole),
        "frames_none": extended(flags, head),
        "frames_no_flag": extended(ALPHA, head, whole),
        "frames_beside_still": extended(ALPHA, COLOURS, head, whole),
        "frames_and_still": extended(flags, head, whole, COLOURS),
        "frames_outside": extended(flags, head, frame(2, 0, COLOURS)),
        "frames_second_outside": extended(flags, head, whole, frame(2, 0, COLOURS)),
        "frames_second_damaged": extended(flags, head, whole, frame(0, 0, chunk(b"VP8 ", b"\0" * 16))),
        "frames_other_size": riff(canvas(flags, 40, 40), head, frame(6, 4, COLOURS, width=9, height=30)),
        "frames_short": extended(flags, head, whole[:4] + struct.pack("<I", len(whole) - 20) + whole[8:]),
    }


def metadata():
    six, three = (chunk(b"EXIF", exif(way)) for way in (6, 3))
    eight = chunk(b"XMP ", xmp(8))
    return {
        "turned_no_flag": extended(0, COLOURS, six, eight),
        "turned_exif": extended(EXIF, COLOURS, six, three, eight),
        "turned_exif_before": extended(EXIF, six, COLOURS),
        "turned_exif_odd": extended(EXIF, COLOURS, UNKNOWN, six),
        "turned_xmp": extended(XMP, COLOURS, six, eight),
        "turned_simple": riff(COLOURS, six),
        "turned_frames": extended(ANIMATION | EXIF, chunk(b"ANIM", b"\0" * 6), frame(0, 0, COLOURS), six),
        "turned_cut": extended(EXIF, COLOURS, six)[:-2],
        "turned_flag_alone": extended(EXIF | XMP, COLOURS),
    }


if __name__ == "__main__":
    main()
