"""The application over an empty catalog, served over HTTP, and who calls it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.service.app import build_app
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.services.processes import wait_until

ADMIN = "the-token-of-the-administrator"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CatalogDatabase]:
    found = CatalogDatabase(f"sqlite:///{tmp_path / 'catalog.db'}")
    migrate(found)
    with found.transaction() as session:
        accounts.ensure_admin(session, ADMIN)
    yield found
    found.close()


@pytest.fixture
def app(database: CatalogDatabase, storage: ObjectStorage) -> Any:
    return build_app(database, storage)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an application that uvicorn serves in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        wait_until(lambda: server.started, "the service is up")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def anybody(app: Any) -> Iterator[httpx.Client]:
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def client(anybody: httpx.Client) -> Iterator[httpx.Client]:
    """The administrator."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=anybody.base_url, headers=headers, timeout=60) as found:
        found.post("/v1/projects", json={"name": "show-a"})
        yield found
