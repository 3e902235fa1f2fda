"""A catalog that two nodes serve over HTTP, each in a thread, with a location in S3 and one in a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.catalog import accounts, places, projects
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.catalog.transfer_work import TransferWork
from exr_pipeline.client import Client
from exr_pipeline.service.app import build_app
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import PartWriter
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.service.conftest import ADMIN, served


@dataclass(frozen=True)
class Running:
    """Addresses of the nodes, and what they share."""

    urls: list[str]
    database: CatalogDatabase
    storage: ObjectStorage
    folder: Path


@pytest.fixture
def running(tmp_path: Path, storage: ObjectStorage, bucket: Location) -> Iterator[Running]:
    database = CatalogDatabase(f"sqlite:///{tmp_path / 'catalog.db'}")
    migrate(database)
    folder = tmp_path / "assets"
    with database.transaction() as session:
        secret = accounts.ensure_admin(session, ADMIN)
        assert secret is None
        admin = accounts.authenticate(session, ADMIN)
        projects.create_project(session, admin, "show")
        places.create_region(session, admin, "here")
        places.create_location(session, admin, "bucket", bucket.child("assets").url, region="here", priority=1)
        places.create_location(session, admin, "folder", f"file://{folder}", region="here", priority=2)
    with ExitStack() as stack:
        urls = []
        for name in ("one", "two"):
            work = TransferWork(database, storage, PartWriter(storage), name, 1)
            app = build_app(database, storage, background=[partial(run, work)])
            urls.append(stack.enter_context(served(app)))
        yield Running(urls, database, storage, folder)
    database.close()


def run(work: TransferWork, stop: threading.Event) -> None:
    """Work until the event is set, without the usual pauses."""
    while not stop.wait(0.1):
        work.work_once()
    work.sweep()


@pytest.fixture
def client(running: Running, tmp_path: Path) -> Iterator[Client]:
    """The administrator."""
    with Client(running.urls, ADMIN, patience=10, journals=tmp_path / "journals") as found:
        yield found


@pytest.fixture
def make_client(running: Running, tmp_path: Path) -> Iterator[Any]:
    """Makes more of them, of other servers."""
    with ExitStack() as stack:
        yield lambda *urls: stack.enter_context(Client(urls, ADMIN, patience=10, journals=tmp_path / "journals"))
