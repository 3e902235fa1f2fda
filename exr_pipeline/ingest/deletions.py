"""Sources against tables: which files are gone, and what becomes of the media that were made of them.

Belongs here: the comparison, marks, removal of media. Not here: partitions (`orchestration.maintenance.reconcile`),
or ingesting what is new (the sensor's business). Why it is done so: docs/decisions/0009-reconcile.md.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from exr_pipeline.errors import BadInputError, ExrPipelineError, MisconfiguredError, RetryableError
from exr_pipeline.events.outbox import events_of_marked
from exr_pipeline.products.registry import FILE_PRODUCTS, SEQUENCE_PRODUCTS
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.store_errors import MissingObjectError
from exr_pipeline.tables.specs import REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import pyarrow as pa

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore

NAMED: Final = 100

# Files per transaction of the tables, and per question to Dagster.
BATCH: Final = 500
_LISTED_AT_ONCE: Final = 10_000
_MEMORY: Final = "512MB"

_FILE_MEDIA: Final = tuple(thing.name for product in FILE_PRODUCTS for thing in product.objects)
_SEQUENCE_MEDIA: Final = tuple(product.name for product in SEQUENCE_PRODUCTS)

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class Tally:
    """Files of one kind: how many, their bytes together, and the names of the first of them, `NAMED` at most."""

    count: int = 0
    bytes: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str, size: int = 0) -> None:
        """One more."""
        self.count += 1
        self.bytes += size
        if len(self.first) < NAMED:
            self.first.append(name)


@dataclass
class SourceReport:
    """What was found of one source and, unless `dry_run`, done about it.

    `deleted`: files that are gone and were not marked yet. `unconfirmed`: not listed, and it could not be made sure
    that they are gone; left alone, as is what a `stale` listing left out. `returned`: marked, and there again.
    `unknown` and `changed`: what the sensor takes up. `media`: of how many deleted files and sequences media were
    removed; `kept_media`: are kept by the policy; `media_elsewhere`: lie where the present settings do not put them,
    and are left alone. Bytes are those of the files, or of the media.
    """

    source: str
    dry_run: bool
    listed: int = 0
    known: int = 0
    deleted: Tally = field(default_factory=Tally)
    unconfirmed: Tally = field(default_factory=Tally)
    stale: Tally = field(default_factory=Tally)
    returned: Tally = field(default_factory=Tally)
    unknown: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    media: Tally = field(default_factory=Tally)
    kept_media: Tally = field(default_factory=Tally)
    media_elsewhere: Tally = field(default_factory=Tally)
    partitions: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Listener:
    """Who is told of progress (what, how much of it, of how much), and of all files and sequences that are gone.

    The latter come in batches, those of earlier times too, and answer with how many partitions they had.
    """

    on_progress: Callable[[str, int, int | None], None] = lambda *_: None
    on_gone_files: Callable[[Sequence[Location]], int] = lambda _: 0
    on_gone_sequences: Callable[[Sequence[Location]], int] = lambda _: 0


def sources_to_reconcile(settings: Settings, urls: Sequence[str] = ()) -> list[Location]:
    """The folders that these URLs name, or else the configured sources; none that lies inside another one.

    Raises `MisconfiguredError` for a wrong URL or if there is none at all.
    """
    setting = "SOURCE_URL" if urls else "EXR_PIPELINE_SOURCES"
    if not (urls or settings.sources):
        raise MisconfiguredError(setting, "there are no sources to compare with the tables", "set it, or give a URL")
    folders = {Location.from_url(url, setting=setting).as_folder() for url in urls or settings.sources}
    return sorted(one for one in folders if not any(other != one and other.holds(one) for other in folders))


def reconcile(
    source: Location,
    settings: Settings,
    storage: ObjectStorage,
    tables: TableStore,
    *,
    dry_run: bool = True,
    force: bool = False,
    listener: Listener | None = None,
) -> SourceReport:
    """Compare a source with the tables; unless `dry_run`, mark what is gone and remove its media by the policy.

    Whatever happens, a report comes back: `error` says why it is not complete (the store refuses or does not answer, a
    listing without any source file while the tables hold some, and `force` not set). Safe to break off and to repeat.
    """
    import duckdb

    report = SourceReport(source.url, dry_run)
    try:
        with _Comparison(source, settings, storage, tables, report, listener or Listener()) as comparison:
            comparison.compare(force=force)
            comparison.settle_files()
            comparison.settle_sequences()
    except ExrPipelineError as error:
        report.error = str(error)
    except (duckdb.OperationalError, duckdb.FatalException) as error:
        # Not of the tables, which raise errors of our own.
        report.error = f"cannot compare in the temporary file: {str(error).splitlines()[0]}"
    return report


def _unshared(name: str) -> str:
    """SQL of the key of an output, null if another file has it by now."""
    key = f"o.{name}_s3_key"
    taken = f"FROM others t WHERE t.media = {key} AND t.output_bucket = o.output_bucket"
    return f"CASE WHEN NOT EXISTS ({taken}) THEN {key} END"


@dataclass(frozen=True)
class Confirmed:
    """What a store says of files that seem to be gone, asked at or after `at`.

    `deleted` are surely gone, with their versions; they are marked, unless it was a dry run. `unconfirmed`: with what
    the store says instead.
    """

    at: datetime
    deleted: dict[Location, str]
    present: list[Location]
    unconfirmed: dict[Location, str]


def confirm_deletions(
    versions: Mapping[Location, str],
    storage: ObjectStorage,
    tables: TableStore,
    *,
    settings: Settings,
    threads: ThreadPoolExecutor,
    dry_run: bool = False,
) -> Confirmed:
    """Ask the store for each of these files, and mark those as deleted that are gone, by their versions in the tables.

    A file whose current version is another one by then is not among the deleted.
    """

    def answer(location: Location) -> bool | str:
        return _is_gone(location, storage)

    # Before the store is asked: whoever meets the file after that has met it after its deletion.
    now = datetime.now(UTC)
    answers = dict(zip(versions, _each(threads, answer, versions), strict=True))
    gone = {location: versions[location] for location, said in answers.items() if said is True}
    queue = events_of_marked(settings, now=now)
    marked = set(gone) if dry_run else tables.mark(gone, "deleted", now=now, queue=queue)
    return Confirmed(
        now,
        {location: version for location, version in gone.items() if location in marked},
        [location for location, said in answers.items() if said is False],
        {location: said for location, said in answers.items() if isinstance(said, str)},
    )


def _is_gone(location: Location, storage: ObjectStorage) -> bool | str:
    """Whether the store says so by itself, or why it does not say."""
    try:
        storage.head(location)
    except MissingObjectError:
        return True
    except BadInputError as error:
        return error.reason
    return False


class _Media(NamedTuple):
    """The media of a file or a sequence: of which (and its version), where they lie, and their bytes."""

    source: Location
    version: str
    objects: list[Location]
    size: int


class _Comparison:
    """One source while it is compared: listing and tables side by side in a temporary file, requests in threads."""

    def __init__(
        self,
        source: Location,
        settings: Settings,
        storage: ObjectStorage,
        tables: TableStore,
        report: SourceReport,
        listener: Listener,
    ) -> None:
        self._source = source.as_folder()
        self._settings, self._storage, self._tables = settings, storage, tables
        self._report, self._listener = report, listener
        self._now = datetime.now(UTC)
        self._threads = ThreadPoolExecutor(max(settings.fetches, 1), thread_name_prefix="reconcile")

    def __enter__(self) -> Self:
        import duckdb

        try:
            self._folder = tempfile.TemporaryDirectory(prefix="exr_pipeline_")
        except OSError as error:
            raise RetryableError(f"cannot create a temporary folder: {error}") from error
        try:
            self._stage = duckdb.connect(
                Path(self._folder.name) / "stage.duckdb",
                config={"memory_limit": _MEMORY, "temp_directory": self._folder.name},
            )
        except duckdb.Error:
            self._folder.cleanup()
            raise
        # A bar of DuckDB's own would land in the output of commands; cursors copy the setting.
        self._stage.execute("SET enable_progress_bar = false")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._stage.close()
        self._folder.cleanup()

    def compare(self, *, force: bool) -> None:
        """Bring both sides together, report the differences, and mark the files that surely are gone."""
        # Tables first: a file that is ingested meanwhile is no difference to them.
        self._stage_tables()
        accepted = self._stage_listing()
        self._check_something_is_meant()
        self._stage.execute(
            """CREATE TABLE missing AS SELECT known.* FROM known ANTI JOIN listed USING (key) WHERE deleted_at IS NULL;
            CREATE TABLE gone AS SELECT key, file_id, deleted_at FROM known ANTI JOIN listed USING (key)
            WHERE deleted_at IS NOT NULL"""
        )
        self._report_other_differences()
        missing = self._count("missing")
        if missing and not accepted and not force:
            raise MisconfiguredError(
                "EXR_PIPELINE_SOURCES",
                f"{self._source.url} lists no source file, but the tables have {missing}",
                "correct the URL or the access to it; if all files were deleted, use --force (force: true)",
            )
        for number, batch in enumerate(self._batches("SELECT key, file_id, size FROM missing ORDER BY key")):
            self._listener.on_progress("confirming deletions", number * BATCH, missing)
            self._mark(batch)

    def _check_something_is_meant(self) -> None:
        """A configured source may be empty yet; a folder that somebody names, and that is, is a wrong name."""
        configured = {Location.from_url(url).as_folder() for url in self._settings.sources}
        if not (self._report.listed or self._count("known") or self._source in configured):
            raise MisconfiguredError(
                "SOURCE_URL", f"neither the store nor the tables have a file below {self._source.url}", "correct it"
            )

    def settle_files(self) -> None:
        """Tell of the files that are gone, and remove the media that are due."""
        for batch in self._batches("SELECT key FROM gone ORDER BY key"):
            self._report.partitions += self._listener.on_gone_files([self._location(key) for (key,) in batch])
        self._stage_media_of_others()
        columns = ", ".join(f"{_unshared(name)}, o.{name}_size_bytes" for name in _FILE_MEDIA)
        rows = self._batches(
            f"""SELECT g.key, g.file_id, g.deleted_at, o.output_bucket, {columns}
            FROM gone g JOIN outputs o USING (key) ORDER BY g.key"""  # noqa: S608 - our names
        )
        for batch in rows:
            due = [(self._location(key), file_id, *rest) for key, file_id, *rest in self._due(batch)]
            removed = self._remove([self._media(*row) for row in due])
            if removed and not self._report.dry_run:
                self._tables.mark(
                    {media.source: media.version for media in removed}, "media_removed", now=datetime.now(UTC)
                )

    def _stage_media_of_others(self) -> None:
        """What outputs of files that are there have the names of by now, in the folders of those that are gone."""
        names = ", ".join(f"o.{name}_s3_key" for name in _FILE_MEDIA)
        self._stage.execute(
            rf"""CREATE TABLE others AS SELECT DISTINCT output_bucket, unnest([{names}]) AS media
            FROM outputs o ANTI JOIN gone USING (key)
            WHERE regexp_extract(key, '^(?:.*/)?', 0, 's') IN
                (SELECT regexp_extract(key, '^(?:.*/)?', 0, 's') FROM gone)"""  # noqa: S608 - our names
        )

    def settle_sequences(self) -> None:
        """The same for the sequences of which every frame is gone."""
        columns = ", ".join(f"{name}_s3_key, {name}_size_bytes" for name in _SEQUENCE_MEDIA)
        has_media = " OR ".join(f"{name}_s3_key IS NOT NULL" for name in _SEQUENCE_MEDIA)
        gone = self._gone_sequences()
        self._report.partitions += sum(
            self._listener.on_gone_sequences([self._location(path) for (path,) in batch])
            for batch in self._batches(f"SELECT path FROM ({gone}) ORDER BY path")  # noqa: S608 - our query
        )
        for batch in self._batches(
            f"""SELECT path, frames_hash, deleted_at, output_bucket, {columns} FROM ({gone}) WHERE {has_media}
            ORDER BY path"""  # noqa: S608 - our names
        ):
            removed = self._remove(
                [
                    self._media(self._location(path), frames, *rest, named=_without_hashes(path))
                    for path, frames, *rest in self._due(batch)
                ],
                check=False,
            )
            if removed and not self._report.dry_run:
                self._forget_media_of_sequences([media.source for media in removed])

    # both sides

    def _stage_tables(self) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._stage.execute(
            "CREATE TABLE known (key VARCHAR, file_id VARCHAR, etag VARCHAR, deleted_at VARCHAR, size BIGINT)"
        )
        columns = ("file_path", "file_id", "etag", "deleted_at", "size_bytes", "uri")
        for batch in self._scan("files", columns):
            # Buckets of different stores may have the same name.
            ours = pc.fill_null(pc.starts_with(batch.column("uri"), f"{self._source.scheme}://"), fill_value=True)
            self._insert("known", pa.Table.from_batches([batch.filter(ours)]).drop_columns(["uri"]))
            self._listener.on_progress("reading the tables", self._count("known"), None)
        media = [f"{name}_{what}" for name in _FILE_MEDIA for what in ("s3_key", "size_bytes")]
        types = ", ".join(f"{name} {'VARCHAR' if name.endswith('key') else 'BIGINT'}" for name in media)
        self._stage.execute(f"CREATE TABLE outputs (key VARCHAR, output_bucket VARCHAR, {types})")
        for batch in self._scan("proxy_outputs", ("s3_key", "output_bucket", *media)):
            self._insert("outputs", pa.Table.from_batches([batch]))
        self._report.known = self._count("known", "deleted_at IS NULL")

    def _scan(self, table: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._tables.scan(table, columns=columns, bucket=self._source.bucket, prefix=self._source.path)

    def _stage_listing(self) -> int:
        """Lists the source; returns how many source files there are."""
        import pyarrow as pa

        settings = self._settings
        rule = SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))
        asked_for = [Location.from_url(url, setting="EXR_PIPELINE_SOURCES").as_folder() for url in settings.sources]
        asked_for.append(self._source)
        self._stage.execute("CREATE TABLE listed (key VARCHAR, etag VARCHAR, size BIGINT, accepted BOOLEAN)")

        def is_accepted(location: Location) -> bool:
            below = max((folder.key for folder in asked_for if folder.holds(location)), key=len)
            return rule.accepts(location, below=below)

        def put(infos: list[ObjectInfo]) -> None:
            rows = [(_text(info.location.path), info.etag, info.size, is_accepted(info.location)) for info in infos]
            names = ("key", "etag", "size", "accepted")
            self._insert("listed", pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))))
            self._report.listed += len(rows)
            self._listener.on_progress("listing", self._report.listed, None)

        for infos in _in_batches(self._storage.iter_objects(self._source), _LISTED_AT_ONCE):
            put(infos)
        return self._count("listed", "accepted")

    def _report_other_differences(self) -> None:
        report = self._report
        unknown = "SELECT key, size FROM listed ANTI JOIN known USING (key) WHERE accepted ORDER BY key"
        both = "FROM listed l JOIN known k USING (key)"
        returned = f"SELECT key, l.size {both} WHERE deleted_at IS NOT NULL ORDER BY key"
        changed = f"SELECT key, l.size {both} WHERE deleted_at IS NULL AND l.etag <> k.etag ORDER BY key"
        for found, query in ((report.unknown, unknown), (report.returned, returned), (report.changed, changed)):
            for batch in self._batches(query):
                for key, size in batch:
                    found.add(self._location(key).url, size)

    # files

    def _mark(self, batch: Sequence[tuple[str, str, int | None]]) -> None:
        """Ask the store for each of these files; mark those that are gone."""
        import pyarrow as pa

        files = {self._location(key): (file_id, size or 0) for key, file_id, size in batch}
        versions = {location: file_id for location, (file_id, _) in files.items()}
        found = confirm_deletions(
            versions,
            self._storage,
            self._tables,
            settings=self._settings,
            threads=self._threads,
            dry_run=self._report.dry_run,
        )
        for location in found.present:
            self._report.stale.add(location.url)
        for location, reason in found.unconfirmed.items():
            self._report.unconfirmed.add(f"{location.url}: {reason}")
        rows = [(location.path, file_id, found.at.isoformat()) for location, file_id in found.deleted.items()]
        if rows:
            keys, ids, moments = (list(column) for column in zip(*rows, strict=True))
            self._insert("gone", pa.table({"key": keys, "file_id": ids, "deleted_at": moments}))
        for location in found.deleted:
            self._report.deleted.add(location.url, files[location][1])

    # media

    def _due(self, batch: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """The rows whose `deleted_at` (left out of them then) is long enough ago; the others are reported as kept."""
        days = self._settings.deleted_media_days
        # What was marked just now is later than when this began.
        before = None if days is None else datetime.now(UTC) - timedelta(days=days)
        for key, version, deleted_at, *rest in batch:
            if before is not None and datetime.fromisoformat(deleted_at) <= before:
                yield key, version, *rest
            else:
                self._report.kept_media.add(self._location(key).url, sum(size or 0 for size in rest[2::2]))

    def _media(self, source: Location, version: str, *row: Any, named: str | None = None) -> _Media:
        """Where media lie; no objects if that is not where the present settings put them."""
        bucket, *media = row
        keys, size = [key for key in media[::2] if key], sum(size or 0 for size in media[1::2])
        settings = self._settings
        of = source if named is None else self._location(named)
        try:
            place = OutputPlace.from_settings(settings).at(of, "")
        except MisconfiguredError:
            return _Media(source, version, [], size)
        folder = place.folder.path
        if (bucket or "") != place.bucket or any(key.rpartition("/")[0] + "/" != folder for key in keys):
            return _Media(source, version, [], size)
        return _Media(source, version, [place.at(key) for key in keys], size)

    def _remove(self, media: Sequence[_Media], *, check: bool = True) -> list[_Media]:
        """Remove the objects of these media; returns those of which nothing is left.

        With `check` the store is asked once more for each source: one that has come back may have new media by now.
        """
        for each in media:
            if not each.objects:
                self._report.media_elsewhere.add(each.source.url, each.size)
        placed = [each for each in media if each.objects]
        if not self._report.dry_run:

            def remove(each: _Media) -> bool:
                if check and _is_gone(each.source, self._storage) is not True:
                    return False
                for location in each.objects:
                    self._storage.delete(location)
                return True

            placed = [each for each, done in zip(placed, _each(self._threads, remove, placed), strict=True) if done]
        for each in placed:
            self._report.media.add(each.source.url, each.size)
        if placed:
            self._listener.on_progress("removing media", self._report.media.count, None)
        return placed

    # sequences

    def _gone_sequences(self) -> str:
        """A query for the sequences that had frames, with when the last one of them was found to be gone."""
        media = [f"{name}_{what}" for name in _SEQUENCE_MEDIA for what in ("s3_key", "size_bytes")]
        columns = ("bucket", "sequence_path", "uri", "frames_hash", "output_bucket", *media)
        rows = self._tables.read("sequence_outputs", columns=columns)
        self._stage.register("every_sequence", rows)
        self._stage.execute(
            r"""CREATE TABLE sequences AS
            SELECT * EXCLUDE (bucket, sequence_path, uri), sequence_path AS path,
                regexp_extract(sequence_path, '^(.*?)#+[^#]*$', 1, 's') AS start,
                regexp_extract(sequence_path, '[^#]*$', 0, 's') AS ending,
                regexp_extract(sequence_path, '^(?:.*/)?', 0, 's') AS folder
            FROM every_sequence
            WHERE bucket = $bucket AND starts_with(sequence_path, $prefix) AND starts_with(uri, $scheme)""",
            {"bucket": self._source.bucket, "prefix": self._source.path, "scheme": f"{self._source.scheme}://"},
        )
        self._stage.unregister("every_sequence")
        self._stage.execute(
            r"""CREATE TABLE last_gone AS
            SELECT regexp_extract(key, '^(?:.*/)?', 0, 's') AS folder, key, deleted_at FROM gone;
            CREATE TABLE still_there AS
            SELECT regexp_extract(key, '^(?:.*/)?', 0, 's') AS folder, key FROM known ANTI JOIN gone USING (key)
            WHERE folder IN (SELECT folder FROM last_gone)"""
        )
        # Of several sequences that a name may belong to, each is taken to have it: better kept for too long.
        is_frame = r"""starts_with(key, start) AND ends_with(key, ending) AND regexp_full_match(
            key[len(start) + 1 : len(key) - len(ending)], '-?\d+(\.\d+)?')"""
        return f"""SELECT s.*, max(g.deleted_at) AS deleted_at FROM sequences s JOIN last_gone g USING (folder)
            WHERE {is_frame} AND NOT EXISTS (FROM still_there t WHERE t.folder = s.folder AND {is_frame})
            GROUP BY ALL"""  # noqa: S608 - our text

    def _forget_media_of_sequences(self, locations: Sequence[Location]) -> None:
        """Say in the rows of these sequences that nothing is left of them; with frames again they are made again."""
        import pyarrow as pa

        now = datetime.now(UTC)
        gone = dict.fromkeys([f"{name}_{what}" for name in _SEQUENCE_MEDIA for what in ("s3_key", "size_bytes")])
        gone |= {"frames_hash": None, "state": REJECTED, "reason": "all frames were deleted, and then its media"}
        rows = [row | gone for row in self._tables.read("sequence_outputs", locations=locations).to_pylist()]
        self._tables.write({"sequence_outputs": pa.Table.from_pylist(rows)}, now=now)

    # the stage

    def _location(self, key: str) -> Location:
        return self._source.at(key)

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._stage.register("incoming", rows)
        self._stage.execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - our names
        self._stage.unregister("incoming")

    def _count(self, table: str, condition: str = "true") -> int:
        ((found,),) = self._stage.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchall()  # noqa: S608
        return int(found)

    def _batches(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        # A cursor of its own: the stage is written to while this is read.
        with self._stage.cursor() as cursor:
            cursor.execute(query)
            while batch := cursor.fetchmany(BATCH):
                yield batch


def _each(threads: ThreadPoolExecutor, ask: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    futures = [threads.submit(ask, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        # A store that does not answer is not asked for all of them.
        for future in futures:
            future.cancel()


def _text(key: str) -> str:
    """A key as text that a database takes. The tables hold no file whose name is not UTF-8."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _without_hashes(sequence_path: str) -> str:
    """The name that a sequence's media are made for, see `sequence_maker`."""
    return sequence_path.replace("#", "@")


def _in_batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
