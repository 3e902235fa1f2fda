"""Identifiers of rows: UUIDs whose order is that of their time.

Belongs here: making them. Not here: identifiers that follow from a file (`exr_pipeline.inspection.identity`).
"""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """A UUID of version 7 as text: a millisecond, then random bits. Source: RFC 9562, 5.7."""
    moment = time.time_ns() // 1_000_000
    number = moment << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 7 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 2 << 62))
