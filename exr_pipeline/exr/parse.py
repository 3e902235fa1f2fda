"""From bytes to a header, without loss and without trust in the bytes.

Belongs here: the structure of a header. Not here: values (`codec`), meaning (`validate`), reading files.
Source: "OpenEXR File Layout".
"""

import struct
from typing import Final, NamedTuple

from exr_pipeline.exr.codec import MAX_NAME_BYTES, DecodeError, ValueType, decode_text, new, value_type
from exr_pipeline.exr.errors import HeaderError, NeedMoreBytes
from exr_pipeline.exr.header import MAGIC, MULTIPART_FLAG, Attribute, Header, Part, implied_type
from exr_pipeline.untrusted_text import quoted

MAX_HEADER_BYTES: Final = 16 << 20
MAX_PARTS: Final = 4096
# Over all parts: bounds the memory of a header that consists of tiny attributes.
MAX_ATTRIBUTES: Final = 1 << 16
# Over all lists of numbers, strings and channels, for the same reason.
MAX_LIST_ITEMS: Final = 1 << 18
_MOST_HEADS: Final = 4096

_VERSION: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<I")
_LISTS: Final = frozenset({"chlist", "floatvector", "stringvector"})


class _Head:
    """What stands before a value: name and type, and its size if all values of the type have the same.

    `next` is the head that came next in a header before. Files of a show repeat them, so that is where to look first.
    """

    __slots__ = ("decode", "is_kept", "is_list", "length", "make", "name", "next", "size", "stored", "type")

    def __init__(self, name: str, kind: ValueType, stored: bytes, *, is_kept: bool) -> None:
        self.name = name
        self.type, self.size, self.decode, self.make, _ = kind
        self.is_list = kind.name in _LISTS
        self.stored = stored
        self.length = len(stored)
        self.is_kept = is_kept
        self.next = self


class _Heads(dict[bytes, _Head]):
    """Heads by name and type with a zero between, kept for the next header as long as they are not too many."""

    def __missing__(self, stored: bytes) -> _Head | None:
        name, _, type_name = stored.partition(b"\0")
        if not 0 < len(name) <= MAX_NAME_BYTES or not 0 < len(type_name) <= MAX_NAME_BYTES:
            return None
        kind = value_type(decode_text(type_name))
        size = b"" if kind.size is None else _SIZE.pack(kind.size)
        is_kept = len(self) < _MOST_HEADS
        head = _Head(decode_text(name), kind, stored + b"\0" + size, is_kept=is_kept)
        if is_kept:
            self[stored] = head
        return head


_heads: Final = _Heads()
# Its `next` is the first of a part; which one that is at first does not matter.
_before_first: Final = _Head("", value_type("chlist"), b"", is_kept=True)
_before_first.next = _Head("channels", value_type("chlist"), b"channels\0chlist\0", is_kept=True)


class _Known(NamedTuple):
    """An attribute of the part before, which most parts repeat: its bytes, itself, and how many items it lists."""

    stored: bytes
    attribute: Attribute
    items: int


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
        # None in a file of one part.
        self.known: list[_Known] | None = None

    def header(self) -> Header:
        data = self.data
        if not MAGIC.startswith(data[:4]):
            raise HeaderError(self.name, "not an EXR file: it does not begin with 76 2f 31 01", 0)
        if len(data) < 8:
            raise NeedMoreBytes(self.name, len(data), 9)
        (word,) = _VERSION.unpack_from(data, 4)
        version, flags = word & 0xFF, word & ~0xFF
        if version not in {1, 2}:
            raise HeaderError(self.name, f"unsupported EXR version {version}: only 1 and 2 exist", 4)
        self.position = 8
        implied = implied_type(flags)
        multipart = bool(flags & MULTIPART_FLAG)
        if multipart:
            self.known = []
        parts: list[Part] = [] if multipart else [Part(self.part(), implied)]
        while multipart and (attributes := self.part()):
            if len(parts) == MAX_PARTS:
                raise HeaderError(self.name, f"more than {MAX_PARTS} parts", self.position)
            parts.append(Part(attributes, implied))
        header = Header(version, flags, tuple(parts))
        # Known here, so that nobody has to write the header to learn it.
        header.__dict__["size"] = self.position
        return header

    # All in one: a call for each attribute takes as long as half of what is done here.
    def part(self) -> tuple[Attribute, ...]:  # noqa: C901
        """The attributes up to the empty name that ends a part (of none: the end of a multi-part header)."""
        data, position, known = self.data, self.position, self.known or ()
        find, starts_with, read_size, heads = data.find, data.startswith, _SIZE.unpack_from, _heads
        last = min(len(data), MAX_HEADER_BYTES - 1)
        attributes: list[Attribute] = []
        next_known: list[_Known] | None = None if self.known is None else []
        # Of `known`, the one that should be repeated now, and where to go on after one that was not.
        turn = 0
        turns: dict[str, int] | None = None
        room = MAX_ATTRIBUTES - self.attributes
        head = _before_first
        while True:
            if known and turn < len(known) and starts_with(known[turn][0], position):
                this = known[turn]
                stored, attribute, items = this
                end = position + len(stored)
                turn += 1
                if end > last:
                    break
            else:
                before, head = head, head.next
                if not starts_with(head.stored, position):
                    type_start = find(b"\0", position) + 1
                    if type_start <= position + 1:
                        break
                    type_end = find(b"\0", type_start)
                    if type_end < 0 or type_end - position > 2 * MAX_NAME_BYTES + 1:
                        break
                    found = heads[data[position:type_end]]
                    # Of a type whose values are of one size, this may be of another.
                    if found is None or not starts_with(found.stored, position):
                        break
                    head = found
                    if head.is_kept:
                        before.next = head
                start = position + head.length
                if head.size is not None:
                    end = start + head.size
                    if end > last:
                        break
                    raw = data[start:end]
                    numbers = head.decode(raw)
                    value = numbers[0] if head.make is None else new(head.make, numbers)
                    items = 0
                else:
                    start += 4
                    if start > last:
                        break
                    (size,) = read_size(data, start - 4)
                    end = start + size
                    # What is negative exceeds any file as an unsigned number.
                    if end > last:
                        break
                    raw = data[start:end]
                    try:
                        value = head.decode(raw)
                    except UnicodeDecodeError:
                        value = decode_text(raw)
                    except DecodeError as error:
                        problem = f"attribute {quoted(head.name)}: {error.problem}"
                        raise HeaderError(self.name, problem, start + error.position) from None
                    items = len(value) if head.is_list else 0
                attribute = new(Attribute, (head.name, head.type, value, raw))
                if next_known is not None:
                    this = new(_Known, (data[position:end], attribute, items))
                    # Mostly the same attribute with another value.
                    if turn < len(known) and known[turn].attribute.name == head.name:
                        turn += 1
                    elif known:
                        turns = turns or {each.attribute.name: index for index, each in enumerate(known, 1)}
                        turn = turns.get(head.name, turn)
            if len(attributes) == room:
                raise HeaderError(self.name, f"more than {MAX_ATTRIBUTES} attributes", position)
            if items:
                self.list_items += items
                if self.list_items > MAX_LIST_ITEMS:
                    raise HeaderError(self.name, f"lists have more than {MAX_LIST_ITEMS} items in all", position)
            attributes.append(attribute)
            if next_known is not None:
                next_known.append(this)
            position = end
        self.known = next_known
        if data[position : position + 1] != b"\0" or position >= MAX_HEADER_BYTES:
            raise self.fault(position)
        self.position = position + 1
        self.attributes += len(attributes)
        return tuple(attributes)

    def fault(self, position: int) -> HeaderError:
        """Why no attribute begins at this byte, and no part ends there."""
        try:
            name, type_start = self.text(position, "attribute name")
            type_name, start = self.text(type_start, f"type of attribute {quoted(name)}")
        except HeaderError as error:
            return error
        if not type_name:
            return HeaderError(self.name, f"attribute {quoted(name)} has no type", type_start)
        if start + 4 > len(self.data):
            return NeedMoreBytes(self.name, len(self.data), start + 5)
        size = int.from_bytes(self.data[start : start + 4], "little", signed=True)
        problem = f"attribute {quoted(name)} of type {quoted(type_name)} declares {size} bytes"
        if size < 0 or value_type(type_name).size not in {None, size}:
            return HeaderError(self.name, problem, start)
        end = start + 4 + size
        if end >= MAX_HEADER_BYTES:
            problem = f"attribute {quoted(name)} of {size} bytes makes the header longer than {MAX_HEADER_BYTES} bytes"
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
