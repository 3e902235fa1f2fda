"""Places as users write and read them: a URL, or a path on this machine.

Belongs here: converting that text to a `Location` and back. Not here: what is there (`storage`).
"""

import re
from pathlib import Path
from typing import Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.locations import Location

# In a URL, %04 would be a control character.
_PRINTF: Final = re.compile(r"%0(\d)d|%d(?![0-9a-fA-F])")


def existing(text: str) -> Location:
    """The file or folder that a URL or path names. Raises `BadInputError` if a path does not exist."""
    if "://" not in text and not Path(text).exists():
        raise BadInputError(text, "no such file or folder")
    return place(text)


def place(text: str) -> Location:
    """The location that a URL or path names, whether or not it exists. A folder ends in a slash."""
    if "://" in text:
        return Location.from_url(text)
    path = Path(text).resolve()
    return Location("file", "", str(path).lstrip("/") + ("/" if path.is_dir() else ""))


def sequence_place(text: str) -> Location:
    """The location of a sequence's pattern, folder or name prefix. `%04d` becomes `####`."""
    return place(_PRINTF.sub(lambda match: "#" * int(match[1] or 1), text) if "://" in text else text)


def url_prefix(text: str) -> str:
    """The URL or URL prefix that a URL, path or partition key names, as the tables write it."""
    if "/" in text or Path(text).exists():
        return place(text).url
    return Location.from_partition_key(text).url


def readable(location: Location) -> str:
    """A place as users read it: a path on this machine, or a URL."""
    return f"/{location.key}" if location.scheme == "file" else location.url
