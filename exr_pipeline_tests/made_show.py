"""The sample show, made once for a whole test session, however many processes it has.

Belongs here: making and sharing it. Not here: what is tested about it.
"""

import fcntl
import pickle
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


def made_show(tmp_path_factory: pytest.TempPathFactory) -> MadeShow:
    """The show in a folder that all workers of the session share; the first to ask makes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    facts = shared / "show.pickle"
    with (shared / "show.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not facts.exists():
            facts.write_bytes(pickle.dumps(_make(shared / "show")))
    made: MadeShow = pickle.loads(facts.read_bytes())
    return made


def _make(root: Path) -> MadeShow:
    progress: list[tuple[int, int, str]] = []

    def put(key: str, data: bytes) -> None:
        path = root / key
        assert not path.exists(), f"{key} was put twice"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    summary = write_show(put, progress=lambda *step: progress.append(step))
    return MadeShow(root, summary, progress)
