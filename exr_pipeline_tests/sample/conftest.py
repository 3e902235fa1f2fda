"""The show, made once for all tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from exr_pipeline.sample import ShowSummary, write_show


@dataclass(frozen=True)
class MadeShow:
    root: Path
    summary: ShowSummary
    progress: list[tuple[int, int, str]]

    def path(self, key: str) -> str:
        return str(self.root / key)


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> MadeShow:
    root = tmp_path_factory.mktemp("show")
    progress: list[tuple[int, int, str]] = []

    def put(key: str, data: bytes) -> None:
        path = root / key
        assert not path.exists(), f"{key} was put twice"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    summary = write_show(put, progress=lambda *step: progress.append(step))
    return MadeShow(root, summary, progress)
