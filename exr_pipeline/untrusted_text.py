r"""Text that comes from files, names and services, made safe to show.

Belongs here: the one escaper of each place where such text is shown: a terminal or log, and Markdown. Not here: SQL,
URLs and object keys, which are quoted where they are made (`tables`, `storage.locations`).

Terminals obey control characters: ESC and C1 begin commands that move the cursor, set the clipboard or the window's
title (ECMA-48, XTerm's OSC), and CR hides what stands before it. Bidirectional and invisible characters make one name
read as another (Unicode Technical Report 36, CVE-2021-42574).
"""

from __future__ import annotations

import re
from typing import Final

# Control characters except tab and line feed; what directs or hides text, except the joiners U+200C and U+200D,
# which Persian, Indic scripts and emoji need; separators that end a line; lone surrogates.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff\ud800-\udfff]"
)
# What `repr` makes of a byte that was not UTF-8, behind any number of whole escaped backslashes.
_REPR_OF_BYTE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])")
_BYTE_SURROGATES: Final = range(0xDC80, 0xDD00)


def visible(text: str) -> str:
    r"""The text with invisible characters spelled out: `\x1b`, `\u202e`; a byte that was not UTF-8 (PEP 383) as `\xdd`.

    Tabs and line feeds stay. The result is valid Unicode and holds nothing that a terminal obeys. Escaping it again
    changes nothing.
    """
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub(_spelled_out, text)


def quoted(text: str) -> str:
    r"""The text in quotation marks, with escapes as `repr` writes them, but a byte that was not UTF-8 as `\xdd`."""
    return repr(text) if text.isascii() else _REPR_OF_BYTE.sub(r"\1\\x\2", repr(text))


def visible_line(text: str) -> str:
    """The text as `visible` shows it, in one line: any run of whitespace is one space."""
    return " ".join(visible(text).split())


def markdown_code(text: str) -> str:
    """The text as one line of Markdown code, in which nothing is a link, an image, HTML or emphasis (CommonMark 6.1).

    Not for cells of a Markdown table, where `|` ends the cell even in code.
    """
    line = visible_line(text)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{line or '-'}{space}{fence}"


def _spelled_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code in _BYTE_SURROGATES:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
