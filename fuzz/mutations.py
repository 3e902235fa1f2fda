"""Random damage to the bytes of a file, the same for the same seed.

Belongs here: how bytes are changed. Not here: which bytes, or what must hold afterwards.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_NUMBERS: Final = (0, 1, 2, 0x7F, 0xFF, 0x100, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutated(data: bytes, generator: Random, *, reach: int = 4096) -> bytes:
    """The bytes with one to four changes among their first `reach`: a bit, a byte, a number, less, more, a copy."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        if not changed:
            break
        at = generator.randrange(min(len(changed), reach))
        length = generator.randint(1, 8)
        match generator.randrange(6):
            case 0:
                changed[at] ^= 1 << generator.randrange(8)
            case 1:
                changed[at] = generator.randrange(256)
            case 2:
                changed[at : at + 4] = struct.pack(generator.choice("<>") + "I", generator.choice(_NUMBERS))
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = generator.randbytes(length)
            case _:
                start = generator.randrange(min(len(changed), reach))
                changed[at:at] = changed[start : start + 8 * length]
    return bytes(changed)


def overwritten(data: bytes, generator: Random) -> bytes:
    """The bytes with one to four of them replaced, so that all the others stay where they are."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        changed[generator.randrange(len(changed))] = generator.choice(
            (0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256))
        )
    return bytes(changed)
