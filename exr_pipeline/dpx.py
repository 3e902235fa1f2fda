"""DPX headers (SMPTE 268M, versions 1 and 2, both byte orders): bytes to fields, undefined fields as None.

Belongs here: the generic and industry headers of one file. Not here: pixels, user data, file access.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Literal

from exr_pipeline.exr import HeaderError, NeedMoreBytes, TimeCode
from exr_pipeline.frame_rates import ShownRate, nominal_frame_rate, shown_rate

MAGICS: Final[dict[bytes, Literal["big", "little"]]] = {b"SDPX": "big", b"XPDS": "little"}
# File information, image information and orientation; the two industry headers follow.
GENERIC_BYTES: Final = 1664
HEADER_BYTES: Final = 2048
MAX_SIDE: Final = 1 << 20
MAX_PIXELS: Final = 1 << 34

TRANSFERS: Final = {
    0: "user",
    1: "printing density",
    2: "linear",
    3: "logarithmic",
    4: "unspecified video",
    5: "SMPTE 274M",
    6: "ITU-R BT.709",
    7: "ITU-R BT.601 625",
    8: "ITU-R BT.601 525",
    9: "NTSC composite",
    10: "PAL composite",
    11: "Z linear",
    12: "Z homogeneous",
    13: "ADX",
}
DESCRIPTORS: Final = {
    0: "user",
    1: "R",
    2: "G",
    3: "B",
    4: "A",
    6: "Y",
    7: "CbCr",
    8: "Z",
    9: "composite",
    50: "RGB",
    51: "RGBA",
    52: "ABGR",
    100: "CbYCrY",
    101: "CbYACrYA",
    102: "CbYCr",
    103: "CbYCrA",
}
# Channel names of an element in the order of its samples. Chroma that is shared by two pixels is named once.
_COMPONENTS: Final = {
    "user": ("user",),
    "CbCr": ("Cb", "Cr"),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "ABGR": ("A", "B", "G", "R"),
    "CbYCrY": ("Cb", "Y", "Cr"),
    "CbYACrYA": ("Cb", "Y", "A", "Cr"),
    "CbYCr": ("Cb", "Y", "Cr"),
    "CbYCrA": ("Cb", "Y", "Cr", "A"),
}
_SAMPLES_PER_PIXEL: Final = {"CbYCrY": 2, "CbYACrYA": 3, "CbCr": 1}
ENCODINGS: Final = {0: "none", 1: "rle"}
PACKINGS: Final = {0: "packed", 1: "filled A", 2: "filled B"}
BIT_DEPTHS: Final = frozenset({1, 8, 10, 12, 16, 32, 64})
# Some writers convert the undefined pattern to a number instead of copying its bits.
_LEAST_UNDEFINED: Final = 2.0**30

# name, offset, format: `s` text of that many bytes, `I` and so on as in `struct`; offsets as in SMPTE 268M.
_FIELDS: Final = (
    ("data_offset", 4, "I"),
    ("version", 8, "8s"),
    ("file_size", 16, "I"),
    ("ditto_key", 20, "I"),
    ("generic_header_size", 24, "I"),
    ("industry_header_size", 28, "I"),
    ("user_data_size", 32, "I"),
    ("file_name", 36, "100s"),
    ("creation_time", 136, "24s"),
    ("creator", 160, "100s"),
    ("project", 260, "200s"),
    ("copyright", 460, "200s"),
    ("encryption_key", 660, "I"),
    ("orientation", 768, "H"),
    ("element_count", 770, "H"),
    ("width", 772, "I"),
    ("height", 776, "I"),
    ("x_offset", 1408, "I"),
    ("y_offset", 1412, "I"),
    ("x_center", 1416, "f"),
    ("y_center", 1420, "f"),
    ("x_original_size", 1424, "I"),
    ("y_original_size", 1428, "I"),
    ("source_file_name", 1432, "100s"),
    ("source_time", 1532, "24s"),
    ("input_device", 1556, "32s"),
    ("input_device_serial", 1588, "32s"),
    ("border_left", 1620, "H"),
    ("border_right", 1622, "H"),
    ("border_top", 1624, "H"),
    ("border_bottom", 1626, "H"),
    ("pixel_aspect_horizontal", 1628, "I"),
    ("pixel_aspect_vertical", 1632, "I"),
)
_FILM_FIELDS: Final = (
    ("film_manufacturer", 1664, "2s"),
    ("film_type", 1666, "2s"),
    ("film_perforation_offset", 1668, "2s"),
    ("film_prefix", 1670, "6s"),
    ("film_count", 1676, "4s"),
    ("film_format", 1680, "32s"),
    ("frame_position", 1712, "I"),
    ("sequence_length", 1716, "I"),
    ("held_count", 1720, "I"),
    ("film_frame_rate", 1724, "f"),
    ("shutter_angle", 1728, "f"),
    ("frame_identification", 1732, "32s"),
    ("slate_information", 1764, "100s"),
    ("time_code", 1920, "I"),
    ("user_bits", 1924, "I"),
    ("interlace", 1928, "B"),
    ("field_number", 1929, "B"),
    ("video_signal_standard", 1930, "B"),
    ("horizontal_sample_rate", 1932, "f"),
    ("vertical_sample_rate", 1936, "f"),
    ("frame_rate", 1940, "f"),
    ("time_offset", 1944, "f"),
    ("gamma", 1948, "f"),
    ("black_level", 1952, "f"),
    ("black_gain", 1956, "f"),
    ("break_point", 1960, "f"),
    ("white_level", 1964, "f"),
    ("integration_times", 1968, "f"),
)
_ELEMENT_OFFSET: Final = 780
_ELEMENT_BYTES: Final = 72
# Where the first element says how many bytes follow each of its lines.
LINE_PADDING_OFFSET: Final = _ELEMENT_OFFSET + 32
_ELEMENT_FIELDS: Final = (
    ("data_sign", 0, "I"),
    ("low_data", 4, "I"),
    ("low_quantity", 8, "f"),
    ("high_data", 12, "I"),
    ("high_quantity", 16, "f"),
    ("descriptor", 20, "B"),
    ("transfer", 21, "B"),
    ("colorimetric", 22, "B"),
    ("bit_depth", 23, "B"),
    ("packing", 24, "H"),
    ("encoding", 26, "H"),
    ("data_offset", 28, "I"),
    ("line_padding", 32, "I"),
    ("image_padding", 36, "I"),
    ("description", 40, "32s"),
)
_TYPES: Final = {"s": "string", "f": "float"}


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field: its name, `string`, `int` or `float`, and its value; None where the file leaves it undefined."""

    name: str
    type: str
    value: Any


@dataclass(frozen=True)
class DpxElement:
    """One image element: its fields by name, as stored."""

    fields: tuple[HeaderField, ...]

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {field.name: field.value for field in self.fields}

    def value(self, name: str) -> Any:
        """The value of a field; None if it is undefined."""
        return self._values[name]

    @property
    def descriptor(self) -> str | None:
        """What the samples are: RGB, RGBA, CbYCrY and so on; None for a code that the standard lacks."""
        return DESCRIPTORS.get(self.value("descriptor"))

    @property
    def transfer(self) -> str | None:
        """Transfer characteristic by name, such as `printing density`."""
        return TRANSFERS.get(self.value("transfer"))

    @property
    def colorimetric(self) -> str | None:
        """Colorimetric specification by name; the same names as of transfers."""
        return TRANSFERS.get(self.value("colorimetric"))

    @property
    def bit_depth(self) -> int:
        """Bits of a sample."""
        return int(self.value("bit_depth"))

    @property
    def encoding(self) -> str | None:
        """`none` or `rle`."""
        return ENCODINGS.get(self.value("encoding"))

    @property
    def packing(self) -> str | None:
        """`packed`, `filled A` or `filled B`."""
        return PACKINGS.get(self.value("packing"))

    @property
    def sample_format(self) -> str:
        """Signedness and size of a sample: UINT10, INT16, FLOAT32."""
        if self.bit_depth >= 32:
            return f"FLOAT{self.bit_depth}"
        return f"{'INT' if self.value('data_sign') == 1 else 'UINT'}{self.bit_depth}"

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the channels, in the order of their samples."""
        code = self.value("descriptor")
        if self.descriptor is not None:
            return _COMPONENTS.get(self.descriptor, (self.descriptor,))
        count = code - 148 if isinstance(code, int) and 150 <= code <= 156 else 1
        return tuple(f"component{index}" for index in range(count))


@dataclass(frozen=True)
class DpxHeader:
    """The headers of a DPX file: every field by name, and its image elements."""

    byte_order: Literal["big", "little"]
    fields: tuple[HeaderField, ...]
    elements: tuple[DpxElement, ...]

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {field.name: field.value for field in self.fields}

    def value(self, name: str) -> Any:
        """The value of a field; None if it is undefined."""
        return self._values.get(name)

    @property
    def width(self) -> int:
        """Pixels per line."""
        return int(self.value("width"))

    @property
    def height(self) -> int:
        """Lines per image element."""
        return int(self.value("height"))

    @property
    def data_offset(self) -> int:
        """Where the pixels of the first element begin, in bytes."""
        offset = self.elements[0].value("data_offset")
        return int(offset or self.value("data_offset"))

    @property
    def orientation(self) -> int | None:
        """Scan order, 0 to 7; 0 is left to right, top to bottom."""
        value = self.value("orientation")
        return value if value is not None and value <= 7 else None

    @property
    def pixel_aspect_ratio(self) -> float | None:
        """Width of a pixel over its height."""
        horizontal, vertical = self.value("pixel_aspect_horizontal"), self.value("pixel_aspect_vertical")
        return horizontal / vertical if horizontal and vertical else None

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames per second, from the television header, else the film header; 23.976 is read as 24000/1001."""
        for name in ("frame_rate", "film_frame_rate"):
            value = self.value(name)
            if value is not None and 0.001 <= value < 10_000:
                return nominal_frame_rate(value)
        return None

    @property
    def shown_rate(self) -> ShownRate | None:
        """The rate at which this frame is shown; None if neither header states one."""
        values = (self.value(name) for name in ("frame_rate", "film_frame_rate"))
        value = next((value for value in values if value), None)
        return None if value is None else shown_rate(Fraction(value), text=str(value))

    @property
    def time_code(self) -> TimeCode | None:
        """SMPTE time code of the television header; None if it isn't decimal, or zero without a frame rate."""
        value = self.value("time_code")
        if value is None or not f"{value:08x}".isdecimal():
            return None
        # A header filled with zeros states neither a rate nor a time.
        return TimeCode(value) if value or self.value("frame_rate") else None


def parse_dpx_header(data: bytes, *, name: str = "<bytes>", file_size: int | None = None) -> DpxHeader:
    """The headers at the start of a DPX file's bytes.

    Files without industry headers lack their fields. `file_size` is the file's true size in bytes, if known. Raises
    `HeaderError` for bytes that are no DPX header, one without sense or one of more pixels than the file can hold, and
    `NeedMoreBytes` if the data end inside it.
    """
    order = MAGICS.get(bytes(data[:4]))
    if order is None:
        if len(data) < 4 and any(magic.startswith(bytes(data)) for magic in MAGICS):
            raise NeedMoreBytes(name, len(data), GENERIC_BYTES)
        raise HeaderError(name, "not a DPX file: it begins neither with SDPX nor XPDS", 0)
    if len(data) < GENERIC_BYTES:
        raise NeedMoreBytes(name, len(data), GENERIC_BYTES)
    prefix = ">" if order == "big" else "<"
    fields = read_fields(data, prefix, _FIELDS, 0)
    values = {field.name: field.value for field in fields}
    industry = values["industry_header_size"]
    ends = [offset for offset in (values["data_offset"], file_size) if offset]
    if industry != 0 and all(end >= HEADER_BYTES for end in ends):
        if len(data) < HEADER_BYTES:
            raise NeedMoreBytes(name, len(data), HEADER_BYTES)
        fields += read_fields(data, prefix, _FILM_FIELDS, 0)
    count = values["element_count"]
    if count is None or not 1 <= count <= 8:
        raise HeaderError(name, f"unsupported number of image elements: {'undefined' if count is None else count}", 770)
    starts = [_ELEMENT_OFFSET + index * _ELEMENT_BYTES for index in range(count)]
    elements = tuple(DpxElement(tuple(read_fields(data, prefix, _ELEMENT_FIELDS, start))) for start in starts)
    header = DpxHeader(order, tuple(fields), elements)
    _check(header, name, file_size)
    return header


def read_fields(data: bytes, prefix: str, fields: tuple[tuple[str, int, str], ...], start: int) -> list[HeaderField]:
    """Fields of a fixed layout (name, offset from `start`, `struct` format), undefined ones as None.

    Undefined are integers of the largest code (of the least, if signed), floats that are not finite or absurd, and
    empty text: in DPX and in Cineon, its predecessor.
    """
    result: list[HeaderField] = []
    for name, offset, layout in fields:
        (raw,) = struct.unpack_from(prefix + layout, data, start + offset)
        value: Any = raw
        kind = layout[-1]
        if kind == "s":
            value = _text(raw)
        elif kind == "f":
            value = raw if abs(raw) < _LEAST_UNDEFINED else None
        elif raw == (-(1 << 31) if kind == "i" else (1 << 8 * struct.calcsize(layout)) - 1):
            value = None
        result.append(HeaderField(name, _TYPES.get(kind, "int"), value))
    return result


def _text(raw: bytes) -> str | None:
    """Text up to its first NUL; None if it is empty or filled with the undefined byte."""
    text = raw.partition(b"\0")[0].rstrip(b"\xff")
    return text.decode("utf-8", "surrogateescape") or None


def _check(header: DpxHeader, name: str, file_size: int | None) -> None:
    width, height = header.value("width"), header.value("height")
    if not width or not height:
        raise HeaderError(name, "the image has no size", 776 if width else 772)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise HeaderError(name, f"invalid image size: {width}x{height}", 772)
    for index, element in enumerate(header.elements):
        start = _ELEMENT_OFFSET + index * _ELEMENT_BYTES
        if element.value("bit_depth") not in BIT_DEPTHS:
            raise HeaderError(
                name, f"image element {index}: unsupported bit depth {element.value('bit_depth')}", start + 23
            )
        if element.descriptor is None and not element.components[1:]:
            code = element.value("descriptor")
            raise HeaderError(name, f"image element {index}: unknown descriptor {code}", start + 20)
        offset = element.value("data_offset") or header.value("data_offset")
        if not offset or offset < GENERIC_BYTES:
            raise HeaderError(name, f"image element {index}: the data offset points into the header", start + 28)
        if file_size is not None and offset + _least_bytes(header, element) > file_size:
            needed = offset + _least_bytes(header, element)
            reason = f"truncated: the file has {file_size} bytes, its header declares at least {needed}"
            raise HeaderError(name, reason, file_size)


def _least_bytes(header: DpxHeader, element: DpxElement) -> int:
    """A lower bound of the bytes of an element's pixels: no padding of lines."""
    if element.encoding != "none":
        return 1
    descriptor = element.descriptor or ""
    per_pixel = _SAMPLES_PER_PIXEL.get(descriptor, len(element.components))
    samples = header.width * header.height * per_pixel
    if element.packing in {"filled A", "filled B"} and element.bit_depth in {10, 12}:
        return samples * 4 // 3 if element.bit_depth == 10 else samples * 2
    return samples * element.bit_depth // 8
