"""What is made once for a whole test session, however many processes it has.

Belongs here: making and sharing it. Not here: what it is; nobody may change it afterwards.
"""

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What `make` returns for a folder that is not there yet; the first process to ask calls it, the others wait."""
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    facts = shared / f"{name}.pickle"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not facts.exists():
            facts.write_bytes(pickle.dumps(make(shared / name)))
    made: Made = pickle.loads(facts.read_bytes())
    return made
