"""Image files made wrong, seeded: bits, lengths, headers, metadata, pieces cut out, doubled or put together."""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.served.odd_photos import encode, odd_photos, picture, turned_exif

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000)
_PNG_FIRST_CHUNK = 8
# Larger files are mutated no better, and their decoding is what a run would spend its time on.
_MOST_BYTES = 40_000


@dataclasses.dataclass(frozen=True)
class MutatedFile:
    """A file, and how it was made.

    Attributes:
        kind: what was done to it.
        source: which photo it was.
        encoded: its bytes.
    """

    kind: str
    source: str
    encoded: bytes


def mutated_files(count: int, seed: int) -> Iterator[MutatedFile]:
    """Yields files, each by a mutation drawn among all of a photo drawn among the odd ones.

    Args:
        count: how many.
        seed: of the draws; the file of a number depends on nothing else.
    """
    sources = _sources(seed)
    names = list(sources)
    for number in range(count):
        random = np.random.default_rng([seed, number])
        name = names[random.integers(len(names))]
        kind = list(_MUTATIONS)[number % len(_MUTATIONS)]
        encoded = _MUTATIONS[kind](sources[name], random, list(sources.values()))
        yield MutatedFile(kind, name, encoded)


def _sources(seed: int) -> dict[str, bytes]:
    random = np.random.default_rng(seed)
    long_exif = turned_exif(6) + bytes(40)
    more = {
        "JPEG with a long Exif": encode(picture(random), "JPEG", exif=long_exif),
        "WebP, lossless": encode(picture(random), "WEBP", lossless=True),
        "GIF": encode(picture(random).quantize(64), "GIF"),
        "GIF of several frames": encode(
            picture(random).quantize(8), "GIF", save_all=True, append_images=[picture(random).quantize(8)] * 3
        ),
    }
    found = {**odd_photos(seed), **more}
    return {name: encoded for name, encoded in found.items() if len(encoded) <= _MOST_BYTES}


def flipped(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Flips one to sixteen bits anywhere."""
    changed = bytearray(encoded)
    for _bit in range(1 << random.integers(5)):
        changed[random.integers(len(changed))] ^= 1 << random.integers(8)
    return bytes(changed)


def truncated(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Ends a file anywhere."""
    return encoded[: random.integers(len(encoded))]


def header_bytes(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Sets some of the first 64 bytes, behind the four that name the format."""
    changed = bytearray(encoded)
    for _place in range(random.integers(1, 5)):
        changed[4 + random.integers(min(60, len(changed) - 4))] = random.integers(256)
    return bytes(changed)


def extreme_number(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Writes an extreme number of two or four bytes where sizes and lengths may stand."""
    kind = ("<H", ">H", "<I", ">I")[random.integers(4)]
    value = _EXTREMES[random.integers(len(_EXTREMES))] & (0xFFFF if kind[1] == "H" else 0xFFFFFFFF)
    number = struct.pack(kind, value)
    at = 4 + random.integers(max(1, min(400, len(encoded)) - 4 - len(number)))
    return encoded[:at] + number + encoded[at + len(number) :]


def marker_length(encoded: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Changes the length of a segment, chunk or block: JPEG's behind 0xFF, of others any."""
    places = [at for at in range(2, len(encoded) - 4) if encoded[at] == 0xFF and 0xC0 <= encoded[at + 1] <= 0xFE]
    if encoded[:2] != b"\xff\xd8" or not places:
        return extreme_number(encoded, random, others)
    at = places[random.integers(len(places))] + 2
    return encoded[:at] + struct.pack(">H", random.integers(0x10000)) + encoded[at + 2 :]


def chunk_with_checksum(encoded: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Changes bytes within a chunk of a PNG and puts its checksum right, so that they are looked at."""
    chunks = _png_chunks(encoded)
    if not chunks:
        return header_bytes(encoded, random, others)
    start, length = chunks[random.integers(len(chunks))]
    changed = bytearray(encoded)
    for _byte in range(random.integers(1, 4)):
        changed[start + 4 + random.integers(4 + length)] = random.integers(256)
    content = bytes(changed[start + 4 : start + 8 + length])
    changed[start + 8 + length : start + 12 + length] = struct.pack(">I", zlib.crc32(content))
    return bytes(changed)


def _png_chunks(encoded: bytes) -> list[tuple[int, int]]:
    """Returns where the chunks of a PNG begin, and how long their contents are; nothing for another format."""
    found, at = [], _PNG_FIRST_CHUNK
    while encoded.startswith(b"\x89PNG") and at + 12 <= len(encoded):
        length = struct.unpack_from(">I", encoded, at)[0]
        found.append((at, length))
        at += 12 + length
    return found


def metadata(encoded: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Changes bytes within Exif, or puts some in front of a JPEG's other segments."""
    at = max(encoded.find(b"II*\0"), encoded.find(b"MM\0*"))
    if at < 0 and encoded[:2] == b"\xff\xd8":
        content = (b"Exif\0\0II*\0" + random.bytes(random.integers(100)))[: random.integers(4, 110)]
        return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + encoded[2:]
    if at < 0:
        return flipped(encoded, random, others)
    changed = bytearray(encoded)
    for _byte in range(random.integers(1, 7)):
        changed[at + random.integers(min(32, len(changed) - at))] = random.integers(256)
    return bytes(changed)


def cut_out(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Leaves out a piece."""
    start, stop = sorted(random.integers(len(encoded), size=2))
    return encoded[:start] + encoded[stop:]


def doubled(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Writes a piece several times."""
    start, stop = sorted(random.integers(len(encoded), size=2))
    return encoded[:start] + encoded[start:stop] * int(random.integers(2, 6)) + encoded[stop:]


def spliced(encoded: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Goes on with a part of another file."""
    other = others[random.integers(len(others))]
    return encoded[: random.integers(len(encoded))] + other[random.integers(len(other)) :]


def noise(encoded: bytes, random: np.random.Generator, _: Sequence[bytes]) -> bytes:
    """Keeps the first bytes, and goes on with noise."""
    return encoded[: random.integers(1, 40)] + random.bytes(int(random.integers(2000)))


_MUTATIONS: dict[str, Callable[[bytes, np.random.Generator, Sequence[bytes]], bytes]] = {
    each.__name__.replace("_", " "): each
    for each in (
        flipped, truncated, header_bytes, extreme_number, marker_length, chunk_with_checksum, metadata, cut_out,
        doubled, spliced, noise,
    )
}  # fmt: skip
