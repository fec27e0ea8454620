"""Pictures with colour profiles, and their pixels in sRGB by libvips and by LittleCMS.

    python -m venv oracle && oracle/bin/pip install pillow==13.0.0 'pyvips[binary]' numpy
    cargo build --release -p clip --example decode
    oracle/bin/python test/oracle/profiles.py             # the fixtures of test/fixtures/profiles
    oracle/bin/python test/oracle/profiles.py FILE.icc …  # how far profiles of yours are off

Both convert what Pillow decodes, relative colorimetric, so that only colours are compared.
"""

import io
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy
import pyvips
from PIL import Image, ImageCms

ROOT = pathlib.Path(__file__).parents[2]
FIXTURES = ROOT / "test/fixtures/profiles"
DECODE = ROOT / "target/release/examples/decode"
WIDTH, HEIGHT = 32, 24


def s15(*numbers):
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def xyz(*numbers):
    return b"XYZ \0\0\0\0" + s15(*numbers)


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + s15(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def icc(space, tags, pcs=b"XYZ ", kind=b"mntr", version=0x04300000):
    tags = [(b"wtpt", xyz(0.9642, 1, 0.8249)), *tags]
    header = bytearray(128)
    header[8:24] = struct.pack(">I", version) + kind + space + pcs
    header[24:40] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header[68:80] = s15(0.9642, 1, 0.8249)
    names, data, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags:
        value += b"\0" * (-len(value) % 4)
        names += name + struct.pack(">II", start + len(data), len(value))
        data += value
    profile = bytes(header) + struct.pack(">I", len(tags)) + names + data
    return struct.pack(">I", len(profile)) + profile[4:]


def matrix(red, green, blue, curve, **more):
    colorants = [(b"rXYZ", xyz(*red)), (b"gXYZ", xyz(*green)), (b"bXYZ", xyz(*blue))]
    return icc(b"RGB ", colorants + [(c + b"TRC", curve) for c in (b"r", b"g", b"b")], **more)


def table(channels, grid, lab):
    """A table of 8 bits to CIE Lab, as version 2 codes it."""
    levels = numpy.linspace(0, 1, grid)
    points = numpy.stack(numpy.meshgrid(*[levels] * channels, indexing="ij"), -1)
    light, a, b = lab(points.reshape(-1, channels)).T
    colors = numpy.stack([light * 2.55, a + 128, b + 128], -1)
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([channels, 3, grid, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return head + ramp * channels + colors.round().clip(0, 255).astype("u1").tobytes() + ramp * 3


def inks(points):
    """Something like four inks on paper."""
    c, m, y, k = points.T
    light = (95 - 40 * c - 45 * m - 8 * y) * (1 - 0.85 * k) + 4
    paint = 1 - 0.9 * k
    return numpy.stack([light, (-35 * c + 70 * m - 5 * y) * paint, (-45 * c + 85 * y) * paint], -1)


def screen(points):
    r, g, b = points.T
    light = 100 * (0.25 * r + 0.65 * g + 0.1 * b)
    return numpy.stack([light, 70 * (r - g), 50 * (g - b) + 20 * (r - b)], -1)


ADOBE = matrix(
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
    gamma(2.19921875),
    version=0x02100000,
)
P3 = matrix(
    (0.51512, 0.2412, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.1571, 0.06657, 0.78407),
    SRGB_CURVE,
)
GREY = icc(b"GRAY", [(b"kTRC", gamma(1.8))])
GREY_LAB = icc(b"GRAY", [(b"kTRC", gamma(1.4))], pcs=b"Lab ")
CMYK = icc(
    b"CMYK", [(b"A2B0", table(4, 6, inks))], pcs=b"Lab ", kind=b"prtr", version=0x02100000
)
TABLE = icc(
    b"RGB ", [(b"A2B1", table(3, 9, screen))], pcs=b"Lab ", kind=b"scnr", version=0x02100000
)


def picture(mode):
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [x * 255 // 31, y * 255 // 23, (x + 2 * y) * 3 % 256, (x * y) * 255 // 713]
    planes = numpy.stack(waves, -1).astype("u1")
    bands = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3], "CMYK": [0, 1, 2, 3]}
    planes = planes[..., bands[mode]]
    if mode == "CMYK":
        planes[..., 3] //= 3
    return Image.fromarray(planes.squeeze(), mode)


def encoded(image, kind, profile, **options):
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **options)
    return file.getvalue()


def by_libvips(image, profile):
    planes = numpy.atleast_3d(numpy.asarray(image))
    vips = pyvips.Image.new_from_array(planes)
    spaces = {"L": "b-w", "LA": "b-w", "CMYK": "cmyk"}
    vips = vips.copy(interpretation=spaces.get(image.mode, "srgb"))
    vips.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return flat(vips.icc_transform("srgb", embedded=True, intent="relative").numpy())


def by_lcms(image, profile):
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    image = image.convert({"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    flags = ImageCms.Flags.NOCACHE
    rgb = ImageCms.profileToProfile(image, source, srgb, 1, "RGB", flags=flags)
    if alpha:
        rgb.putalpha(alpha)
    return flat(numpy.asarray(rgb))


def flat(planes):
    """Laid over white, as Pillow does."""
    if planes.shape[2] == 3:
        return planes
    front = Image.fromarray(planes, "RGBA")
    white = Image.new("RGBA", front.size, "white")
    return numpy.asarray(Image.alpha_composite(white, front).convert("RGB"))


def ours(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        told = subprocess.run([DECODE, "srgb"], input=file.name.encode(), capture_output=True)
    head, pixels = told.stdout.split(b"\n", 1)
    if head.startswith(b"error"):
        return head.decode()
    width, height = map(int, head.split())
    return numpy.frombuffer(pixels, "u1").reshape(height, width, 3)


def difference(one, other):
    if isinstance(one, str):
        return one
    off = numpy.abs(one.astype(int) - other)
    return f"mean {off.mean():.3f} max {off.max()}"


def decoded(data):
    """What Pillow decodes, before any colour is converted."""
    image = Image.open(io.BytesIO(data))
    image.load()
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "I;16":
        image = Image.fromarray((numpy.asarray(image) >> 8).astype("u1"))
    return image


def compare(name, data, profile):
    image = decoded(data)
    expected = by_libvips(image, profile)
    result = ours(data)
    plain = numpy.asarray(flat(numpy.asarray(image.convert("RGBA"))))
    print(
        f"{name}: to libvips {difference(result, expected)}; to LittleCMS "
        f"{difference(result, by_lcms(image, profile))}; unconverted {difference(plain, expected)}"
    )
    return expected


def fixtures():
    rgb, rgba, grey, cmyk = map(picture, ("RGB", "RGBA", "L", "CMYK"))
    sharp = {"quality": 95}
    cases = {
        "p3.jpg": (encoded(rgb, "JPEG", P3, **sharp), P3),
        "p3.png": (encoded(rgb, "PNG", P3), P3),
        "p3_alpha.png": (encoded(rgba, "PNG", P3), P3),
        "p3_palette.png": (encoded(rgb.quantize(64), "PNG", P3), P3),
        "p3.webp": (encoded(rgba, "WEBP", P3, lossless=True, exact=True), P3),
        "adobe.jpg": (encoded(rgb, "JPEG", ADOBE, **sharp), ADOBE),
        "adobe.tif": (encoded(rgb, "TIFF", ADOBE, compression="tiff_lzw"), ADOBE),
        "grey.jpg": (encoded(grey, "JPEG", GREY, **sharp), GREY),
        "grey_alpha.png": (encoded(picture("LA"), "PNG", GREY), GREY),
        "grey_lab.tif": (encoded(grey, "TIFF", GREY_LAB), GREY_LAB),
        "inks.jpg": (encoded(cmyk, "JPEG", CMYK, **sharp), CMYK),
        "inks.tif": (encoded(cmyk, "TIFF", CMYK, compression="tiff_lzw"), CMYK),
        "table.png": (encoded(rgb, "PNG", TABLE), TABLE),
    }
    FIXTURES.mkdir(exist_ok=True)
    for name, (data, profile) in cases.items():
        (FIXTURES / name).write_bytes(data)
        (FIXTURES / f"{name}.rgb").write_bytes(compare(name, data, profile).tobytes())


def measure(paths):
    modes = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}
    for path in map(pathlib.Path, paths):
        profile = path.read_bytes()
        mode = modes.get(profile[16:20], "RGB")
        try:
            data = encoded(picture(mode), "TIFF", profile)
            compare(path.name, data, profile)
        except Exception as error:
            print(f"{path.name}: {error}")


if __name__ == "__main__":
    measure(sys.argv[1:]) if sys.argv[1:] else fixtures()
