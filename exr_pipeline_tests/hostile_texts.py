"""Texts that do something where they are shown without care, and files that carry them."""

import struct

import numpy as np

from exr_pipeline.sample.writers import ExrPart, exr_bytes

# A window's title, a cleared screen, a color; the same by C1; a name that reads backwards.
TERMINAL = "\x1b]0;OWNED\x07\x1b[2J\x1b[31mRED\x9b31m\u202egnp.exe"
BEACON = "http://127.0.0.1:9/beacon.png"
MARKDOWN = f"![x]({BEACON}) [click](javascript:alert(1)) <img src='{BEACON}' onerror='alert(1)'> `|` **b** [red]"


def exr_that_says(text: str) -> bytes:
    """A valid EXR with this text in the names of a channel and an attribute, and in values of attributes."""
    plane = np.zeros((36, 64), np.float16)
    channels = dict.fromkeys(("R", "G", "B", f"a.{text}"), plane)
    return exr_bytes([ExrPart(channels, attributes={text: "v", "owner": text, "colorInteropID": text})])


def exr_rejected_with(text: str) -> bytes:
    """An EXR that is rejected for a reason which quotes this text: an attribute of this name has no type."""
    return b"\x76\x2f\x31\x01" + struct.pack("<I", 2) + text.encode() + b"\0\0" + bytes(64)
