"""What the OpenEXR project's `exrheader` prints of a header, made from ours."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.exr import Attribute, Channel, Header, Rational, TileDescription, TimeCode, encode_text

_COMPRESSIONS = (
    "none",
    "run-length encoding",
    "zip, individual scanlines",
    "zip, multi-scanline blocks",
    "piz",
    "pxr24",
    "b44",
    "b44a",
    "dwa, small scanline blocks",
    "dwa, medium scanline blocks",
)
_LINE_ORDERS = ("increasing y", "decreasing y", "random y")
_ENVMAPS = ("latitude-longitude map", "cube-face map")
_PIXELS = {"HALF": "16-bit floating-point", "FLOAT": "32-bit floating-point", "UINT": "32-bit unsigned integer"}
_KEY_CODE = (
    "film manufacturer code",
    "film type code",
    "prefix",
    "count",
    "perf offset",
    "perfs per frame",
    "perfs per count",
)
# Of these it prints the type alone.
VALUELESS = frozenset({"bytes", "deepImageState", "floatvector", "m33d", "m44d", "v2d", "v3d", "studio:odd"})


def exrheader() -> str:
    """The path of the program."""
    path = shutil.which("exrheader")
    if path is not None:
        return path
    message = "NOT TESTED: no exrheader on this machine (apt-get install openexr); headers have no second opinion"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


def printed(path: Path) -> list[str]:
    """What it says about a file, line by line from the version on."""
    output = subprocess.run([exrheader(), str(path)], capture_output=True, check=True).stdout
    text = output.decode("utf-8", "surrogateescape").replace("-nan", "nan")
    return [line for line in text[text.index("file format version") :].split("\n") if line]


def expected(header: Header) -> list[str]:
    """What it should say about a file with this header."""
    lines = [f"file format version: {header.version}, flags 0x{header.flags:x}"]
    for index, part in enumerate(header.parts):
        if header.is_multipart:
            lines.append(f" part {index}:")
        attributes = {attribute.name: attribute for attribute in part.attributes}
        # The library adds the type that a part without one is implied to have.
        attributes.setdefault("type", Attribute.of("type", "string", part.type))
        for attribute in sorted(attributes.values(), key=lambda attribute: encode_text(attribute.name)):
            start = f"{attribute.name} (type {attribute.type})"
            lines += (start + shown(attribute)).split("\n")
    return [line for line in lines if line]


def _point(numbers: tuple[Any, ...]) -> str:
    return f"({' '.join(map(_number, numbers))})"


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _channels(channels: tuple[Channel, ...]) -> str:
    return "".join(
        f"\n    {channel.name}, {_PIXELS[channel.type]}, sampling {channel.x_sampling} {channel.y_sampling}"
        + (", plinear" if channel.p_linear else "")
        for channel in channels
    )


def _time_code(code: TimeCode) -> str:
    packed = code.time_and_flags
    drop, color, phase, bgf0, bgf1, bgf2 = (packed >> bit & 1 for bit in (6, 7, 15, 23, 30, 31))
    return (
        f"\n    time {code.hours:02}:{code.minutes:02}:{code.seconds:02}:{code.frame:02}"
        f"\n    drop frame {drop}, color frame {color}, field/phase {phase}"
        f"\n    bgf0 {bgf0}, bgf1 {bgf1}, bgf2 {bgf2}\n    user data 0x{code.user_data:x}"
    )


def _tiles(tiles: TileDescription) -> str:
    mode = ("single level", "mip-map", "rip-map")[tiles.level_mode]
    rounding = f"\n    level sizes rounded {'up' if tiles.round_up else 'down'}" if tiles.level_mode else ""
    return f"\n    {mode}\n    tile size {tiles.x_size} by {tiles.y_size} pixels{rounding}"


def _rational(value: Rational) -> str:
    return f": {value.to_text()} ({_number(value.numerator / value.denominator)})"


def shown(attribute: Attribute) -> str:
    """What follows an attribute's name and type."""
    value, kind = attribute.value, attribute.type
    if kind in VALUELESS:
        return ""
    makers = {
        "box2f": lambda: f": {_point(value[:2])} - {_point(value[2:])}",
        "box2i": lambda: f": {_point(value[:2])} - {_point(value[2:])}",
        "chlist": lambda: ":" + _channels(value),
        "chromaticities": lambda: (
            ":"
            + "".join(
                f"\n    {name:5} {_point(value[2 * index : 2 * index + 2])}"
                for index, name in enumerate(("red", "green", "blue", "white"))
            )
        ),
        "compression": lambda: f": {_COMPRESSIONS[value]}",
        "envmap": lambda: f": {_ENVMAPS[value]}",
        "keycode": lambda: (
            ":" + "".join(f"\n    {name} {number}" for name, number in zip(_KEY_CODE, value, strict=True))
        ),
        "lineOrder": lambda: f": {_LINE_ORDERS[value]}",
        "m33f": lambda: ":\n   (" + "\n    ".join(" ".join(map(_number, row)) for row in value.rows) + ")",
        "m44f": lambda: ":\n   (" + "\n    ".join(" ".join(map(_number, row)) for row in value.rows) + ")",
        "preview": lambda: f": {value.width} by {value.height} pixels",
        "rational": lambda: _rational(value),
        "string": lambda: f': "{value}"',
        "stringvector": lambda: ":" + "".join(f'\n    "{text}"' for text in value),
        "tiledesc": lambda: ":" + _tiles(value),
        "timecode": lambda: ":" + _time_code(value),
    }
    if kind in makers:
        return makers[kind]()
    return f": {_point(value)}" if isinstance(value, tuple) else f": {_number(value)}"
