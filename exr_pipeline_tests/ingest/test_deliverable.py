"""Which object is handed out, and why there is none, by the rows of a real DuckDB store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.ingest.deliverable import Deliverable, deliverable
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline.tables.specs import arrow_schema
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, output_rows, rows_of

LATER = NOON + timedelta(days=1)
FILE = SampleFile(key="shot/beauty.1001.exr", frame_number=1001)
SECOND = SampleFile(key="shot/beauty.1002.exr", frame_number=1002)
SEQUENCE = Location("s3", "renders", "shot/beauty.####.exr")
MEDIA = {"output_bucket": "media", "thumbnail_s3_key": "out/b_thumb.jpg", "proxy_s3_key": "out/b_proxy.mp4"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, database=tmp_path / "tables.duckdb")


@pytest.fixture
def tables(settings: Settings) -> TableStore:
    """Two frames with a movie, the first with pictures."""
    tables = open_table_store(settings)
    tables.write(rows_of(FILE, SECOND, outputs=False), now=NOON)
    tables.write(output_rows(FILE.outputs_row(**MEDIA)), now=NOON)
    put_sequence(tables, movie_s3_key="out/b_sequence.mp4")
    return tables


def put_sequence(tables: TableStore, **changes: Any) -> None:
    row = {"bucket": "renders", "sequence_path": SEQUENCE.key, "uri": SEQUENCE.url, "state": "ready", "reason": None}
    row |= {"output_bucket": "media"} | changes
    tables.write({"sequence_outputs": pa.Table.from_pylist([row], schema=arrow_schema("sequence_outputs"))}, now=NOON)


def mark(tables: TableStore, what: Any, *files: SampleFile) -> None:
    tables.mark({file.location: file.file_id for file in files}, what, now=datetime.now(UTC))


def refusal(tables: TableStore, settings: Settings, location: Location, wanted: Deliverable = "source") -> str:
    with pytest.raises(BadInputError) as refused:
        deliverable(tables, settings, location, wanted)
    assert refused.value.name == location.url
    return refused.value.reason


def test_the_object_is_the_one_that_the_rows_name(tables: TableStore, settings: Settings) -> None:
    assert deliverable(tables, settings, FILE.location) == FILE.location
    assert deliverable(tables, settings, FILE.location, "thumbnail") == Location("s3", "media", "out/b_thumb.jpg")
    assert deliverable(tables, settings, FILE.location, "proxy") == Location("s3", "media", "out/b_proxy.mp4")
    assert deliverable(tables, settings, SEQUENCE, "movie") == Location("s3", "media", "out/b_sequence.mp4")


def test_what_was_made_of_a_local_file_is_where_outputs_go(tables: TableStore, settings: Settings) -> None:
    local = SampleFile(key="renders/a.exr", bucket="")
    tables.write(rows_of(local, outputs=False), now=NOON)
    tables.write(output_rows(local.outputs_row(**MEDIA)), now=NOON)

    in_s3 = settings.model_copy(update={"output_root": "s3://media/{source}"})
    assert deliverable(tables, in_s3, local.location, "proxy") == Location("s3", "media", "out/b_proxy.mp4")
    assert deliverable(tables, settings, local.location, "proxy").scheme == "file"


def test_what_the_tables_do_not_know_is_refused(tables: TableStore, settings: Settings) -> None:
    unknown = FILE.location.folder.child("other.exr")
    assert refusal(tables, settings, unknown) == "no such file in the tables: ingest it first"
    # The same bucket and key in another store.
    elsewhere = Location("gs", FILE.location.bucket, FILE.location.key)
    assert refusal(tables, settings, elsewhere) == "no such file in the tables: ingest it first"
    # An output is no file of the tables, even though a row names it.
    assert "no such file" in refusal(tables, settings, Location("s3", "media", "out/b_proxy.mp4"))
    assert refusal(tables, settings, FILE.location, "movie") == "no such sequence in the tables: ingest it first"


def test_what_was_not_made_is_refused_with_the_reason(tables: TableStore, settings: Settings) -> None:
    assert refusal(tables, settings, SECOND.location, "proxy") == (
        "its proxy was not made (to make it: exr-pipeline ingest s3://renders/shot/beauty.1002.exr)"
    )
    bad = SampleFile(key="bad.exr", state="rejected", reason="the file is empty", header=False)
    tables.write(rows_of(bad), now=NOON)
    assert refusal(tables, settings, bad.location, "thumbnail") == (
        "its thumbnail was not made (rejected: the file is empty)"
    )
    assert deliverable(tables, settings, bad.location) == bad.location
    put_sequence(tables, movie_s3_key=None, state="rejected", reason="no frame is readable")
    assert refusal(tables, settings, SEQUENCE, "movie") == "its movie was not made (rejected: no frame is readable)"


def test_pictures_of_an_earlier_version_are_refused(tables: TableStore, settings: Settings) -> None:
    tables.write(rows_of(FILE.later(60), outputs=False), now=LATER)
    assert "its proxy was not made" in refusal(tables, settings, FILE.location, "proxy")
    assert deliverable(tables, settings, FILE.location) == FILE.location


@pytest.mark.parametrize("wanted", ["source", "thumbnail", "proxy"])
def test_a_file_that_is_archived_or_deleted_is_refused(
    tables: TableStore, settings: Settings, wanted: Deliverable
) -> None:
    mark(tables, "archived", FILE)
    assert refusal(tables, settings, FILE.location, wanted) == (
        "it is archived. To bring it back: exr-pipeline unarchive s3://renders/shot/"
    )
    mark(tables, "unarchived", FILE)
    assert deliverable(tables, settings, FILE.location, wanted)
    mark(tables, "deleted", FILE)
    assert refusal(tables, settings, FILE.location, wanted) == "it was deleted from its store"


def test_a_movie_is_refused_with_the_last_of_its_frames(tables: TableStore, settings: Settings) -> None:
    mark(tables, "archived", FILE)
    assert deliverable(tables, settings, SEQUENCE, "movie").name == "b_sequence.mp4"
    mark(tables, "archived", SECOND)
    assert refusal(tables, settings, SEQUENCE, "movie") == (
        "it is archived. To bring it back: exr-pipeline unarchive s3://renders/shot/"
    )
    mark(tables, "deleted", FILE, SECOND)
    assert refusal(tables, settings, SEQUENCE, "movie") == "all frames were deleted from their store"
