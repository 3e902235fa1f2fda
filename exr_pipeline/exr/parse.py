"""From bytes to a header, without loss and without trust in the bytes.

Belongs here: the structure of a header. Not here: values (`codec`), meaning (`validate`), reading files.
Source: "OpenEXR File Layout".
"""

import re
import struct
from typing import Final

from exr_pipeline.exr.codec import MAX_NAME_BYTES, TYPES, DecodeError, decode_text, new, value_type
from exr_pipeline.exr.errors import HeaderError, NeedMoreBytes
from exr_pipeline.exr.header import MAGIC, MULTIPART_FLAG, Attribute, Header, Part, implied_type

MAX_HEADER_BYTES: Final = 16 << 20
MAX_PARTS: Final = 4096
# Over all parts: bounds the memory of a header that consists of tiny attributes.
MAX_ATTRIBUTES: Final = 1 << 16
# Over all lists of numbers, strings and channels, for the same reason.
MAX_LIST_ITEMS: Final = 1 << 18

_VERSION: Final = struct.Struct("<I")
# Name, type and size: what stands before a value.
_HEAD: Final = re.compile(rb"([^\0]{1,%d})\0([^\0]{1,%d})\0(.{4})" % (MAX_NAME_BYTES, MAX_NAME_BYTES), re.DOTALL)
_TYPES: Final = {name.encode(): type_ for name, type_ in TYPES.items()}
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
        # By their bytes: parts of a file repeat most of each other's attributes.
        self.seen: dict[bytes, Attribute] | None = None

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
        if multipart:
            self.seen = {}
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
        data, position, seen = self.data, self.position, self.seen
        last = min(len(data), MAX_HEADER_BYTES - 1)
        attributes: list[Attribute] = []
        room = MAX_ATTRIBUTES - self.attributes
        match = _HEAD.match
        while head := match(data, position):
            name, type_name, size_bytes = head.groups()
            start = head.end()
            size = int.from_bytes(size_bytes, "little")
            end = start + size
            kind, fixed_size, decode, _ = _TYPES.get(type_name) or value_type(decode_text(type_name))
            # What is negative exceeds any file as an unsigned number.
            if end > last or (fixed_size is not None and fixed_size != size):
                break
            if len(attributes) == room:
                raise HeaderError(self.name, f"more than {MAX_ATTRIBUTES} attributes", position + len(name) + 1)
            attribute = None if seen is None else seen.get(data[position:end])
            if attribute is None:
                raw = data[start:end]
                text = name.decode() if name.isascii() else decode_text(name)
                try:
                    attribute = new(Attribute, (text, kind, decode(raw), raw))
                except DecodeError as error:
                    problem = f"attribute {text!r}: {error.problem}"
                    raise HeaderError(self.name, problem, start + error.position) from None
                if seen is not None:
                    seen[data[position:end]] = attribute
            if fixed_size is None and kind in _LISTS:
                self.list_items += len(attribute.value)
                if self.list_items > MAX_LIST_ITEMS:
                    raise HeaderError(self.name, f"lists of more than {MAX_LIST_ITEMS} items", start)
            attributes.append(attribute)
            position = end
        if data[position : position + 1] != b"\0" or position >= MAX_HEADER_BYTES:
            raise self.fault(position)
        self.position = position + 1
        self.attributes += len(attributes)
        return tuple(attributes)

    def fault(self, position: int) -> HeaderError:
        """Why no attribute begins at this byte, and no part ends there."""
        try:
            name, type_start = self.text(position, "attribute name")
            type_name, start = self.text(type_start, f"type of attribute {name!r}")
        except HeaderError as error:
            return error
        if not type_name:
            return HeaderError(self.name, f"attribute {name!r} has no type", type_start)
        if start + 4 > len(self.data):
            return NeedMoreBytes(self.name, len(self.data), start + 5)
        size = int.from_bytes(self.data[start : start + 4], "little", signed=True)
        problem = f"attribute {name!r} of type {type_name!r} declares {size} bytes"
        if size < 0 or value_type(type_name).size not in {None, size}:
            return HeaderError(self.name, problem, start)
        end = start + 4 + size
        if end >= MAX_HEADER_BYTES:
            problem = f"attribute {name!r} of {size} bytes makes the header longer than {MAX_HEADER_BYTES} bytes"
            return HeaderError(self.name, problem, start)
        return NeedMoreBytes(self.name, len(self.data), end + 1)

    def text(self, start: int, what: str) -> tuple[str, int]:
        """The text that begins at this byte, and where it ends."""
        end = self.data.find(b"\0", start, start + MAX_NAME_BYTES + 1)
        if end < 0:
            if len(self.data) - start > MAX_NAME_BYTES:
                raise HeaderError(self.name, f"{what} longer than {MAX_NAME_BYTES} bytes", start)
            if len(self.data) < MAX_HEADER_BYTES:
                raise NeedMoreBytes(self.name, len(self.data), len(self.data) + 1)
        if end < 0 or end >= MAX_HEADER_BYTES:
            raise HeaderError(self.name, f"header longer than {MAX_HEADER_BYTES} bytes", start)
        return decode_text(self.data[start:end]), end + 1
