"""Dagster instances of the repository's own dagster.yaml, each in a folder of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"


@contextmanager
def instance_at(home: Path) -> Iterator[dg.DagsterInstance]:
    """A new instance in `home`, which also is DAGSTER_HOME and the working folder until the end."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(DAGSTER_YAML, home)
    with _opened(home) as instance:
        yield instance


@contextmanager
def postgres_instance_at(home: Path, url: str) -> Iterator[dg.DagsterInstance]:
    """The same with its storage in a PostgreSQL database."""
    configure_postgres(home, url)
    with _opened(home) as instance:
        yield instance


def configure_postgres(home: Path, url: str) -> None:
    """Write the repository's dagster.yaml into `home`, with its storage in a PostgreSQL database."""
    home.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load(DAGSTER_YAML.read_text(encoding="utf-8"))
    config["storage"] = {
        "custom": {
            "module": "exr_pipeline.orchestration.instance.postgres",
            "class": "BatchingPostgresStorage",
            "config": {"postgres_url": url},
        }
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def _opened(home: Path) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.chdir(home)
        with dg.DagsterInstance.get() as instance:
            yield instance
