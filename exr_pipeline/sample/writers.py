"""Arrays to the bytes of an EXR or DPX file, and the codings of color and time that go with them.

Belongs here: what the OpenEXR library writes, and DPX. Not here: mip levels and subsampling (`raw_exr`), or the show.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPRESSIONS: Final = ("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab")

# x, y of red, green, blue and white (ITU-R BT.709; S-2014-004; ST 2065-1).
REC709: Final = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
AP1: Final = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
AP0: Final = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)

DPX_HEADER_BYTES: Final = 2048
_UNDEFINED: Final = 0xFFFFFFFF
_UNDEFINED_FLOAT: Final = struct.unpack(">f", b"\xff\xff\xff\xff")[0]


@dataclass(frozen=True)
class ExrPart:
    """One part to write.

    `channels` maps full names to arrays of height x width: float16, float32 or uint32; for deep parts, object arrays
    whose items are None or one-dimensional arrays of samples. `origin` is the upper left corner of the data window;
    `display` is the size of the display window at (0, 0), by default that of the data. `attributes` are further header
    attributes: str, int, float, Fraction (rational), 8 floats (chromaticities), numpy vectors and 3x3 or 4x4 matrices,
    lists of str, or objects of the OpenEXR module. `tile` makes the part tiled.
    """

    channels: Mapping[str, NDArray[Any]]
    compression: str = "zip"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[int, int] = (0, 0)
    display: tuple[int, int] | None = None
    name: str = ""
    tile: tuple[int, int] | None = None
    deep: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the data window."""
        height, width = next(iter(self.channels.values())).shape
        return width, height


def exr_bytes(parts: Sequence[ExrPart]) -> bytes:
    """The file that the OpenEXR library writes for these parts. Several parts need a name each."""
    import OpenEXR

    made = [OpenEXR.Part(_library_header(part), dict(part.channels), part.name) for part in parts]
    stream = io.BytesIO()
    OpenEXR.File(made, 1).write(stream)
    return stream.getvalue()


def _library_header(part: ExrPart) -> dict[str, Any]:
    import OpenEXR

    (x, y), (width, height) = part.origin, part.size
    shown_width, shown_height = part.display or part.size
    header = {
        "compression": getattr(
            OpenEXR, f"{'no' if part.compression == 'none' else part.compression}_compression".upper()
        ),
        "type": OpenEXR.deepscanline if part.deep else OpenEXR.tiledimage if part.tile else OpenEXR.scanlineimage,
        "dataWindow": (np.array([x, y], np.int32), np.array([x + width - 1, y + height - 1], np.int32)),
        "displayWindow": (np.zeros(2, np.int32), np.array([shown_width - 1, shown_height - 1], np.int32)),
        **part.attributes,
    }
    if part.tile:
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize = part.tile
        tiles.mode, tiles.roundingMode = OpenEXR.ONE_LEVEL, OpenEXR.ROUND_DOWN
        header["tiles"] = tiles
    return header


def time_code(frame: int) -> tuple[int, int, int, int]:
    """Hours, minutes, seconds and frames of a frame counted at 24 per second without drop frames (ST 12-1)."""
    seconds, frames = divmod(frame, 24)
    return seconds // 3600 % 24, seconds // 60 % 60, seconds % 60, frames


def exr_time_code(frame: int) -> Any:
    """The value of a `timeCode` attribute."""
    import OpenEXR

    return OpenEXR.TimeCode(*time_code(frame), *(0,) * 14)


def rgb_channels(rgb: NDArray[Any], prefix: str = "", dtype: type = np.float16) -> dict[str, NDArray[Any]]:
    """Channels R, G, B (and A) of an array of height x width x 3 (or 4)."""
    return {
        prefix + name: np.ascontiguousarray(rgb[..., index].astype(dtype))
        for index, name in zip(range(rgb.shape[2]), "RGBA", strict=False)
    }


def log_c3(linear: NDArray[Any]) -> NDArray[np.float32]:
    """ARRI LogC3 at exposure index 800 ("ALEXA Log C Curve, Usage in VFX", 2017)."""
    x = np.maximum(np.asarray(linear, np.float32), 0)
    log = np.float32(0.247190) * np.log10(np.float32(5.555556) * x + np.float32(0.052272)) + np.float32(0.385537)
    toe = np.float32(5.367655) * x + np.float32(0.092809)
    return np.where(x > 0.010591, log, toe).astype(np.float32)


def cineon_codes(linear: NDArray[Any]) -> NDArray[np.uint32]:
    """10-bit printing density: black at 95, diffuse white at 685, 300 codes per decade (Kodak Cineon, gamma 0.6)."""
    black = np.float32(10 ** ((95 - 685) / 300))
    x = np.maximum(np.asarray(linear, np.float32), 0) * (1 - black) + black
    codes: NDArray[np.uint32] = np.clip(np.rint(685 + 300 * np.log10(x)), 0, 1023).astype(np.uint32)
    return codes


def dpx_bytes(
    codes: NDArray[np.uint32], *, name: str, time: tuple[int, int, int, int], rate: Fraction, position: int, length: int
) -> bytes:
    """A 10-bit RGB DPX file, version 2.0 (ST 268:2003), big-endian, logarithmic, printing density.

    `codes` is height x width x 3; `position` of `length` is the frame's place in its sequence.
    """
    height, width, _ = codes.shape
    pixels = ((codes[..., 0] << 22) | (codes[..., 1] << 12) | (codes[..., 2] << 2)).astype(">u4").tobytes()
    date = b"2024:05:17:19:42:10:UTC"
    generic = struct.pack(
        ">4sI8s5I100s24s100s200s200sI104x",
        *(b"SDPX", DPX_HEADER_BYTES, b"V2.0", DPX_HEADER_BYTES + len(pixels), 1, 1664, 384, 0),
        *(name.encode(), date, b"exr-pipeline sample show", b"Sample Show", b"CC0", _UNDEFINED),
    )
    element = struct.pack(
        ">IIfIf4BHH3I32s",
        *(0, 0, 0.0, 1023, 2.046, 50, 3, 1, 10, 1, 0, DPX_HEADER_BYTES, 0, 0, b"plate"),
    )
    image = struct.pack(">HHII", 0, 1, width, height) + element + b"\xff" * (7 * 72) + bytes(52)
    source = struct.pack(
        ">IIffII100s24s32s32s4HII28x",
        *(0, 0, width / 2, height / 2, width, height, name.encode(), date, b"Spheron 35", b"0042", 0, 0, 0, 0, 1, 1),
    )
    film = struct.pack(
        ">2s2s2s6s4s32s3Iff32s100s56x",
        *(b"02", b"17", b"00", b"123456", b"0789", b"Academy", position, length, 1, float(rate), 180.0),
        *(f"{position:04d}".encode(), b"020-3"),
    )
    digits = "".join(f"{part:02d}" for part in time)
    television = struct.pack(">II4B10f76x", int(digits, 16), 0, 0, 0, 0, 0, *_television(float(rate)))
    return generic + image + source + film + television + pixels


def _television(rate: float) -> tuple[float, ...]:
    """Sampling rates (2), frame rate, time offset, gamma, black level and gain, break, white level, integration."""
    none = _UNDEFINED_FLOAT
    return none, none, rate, 0.0, none, 95.0, none, none, 685.0, none
