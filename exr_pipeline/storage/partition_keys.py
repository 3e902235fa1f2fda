"""Partition keys: the text that stands for an object on Dagster's page, in its addresses, dialogs and configurations.

Belongs here: from an object's address to its key and back. Not here: what an address is of (`storage.locations`).
Why keys look as they do: docs/decisions/0005-partition-keys.md.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# Dagster's page shows this many characters of either end of a long key, and none between.
VISIBLE: Final = 14

# Nearly every address: nothing in it needs an escape, unless a slash or a dot follows its like.
_ORDINARY: Final = re.compile(r"[A-Za-z0-9_./-]*")
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
# What stands before it is for the eye only. No address holds it: behind two `~` that are no slash comes an escape.
_LABEL_END: Final = "~~in~"
# The number of a frame or of a tile: no escape of another character may follow in the digits of the padding.
_NUMBER: Final = re.compile(r"#{1,99}(?![0-9#])|<UDIM>")
_ESCAPE: Final = re.compile(r"~~(?:([0-9A-F]{2})|p([0-9]{1,2})|(udim))|~")


# The events of a file ask for its key once per asset.
@lru_cache(maxsize=4096)
def key_of(address: str) -> str:
    """The key of an object: characters that URLs leave alone, of which `address_of` finds the address again.

    `/` becomes `~`; a frame number's `####` becomes `~~p4`, `<UDIM>` becomes `~~udim`. Any other byte outside
    `A-Z a-z 0-9 - _ .` becomes `~~` and two hex digits, as does a slash or a dot that follows one of its kind. A long
    key begins with a label that tells its object from its neighbours; `~~in~` ends it.
    """
    encoded = _encoded(address)
    if len(encoded) <= 2 * VISIBLE:
        return encoded
    return f"{_label(address)}{_LABEL_END}{encoded}"


def address_of(key: str) -> str:
    """The address that a key was made of, by this version or an earlier one."""
    label, end, encoded = key.partition(_LABEL_END)
    return _decoded(encoded if end else label)


def _encoded(address: str) -> str:
    parts: list[str] = []
    position = 0
    for match in _NUMBER.finditer(address):
        parts.append(_escaped(address[position : match.start()]))
        parts.append("~~udim" if match[0] == "<UDIM>" else f"~~p{len(match[0])}")
        position = match.end()
    return "".join([*parts, _escaped(address[position:])])


def _escaped(text: str) -> str:
    if _ORDINARY.fullmatch(text) and "//" not in text and ".." not in text:
        return text.replace("/", "~")
    parts: list[str] = []
    previous = 0
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte == 0x2F and previous != 0x2F:
            parts.append("~")
        # Dagster's partition dialog reads `...` as a range.
        elif byte in _PLAIN and not (byte == 0x2E and previous == 0x2E):
            parts.append(chr(byte))
        else:
            parts.append(f"~~{byte:02X}")
        previous = byte
    return "".join(parts)


def _decoded(encoded: str) -> str:
    raw = bytearray()
    position = 0
    for match in _ESCAPE.finditer(encoded):
        byte, padding, udim = match.groups()
        raw += encoded[position : match.start()].encode("utf-8", "surrogateescape")
        raw += bytes([int(byte, 16)]) if byte else b"#" * int(padding) if padding else b"<UDIM>" if udim else b"/"
        position = match.end()
    raw += encoded[position:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def _label(address: str) -> str:
    """What the end of a key does not tell: the beginning of a long name, and folders from the nearest on.

    What holds a number comes first: shots, versions and takes are told apart by numbers.
    """
    *folders, name = address.split("/")
    near = [folder for folder in reversed(folders) if folder and folder not in name]
    words = sorted(filter(None, [_beginning(name[:-VISIBLE]), *near]), key=lambda word: not _has_digit(word))
    label = "~".join(re.sub(r"[^A-Za-z0-9_.-]|\.(?=\.)", "-", word) for word in words)
    return label[:VISIBLE].rstrip("~.")


def _beginning(hidden: str) -> str:
    """The part of a name that does not show at the end, from its first number on if all of it has no room."""
    while len(hidden) > VISIBLE:
        word = re.match(r"[^0-9_.-]+[_.-]+", hidden)
        if word is None:
            break
        hidden = hidden[word.end() :]
    return hidden.rstrip("_.-")


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)
