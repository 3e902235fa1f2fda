"""A fresh Dagster home for one process, on the storage of this project or on Dagster's own.

Belongs here: dagster.yaml. Not here: runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

_FOLDER: Final[dict[str, Any]] = {"base_dir": {"env": "DAGSTER_HOME"}}

BATCHED: Final[dict[str, Any]] = {
    "custom": {
        "module": "exr_pipeline.orchestration.instance.event_storage",
        "class": "BatchingSqliteStorage",
        "config": _FOLDER,
    }
}
STOCK: Final[dict[str, Any]] = {"sqlite": _FOLDER}


def batched_postgres(url: str) -> dict[str, Any]:
    """Ours on a PostgreSQL database."""
    return {
        "custom": {
            "module": "exr_pipeline.orchestration.instance.postgres",
            "class": "BatchingPostgresStorage",
            "config": {"postgres_url": url},
        }
    }


def stock_postgres(url: str) -> dict[str, Any]:
    """Dagster's own on a PostgreSQL database."""
    return {"postgres": {"postgres_url": url}}


def make_home(folder: Path, storage: dict[str, Any]) -> None:
    """Make the folder, and make it this process's home."""
    folder.mkdir(parents=True)
    # JSON is YAML.
    (folder / "dagster.yaml").write_text(json.dumps({"storage": storage, "telemetry": {"enabled": False}}))
    os.environ["DAGSTER_HOME"] = str(folder)
