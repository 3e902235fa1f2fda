"""Fixtures that tests of several packages share: one S3 server for the session, a fresh bucket for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.long_tests import is_long
from exr_pipeline_tests.services.lasting_workers import LastingWorkers
from exr_pipeline_tests.services.postgres import PostgresServer, require_postgres

if TYPE_CHECKING:
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline_tests.services.kafka import Broker
    from exr_pipeline_tests.services.moto import Moto

# A busy machine is no defect of what is tested.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# May do everything in buckets whose names begin with `open`, nothing elsewhere.
STRANGER = {"access_key": "stranger", "secret_key": "stranger-secret"}
# Reads buckets called renders-…, writes those called media-….
INGESTER = {"access_key": "ingester", "secret_key": "the ingester's key"}

# Begun first: else one of them would go on when all the others have ended.
LONGEST = [
    "test_demo.py",
    "test_page.py",
    "test_kills.py",
    "test_celery.py",
    "test_benchmarks.py",
    "test_vast_faults.py",
    "test_streaming.py",
    "test_demo_vast.py",
    "test_event_kills.py",
    "test_runs.py",
    "test_wheel.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files of tests by how long they take, as far as that matters, and count no lines of long tests.

    What those try is done in other processes, or by lines that other tests have counted; to count takes as long again.
    """

    def turn(item: pytest.Item) -> int:
        name = Path(item.path).name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=turn)
    for item in items:
        if is_long(item):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """The session's S3 server."""
    stranger = {
        "name": "stranger",
        "credentials": [{"accessKey": STRANGER["access_key"], "secretKey": STRANGER["secret_key"]}],
        "actions": ["Read:open*", "List:open*"],
    }
    ingester = {
        "name": "ingester",
        "credentials": [{"accessKey": INGESTER["access_key"], "secretKey": INGESTER["secret_key"]}],
        "actions": [
            *("Read:renders-*", "List:renders-*"),
            *("Read:media-*", "List:media-*", "Write:media-*", "Tagging:media-*"),
        ],
    }
    with EmbeddedS3(tmp_path_factory.mktemp("s3"), more_identities=(stranger, ingester)) as server:
        yield server


@pytest.fixture
def bucket(s3_server: EmbeddedS3) -> Location:
    """A new, empty bucket."""
    name = f"test-{uuid4().hex}"
    s3_server.create_bucket(name)
    return Location("s3", name, "")


@pytest.fixture
def s3_settings(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that name the session's server, in the environment too for processes that a test starts."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


@pytest.fixture
def storage(s3_settings: Settings) -> "ObjectStorage":
    """Access to the session's server."""
    from exr_pipeline.storage.objects import ObjectStorage

    return ObjectStorage(s3_settings)


@pytest.fixture(scope="session")
def workers_of_session() -> Iterator[LastingWorkers]:
    """Those that `lasting_workers` keeps."""
    workers = LastingWorkers()
    yield workers
    workers.end()


@pytest.fixture
def lasting_workers(workers_of_session: LastingWorkers) -> Iterator[None]:
    """Pools take over the workers that other tests have left."""
    with workers_of_session.in_use():
        yield


@pytest.fixture
def no_lasting_workers(workers_of_session: LastingWorkers) -> None:
    """Only what the test itself starts is there to be counted."""
    workers_of_session.end()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL server; a test that ends it starts it again."""
    with PostgresServer(require_postgres()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A new, empty database."""
    return postgres_server.new_database()


@pytest.fixture(scope="session", params=["tansu", "librdkafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Broker"]:
    """Each of two implementations of Kafka's protocol."""
    from exr_pipeline_tests.services.kafka import Broker, Tansu, librdkafka_broker

    if request.param == "tansu":
        with Tansu(tmp_path_factory.mktemp("tansu")) as tansu:
            yield Broker(tansu.address, can_create=True)
    else:
        with librdkafka_broker() as built_in:
            yield built_in


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Moto"]:
    """The session's stand-in for Amazon."""
    from exr_pipeline_tests.services.moto import Moto

    with Moto(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def moto(moto_server: "Moto", monkeypatch: pytest.MonkeyPatch) -> "Moto":
    """The session's stand-in for Amazon, with its keys in the environment."""
    for name, value in moto_server.keys.items():
        monkeypatch.setenv(name, value)
    return moto_server
