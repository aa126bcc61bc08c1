"""Sixty photos of the kinds that people send and no album shows, broken ones, and what Pillow sees in them."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from tfretrieval.data.photos import to_rgb

ORIENTATIONS = range(1, 9)
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def odd_photos(seed: int = 0) -> dict[str, bytes]:
    """Makes 60 files by what is odd about them; every one is a photo that can be described.

    Args:
        seed: of the pictures.
    """
    random = np.random.default_rng(seed)
    return {**_turned(random), **_sizes(random), **_colours(random), **_codings(random)}


def broken_photos(seed: int = 0) -> dict[str, bytes]:
    """Makes files by what is wrong with them; none of them can be described.

    Args:
        seed: of the pictures.
    """
    random = np.random.default_rng(seed)
    whole = {kind: encode(picture(random), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")}
    whole["GIF"] = encode(picture(random).quantize(16), "GIF")
    cut = {f"truncated {kind}": encoded[: len(encoded) * 3 // 5] for kind, encoded in whole.items()}
    progressive = encode(picture(random, 200, 150), "JPEG", progressive=True)
    png = whole["PNG"]
    at = png.index(b"IDAT") + 20
    return {
        **cut,
        "truncated progressive JPEG": progressive[: len(progressive) // 2],
        "JPEG of a header": whole["JPEG"][:20],
        "PNG with a wrong checksum": png[:at] + bytes([png[at] ^ 1]) + png[at + 1 :],
        "no bytes": b"",
        "text": b"this is not a photo",
    }


def huge_headers() -> dict[str, bytes]:
    """Makes files of some hundred bytes, and a PNG of 300 kB, whose headers ask for gigabytes."""
    random = np.random.default_rng(0)
    jpeg = encode(picture(random), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    gif = encode(picture(random).quantize(8), "GIF")
    bmp = encode(picture(random), "BMP")
    webp = encode(picture(random), "WEBP", lossless=True)
    bits = webp.index(b"VP8L") + 9
    sides = struct.pack("<HH", 90, 60)
    return {
        "PNG of 50,000 x 50,000": png_of(50_000, 50_000),
        "PNG bomb": png_of(30_000, 30_000, zlib.compress(bytes(90_001) * 3_000, 9)),
        "PNG of the largest sides": png_of(2**31 - 1, 2**31 - 1),
        "JPEG of 50,000 x 50,000": jpeg[:at] + struct.pack(">HH", 50_000, 50_000) + jpeg[at + 4 :],
        "GIF of 65,535 x 65,535": gif.replace(sides, struct.pack("<HH", 65_535, 65_535)),
        "BMP of 50,000 x 50,000": bmp[:18] + struct.pack("<ii", 50_000, 50_000) + bmp[26:],
        "WebP of 16,384 x 16,384": webp[:bits] + struct.pack("<I", 2**28 - 1) + webp[bits + 4 :],
    }


def upright_pixels(encoded: bytes) -> np.ndarray:
    """Returns a photo as Pillow shows it, turned upright, transparency on white: uint8 [h, w, 3]."""
    image = Image.open(io.BytesIO(encoded))
    image.load()
    transpose = _TRANSPOSES.get(image.getexif().get(0x0112))
    image = to_rgb(image)
    return np.asarray(image if transpose is None else image.transpose(transpose))


def picture(random: np.random.Generator, width: int = 90, height: int = 60) -> Image.Image:
    """Makes a picture of soft patches, RGB."""
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Writes a picture as a file of a format that Pillow knows by this name."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned_exif(orientation: int, order: str = "<") -> bytes:
    """Returns Exif with an orientation and nothing else, in a byte order of `struct`."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def png_of(width: int, height: int, pixels: bytes = b"") -> bytes:
    """Returns a PNG that says it has these sides, RGB of 8 bits, with any compressed data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _turned(random: np.random.Generator) -> dict[str, bytes]:
    """40 photos: each orientation of coloured and grey JPEG and PNG, and of WebP."""
    found = {}
    for orientation in ORIENTATIONS:
        exif = turned_exif(orientation, "<>"[orientation % 2])
        for kind in ("JPEG", "PNG"):
            found[f"{kind} turned {orientation}"] = encode(picture(random), kind, exif=exif)
            found[f"grey {kind} turned {orientation}"] = encode(picture(random).convert("L"), kind, exif=exif)
        found[f"WebP turned {orientation}"] = encode(picture(random), "WEBP", exif=exif)
    return found


def _sizes(random: np.random.Generator) -> dict[str, bytes]:
    sides = {"JPEG": (1, 1), "PNG": (1, 5000), "JPEG ": (5000, 1), "WEBP": (2, 3)}
    found = {
        f"{kind.strip()} of {width} x {height}": encode(picture(random, width, height), kind.strip())
        for kind, (width, height) in sides.items()
    }
    return {**found, "JPEG of 2,000 x 1,500": encode(picture(random, 2000, 1500), "JPEG", quality=95)}


def _colours(random: np.random.Generator) -> dict[str, bytes]:
    alpha = picture(random).convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    wide = random.integers(0, 65536, (6, 9, 3)).astype(np.uint16)
    wide = cv2.resize(wide, (90, 60), interpolation=cv2.INTER_LINEAR)
    palette = picture(random).quantize(16)
    return {
        "PNG of 16 bits, colour": cv2.imencode(".png", wide)[1].tobytes(),
        "PNG of 16 bits, grey": encode(Image.fromarray(wide[..., 0]), "PNG"),
        "PNG of 1 bit": encode(picture(random).convert("1"), "PNG"),
        "PNG with a palette": encode(palette, "PNG"),
        "PNG with a transparent colour": encode(palette, "PNG", transparency=2),
        "PNG with alpha": encode(alpha, "PNG"),
        "PNG of grey with alpha": encode(alpha.convert("LA"), "PNG"),
        "JPEG of CMYK": encode(picture(random).convert("CMYK"), "JPEG"),
        "WebP with alpha": encode(alpha, "WEBP"),
        "BMP with a palette": encode(palette, "BMP"),
    }


def _codings(random: np.random.Generator) -> dict[str, bytes]:
    frames = [picture(random).quantize(16), picture(random)]
    return {
        "progressive JPEG": encode(picture(random), "JPEG", progressive=True),
        "JPEG of 4:2:0, quality 20": encode(picture(random), "JPEG", quality=20, subsampling=2),
        "animated GIF": encode(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=2),
        "animated WebP": encode(frames[1], "WEBP", save_all=True, append_images=frames[:1]),
        "BMP": encode(picture(random), "BMP"),
    }
