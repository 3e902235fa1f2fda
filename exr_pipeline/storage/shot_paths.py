"""What a key says of show and shot, where keys follow the pattern of SpaceHarbor.

Belongs here: that pattern, as a pure function of text. Not here: where objects are (`storage.locations`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PATTERN: Final = re.compile(
    r"""projects/(?P<project>[^/]+)
    /(?:(?P<episode>EP[^/]*)/)?
    (?P<sequence>[^/]+)
    /(?P<shot>[^/]+)
    /render
    /(?P<version>v\d{3}[^/]*)
    /(?P<file>[^/]+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ShotPath:
    """The parts of a key that names a render of a shot; `episode` is None where there are none."""

    project: str
    episode: str | None
    sequence: str
    shot: str
    version: str
    file: str


def shot_path(key: str) -> ShotPath | None:
    """The parts of a key `projects/PROJECT/[EP…/]SEQUENCE/SHOT/render/vNNN…/FILE`; None for any other key.

    A local file's key is its absolute path without the first slash.
    """
    found = _PATTERN.fullmatch(key)
    return None if found is None else ShotPath(**found.groupdict())
