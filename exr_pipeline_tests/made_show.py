"""The sample show in a folder.

Belongs here: making it for tests. Not here: what is tested about it.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from exr_pipeline.sample import ShowSummary, write_show
from exr_pipeline_tests.made_once import made_once


@dataclass(frozen=True)
class MadeShow:
    root: Path
    summary: ShowSummary
    progress: list[tuple[int, int, str]]

    def path(self, key: str) -> str:
        return str(self.root / key)


def made_show(tmp_path_factory: pytest.TempPathFactory) -> MadeShow:
    """That of the session."""
    return made_once(tmp_path_factory, "show", _make)


def _make(root: Path) -> MadeShow:
    progress: list[tuple[int, int, str]] = []

    def put(key: str, data: bytes) -> None:
        path = root / key
        assert not path.exists(), f"{key} was put twice"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    summary = write_show(put, progress=lambda *step: progress.append(step))
    return MadeShow(root, summary, progress)
