"""What the catalog takes for lists, searches, counts, similar assets and a new one as it grows, on SQLite.

Belongs here: the services over a catalog filled in bulk. Not here: projecting the tables, HTTP, or PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from bench.report import Report, Table
from bench.size import Size

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.principals import Principal
    from exr_pipeline.catalog.similar import SimilarIndex

_AT_ONCE: Final = 5000
_PER_SHOT: Final = 100
_PAGE: Final = 60
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_KINDS: Final = ("render", "image", "movie", "sequence")
_COMPRESSIONS: Final = ("zip", "piz", "dwaa", "dwab")
Call = Callable[["Session", int], object]


def run(size: Size, folder: Path) -> Report:
    """Catalogs of two sizes. `--files` sets the larger one."""
    large, rounds = size.count(1_000_000, 400), 3 if size.tiny else 40
    small = max(large // 100, 100)
    found = [_measured(count, folder / str(place), rounds) for place, count in enumerate((small, large))]
    ratios = Table(["call", "p95, x of the small catalog"])
    figures = Table(["call", "small p95, ms", "large p95, ms", "large, calls per second"])
    for name in found[0]:
        before, after = found[0][name], found[1][name]
        ratios.add(name, _p95(after) / _p95(before))
        figures.add(name, _p95(before) * 1000, _p95(after) * 1000, len(after) / sum(after))
    return Report(
        "catalog",
        f"Catalogs of {small:,} and {large:,} assets in SQLite, {_PER_SHOT} to a shot, each with five attributes and a "
        f"vector; pages of {_PAGE}. {rounds} calls of each kind, each in a transaction of its own.",
        ratios,
        figures,
        ["Vectors are random within groups of 100 that are alike. The index of them is made before."],
    )


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20, method="inclusive")[-1]


def _measured(count: int, folder: Path, rounds: int) -> dict[str, list[float]]:
    from exr_pipeline.catalog import accounts, projects
    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.migrate import migrate
    from exr_pipeline.catalog.similar import SimilarIndex

    folder.mkdir()
    database = CatalogDatabase(f"sqlite:///{folder / 'catalog.db'}")
    migrate(database)
    with database.transaction() as session:
        secret = accounts.ensure_admin(session, None)
        assert secret is not None
        admin = accounts.authenticate(session, secret)
        names = [projects.create_project(session, admin, f"show{number}").id for number in range(5)]
    for start in range(0, count, _AT_ONCE):
        _fill(database, names, start, min(start + _AT_ONCE, count))
    index = SimilarIndex()
    with database.transaction(read_only=True) as session:
        index.catch_up(session)
    measured: dict[str, list[float]] = {}
    for name, reads, call in _calls(admin, index, count):
        measured[name] = [_seconds(database, call, turn, reads=reads) for turn in range(rounds + 1)][1:]
    database.close()
    return measured


def _seconds(database: CatalogDatabase, call: Call, turn: int, *, reads: bool) -> float:
    started = time.perf_counter()
    with database.transaction(read_only=reads) as session:
        call(session, turn)
    return time.perf_counter() - started


def _calls(admin: Principal, index: SimilarIndex, count: int) -> list[tuple[str, bool, Call]]:
    from exr_pipeline.catalog import assets, search, similar
    from exr_pipeline.catalog.search import AssetFilter

    def page(**wanted: Any) -> Call:
        def look(session: Session, turn: int) -> None:
            asked = {key: each(turn) if callable(each) else each for key, each in wanted.items()}
            assets.assets(session, admin, AssetFilter(**asked), limit=_PAGE)
            search.facets(session, admin, AssetFilter(**asked))

        return look

    def create(session: Session, turn: int) -> None:
        assets.create_asset(session, admin, "show0", f"new {count} {turn}", kind="image", details={"take": turn})

    return [
        ("list, with counts", True, page()),
        ("list of a project, with counts", True, page(project="show1")),
        ("a rare word, with counts", True, page(words=lambda turn: f"shot_{turn % max(count // _PER_SHOT, 1):06}")),
        ("a common word, with counts", True, page(words="beauty")),
        ("a rare condition, with counts", True, page(where=lambda turn: f"frame = {turn} and nan_pixels > 990")),
        ("a common condition, with counts", True, page(where="compression = 'dwaa' and nan_pixels > 0")),
        ("similar", True, lambda session, turn: similar.similar(session, admin, _id(turn * 7 % count), index)),
        ("create", False, create),
    ]


def _id(number: int) -> str:
    return str(UUID(int=(number * 0x9E3779B97F4A7C15 % 2**64) << 64 | number))


def _fill(database: CatalogDatabase, projects: list[str], start: int, stop: int) -> None:
    import numpy as np
    import sqlalchemy as sa

    from exr_pipeline.catalog.attributes import store_attributes
    from exr_pipeline.catalog.models import Asset
    from exr_pipeline.catalog.texts import store_texts
    from exr_pipeline.catalog.vectors import store_vectors
    from exr_pipeline.tables.specs import METADATA_EMBEDDING_DIMENSIONS

    rows: list[dict[str, Any]] = []
    values: dict[str, dict[str, str | float]] = {}
    for number in range(start, stop):
        moment = _START + timedelta(seconds=number)
        rows.append(
            {
                "id": _id(number),
                "project_id": projects[number // _PER_SHOT % len(projects)],
                "kind": _KINDS[number % 50 // 10 % 4],
                "folder": f"renders/show/shot_{number // _PER_SHOT:06}",
                "name": f"beauty.{1001 + number % _PER_SHOT}.exr",
                "status": "failed" if number % 100 == 0 else "ready",
                "details": {},
                "version": 1,
                "created_by": "bench",
                "created_at": moment,
                "updated_at": moment,
            }
        )
        values[_id(number)] = {
            "format": "exr",
            "compression": _COMPRESSIONS[number % 4],
            "nan_pixels": number * 7919 % 1000,
            "frame": 1001 + number % _PER_SHOT,
            "color_space": "ACEScg",
        }
    groups = np.random.default_rng(start).normal(size=((stop - start) // 100 + 1, METADATA_EMBEDDING_DIMENSIONS))
    noise = np.random.default_rng(start + 1).normal(size=(stop - start, METADATA_EMBEDDING_DIMENSIONS))
    vectors = np.repeat(groups, 100, axis=0)[: stop - start] + noise / 4
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")
    with database.transaction() as session:
        session.execute(sa.insert(Asset), rows)
        store_texts(session, [(row["id"], row["folder"], row["name"]) for row in rows])
        store_attributes(session, values, "file")
        store_vectors(session, {row["id"]: (1, vectors[place].tobytes()) for place, row in enumerate(rows)})
