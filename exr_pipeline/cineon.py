"""Cineon headers (Kodak Cineon 4.5, both byte orders): bytes to fields, undefined fields as None.

Belongs here: the generic header and the film header of one file. Not here: pixels, user data, file access.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Literal

from exr_pipeline.dpx import MAX_PIXELS, MAX_SIDE, HeaderField, read_fields
from exr_pipeline.exr import HeaderError, NeedMoreBytes
from exr_pipeline.frame_rates import ShownRate, nominal_frame_rate, shown_rate

MAGICS: Final[dict[bytes, Literal["big", "little"]]] = {b"\x80\x2a\x5f\xd7": "big", b"\xd7\x5f\x2a\x80": "little"}
# File, image and origin; the film header follows.
GENERIC_BYTES: Final = 1024
HEADER_BYTES: Final = 2048
BIT_DEPTHS: Final = frozenset({1, 8, 10, 12, 16, 32})
MOST_ELEMENTS: Final = 8

# The second byte of a designator: what the samples of an element are.
_COMPONENTS: Final = {0: "Y", 1: "R", 2: "G", 3: "B", 4: "R", 5: "G", 6: "B"}
INTERLEAVES: Final = {0: "pixel", 1: "line", 2: "channel"}
# The lower seven bits: how samples fill bytes and words. With the highest bit, words hold as many as fit.
PACKINGS: Final = {
    0: "packed",
    1: "bytes, left",
    2: "bytes, right",
    3: "16-bit words, left",
    4: "16-bit words, right",
    5: "32-bit words, left",
    6: "32-bit words, right",
}

# name, offset, format: `s` text of that many bytes, `I` and so on as in `struct`.
_FIELDS: Final = (
    ("data_offset", 4, "I"),
    ("generic_header_size", 8, "I"),
    ("industry_header_size", 12, "I"),
    ("user_data_size", 16, "I"),
    ("file_size", 20, "I"),
    ("version", 24, "8s"),
    ("file_name", 32, "100s"),
    ("creation_date", 132, "12s"),
    ("creation_time", 144, "12s"),
    ("orientation", 192, "B"),
    ("element_count", 193, "B"),
    ("white_point_x", 420, "f"),
    ("white_point_y", 424, "f"),
    ("red_primary_x", 428, "f"),
    ("red_primary_y", 432, "f"),
    ("green_primary_x", 436, "f"),
    ("green_primary_y", 440, "f"),
    ("blue_primary_x", 444, "f"),
    ("blue_primary_y", 448, "f"),
    ("label", 452, "200s"),
    ("interleave", 680, "B"),
    ("packing", 681, "B"),
    ("data_sign", 682, "B"),
    ("image_sense", 683, "B"),
    ("line_padding", 684, "I"),
    ("image_padding", 688, "I"),
    ("x_offset", 712, "i"),
    ("y_offset", 716, "i"),
    ("source_file_name", 720, "100s"),
    ("source_date", 820, "12s"),
    ("source_time", 832, "12s"),
    ("input_device", 844, "64s"),
    ("input_device_model", 908, "32s"),
    ("input_device_serial", 940, "32s"),
    ("x_device_pitch", 972, "f"),
    ("y_device_pitch", 976, "f"),
    ("gamma", 980, "f"),
)
_FILM_FIELDS: Final = (
    ("film_manufacturer", 1024, "B"),
    ("film_type", 1025, "B"),
    ("film_perforation_offset", 1026, "B"),
    ("film_prefix", 1028, "I"),
    ("film_count", 1032, "I"),
    ("film_format", 1036, "32s"),
    ("frame_position", 1068, "I"),
    ("film_frame_rate", 1072, "f"),
    ("frame_identification", 1076, "32s"),
    ("slate_information", 1108, "200s"),
)
_ELEMENT_OFFSET: Final = 196
_ELEMENT_BYTES: Final = 28
_ELEMENT_FIELDS: Final = (
    ("designator_metric", 0, "B"),
    ("designator", 1, "B"),
    ("bit_depth", 2, "B"),
    ("width", 4, "I"),
    ("height", 8, "I"),
    ("low_data", 12, "f"),
    ("low_quantity", 16, "f"),
    ("high_data", 20, "f"),
    ("high_quantity", 24, "f"),
)


@dataclass(frozen=True)
class CineonHeader:
    """The headers of a Cineon file: every field by name, and those of its image elements, one per channel."""

    byte_order: Literal["big", "little"]
    fields: tuple[HeaderField, ...]
    elements: tuple[tuple[HeaderField, ...], ...]

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {field.name: field.value for field in self.fields}

    @cached_property
    def _first(self) -> dict[str, Any]:
        return {field.name: field.value for field in self.elements[0]}

    def value(self, name: str) -> Any:
        """The value of a field; None if it is undefined."""
        return self._values.get(name)

    @property
    def width(self) -> int:
        """Pixels per line, the same of all elements."""
        return int(self._first["width"])

    @property
    def height(self) -> int:
        """Lines, the same of all elements."""
        return int(self._first["height"])

    @property
    def bit_depth(self) -> int:
        """Bits of a sample, the same of all elements."""
        return int(self._first["bit_depth"])

    @property
    def data_offset(self) -> int:
        """Where the pixels begin, in bytes."""
        return int(self.value("data_offset"))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the channels in the order of their samples: `R`, `G`, `B` or `Y`, else `component0` and so on."""
        codes = [next(field.value for field in element if field.name == "designator") for element in self.elements]
        names = tuple(_COMPONENTS.get(code, "") for code in codes)
        if all(names) and len(set(names)) == len(names):
            return names
        return tuple(f"component{index}" for index in range(len(codes)))

    @property
    def interleave(self) -> str | None:
        """`pixel`, `line` or `channel`; None for a code that the format lacks."""
        code = self.value("interleave")
        return INTERLEAVES.get(code or 0)

    @property
    def packing(self) -> str | None:
        """How samples fill words; None for a code that the format lacks."""
        code = self.value("packing")
        return None if code is None else PACKINGS.get(code & 0x7F)

    @property
    def orientation(self) -> int | None:
        """Scan order, 0 to 7; 0 is left to right, top to bottom."""
        value = self.value("orientation")
        return value if value is not None and value <= 7 else None

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames per second, from the film header; 23.976 is read as 24000/1001."""
        value = self.value("film_frame_rate")
        return nominal_frame_rate(value) if value is not None and 0.001 <= value < 10_000 else None

    @property
    def shown_rate(self) -> ShownRate | None:
        """The rate at which this frame is shown; None if the film header states none."""
        value = self.value("film_frame_rate")
        return shown_rate(Fraction(value), text=str(value)) if value else None


def parse_cineon_header(data: bytes, *, name: str = "<bytes>", file_size: int | None = None) -> CineonHeader:
    """The headers at the start of a Cineon file's bytes.

    Files without a film header lack its fields. `file_size` is the file's true size in bytes, if known. Raises
    `HeaderError` for bytes that are no Cineon header, one without sense or one of more pixels than the file can hold,
    and `NeedMoreBytes` if the data end inside it.
    """
    order = MAGICS.get(bytes(data[:4]))
    if order is None:
        if len(data) < 4 and any(magic.startswith(bytes(data)) for magic in MAGICS):
            raise NeedMoreBytes(name, len(data), GENERIC_BYTES)
        raise HeaderError(name, "not a Cineon file: it does not begin with 802a5fd7 in either byte order", 0)
    if len(data) < GENERIC_BYTES:
        raise NeedMoreBytes(name, len(data), GENERIC_BYTES)
    prefix = ">" if order == "big" else "<"
    fields = read_fields(data, prefix, _FIELDS, 0)
    values = {field.name: field.value for field in fields}
    ends = [offset for offset in (values["data_offset"], file_size) if offset]
    if values["industry_header_size"] != 0 and all(end >= HEADER_BYTES for end in ends):
        if len(data) < HEADER_BYTES:
            raise NeedMoreBytes(name, len(data), HEADER_BYTES)
        fields += read_fields(data, prefix, _FILM_FIELDS, 0)
    count = values["element_count"]
    if count is None or not 1 <= count <= MOST_ELEMENTS:
        raise HeaderError(name, f"unsupported number of image elements: {'undefined' if count is None else count}", 193)
    starts = [_ELEMENT_OFFSET + index * _ELEMENT_BYTES for index in range(count)]
    elements = tuple(tuple(read_fields(data, prefix, _ELEMENT_FIELDS, start)) for start in starts)
    header = CineonHeader(order, tuple(fields), elements)
    _check(header, name, file_size)
    return header


def _check(header: CineonHeader, name: str, file_size: int | None) -> None:
    shapes = []
    for index, element in enumerate(header.elements):
        start = _ELEMENT_OFFSET + index * _ELEMENT_BYTES
        values = {field.name: field.value for field in element}
        width, height, bits = values["width"], values["height"], values["bit_depth"]
        if not width or not height:
            raise HeaderError(name, f"image element {index} has no size", start + (8 if width else 4))
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            raise HeaderError(name, f"invalid image size: {width}x{height}", start + 4)
        if bits not in BIT_DEPTHS:
            raise HeaderError(name, f"image element {index}: unsupported bit depth {bits}", start + 2)
        shapes.append((width, height, bits))
        if shapes[-1] != shapes[0]:
            raise HeaderError(name, f"image element {index} differs from the first in size or bit depth", start)
    offset = header.value("data_offset")
    if not offset or offset < GENERIC_BYTES:
        raise HeaderError(name, "the image data offset points into the header", 4)
    needed = offset + _least_bytes(header)
    if file_size is not None and needed > file_size:
        reason = f"truncated: the file has {file_size} bytes, its header declares at least {needed}"
        raise HeaderError(name, reason, file_size)


def _least_bytes(header: CineonHeader) -> int:
    """A lower bound of the bytes of the pixels: no padding of lines."""
    samples = header.width * header.height * len(header.elements)
    if header.bit_depth == 10 and (header.packing or "").startswith("32-bit words"):
        return -(-samples // 3) * 4
    return samples * header.bit_depth // 8
