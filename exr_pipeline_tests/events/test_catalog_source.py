"""The VAST Catalog as a source, read by the real SDK from an emulator that has a table like it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import vastdb

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.events.catalog_source import CATALOG_BUCKET, CatalogSource
from exr_pipeline.events.source import has_sources, sources_of
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.services.processes import free_port
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

# Those columns of it that are asked for, and one more.
COLUMNS = pa.schema(
    [("parent_path", pa.string()), ("name", pa.string()), ("ctime", pa.timestamp("ns")), ("element_type", pa.string())]
)
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator("--bucket", CATALOG_BUCKET) as running:
        yield running


class Catalog:
    """The catalog of a cluster, whose snapshots the test takes."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self.url = emulator.url
        self._session = vastdb.connect(endpoint=self.url, access="test", secret="test")

    def take(self, files: dict[str, datetime]) -> None:
        """A new snapshot takes the place of the one before."""
        rows: list[dict[str, Any]] = []
        for path, moment in files.items():
            parent, _, name = path.rpartition("/")
            rows.append({"parent_path": f"{parent}/", "name": name, "ctime": moment, "element_type": "FILE"})
        with self._session.transaction() as transaction:
            schema = transaction.bucket(CATALOG_BUCKET).create_schema("vast_big_catalog_schema", fail_if_exists=False)
            if (before := transaction.catalog(fail_if_missing=False)) is not None:
                before.drop()
            table = schema.create_table("vast_big_catalog_table", COLUMNS)
            if rows:
                table.insert(pa.Table.from_pylist(rows, schema=COLUMNS))

    def source(self, **changes: Any) -> CatalogSource:
        values = {
            "vast_db_endpoint": self.url,
            "vast_db_access_key": "test",
            "vast_db_secret_key": "test",
            "events_catalog": {"/studio/renders": "s3://renders/"},
            "request_retries": 0,
            **changes,
        }
        settings = Settings(_env_file=None, **values)
        assert has_sources(settings)
        (found,) = sources_of(settings)
        assert isinstance(found, CatalogSource)
        return found


@pytest.fixture
def catalog(emulator: RunningEmulator) -> Iterator[Catalog]:
    yield Catalog(emulator)
    emulator.admin("tables", method="DELETE")


def named(source: CatalogSource, positions: dict[str, Any], limit: int = 100) -> tuple[list[str], dict[str, Any]]:
    with source:
        batch = source.read(positions, limit=limit, seconds=0)
    found = [named.location for message in batch.messages for named in message.objects()]
    assert all(location.bucket == "renders" for location in found)
    return [location.key for location in found], batch.positions


def test_files_that_have_changed_lately_are_named_as_objects_oldest_first(catalog: Catalog) -> None:
    catalog.take(
        {
            "/studio/renders/shot a+b/beauty.1002.exr": NOW - timedelta(minutes=1),
            "/studio/renders/shot a+b/beauty.1001.exr": NOW - timedelta(minutes=2),
            "/studio/renders/old.1001.exr": NOW - timedelta(days=2),
            "/studio/renders2/other.1001.exr": NOW,
            "/home/renders/other.1001.exr": NOW,
        }
    )
    keys, _ = named(catalog.source(), {})
    assert keys == ["shot a+b/beauty.1001.exr", "shot a+b/beauty.1002.exr"]


def test_a_look_names_what_has_changed_since_the_last_one(catalog: Catalog) -> None:
    before = {"/studio/renders/a.exr": NOW - timedelta(minutes=2)}
    catalog.take(before)
    keys, positions = named(catalog.source(), {})
    assert keys == ["a.exr"]
    catalog.take(before | {"/studio/renders/b.exr": NOW})

    assert named(catalog.source(), positions) == ([], positions), "within a minute it is not asked"

    keys, positions = named(catalog.source(), positions | {"looked": 0})
    assert keys == ["b.exr"]
    assert named(catalog.source(), positions | {"looked": 0})[0] == []


def test_what_a_batch_has_no_room_for_comes_with_the_next_one(catalog: Catalog) -> None:
    catalog.take({f"/studio/renders/{number}.exr": NOW - timedelta(seconds=60 - number) for number in range(5)})
    keys, positions = named(catalog.source(), {}, limit=3)
    assert keys == ["0.exr", "1.exr", "2.exr"]
    assert named(catalog.source(), positions, limit=3)[0] == ["3.exr", "4.exr"]


def test_each_path_has_its_url(catalog: Catalog) -> None:
    catalog.take({"/a/x.exr": NOW, "/b/deep/y.exr": NOW})
    keys, _ = named(catalog.source(events_catalog={"/a/": "s3://renders/first", "/b/deep": "s3://renders/second/"}), {})
    assert keys == ["first/x.exr", "second/y.exr"]


def test_a_cluster_without_a_catalog_is_told(catalog: Catalog) -> None:
    with pytest.raises(MisconfiguredError, match="no VAST Catalog"):
        named(catalog.source(), {})


def test_a_cluster_that_does_not_answer_is_worth_another_try(catalog: Catalog) -> None:
    with pytest.raises(RetryableError):
        named(catalog.source(vast_db_endpoint=f"http://127.0.0.1:{free_port()}"), {})


@pytest.mark.parametrize("paths", [{"renders": "s3://renders/"}, {"/renders": "file:///renders"}, {"/renders": ""}])
def test_a_place_that_is_no_path_or_no_bucket_is_named(catalog: Catalog, paths: dict[str, str]) -> None:
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_EVENTS_CATALOG"):
        catalog.source(events_catalog=paths)


def test_the_setting_is_pairs_of_paths_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXR_PIPELINE_EVENTS_CATALOG", "/a=s3://x/, /b=s3://y/k=v/")
    assert Settings(_env_file=None).events_catalog == {"/a": "s3://x/", "/b": "s3://y/k=v/"}
    assert Location.from_url("s3://y/k=v/").key == "k=v/"


def test_a_check_says_whether_the_cluster_has_a_catalog(catalog: Catalog) -> None:
    with catalog.source() as source, pytest.raises(MisconfiguredError, match="the cluster has no VAST Catalog"):
        source.check()
    catalog.take({})
    with catalog.source() as source:
        assert source.check() == "the VAST Catalog answers, 4 columns; looked at for /studio/renders/"
