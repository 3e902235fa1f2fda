"""Files to start from: every attribute type, kind of part and flag, small. `python -m fuzz.seeds FOLDER` writes them.

Belongs here: valid headers, with the offset tables that belong to them. Not here: damage (`mutations`).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any, Final

from exr_pipeline.exr import (
    KNOWN_TYPES,
    Attribute,
    Box2f,
    Box2i,
    Bytes,
    Channel,
    Chromaticities,
    Header,
    KeyCode,
    Matrix,
    Preview,
    Rational,
    TileDescription,
    TimeCode,
    V2f,
    V2i,
    V3f,
    V3i,
    chunk_count,
    uncompressed_bytes,
)
from exr_pipeline_tests.cineon_files import cineon_bytes

WINDOW: Final = Box2i(0, 0, 15, 15)

# One value of every type of the format; floating-point numbers are ones that 32 bits hold exactly.
EXAMPLES: Final[dict[str, Any]] = {
    "box2f": Box2f(-0.5, 0.25, 1.5, 2.0),
    "box2i": Box2i(-3, 4, 500, 600),
    "bytes": Bytes("image/odd", b"\x00\x01\xff"),
    "chlist": (Channel("Z", "FLOAT"), Channel("id", "UINT", True, 2, 4)),  # noqa: FBT003 - pLinear, as in the format
    "chromaticities": Chromaticities(0.75, 0.25, 0.25, 0.625, 0.125, 0.0625, 0.3125, 0.375),
    "compression": 4,
    "deepImageState": 1,
    "double": 1.0 / 1024,
    "envmap": 1,
    "float": -2.5,
    "floatvector": (1.0, -0.5, 1024.0),
    "int": -123456,
    "keycode": KeyCode(11, 22, 345678, 1234, 55, 4, 64),
    "lineOrder": 1,
    "m33d": Matrix(tuple(float(number) for number in range(9))),
    "m33f": Matrix(tuple(number / 2 for number in range(9))),
    "m44d": Matrix(tuple(float(number) for number in range(16))),
    "m44f": Matrix(tuple(number / 4 for number in range(16))),
    "preview": Preview(2, 1, bytes(range(8))),
    "rational": Rational(24000, 1001),
    "string": 'Grüße, "two" lines\nand more',
    "stringvector": ("left", "right", ""),
    "tiledesc": TileDescription(32, 64, 0x12),
    "timecode": TimeCode.of(12, 34, 56, 7, drop_frame=True),
    "v2d": V2f(0.125, -8.0),
    "v2f": V2f(0.5, -0.75),
    "v2i": V2i(7, -8),
    "v3d": V3f(1.0, 2.0, -4.0),
    "v3f": V3f(0.5, 0.25, -0.125),
    "v3i": V3i(1, -2, 3),
}
assert set(EXAMPLES) == KNOWN_TYPES

_RGB: Final = (Channel("B", "HALF"), Channel("G", "HALF"), Channel("R", "HALF"))


def attributes(*extra: Attribute, **changes: Any) -> list[Attribute]:
    """The attributes of a valid part of 16x16 pixels, with `type`, `name` and so on added or changed."""
    values: dict[str, tuple[str, Any]] = {
        "channels": ("chlist", _RGB),
        "compression": ("compression", 2),
        "dataWindow": ("box2i", WINDOW),
        "displayWindow": ("box2i", WINDOW),
        "lineOrder": ("lineOrder", 0),
        "pixelAspectRatio": ("float", 1.0),
        "screenWindowCenter": ("v2f", V2f(0.0, 0.0)),
        "screenWindowWidth": ("float", 1.0),
    }
    types = {"chunkCount": "int", "tiles": "tiledesc", "version": "int", "multiView": "stringvector"}
    for name, value in changes.items():
        values[name] = (values[name][0] if name in values else types.get(name, "string"), value)
    return [Attribute.of(name, kind, value) for name, (kind, value) in values.items()] + list(extra)


def file_of(header: Header) -> bytes:
    """A header, its offset tables, and chunks that hold nothing, one after the other up to the file's end."""
    counts = [chunk_count(part) or 0 for part in header.parts]
    pixels = sum(uncompressed_bytes(part) or 0 for part in header.parts if part.compression == "none")
    end = header.size + 8 * sum(counts) + pixels
    table = b""
    for part, count in zip(header.parts, counts, strict=True):
        size = (4 if header.is_multipart else 0) + (16 if part.is_tiled else 4) + (24 if part.is_deep else 4)
        table += struct.pack(f"<{count}Q", *range(end, end + size * count, size))
        end += size * count
    return (header.to_bytes() + table).ljust(end, b"\0")


def every_type() -> Header:
    """A header with an attribute of every type of the format and one of a type that it lacks."""
    extra = [Attribute.of(f"a_{kind}", kind, value) for kind, value in sorted(EXAMPLES.items())]
    return Header.build([attributes(*extra, Attribute.of("a_custom", "studio:odd", b"\x01\x02\x03"))])


def headers() -> dict[str, Header]:
    """Headers by name: each kind of part, several parts, views, levels of tiles, long names, unusual values."""
    scanline = {"type": "scanlineimage", "chunkCount": 16}
    deep = {"type": "deepscanline", "chunkCount": 16, "version": 1}
    deep_tile = {"type": "deeptile", "chunkCount": 4, "version": 1, "tiles": TileDescription(8, 8)}
    luminance = (Channel("BY", "HALF", x_sampling=2, y_sampling=2), Channel("Y", "FLOAT"))
    stated = [
        Attribute.of("timeCode", "timecode", TimeCode.of(1, 2, 3, 4)),
        Attribute.of("framesPerSecond", "rational", Rational(24000, 1001)),
        Attribute.of("chromaticities", "chromaticities", EXAMPLES["chromaticities"]),
        Attribute.of("cryptomatte/123/manifest", "string", '{"a":"00000000"}'),
        Attribute("comments", "string", "caf\udce9", b"caf\xe9"),
    ]
    odd = [Attribute.of("inf", "float", float("inf")), Attribute.of("nan", "double", float("nan"))]
    return {
        "plain": Header.build([attributes()]),
        "stated": Header.build([attributes(*stated, *odd)]),
        "every-type": every_type(),
        "long-names": Header.build([attributes(Attribute.of("n" * 200, "int", 1))]),
        "luminance-chroma": Header.build([attributes(channels=luminance)]),
        "uncompressed": Header.build([attributes(compression=0)]),
        "mipmap": Header.build([attributes(type="tiledimage", tiles=TileDescription(8, 8, 1))]),
        "ripmap": Header.build([attributes(type="tiledimage", tiles=TileDescription(8, 8, 0x12), compression=0)]),
        "views": Header.build([attributes(multiView=("left", "right"))]),
        "parts": Header.build(
            [attributes(name="a", view="left", **scanline), attributes(name="b", view="right", **scanline)]
        ),
        "deep": Header.build([attributes(**deep)]),
        "deep-tiles": Header.build([attributes(**deep_tile)]),
        "mixed": Header.build([attributes(name="a", **scanline), attributes(name="b", **deep_tile)]),
    }


def dpx_file(order: str = ">", *, bits: int = 10, elements: int = 1) -> bytes:
    """A DPX file of 4x2 RGB pixels, with all fields undefined that need not be known."""
    data = bytearray(b"\xff" * 2048)
    data[:4] = b"SDPX" if order == ">" else b"XPDS"
    fields = [(4, "I", 2048), (770, "H", elements), (772, "I", 4), (776, "I", 2), (1920, "I", 0x01020304)]
    for start in range(780, 780 + 72 * elements, 72):
        fields += [(start + 20, "B", 50), (start + 21, "B", 2), (start + 23, "B", bits)]
        fields += [(start + 24, "H", 1), (start + 26, "H", 0)]
    for offset, layout, value in fields:
        struct.pack_into(order + layout, data, offset, value)
    struct.pack_into("8s", data, 8, b"V2.0")
    struct.pack_into(order + "f", data, 1940, 23.976)
    # Three samples of ten bits fill four bytes.
    return bytes(data) + bytes(4 * 2 * (4 if bits == 10 else 3 * bits // 8))


def seeds() -> dict[str, bytes]:
    """Whole small files by name; all of them are accepted."""
    files = {f"{name}.exr": file_of(header) for name, header in headers().items()}
    files["big.dpx"] = dpx_file()
    files["little.dpx"] = dpx_file("<", bits=16, elements=2)
    files["big.cin"] = cineon_bytes([[[95, 445, 685]] * 4] * 2)
    files["little.cin"] = cineon_bytes([[[445]] * 4] * 2, "<", bits=16, film=False)
    return files


def main() -> None:
    """Write the seed corpus into the folder that the command names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
