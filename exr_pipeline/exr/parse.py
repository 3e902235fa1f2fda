"""From bytes to a header, without loss and without trust in the bytes.

Belongs here: the structure of a header. Not here: values (`codec`), meaning (`validate`), reading files.
Source: "OpenEXR File Layout".
"""

import struct
from typing import Any, Final

from exr_pipeline.exr.codec import FIXED_SIZES, MAX_NAME_BYTES, DecodeError, decode_text, decode_value
from exr_pipeline.exr.errors import HeaderError, NeedMoreBytes
from exr_pipeline.exr.header import MAGIC, MULTIPART_FLAG, Attribute, Header, Part, implied_type

MAX_HEADER_BYTES: Final = 16 << 20
MAX_PARTS: Final = 4096
# Over all parts: bounds the memory of a header that consists of tiny attributes.
MAX_ATTRIBUTES: Final = 1 << 16
# Over all lists of numbers, strings and channels, for the same reason.
MAX_LIST_ITEMS: Final = 1 << 18

_VERSION: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<i")
_LISTS: Final = frozenset({"chlist", "floatvector", "stringvector"})


def parse_header(data: bytes, *, name: str = "<bytes>") -> Header:
    """The header at the start of an EXR file's bytes; what follows it is not looked at.

    `name` is the file's name in errors. Raises `HeaderError` for bytes that are no header or exceed the limits of this
    module, and `NeedMoreBytes` if the data end before the header does.
    """
    return _Parser(bytes(data), name).header()


class _Parser:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.position = 0
        self.attributes = 0
        self.list_items = 0

    def header(self) -> Header:
        data = self.data
        if not MAGIC.startswith(data[:4]):
            raise HeaderError(self.name, "not an EXR file: it doesn't begin with 76 2f 31 01", 0)
        if len(data) < 8:
            raise NeedMoreBytes(self.name, len(data), 9)
        (word,) = _VERSION.unpack_from(data, 4)
        version, flags = word & 0xFF, word & ~0xFF
        if version not in {1, 2}:
            raise HeaderError(self.name, f"EXR version {version}; only 1 and 2 exist", 4)
        self.position = 8
        implied = implied_type(flags)
        multipart = bool(flags & MULTIPART_FLAG)
        parts: list[Part] = [] if multipart else [Part(self.part(), implied)]
        while multipart and (attributes := self.part()):
            if len(parts) == MAX_PARTS:
                raise HeaderError(self.name, f"more than {MAX_PARTS} parts", self.position)
            parts.append(Part(attributes, implied))
        header = Header(version, flags, tuple(parts))
        # Known here, so that nobody has to write the header to learn it.
        header.__dict__["size"] = self.position
        return header

    def part(self) -> tuple[Attribute, ...]:
        """The attributes up to the empty name that ends a part (of none: the end of a multi-part header)."""
        attributes: list[Attribute] = []
        while True:
            name = self.text("attribute name")
            if not name:
                return tuple(attributes)
            self.attributes += 1
            if self.attributes > MAX_ATTRIBUTES:
                raise HeaderError(self.name, f"more than {MAX_ATTRIBUTES} attributes", self.position)
            attributes.append(self.attribute(name))

    def text(self, what: str, of: str | None = None) -> str:
        start = self.position
        end = self.data.find(b"\0", start, start + MAX_NAME_BYTES + 1)
        if end < 0:
            if len(self.data) - start > MAX_NAME_BYTES:
                subject = what if of is None else f"{what} {of!r}"
                raise HeaderError(self.name, f"{subject} longer than {MAX_NAME_BYTES} bytes", start)
            if len(self.data) < MAX_HEADER_BYTES:
                raise NeedMoreBytes(self.name, len(self.data), len(self.data) + 1)
        if end < 0 or end >= MAX_HEADER_BYTES:
            raise HeaderError(self.name, f"header longer than {MAX_HEADER_BYTES} bytes", start)
        self.position = end + 1
        return decode_text(self.data[start:end])

    def attribute(self, name: str) -> Attribute:
        type_start = self.position
        type_name = self.text("type of attribute", name)
        if not type_name:
            raise HeaderError(self.name, f"attribute {name!r} has no type", type_start)
        start = self.position + 4
        if start > len(self.data):
            raise NeedMoreBytes(self.name, len(self.data), start + 1)
        (size,) = _SIZE.unpack_from(self.data, self.position)
        self.check_size(name, type_name, size)
        end = start + size
        if end > len(self.data):
            raise NeedMoreBytes(self.name, len(self.data), end + 1)
        raw = self.data[start:end]
        try:
            value: Any = decode_value(type_name, raw)
        except DecodeError as error:
            problem = f"attribute {name!r}: {error.problem}"
            raise HeaderError(self.name, problem, start + error.position) from None
        if type_name in _LISTS:
            self.list_items += len(value)
            if self.list_items > MAX_LIST_ITEMS:
                raise HeaderError(self.name, f"lists of more than {MAX_LIST_ITEMS} items", start)
        self.position = end
        return Attribute(name, type_name, value, raw)

    def check_size(self, name: str, type_name: str, size: int) -> None:
        """Refuse a size that cannot be before asking for its bytes."""
        fixed = FIXED_SIZES.get(type_name, size)
        if size < 0 or size != fixed:
            problem = f"attribute {name!r} of type {type_name!r} declares {size} bytes"
            raise HeaderError(self.name, problem, self.position)
        if self.position + 4 + size >= MAX_HEADER_BYTES:
            problem = f"attribute {name!r} of {size} bytes makes the header longer than {MAX_HEADER_BYTES} bytes"
            raise HeaderError(self.name, problem, self.position)
