"""Dagster instances of the repository's own dagster.yaml, each in a folder of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"


@contextmanager
def instance_at(home: Path) -> Iterator[dg.DagsterInstance]:
    """A new instance in `home`, which also is DAGSTER_HOME and the working folder until the end."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(DAGSTER_YAML, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.chdir(home)
        with dg.DagsterInstance.get() as instance:
            yield instance
