"""Deleted sources: what is found, marked and removed, on a real store, and what is left alone."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.ingest.deletions import BATCH, NAMED, Listener, SourceReport, Tally, reconcile, sources_to_reconcile
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.conftest import STRANGER
from exr_pipeline_tests.tables.sample_rows import SampleFile, output_rows, rows_of
from exr_pipeline_tests.vast_emulator.running import RunningEmulator, running_emulator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.storage.embedded import EmbeddedS3

LONG_AGO = datetime(2026, 4, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with running_emulator() as running:
        yield running


class Source:
    """A source of small objects, tables that know them, and their media."""

    def __init__(self, settings: Settings, folder: Location, storage: ObjectStorage) -> None:
        self.settings, self.folder, self.storage = settings, folder, storage
        self.tables: TableStore = open_table_store(settings)
        self.tables.create_tables()

    def put(self, *names: str) -> list[SampleFile]:
        """Objects, as if they had been ingested with a thumbnail and a proxy."""
        files = [self._put(name) for name in names]
        self.tables.write(rows_of(*files, outputs=False), now=datetime.now(UTC))
        self.tables.write(output_rows(*(self._outputs(file) for file in files)), now=datetime.now(UTC))
        return files

    def _put(self, name: str) -> SampleFile:
        location = self.folder.child(name)
        self.write(location)
        info = self.storage.head(location)
        now = datetime.now(UTC)
        return SampleFile(location.key, location.bucket, info.last_modified, info.etag, channels=1, seen_at=now)

    def _outputs(self, file: SampleFile) -> dict[str, Any]:
        thumbnail, proxy = self.output(file.location, "thumb.jpg"), self.output(file.location, "proxy.mp4")
        for made in (thumbnail, proxy):
            self.write(made)
        return file.outputs_row(
            thumbnail_s3_key=thumbnail.path,
            proxy_s3_key=proxy.path,
            filmstrip_s3_key=None,
            filmstrip_size_bytes=None,
            output_bucket=thumbnail.bucket,
        )

    def output(self, location: Location, ending: str) -> Location:
        return OutputPlace.from_settings(self.settings).at(location, ending)

    def write(self, location: Location) -> None:
        self.storage.write(location, uuid4().bytes, content_type="image/x-exr", tags={})

    def delete(self, *files: SampleFile) -> None:
        for file in files:
            self.storage.delete(file.location)

    def objects(self) -> set[str]:
        return {info.location.key for info in self.storage.iter_objects(Location("s3", self.folder.bucket, ""))}

    def rows(self, table: Any) -> list[dict[str, Any]]:
        rows = self.tables.read(table, current_only=False).to_pylist()
        return sorted(rows, key=lambda row: [str(value) for value in row.values()])

    def everything(self) -> Any:
        """All of the tables and of the bucket."""
        return {name: self.rows(name) for name in ("files", "proxy_outputs", "sequence_outputs")}, self.objects()

    def reconcile(self, *, days: int | None = 0, settings: Settings | None = None, **options: Any) -> SourceReport:
        used = (settings or self.settings).model_copy(update={"deleted_media_days": days})
        storage = ObjectStorage(used)
        return reconcile(self.folder, used, storage, self.tables, **({"dry_run": False} | options))

    def deleted_at(self, file: SampleFile) -> datetime | None:
        return self.tables.current_versions([file.location])[file.location].deleted_at


def named(*files: SampleFile) -> list[str]:
    return [file.location.url for file in files]


def counts(report: SourceReport) -> dict[str, int]:
    """The findings that are not empty."""
    return {name: each.count for name, each in vars(report).items() if isinstance(each, Tally) and each.count}


@pytest.fixture
def source(tmp_path: Path, bucket: Location, s3_settings: Settings, storage: ObjectStorage) -> Source:
    folder = bucket.child("show")
    changes = {"database": tmp_path / "tables.duckdb", "sources": (folder.url,)}
    return Source(s3_settings.model_copy(update=changes), folder, storage)


@pytest.fixture(params=["duckdb", "vast"])
def in_each_store(request: pytest.FixtureRequest, source: Source, emulator: RunningEmulator) -> Source:
    if request.param == "duckdb":
        return source
    vast = {
        "vast_db_endpoint": emulator.url,
        "vast_db_access_key": "test",
        "vast_db_secret_key": "a secret",
        "vast_db_bucket": "vastdb",
        "vast_db_schema": f"test_{uuid4().hex}",
    }
    known = {name: getattr(source.settings, name) for name in source.settings.model_fields_set}
    return Source(Settings(_env_file=None, **(known | vast)), source.folder, source.storage)


def test_a_deleted_file_is_marked_and_its_media_are_removed_and_nothing_else_is_touched(in_each_store: Source) -> None:
    source = in_each_store
    gone, stays, changed = source.put("a.1001.exr", "a.1002.exr", "b.1001.exr")
    # Neighbours by name: neither is below the folder of the source.
    other = Source(source.settings, Location("s3", source.folder.bucket, "shows"), source.storage)
    (elsewhere,) = other.put("x.exr")
    source.delete(gone, elsewhere)
    source.write(changed.location)
    source.write(source.folder.child("new.exr"))
    source.write(source.folder.child("notes.txt"))
    before = source.objects()

    would = source.reconcile(dry_run=True)
    report = source.reconcile()

    assert vars(would) == vars(report) | {"dry_run": True}
    assert counts(report) == {"deleted": 1, "changed": 1, "unknown": 1, "media": 1}
    assert report.deleted.first == report.media.first == named(gone)
    assert (report.deleted.bytes, report.media.bytes) == (1000, 30)
    assert report.unknown.first == [source.folder.child("new.exr").url]
    assert (report.known, report.error) == (3, None)
    assert source.deleted_at(gone)
    assert [source.deleted_at(file) for file in (stays, changed, elsewhere)] == [None, None, None]
    made = {source.output(gone.location, ending).key for ending in ("thumb.jpg", "proxy.mp4")}
    assert before - source.objects() == made
    shown = source.tables.sql("SELECT file_path, has_media FROM deleted_files").to_pylist()
    assert shown == [{"file_path": gone.key, "has_media": False}]
    made = source.tables.sql("SELECT s3_key FROM latest_proxy_outputs ORDER BY 1").column(0).to_pylist()
    assert made == sorted([stays.key, changed.key, elsewhere.key])

    after = source.everything()
    assert counts(source.reconcile()) == {"changed": 1, "unknown": 1}, "a second time there is nothing to do"
    assert source.everything() == after


def test_a_dry_run_changes_nothing(source: Source) -> None:
    gone, *_ = source.put("a.1001.exr", "a.1002.exr")
    source.delete(gone)
    before = source.everything()
    assert counts(source.reconcile(dry_run=True)) == {"deleted": 1, "media": 1}
    assert source.everything() == before


def test_media_are_kept_for_ever_or_for_so_many_days_after_the_deletion(source: Source) -> None:
    early, late, _ = source.put("early.exr", "late.exr", "here.exr")
    source.delete(early, late)
    media = source.objects()
    for file, days in ((early, 8), (late, 6)):
        source.tables.mark({file.location: file.file_id}, "deleted", now=datetime.now(UTC) - timedelta(days=days))

    forever = source.reconcile(days=None)
    assert counts(forever) == {"kept_media": 2}
    assert forever.kept_media.bytes == 60
    assert source.objects() == media

    week = source.reconcile(days=7)
    assert (week.media.first, week.kept_media.first) == (named(early), named(late))
    made = {source.output(early.location, ending).key for ending in ("thumb.jpg", "proxy.mp4")}
    assert media - source.objects() == made


def test_a_listing_without_any_file_is_believed_only_if_forced(source: Source) -> None:
    files = source.put("a.1001.exr", "a.1002.exr")
    source.delete(*files)
    before = source.everything()

    for dry_run in (True, False):
        report = source.reconcile(dry_run=dry_run)
        assert "lists no source file, but the tables have 2" in str(report.error)
        assert counts(report) == {}
    assert source.everything() == before

    assert counts(source.reconcile(force=True)) == {"deleted": 2, "media": 2}
    assert source.objects() == set()
    assert source.reconcile().error is None, "there is nothing left to doubt"


def test_a_store_that_refuses_or_does_not_answer_or_has_lost_the_bucket_marks_nothing(
    source: Source, s3_server: EmbeddedS3
) -> None:
    gone, _ = source.put("a.1001.exr", "a.1002.exr")
    source.delete(gone)
    before = source.everything()

    access: dict[str, Any] = {f"s3_{name}": key for name, key in STRANGER.items()}
    stranger = Settings(_env_file=None, s3_endpoint=s3_server.endpoint, **access)
    closed = source.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9", "request_retries": 0})
    for settings, said in (
        (stranger, "S3_ACCESS_KEY: the store refuses to list"),
        (closed, "no answer from the store"),
    ):
        report = source.reconcile(settings=settings, force=True)
        assert said in str(report.error)
        assert counts(report) == {}
    lost = Source(source.settings, Location("s3", f"lost-{uuid4().hex}", ""), source.storage)
    lost.tables.write(rows_of(SampleFile("a.exr", lost.folder.bucket)), now=LONG_AGO)
    assert "the store has no bucket" in str(lost.reconcile(force=True).error)
    assert lost.tables.sql("FROM deleted_files").num_rows == 0
    assert source.everything()[1] == before[1]


class StaleListing(ObjectStorage):
    """A store whose listing lags behind: it lacks some files."""

    lacking: Sequence[str] = ()

    def iter_objects(self, prefix: Location) -> Any:
        return (info for info in super().iter_objects(prefix) if info.location.name not in self.lacking)


@pytest.mark.parametrize("size", [0, 5_000, 20_000])
def test_a_temporary_folder_without_room_is_reported(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (file,) = source.put("a.1001.exr")
    unlisted = [replace(file, key=f"{file.key}.{number}", header=False) for number in range(400)]
    source.tables.write(rows_of(*unlisted, outputs=False), now=datetime.now(UTC))
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        report = source.reconcile(dry_run=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert report.error is not None
    assert "File too large" in report.error
    assert list(folder.iterdir()) == []
    assert source.reconcile(dry_run=True).error is None


def test_a_temporary_folder_that_cannot_be_made_is_reported(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    report = source.reconcile(dry_run=True)
    assert report.error is not None
    assert "cannot create a temporary folder" in report.error


def test_only_the_store_s_own_word_on_a_file_makes_it_deleted(source: Source) -> None:
    _, there, gone = source.put("a.1001.exr", "a.1002.exr", "a.1003.exr")
    # No request can name it, so no answer can be had.
    odd = SampleFile("show//odd.exr", source.folder.bucket)
    source.tables.write(rows_of(odd, outputs=False), now=LONG_AGO)
    source.delete(gone)
    storage = StaleListing(source.settings)
    storage.lacking = ["a.1002.exr"]

    report = reconcile(source.folder, source.settings, storage, source.tables, dry_run=False)

    assert (report.deleted.first, report.stale.first) == (named(gone), named(there))
    (unconfirmed,) = report.unconfirmed.first
    assert unconfirmed == f"{odd.location.url}: not readable: the key has an empty, . or .. component"
    assert [source.deleted_at(file) for file in (there, odd)] == [None, None]


class ComesBack(ObjectStorage):
    """A store in which a file appears again as soon as it was asked for a second time."""

    def head(self, location: Location) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 2:
            self.write(location, b"again", content_type="image/x-exr", tags={})
        return super().head(location)


def test_media_of_a_file_that_comes_back_meanwhile_are_left_alone(source: Source) -> None:
    gone, _ = source.put("a.1001.exr", "a.1002.exr")
    source.delete(gone)
    before = source.objects()
    settings = source.settings.model_copy(update={"deleted_media_days": 0})

    report = reconcile(source.folder, settings, ComesBack(settings), source.tables, dry_run=False)

    assert counts(report) == {"deleted": 1}
    assert source.objects() == before | {gone.key}
    assert counts(source.reconcile()) == {"returned": 1}, "the sensor sees to it"


def test_media_that_the_settings_would_put_elsewhere_are_left_alone(source: Source) -> None:
    gone, _ = source.put("a.1001.exr", "a.1002.exr")
    source.delete(gone)
    before = source.objects()
    moved = source.settings.model_copy(update={"output_root": f"s3://{source.folder.bucket}/media"})

    report = source.reconcile(settings=moved)

    assert counts(report) == {"deleted": 1, "media_elsewhere": 1}
    assert source.objects() == before
    assert counts(source.reconcile()) == {"media": 1}, "with the settings of then they go"


def test_everything_gone_is_told_in_batches_and_again_each_time(source: Source) -> None:
    now = datetime.now(UTC)
    files = [SampleFile(f"show/a.{number:05}.exr", source.folder.bucket, channels=0) for number in range(BATCH + 3)]
    source.tables.write(rows_of(*files, outputs=False), now=now)
    source.put("here.exr")
    told: list[list[Location]] = []
    steps: list[tuple[str, int, int | None]] = []

    def gone(locations: Sequence[Location]) -> int:
        told.append(list(locations))
        return len(locations)

    listener = Listener(on_progress=lambda *step: steps.append(step), on_gone_files=gone)
    report = source.reconcile(listener=listener)
    assert (report.deleted.count, report.partitions) == (BATCH + 3, BATCH + 3)
    assert len(report.deleted.first) == NAMED
    assert sorted(location.key for batch in told for location in batch) == [file.key for file in files]
    assert max(len(batch) for batch in told) == BATCH
    assert ("confirming deletions", BATCH, BATCH + 3) in steps

    told.clear()
    assert source.reconcile(listener=listener).deleted.count == 0
    assert sum(len(batch) for batch in told) == BATCH + 3, "whoever was killed before may not have heard it"


def sequence(source: Source, pattern: str) -> Location:
    """The row and a movie of a sequence."""
    location = source.folder.child(pattern)
    folder = location.key.removesuffix(location.name)
    movie = Location("s3", location.bucket, f"{folder}.proxies/{location.name.replace('#', '@')}_sequence.mp4")
    source.write(movie)
    row: dict[str, Any] = {
        "bucket": location.bucket,
        "sequence_path": location.key,
        "uri": location.url,
        "state": "ready",
    }
    row |= {"frames_hash": "1234", "movie_s3_key": movie.key, "movie_size_bytes": 7, "output_bucket": movie.bucket}
    source.tables.write({"sequence_outputs": pa.Table.from_pylist([row])}, now=LONG_AGO)
    return location


def test_a_sequence_loses_its_media_with_its_last_frame(source: Source) -> None:
    gone = source.put("a.1001.exr", "a.1002.exr", "a_b.1.exr", "sub/a.1001.exr")
    some, *_ = source.put("b.1001.exr", "b.1002.exr")
    source.delete(*gone, some)
    a, b, _ = [sequence(source, pattern) for pattern in ("a.####.exr", "b.####.exr", "c.####.exr")]
    told: list[Location] = []

    def gone_sequences(locations: Sequence[Location]) -> int:
        told.extend(locations)
        return 0

    report = source.reconcile(listener=Listener(on_gone_sequences=gone_sequences))

    assert told == [a]
    assert report.error is None
    assert (report.deleted.count, report.media.count, report.media.bytes) == (5, 6, 5 * 30 + 7)
    left = {key for key in source.objects() if key.endswith("_sequence.mp4")}
    assert {key.rpartition("/")[2] for key in left} == {"b.@@@@.exr_sequence.mp4", "c.@@@@.exr_sequence.mp4"}
    rows = {row["sequence_path"]: row for row in source.rows("sequence_outputs")}
    row = rows[a.key]
    assert (row["state"], row["movie_s3_key"], row["frames_hash"]) == ("rejected", None, None)
    assert row["reason"] == "all frames were deleted, and then its media"
    assert (rows[b.key]["state"], rows[b.key]["frames_hash"]) == ("ready", "1234")
    assert counts(source.reconcile()) == {}


def test_a_local_folder_is_compared_too(tmp_path: Path) -> None:
    folder = tmp_path / "renders #1"
    folder.mkdir()
    place = Location("file", "", str(folder).lstrip("/"))
    settings = Settings(_env_file=None, database=tmp_path / "tables.duckdb", sources=(place.url,))
    source = Source(settings, place, ObjectStorage(settings))
    gone, _ = source.put("a.1001.exr", "a.1002.exr")
    Path(f"/{gone.key}").unlink()

    assert counts(source.reconcile()) == {"deleted": 1, "media": 1}
    assert sorted(path.name for path in (folder / ".proxies").iterdir()) == ["a.1002_proxy.mp4", "a.1002_thumb.jpg"]

    # What a file system that is not mounted looks like.
    folder.rename(tmp_path / "away")
    assert "does not exist" in str(source.reconcile(force=True).error)
    folder.mkdir()
    assert "lists no source file" in str(source.reconcile().error)


def test_sources_inside_others_are_compared_once_and_no_source_at_all_is_said() -> None:
    settings = Settings(_env_file=None, sources=("s3://b/show", "s3://b/show/shot/", "s3://b/show2", "s3://c"))
    assert [place.url for place in sources_to_reconcile(settings)] == ["s3://b/show/", "s3://b/show2/", "s3://c/"]
    assert [place.url for place in sources_to_reconcile(settings, ["s3://d/x"])] == ["s3://d/x/"]
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_SOURCES"):
        sources_to_reconcile(Settings(_env_file=None, sources=()))
