"""The optional parts of this project: which modules each one brings, and the error that names a part that is missing.

Belongs here: the extras of `pyproject.toml` by their modules. Not here: importing those modules, which is done late,
where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from exr_pipeline.errors import MisconfiguredError

# A module stands with the smallest extra that brings it. `demo` and `ecs` have none: `demo` brings a program, and `ecs`
# only other extras.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "pictures": (
        *("av", "cv2", "deflate", "numpy", "OpenEXR", "OpenImageIO", "pebble", "PIL", "PyOpenColorIO"),
        "simplejpeg",
    ),
    "dagster": ("dagster", "sqlalchemy"),
    "ui": ("anyio", "dagster_dg_cli", "dagster_webserver", "graphql", "httpx", "starlette", "uvicorn"),
    "vast": ("requests", "vastdb"),
    "events": ("cloudevents", "confluent_kafka", "standardwebhooks"),
    "client": ("httpx",),
    "service": (
        *("alembic", "argon2", "authlib", "fastapi", "httptools", "httpx", "joserfc", "jsonschema_rs", "numpy"),
        *("requests", "sqlalchemy", "sqlglot", "strawberry", "usearch", "uvicorn"),
    ),
    "telemetry": ("opentelemetry", "prometheus_client"),
    "pandas": ("pandas",),
    "polars": ("polars",),
    "postgres": ("dagster_postgres",),
    "celery": ("celery", "dagster_celery", "redis"),
    "aws": ("dagster_aws",),
    "k8s": ("dagster_k8s",),
}


def require(extra: str) -> None:
    """Raise `MisconfiguredError`, with the command that installs the extra, unless all its modules are there.

    For the doors of what an extra is for, so that nothing is half done before a module is missed.
    """
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise _missing(extra, module)


def is_installed(extra: str) -> bool:
    """Whether all modules of an extra are there."""
    return all(find_spec(module) is not None for module in EXTRAS[extra])


def explain(error: ModuleNotFoundError) -> MisconfiguredError | None:
    """The error that names the extra of a module that could not be imported; None if no extra brings it."""
    module = (error.name or "").partition(".")[0]
    return next((_missing(extra, module) for extra, modules in EXTRAS.items() if module in modules), None)


def _missing(extra: str, module: str) -> MisconfiguredError:
    name = f"exr-pipeline[{extra}]"
    return MisconfiguredError(name, f"module {module} is not installed", f"pip install '{name}'")
