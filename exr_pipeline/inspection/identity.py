"""Who a file is: identifiers that join with rows of existing installations, and the frame number in its name.

Belongs here: what follows from a file's key and modification time. Not here: anything read from the file.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Final

_FRAME: Final = re.compile(r"(?:^|[._])(-?\d{4,6}\.\d{1,3}|-?\d+)$", re.ASCII)
_INT32_MAX: Final = (1 << 31) - 1


def _key_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def iso_time(moment: datetime) -> str:
    """ISO 8601 in UTC as `datetime.isoformat` writes it: microseconds only if they are not zero."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment.astimezone(UTC).isoformat()


def file_id(key: str, mtime: datetime | None) -> str:
    """One version of a file: 16 hexadecimal digits of a hash of its key in the bucket and its modification time.

    Of a file that was never seen, whose time is None, of its key alone.
    """
    key_hash = hashlib.md5(_key_bytes(key), usedforsecurity=False).hexdigest()
    modified = "" if mtime is None else iso_time(mtime)
    return hashlib.sha256(_key_bytes(key) + (modified + key_hash).encode()).hexdigest()[:16]


def asset_id(key: str) -> str:
    """A file over all its versions: 16 hexadecimal digits of a hash of its key in the bucket."""
    return hashlib.md5(_key_bytes(key), usedforsecurity=False).hexdigest()[:16]


def normalized_path(key: str) -> str:
    """The key in lower case with forward slashes."""
    return key.replace("\\", "/").lower()


def split_frame_text(key: str) -> tuple[str, str]:
    """The key before its frame number, and the number as the name writes it: the digits before the extension.

    They follow a dot or an underscore (`beauty.1001.exr`, `beauty_1001.exr`) or are the whole name (`1001.exr`); a
    minus sign belongs to them, and so does a fraction: up to three digits and a dot behind four to six digits
    (`beauty.1001.25.exr`). An empty number if there are no such digits or they exceed 32 bits; the key is then whole
    but for its extension.
    """
    folder, slash, name = key.rpartition("/")
    stem = name.rpartition(".")[0] or name
    match = _FRAME.search(stem)
    if match is None or abs(int(match[1].partition(".")[0][:12])) > _INT32_MAX:
        return folder + slash + stem, ""
    return folder + slash + stem[: match.start(1)], match[1]


def split_frame(key: str) -> tuple[str, int | None]:
    """The key without its frame number and extension, and that number without its fraction, as `split_frame_text`."""
    stem, text = split_frame_text(key)
    return stem, int(text.partition(".")[0]) if text else None


def frame_number(key: str) -> int | None:
    """The frame number in a file's name; None if it has none."""
    return split_frame(key)[1]
