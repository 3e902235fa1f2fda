"""Values of EXR header attributes, as small immutable types, and the names of the format's codes.

Belongs here: what a value is. Not here: how it is written in bytes (`codec`) or whether it makes sense (`validate`).
"""

from typing import Final, NamedTuple

# Codes and names as in the OpenEXR file layout and ImfCompression.h, ImfLineOrder.h, ImfEnvmap.h; the names in the
# spelling that OpenImageIO made common.
COMPRESSIONS: Final[dict[int, str]] = {
    0: "none",
    1: "rle",
    2: "zips",
    3: "zip",
    4: "piz",
    5: "pxr24",
    6: "b44",
    7: "b44a",
    8: "dwaa",
    9: "dwab",
    10: "htj2k256",
    11: "htj2k32",
    12: "lj2k",
    13: "zstd",
}
LINE_ORDERS: Final[dict[int, str]] = {0: "increasingY", 1: "decreasingY", 2: "randomY"}
ENVMAPS: Final[dict[int, str]] = {0: "latlong", 1: "cube"}
DEEP_IMAGE_STATES: Final[dict[int, str]] = {0: "messy", 1: "sorted", 2: "nonOverlapping", 3: "tidy"}
PIXEL_TYPES: Final[dict[int, str]] = {0: "UINT", 1: "HALF", 2: "FLOAT"}
PIXEL_BYTES: Final[dict[str, int]] = {"UINT": 4, "HALF": 2, "FLOAT": 4}

CODE_NAMES: Final[dict[str, dict[int, str]]] = {
    "compression": COMPRESSIONS,
    "lineOrder": LINE_ORDERS,
    "envmap": ENVMAPS,
    "deepImageState": DEEP_IMAGE_STATES,
}


class V2i(NamedTuple):
    """Two integers."""

    x: int
    y: int


class V2f(NamedTuple):
    """Two floating-point numbers (of `v2f` or `v2d`)."""

    x: float
    y: float


class V3i(NamedTuple):
    """Three integers."""

    x: int
    y: int
    z: int


class V3f(NamedTuple):
    """Three floating-point numbers (of `v3f` or `v3d`)."""

    x: float
    y: float
    z: float


class Box2i(NamedTuple):
    """A rectangle of pixels; both corners belong to it."""

    min_x: int
    min_y: int
    max_x: int
    max_y: int

    @property
    def width(self) -> int:
        """Pixels from left to right; zero or less if the box is inside out."""
        return self.max_x - self.min_x + 1

    @property
    def height(self) -> int:
        """Pixels from top to bottom; zero or less if the box is inside out."""
        return self.max_y - self.min_y + 1


class Box2f(NamedTuple):
    """A rectangle of a continuous plane."""

    min_x: float
    min_y: float
    max_x: float
    max_y: float


class Matrix(NamedTuple):
    """A square matrix, its elements row after row (9 or 16)."""

    elements: tuple[float, ...]

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """The matrix row by row."""
        side = 3 if len(self.elements) == 9 else 4
        return tuple(self.elements[start : start + side] for start in range(0, len(self.elements), side))


class Channel(NamedTuple):
    """One channel of a part; `type` is HALF, FLOAT or UINT, or `TYPE_n` for a code that the format lacks."""

    name: str
    type: str
    p_linear: bool = False
    x_sampling: int = 1
    y_sampling: int = 1

    @property
    def layer(self) -> str:
        """The name before its last dot; empty if there is none. Dots that end the name count for nothing."""
        return self.name.rstrip(".").rpartition(".")[0]

    @property
    def component(self) -> str:
        """The name after its last dot: `R` of `diffuse.R`, of `R`, and of `R.`, which is in no layer."""
        return self.name.rstrip(".").rpartition(".")[2] or self.name


class Chromaticities(NamedTuple):
    """CIE x, y of the primaries and the white point."""

    red_x: float
    red_y: float
    green_x: float
    green_y: float
    blue_x: float
    blue_y: float
    white_x: float
    white_y: float


class Rational(NamedTuple):
    """A fraction exactly as stored, not reduced."""

    numerator: int
    denominator: int

    def to_text(self) -> str:
        """`24000/1001`; also `24/1`."""
        return f"{self.numerator}/{self.denominator}"


class TileDescription(NamedTuple):
    """Tile size in pixels and the raw mode byte (level mode in the low four bits, rounding in the high four)."""

    x_size: int
    y_size: int
    mode: int = 0

    @property
    def level_mode(self) -> int:
        """0 one level, 1 mip map, 2 rip map."""
        return self.mode & 0xF

    @property
    def round_up(self) -> bool:
        """Whether the sizes of the levels are rounded up."""
        return self.mode >> 4 == 1


def _bcd(value: int) -> int:
    return (value >> 4) * 10 + (value & 0xF)


class TimeCode(NamedTuple):
    """SMPTE 12M time code: the packed time and flags (TV60 layout) and the user data."""

    time_and_flags: int
    user_data: int = 0

    @property
    def hours(self) -> int:
        """Hours, 0 to 23 if valid."""
        return _bcd(self.time_and_flags >> 24 & 0x3F)

    @property
    def minutes(self) -> int:
        """Minutes, 0 to 59 if valid."""
        return _bcd(self.time_and_flags >> 16 & 0x7F)

    @property
    def seconds(self) -> int:
        """Seconds, 0 to 59 if valid."""
        return _bcd(self.time_and_flags >> 8 & 0x7F)

    @property
    def frame(self) -> int:
        """Frame within the second, 0 to 29 if valid."""
        return _bcd(self.time_and_flags & 0x3F)

    @property
    def drop_frame(self) -> bool:
        """Whether frame numbers are dropped to follow real time."""
        return bool(self.time_and_flags >> 6 & 1)

    @classmethod
    def of(cls, hours: int, minutes: int, seconds: int, frame: int, *, drop_frame: bool = False) -> "TimeCode":
        """The time code of a time."""
        packed = 0
        for value in (hours, minutes, seconds, frame):
            packed = packed << 8 | value // 10 << 4 | value % 10
        return cls(packed | drop_frame << 6)

    def to_text(self) -> str:
        """`hh:mm:ss:ff`, with a semicolon before the frame for drop-frame code."""
        separator = ";" if self.drop_frame else ":"
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{separator}{self.frame:02}"


class KeyCode(NamedTuple):
    """Motion picture film edge code (SMPTE 254)."""

    film_mfc_code: int
    film_type: int
    prefix: int
    film_count: int
    perf_offset: int
    perfs_per_frame: int
    perfs_per_count: int


class Preview(NamedTuple):
    """A small picture: 8-bit RGBA pixels, row after row from the top."""

    width: int
    height: int
    pixels: bytes


class Bytes(NamedTuple):
    """Bytes with a hint about what they are (type `bytes`)."""

    type_hint: str
    data: bytes
