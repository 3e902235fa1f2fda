"""Notes of unfinished transfers in files, so that a program that died goes on where it was.

Belongs here: reading and writing them. Not here: what they are about (`uploads`, `downloads`). They hold no secret.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def usual_folder() -> Path:
    """Where notes of uploads are kept: in the user's state. Source: XDG Base Directory Specification."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "exr-pipeline" / "transfers"


class Journal:
    """One file of notes: a JSON object, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_upload(cls, folder: Path, *what: str) -> Journal:
        """That of an upload, by what is sent where."""
        return cls(folder / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]}.json")

    def read(self) -> dict[str, Any]:
        """What was noted; nothing if there is no such file, or it was damaged."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, notes: Mapping[str, Any]) -> None:
        """Replace what was noted."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(json.dumps(notes), encoding="utf-8")
        new.replace(self.path)

    def remove(self) -> None:
        """There is nothing to go on with."""
        self.path.unlink(missing_ok=True)
