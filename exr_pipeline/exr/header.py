"""The header of an EXR file as it is stored: attributes, parts, and the bytes they came from.

Belongs here: the data and what can be said of one part. Not here: parsing (`parse`) and judging (`validate`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from exr_pipeline.exr.codec import encode_text, value_type
from exr_pipeline.exr.values import COMPRESSIONS, LINE_ORDERS, Box2i, Channel, TileDescription

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAGIC: Final = b"\x76\x2f\x31\x01"

# Bits of the version field, beside the version number in its lowest byte.
TILED_FLAG: Final = 0x200
LONG_NAMES_FLAG: Final = 0x400
DEEP_FLAG: Final = 0x800
MULTIPART_FLAG: Final = 0x1000
KNOWN_FLAGS: Final = TILED_FLAG | LONG_NAMES_FLAG | DEEP_FLAG | MULTIPART_FLAG

SHORT_NAME_BYTES: Final = 31

_T = TypeVar("_T")


class Attribute(NamedTuple):
    """One attribute: its name and type as stored, its value, and the value's bytes.

    Text that is not UTF-8 holds its odd bytes as lone surrogates. `value` equals `raw` for types that the format does
    not define.
    """

    name: str
    type: str
    value: Any
    raw: bytes

    @classmethod
    def of(cls, name: str, type_name: str, value: Any) -> Attribute:
        """The attribute with this value."""
        return cls(name, type_name, value, value_type(type_name).encode(value))

    def to_bytes(self) -> bytes:
        """The attribute as it is stored."""
        return b"%b\0%b\0%b%b" % (
            encode_text(self.name),
            encode_text(self.type),
            struct.pack("<i", len(self.raw)),
            self.raw,
        )


@dataclass(frozen=True)
class Part:
    """One part of a file: its attributes in file order.

    `implied_type` is the type that the file's flags give to the only part of an ordinary image; it wins over an
    attribute, as in the OpenEXR library.
    """

    attributes: tuple[Attribute, ...]
    implied_type: str | None = None

    @cached_property
    def _by_name(self) -> dict[str, Attribute]:
        return {attribute.name: attribute for attribute in self.attributes}

    def get(self, name: str) -> Attribute | None:
        """The attribute of this name; the last one if it is stored more than once."""
        return self._by_name.get(name)

    def value(self, name: str, default: Any = None) -> Any:
        """The value of the attribute of this name."""
        attribute = self._by_name.get(name)
        return default if attribute is None else attribute.value

    def typed(self, name: str, type_name: str, default: _T) -> Any | _T:
        """The value of the attribute of this name if it has this type too, else the default."""
        attribute = self._by_name.get(name)
        return default if attribute is None or attribute.type != type_name else attribute.value

    @property
    def name(self) -> str | None:
        """Name of the part."""
        return self.typed("name", "string", None)

    @property
    def view(self) -> str | None:
        """View (such as an eye of a stereo pair) that the part belongs to."""
        return self.typed("view", "string", None)

    @cached_property
    def type(self) -> str:
        """scanlineimage, tiledimage, deepscanline, deeptile, or what else the part says it is."""
        if self.implied_type is not None:
            return self.implied_type
        return str(self.typed("type", "string", "scanlineimage"))

    @property
    def is_tiled(self) -> bool:
        """Whether the pixels are stored in tiles."""
        return self.type in {"tiledimage", "deeptile"}

    @property
    def is_deep(self) -> bool:
        """Whether the pixels have several samples in depth."""
        return self.type in {"deepscanline", "deeptile"}

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Channels in file order."""
        return tuple(self.typed("channels", "chlist", ()))

    @cached_property
    def data_window(self) -> Box2i | None:
        """The pixels that are stored."""
        return self.typed("dataWindow", "box2i", None)

    @property
    def display_window(self) -> Box2i | None:
        """The frame that is shown."""
        return self.typed("displayWindow", "box2i", None)

    @cached_property
    def compression(self) -> str | None:
        """Name of the compression, such as `zips`; `unknown (n)` for a code that the format lacks."""
        code = self.typed("compression", "compression", None)
        return None if code is None else COMPRESSIONS.get(code, f"unknown ({code})")

    @property
    def line_order(self) -> str | None:
        """increasingY, decreasingY or randomY; `unknown (n)` for a code that the format lacks."""
        code = self.typed("lineOrder", "lineOrder", None)
        return None if code is None else LINE_ORDERS.get(code, f"unknown ({code})")

    @property
    def pixel_aspect_ratio(self) -> float:
        """Width of a pixel over its height; 1 where the part doesn't say."""
        return float(self.typed("pixelAspectRatio", "float", 1.0))

    @property
    def tiles(self) -> TileDescription | None:
        """Size and levels of the tiles; also present in some parts that aren't tiled."""
        return self.typed("tiles", "tiledesc", None)


@dataclass(frozen=True)
class Header:
    """The header of a file: everything before the chunk offset tables. `flags` are the version field's upper bits."""

    version: int
    flags: int
    parts: tuple[Part, ...]

    @classmethod
    def build(cls, parts: Iterable[Sequence[Attribute]], *, version: int = 2, flags: int | None = None) -> Header:
        """A header of parts given by their attributes.

        Without `flags` they follow from the parts: their number, the `type` attributes and the lengths of names.
        """
        listed = [tuple(attributes) for attributes in parts]
        if flags is None:
            flags = _fitting_flags(listed)
        implied = implied_type(flags)
        return cls(version, flags, tuple(Part(attributes, implied) for attributes in listed))

    @property
    def is_multipart(self) -> bool:
        """Whether the file is stored as a multi-part file, even of one part."""
        return bool(self.flags & MULTIPART_FLAG)

    @property
    def is_tiled(self) -> bool:
        """Whether any part is tiled."""
        return any(part.is_tiled for part in self.parts)

    @property
    def is_deep(self) -> bool:
        """Whether any part is deep."""
        return any(part.is_deep for part in self.parts)

    @property
    def has_long_names(self) -> bool:
        """Whether names may have up to 255 bytes instead of 31."""
        return bool(self.flags & LONG_NAMES_FLAG)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the file's views in file order: of its parts, or those that a single-part file lists."""
        listed = dict.fromkeys(view for part in self.parts if (view := part.view))
        for part in self.parts:
            listed.update(dict.fromkeys(part.typed("multiView", "stringvector", ())))
        return tuple(listed)

    @cached_property
    def size(self) -> int:
        """Bytes of the header; the chunk offset tables follow."""
        return len(self.to_bytes())

    def offset(self, part_index: int, attribute: str | None = None) -> int:
        """Where an attribute (the last one of its name) is stored, in bytes; where its part begins if it has none."""
        places = self._places[part_index]
        return places.get(attribute, places[None])

    @cached_property
    def _places(self) -> list[dict[str | None, int]]:
        """Per part, the offsets of attributes, and of the part itself as None."""
        listed: list[dict[str | None, int]] = []
        position = 8
        for part in self.parts:
            places: dict[str | None, int] = {None: position}
            for attribute in part.attributes:
                places[attribute.name] = position
                position += len(attribute.to_bytes())
            listed.append(places)
            position += 1
        return listed

    def to_bytes(self) -> bytes:
        """The header exactly as it is stored."""
        out = [MAGIC, struct.pack("<I", self.version | self.flags)]
        for part in self.parts:
            out.extend(attribute.to_bytes() for attribute in part.attributes)
            out.append(b"\0")
        if self.is_multipart:
            out.append(b"\0")
        return b"".join(out)


def implied_type(flags: int) -> str | None:
    """The part type that the flags decide, or None if the part's `type` attribute does."""
    if flags & (MULTIPART_FLAG | DEEP_FLAG):
        return None
    return "tiledimage" if flags & TILED_FLAG else "scanlineimage"


def _fitting_flags(parts: list[tuple[Attribute, ...]]) -> int:
    types = [Part(attributes).type for attributes in parts]
    names = [attribute.name for attributes in parts for attribute in attributes]
    names += [channel.name for attributes in parts for channel in Part(attributes).channels]
    flags = 0
    if len(parts) != 1:
        flags |= MULTIPART_FLAG
    elif types[0] == "tiledimage":
        flags |= TILED_FLAG
    if any(type_name in {"deepscanline", "deeptile"} for type_name in types):
        flags |= DEEP_FLAG
    if any(len(encode_text(name)) > SHORT_NAME_BYTES for name in names):
        flags |= LONG_NAMES_FLAG
    return flags
