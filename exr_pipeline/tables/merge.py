"""What a write changes, decided from the incoming rows and the stored ones. Pure functions of Arrow tables.

Belongs here: the rules of docs/tables.md on versions, current rows and partial rows. Not here: transactions or I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exr_pipeline.tables.conform import conform
from exr_pipeline.tables.specs import RETRYABLE, TABLES, MergeRule, State, TableName, arrow_schema, tables_of
from exr_pipeline.tables.store import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.store import Mark, Queue

CHILD_TABLES: Final = tables_of("children")


class FileKey(NamedTuple):
    """A file whatever its version: its bucket (empty for local files) and its key."""

    bucket: str
    file_path: str


# (bucket, file_id), or (s3_bucket, proxy_id) for outputs
VersionId = tuple[str, str]

# What is stored with a later time than this from now was written by a clock that was ahead; less comes of waiting.
CLOCKS_DIFFER_BY: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class WritePlan:
    """What to change: first the versions whose stored rows go out (duplicates too), then the rows that come in."""

    removed: dict[TableName, list[VersionId]]
    rows: dict[TableName, pa.Table]


def conform_all(rows: Mapping[TableName, pa.Table]) -> dict[TableName, pa.Table]:
    """The rows of a write, conformed and checked: whole keys, no version twice, children with their files row."""
    import pyarrow as pa

    if unknown := set(rows) - set(TABLES):
        raise ValueError(f"unknown table {', '.join(sorted(unknown))}")
    conformed = {name: conform(name, table) for name, table in rows.items()}
    for name, table in conformed.items():
        if name not in CHILD_TABLES:
            _check_keys(name, table)
    buckets: dict[str, set[str]] = {}
    for bucket, file_id in _pairs(conformed.get("files", arrow_schema("files").empty_table()), "bucket", "file_id"):
        buckets.setdefault(file_id, set()).add(bucket)
    for name in CHILD_TABLES:
        if name not in conformed:
            continue
        table = conformed[name]
        filled = []
        for stated, file_id in _pairs(table, "bucket", "file_id"):
            known = buckets.get(file_id, set())
            bucket = next(iter(known)) if stated is None and len(known) == 1 else stated
            if bucket not in known:
                raise ValueError(
                    f"{name} has rows of file_id {file_id} in bucket {bucket!r}, but files has no such row"
                )
            filled.append(bucket)
        index = table.column_names.index("bucket")
        conformed[name] = table.set_column(index, table.schema.field(index), pa.array(filled, pa.string()))
    return conformed


def _check_keys(name: TableName, table: pa.Table) -> None:
    spec = TABLES[name]
    for column in spec.required:
        if table.column(column).null_count:
            raise ValueError(f"{name}.{column} must not be null")
    twice = [version for version, count in Counter(_pairs(table, *spec.version)).items() if count > 1]
    if twice:
        raise ValueError(f"{name} has several rows with {' and '.join(spec.version)} {twice[0]}")


def touched_files(rows: Mapping[TableName, pa.Table]) -> list[FileKey]:
    """The files and sequences that a write changes something of."""
    names = (name for name in tables_of("versions", "outputs", "latest") if name in rows)
    return list(dict.fromkeys(key for name in names for key in _file_keys(rows[name], *TABLES[name].file)))


def plan_write(
    rows: Mapping[TableName, pa.Table], stored_files: pa.Table, stored_outputs: pa.Table, now: datetime
) -> WritePlan:
    """What to write, given conformed rows and all stored rows (every version) of `touched_files`."""
    clock = now.astimezone(UTC).isoformat()
    files = _FilesMerge(rows, stored_files, clock)
    outputs = _OutputsMerge(rows, stored_outputs, files, clock)
    changed_files, changed_outputs = files.changed_rows(), outputs.changed_rows()
    latest = {name: rows[name] for name in tables_of("latest", "queue") if name in rows}
    return WritePlan(
        removed={
            **{name: _pairs(table, *TABLES[name].version) for name, table in latest.items()},
            **files.removed_children(rows),
            "files": files.stored_among(changed_files),
            "proxy_outputs": outputs.stored_among(changed_outputs),
        },
        rows={
            **latest,
            **{name: rows[name] for name in CHILD_TABLES if name in rows},
            "files": changed_files,
            "proxy_outputs": changed_outputs,
        },
    )


def plan_removal(table: TableName, rows: Iterable[VersionId]) -> WritePlan:
    """What to write so that these rows of a queue are gone. Raises `ValueError` for a table that is no queue."""
    if TABLES[table].role != "queue":
        raise ValueError(f"rows of {table} are never removed")
    return WritePlan({table: list(dict.fromkeys(rows))}, {})


def plan_with_queue(plan: WritePlan, queue: Queue | None) -> WritePlan:
    """A plan, with what a queue makes of the rows of files that it changes."""
    if queue is None or "files" not in plan.rows:
        return plan
    rows = conform_all(queue(plan.rows["files"]))
    removed = {name: _pairs(table, *TABLES[name].version) for name, table in rows.items()}
    return WritePlan({**plan.removed, **removed}, {**plan.rows, **rows})


def plan_mark(
    versions: Mapping[FileKey, str], mark: Mark, stored_files: pa.Table, stored_outputs: pa.Table, now: datetime
) -> tuple[WritePlan, set[FileKey]]:
    """What to write so that these versions bear a mark, given all stored rows of their files; and which ones do."""
    import pyarrow as pa
    import pyarrow.compute as pc

    clock = now.astimezone(UTC).isoformat()
    keys, ids = _file_keys(stored_files, "bucket", "file_path"), stored_files.column("file_id").to_pylist()
    superseded, states = stored_files.column("superseded_at").to_pylist(), stored_files.column("state").to_pylist()
    meant = [
        versions.get(key) == file_id and at is None and not (mark == "archived" and state == RETRYABLE)
        for key, file_id, at, state in zip(keys, ids, superseded, states, strict=True)
    ]
    marked = {key for key, is_meant in zip(keys, meant, strict=True) if is_meant}
    if mark == "media_removed":
        pairs = _pairs(stored_outputs, "s3_bucket", "s3_key")
        rows = stored_outputs.filter(pa.array([FileKey(*pair) in marked for pair in pairs], pa.bool_()))
        rows = rows.filter(pc.is_null(rows.column("superseded_at")))
        changed = _with_column(rows, "superseded_at", [clock] * rows.num_rows)
        removed = list(dict.fromkeys(_pairs(changed, "s3_bucket", "proxy_id")))
        return WritePlan({"proxy_outputs": removed}, {"proxy_outputs": changed}), marked
    column = "deleted_at" if mark == "deleted" else "archived_at"
    rows = stored_files.filter(pa.array(meant, pa.bool_()))
    before = rows.column(column)
    rows = rows.filter(pc.is_valid(before) if mark == "unarchived" else pc.is_null(before))
    changed = _with_column(rows, column, [None if mark == "unarchived" else clock] * rows.num_rows)
    return WritePlan({"files": list(dict.fromkeys(_pairs(changed, "bucket", "file_id")))}, {"files": changed}), marked


def _with_column(rows: pa.Table, name: str, values: list[str | None]) -> pa.Table:
    import pyarrow as pa

    index = rows.schema.get_field_index(name)
    return rows.set_column(index, rows.schema.field(index), pa.array(values, pa.string()))


class _Merge:
    """Incoming rows over stored ones of the same table: which stored row each one meets, and the gathered result."""

    def __init__(self, table: TableName, incoming: pa.Table, stored: pa.Table) -> None:
        import pyarrow as pa

        self._spec = TABLES[table]
        self._key = key = self._spec.version
        self.count_stored = stored.num_rows
        self.both = pa.concat_tables([stored, incoming]).combine_chunks()
        self.ids: list[VersionId] = _pairs(self.both, *key)
        stored_ids = self.ids[: self.count_stored]
        # Of duplicates, which no write of ours leaves, the last counts and all are replaced.
        self.stored_at = {version: index for index, version in enumerate(stored_ids)}
        self.duplicated = {version for version, count in Counter(stored_ids).items() if count > 1}
        self.incoming_at = {version: i for i, version in enumerate(self.ids[self.count_stored :], self.count_stored)}

    def values(self, column: str) -> list[Any]:
        """A column of the stored rows followed by the incoming ones."""
        values: list[Any] = self.both.column(column).to_pylist()
        return values

    def stored_among(self, changed: pa.Table) -> list[VersionId]:
        """The versions of these rows that are stored already."""
        return [version for version in _pairs(changed, *self._key) if version in self.stored_at]

    def gather(
        self,
        versions: Sequence[VersionId],
        kept: Mapping[MergeRule, set[VersionId]],
        computed: Mapping[str, list[Any]],
    ) -> pa.Table:
        """One row per version. `kept`: which versions may take the stored row's columns, by their rule of merging."""
        import pyarrow as pa

        new = self._indices(versions, self.incoming_at, self.stored_at)
        old = self._indices(versions, self.stored_at, self.incoming_at)
        # Once per rule, of which many columns have the same.
        keeps = {rule: [version in some for version in versions] for rule, some in kept.items()}
        columns = []
        for column in self.both.schema:
            if column.name in computed:
                columns.append(pa.array(computed[column.name], column.type))
                continue
            rule = self._spec.rule_of(column.name)
            choice = new
            if rule != "incoming":
                keep = keeps[rule]
                if rule == "coalesce":
                    valid = self.both.column(column.name).is_valid().to_pylist()
                    keep = [may and not valid[index] for may, index in zip(keep, new, strict=True)]
                choice = [o if is_kept else n for is_kept, o, n in zip(keep, old, new, strict=True)]
            columns.append(self.both.column(column.name).take(pa.array(choice, pa.int64())))
        return pa.table(columns, schema=self.both.schema).combine_chunks()

    @staticmethod
    def _indices(
        versions: Sequence[VersionId], first: Mapping[VersionId, int], second: Mapping[VersionId, int]
    ) -> list[int]:
        return [first[v] if v in first else second[v] for v in versions]


class _FilesMerge(_Merge):
    """The `files` rows after a write, with what it means for the other tables."""

    def __init__(self, rows: Mapping[TableName, pa.Table], stored: pa.Table, clock: str) -> None:
        incoming = rows.get("files", stored.schema.empty_table())
        super().__init__("files", incoming, stored)
        self._clock = clock
        etags, hashes = self.values("etag"), self.values("header_hash")
        with_children = {
            v for name in CHILD_TABLES if name in rows for v in set(_pairs(rows[name], "bucket", "file_id"))
        }
        self.read_now = {v for v, i in self.incoming_at.items() if hashes[i] is not None or v in with_children}
        met = {v: (i, self.stored_at[v]) for v, i in self.incoming_at.items() if v in self.stored_at}
        # The same second, other bytes: what is stored of this version describes a file that is gone.
        self.other_bytes = {v for v, (i, s) in met.items() if etags[i] and etags[s] and etags[i] != etags[s]}
        self._met = set(met)
        self._keeps_header = {
            v
            for v, (_, s) in met.items()
            if v not in self.read_now and v not in self.other_bytes and hashes[s] is not None
        }
        self.current: dict[FileKey, str] = self._find_current()

    def _find_current(self) -> dict[FileKey, str]:
        """The version of each file that was met last in its store; its date alone does not say, a copy may keep it."""
        best: dict[FileKey, tuple[datetime, datetime, datetime, int]] = {}
        latest: dict[FileKey, datetime] = {}
        keys, superseded = _file_keys(self.both, "bucket", "file_path"), self.values("superseded_at")
        seen, mtimes = self.values("seen_at"), self.values("mtime")
        ahead = [index < self.count_stored and is_ahead(text, self._clock) for index, text in enumerate(seen)]
        for index, key in enumerate(keys[: self.count_stored]):
            if not ahead[index]:
                met = instant(seen[index] or mtimes[index])
                latest[key] = max(latest.get(key, met), met)
        for index, key in enumerate(keys):
            met = known = instant(seen[index] or mtimes[index])
            if ahead[index]:
                # When it was met is not known, but that it was before whatever comes now; and if it is still current,
                # after whatever else is stored.
                known = _EARLIEST if superseded[index] else latest.get(key, _EARLIEST)
            rank = (known, met, instant(mtimes[index]), index)
            best[key] = max(best.get(key, rank), rank)
        return {key: self.ids[index][1] for key, (*_, index) in best.items()}

    def changed_rows(self) -> pa.Table:
        """The rows that are new or differ from the stored ones."""
        superseded, first = self.values("superseded_at"), self.values("inspection_timestamp")
        last, count, seen = self.values("last_inspected"), self.values("inspection_count"), self.values("seen_at")
        keys = _file_keys(self.both, "bucket", "file_path")
        versions: list[VersionId] = []
        computed: dict[str, list[Any]] = {
            "superseded_at": [],
            "inspection_timestamp": [],
            "last_inspected": [],
            "inspection_count": [],
            "seen_at": [],
            "archived_at": [],
            "deleted_at": [],
            "retryable_since": [],
        }
        states, failing = self.values("state"), self.values("retryable_since")
        archived, deleted = self.values("archived_at"), self.values("deleted_at")
        for version in dict.fromkeys(self.ids):
            s = self.stored_at.get(version)
            is_current = self.current[keys[self.incoming_at[version] if s is None else s]] == version[1]
            was = None if s is None else superseded[s]
            superseded_at = None if is_current else was or self._clock
            inspected = version in self.incoming_at
            if not inspected and superseded_at == was and version not in self.duplicated:
                continue
            versions.append(version)
            computed["superseded_at"].append(superseded_at)
            computed["inspection_timestamp"].append((first[s] if s is not None else None) or self._clock)
            before = (last[s] or "", count[s] or 0) if s is not None else ("", 0)
            latest = self._clock if is_ahead(before[0], self._clock) else max(before[0], self._clock)
            computed["last_inspected"].append(latest if inspected else before[0] or None)
            # A write that is made again bears the moment of the first.
            is_new = inspected and before[0] != self._clock
            computed["inspection_count"].append(before[1] + is_new)
            met_at = [seen[i] for i in (s, self.incoming_at.get(version)) if i is not None and seen[i]]
            if len(met_at) > 1 and is_ahead(met_at[0], self._clock):
                del met_at[0]
            computed["seen_at"].append(max(met_at, key=instant, default=None))
            lasting = s is not None and version not in self.other_bytes
            found = lasting and s is not None and deleted[s]
            again = inspected and seen[self.incoming_at[version]]
            # A run that met the file before it went, and comes late, does not bring it back.
            is_back = found and again and (instant(again) > instant(found) or is_ahead(found, self._clock))
            computed["deleted_at"].append(found if found and not is_back else None)
            before_now = (states[s], failing[s], last[s]) if lasting and s is not None else (None, None, None)
            state = states[self.incoming_at[version]] if inspected else states[s] if s is not None else None
            computed["retryable_since"].append(retryable_since(state, *before_now, clock=self._clock))
            # A file that comes back gets a partition and media again, so it is no longer retired.
            stays = lasting and is_current and was is None and not is_back
            computed["archived_at"].append(archived[s] if stays and s is not None else None)
        kept: dict[MergeRule, set[VersionId]] = {"coalesce": self._met, "header": self._keeps_header}
        return self.gather(versions, kept, computed)

    def removed_children(self, rows: Mapping[TableName, pa.Table]) -> dict[TableName, list[VersionId]]:
        """The versions whose stored parts, channels, attributes and streams go out, for others or for none."""
        replaced = self._met & self.read_now
        return {name: sorted(self.other_bytes | (replaced if name in rows else set())) for name in CHILD_TABLES}


class _OutputsMerge(_Merge):
    """The `proxy_outputs` rows after a write."""

    def __init__(self, rows: Mapping[TableName, pa.Table], stored: pa.Table, files: _FilesMerge, clock: str) -> None:
        incoming = rows.get("proxy_outputs", stored.schema.empty_table())
        super().__init__("proxy_outputs", incoming, stored)
        self._files, self._clock = files, clock
        self._keys, self._file_ids = _file_keys(self.both, "s3_bucket", "s3_key"), self.values("file_id")
        self._superseded = self.values("superseded_at")
        known = set(files.ids)
        for (bucket, _), i in self.incoming_at.items():
            if (bucket, self._file_ids[i]) not in known:
                raise ValueError(f"proxy_outputs has a row of file_id {self._file_ids[i]}, but files has no such row")
        # The last one wins if a file's current version has several outputs; ours have one, named by the file_id.
        self._remade = {
            self._keys[i]: version
            for version, i in self.incoming_at.items()
            if self._file_ids[i] == files.current.get(self._keys[i])
        }

    def changed_rows(self) -> pa.Table:
        """The rows that are new or differ from the stored ones."""
        superseded_at: dict[VersionId, str | None] = {}
        for version in dict.fromkeys(self.ids):
            stored_at = self.stored_at.get(version)
            was = None if stored_at is None else self._superseded[stored_at]
            now = None if self._is_current(version) else was or self._clock
            if version in self.incoming_at or now != was or version in self.duplicated:
                superseded_at[version] = now
        versions = list(superseded_at)
        return self.gather(versions, self._kept(), {"superseded_at": list(superseded_at.values())})

    def _is_current(self, version: VersionId) -> bool:
        if version in self.incoming_at:
            return self._remade.get(self._keys[self.incoming_at[version]]) == version
        index = self.stored_at[version]
        key, file_id = self._keys[index], self._file_ids[index]
        return (
            self._superseded[index] is None
            and self._files.current.get(key) == file_id
            and key not in self._remade
            and (version[0], file_id) not in self._files.other_bytes
        )

    def _kept(self) -> dict[MergeRule, set[VersionId]]:
        """What is stored of outputs that are made again counts only if it shows the same bytes."""
        thumbnails, proxies = self.values("thumbnail_s3_key"), self.values("proxy_s3_key")
        kept: dict[MergeRule, set[VersionId]] = {"coalesce": set(), "thumbnail": set(), "proxy": set()}
        for version, i in self.incoming_at.items():
            s = self.stored_at.get(version)
            if s is None or self._superseded[s] or (version[0], self._file_ids[i]) in self._files.other_bytes:
                continue
            kept["coalesce"].add(version)
            if thumbnails[i] is None:
                kept["thumbnail"].add(version)
            if proxies[i] is None:
                kept["proxy"].add(version)
        return kept


def retryable_since(
    state: State | None, before: State | None, since: str | None, tried_at: str | None, *, clock: str
) -> str | None:
    """Since when something has been retryable, given its state now, and its state, that moment and its try before."""
    if state != RETRYABLE:
        return None
    return (since or tried_at or clock) if before == RETRYABLE else clock


_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


def instant(mtime: str | None) -> datetime:
    """The moment of an ISO 8601 text, in UTC if it names no zone; the earliest one if it is unreadable."""
    try:
        moment = datetime.fromisoformat(mtime or "")
    except ValueError:
        return _EARLIEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def is_ahead(stored: str | None, clock: str) -> bool:
    """Whether a stored time is so far in the future that a wrong clock must have written it."""
    # Most are in the past, which their texts tell for less.
    return stored is not None and stored > clock and instant(stored) > instant(clock) + CLOCKS_DIFFER_BY


def _pairs(table: pa.Table, first: str, second: str) -> list[tuple[Any, Any]]:
    return list(zip(table.column(first).to_pylist(), table.column(second).to_pylist(), strict=True))


def _file_keys(table: pa.Table, bucket: str, file_path: str) -> list[FileKey]:
    return [FileKey(*pair) for pair in _pairs(table, bucket, file_path)]


def newest_by_folder(changed: Iterable[tuple[str, str]]) -> dict[Location, str]:
    """The folders of files, given as URL and moment of change, with the latest moment of each."""
    from exr_pipeline.storage.locations import Location

    newest: dict[Location, str] = {}
    for uri, moment in changed:
        location = Location.from_url(uri)
        folder = location.folder
        newest[folder] = max(moment, newest.get(folder, ""))
    return newest


# What `versions_by_location` needs of the files table.
VERSION_COLUMNS: Final = ("bucket", "file_path", *FileVersion._fields)


def versions_by_location(locations: Iterable[Location], files: pa.Table) -> dict[Location, FileVersion]:
    """The versions that rows of `files` (its `VERSION_COLUMNS`) describe, by the location that was asked for."""
    rows = zip(*(files.column(name).to_pylist() for name in VERSION_COLUMNS), strict=True)
    known = {
        FileKey(bucket, path): FileVersion(
            file_id,
            etag,
            instant(mtime) if mtime else None,
            state,
            instant(inspected),
            reason,
            header_hash,
            instant(archived_at) if archived_at else None,
            instant(deleted_at) if deleted_at else None,
            instant(failing_since) if failing_since else None,
        )
        for (
            bucket,
            path,
            file_id,
            etag,
            mtime,
            state,
            inspected,
            reason,
            header_hash,
            archived_at,
            deleted_at,
            failing_since,
        ) in rows
    }
    found = ((location, known.get(FileKey(location.bucket, location.path))) for location in locations)
    return {location: version for location, version in found if version is not None}
