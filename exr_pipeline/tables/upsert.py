"""What a write changes, decided from the incoming rows and the stored ones. Pure functions of Arrow tables.

Belongs here: the rules of docs/tables.md on versions, current rows and partial rows. Not here: transactions or I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from exr_pipeline.tables.conform import conform
from exr_pipeline.tables.schema import TABLE_NAMES, TableName, arrow_schema
from exr_pipeline.tables.store import FileVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from exr_pipeline.storage.locations import Location

CHILD_TABLES: Final[tuple[TableName, ...]] = ("parts", "channels", "attributes")


class FileKey(NamedTuple):
    """A file whatever its version: its bucket (empty for local files) and its key."""

    bucket: str
    file_path: str


# (bucket, file_id), or (s3_bucket, proxy_id) for outputs
VersionId = tuple[str, str]

# Where a column of the new row comes from if its version is stored already: the incoming row; the incoming row unless
# null; or, all columns of the group together, the stored row if the incoming one says nothing of the group.
_Rule = Literal["incoming", "coalesce", "header", "thumbnail", "proxy"]

_FILE_RULES: Final[dict[str, _Rule]] = {
    **dict.fromkeys(("file_id", "file_path", "bucket", "state", "reason"), "incoming"),
    **dict.fromkeys(("file_path_normalized", "size_bytes", "mtime", "frame_number", "uri", "etag"), "coalesce"),
}


@dataclass(frozen=True)
class WritePlan:
    """Rows to put in, and the versions whose stored rows go out before (all of them, duplicates too)."""

    files: pa.Table
    proxy_outputs: pa.Table
    children: dict[TableName, pa.Table]
    removed_children: dict[TableName, list[VersionId]] = field(default_factory=dict)


def conform_all(rows: Mapping[TableName, pa.Table]) -> dict[TableName, pa.Table]:
    """The rows of a write, conformed and checked: whole keys, no version twice, children with their files row."""
    import pyarrow as pa

    if unknown := set(rows) - set(TABLE_NAMES):
        raise ValueError(f"there is no table {', '.join(sorted(unknown))}")
    conformed = {name: conform(name, table) for name, table in rows.items()}
    files = conformed.get("files", arrow_schema("files").empty_table())
    _check_keys("files", files, ("bucket", "file_path", "file_id", "mtime", "state"), ("bucket", "file_id"))
    buckets: dict[str, set[str]] = {}
    for bucket, file_id in _pairs(files, "bucket", "file_id"):
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
                raise ValueError(f"{name} has rows of file_id {file_id} in bucket {bucket!r}, which files has not")
            filled.append(bucket)
        index = table.column_names.index("bucket")
        conformed[name] = table.set_column(index, table.schema.field(index), pa.array(filled, pa.string()))
    if "proxy_outputs" in conformed:
        needed = ("s3_bucket", "s3_key", "file_id", "proxy_id")
        _check_keys("proxy_outputs", conformed["proxy_outputs"], needed, ("s3_bucket", "proxy_id"))
    return conformed


def _check_keys(name: str, table: pa.Table, needed: Iterable[str], key: tuple[str, str]) -> None:
    for column in needed:
        if table.column(column).null_count:
            raise ValueError(f"{name}.{column} must not be null")
    twice = [version for version, count in Counter(_pairs(table, *key)).items() if count > 1]
    if twice:
        raise ValueError(f"{name} has several rows with {' and '.join(key)} {twice[0]}")


def touched_files(rows: Mapping[TableName, pa.Table]) -> list[FileKey]:
    """The files whose stored versions and outputs a write must know."""
    keys = dict.fromkeys(_file_keys(rows["files"], "bucket", "file_path") if "files" in rows else ())
    if "proxy_outputs" in rows:
        keys |= dict.fromkeys(_file_keys(rows["proxy_outputs"], "s3_bucket", "s3_key"))
    return list(keys)


def plan_write(
    rows: Mapping[TableName, pa.Table], stored_files: pa.Table, stored_proxies: pa.Table, now: datetime
) -> WritePlan:
    """What to write, given conformed rows and all stored rows (every version) of `touched_files`."""
    clock = now.astimezone(UTC).isoformat()
    files = _FilesMerge(rows, stored_files, clock)
    return WritePlan(
        files=files.changed_rows(),
        proxy_outputs=_merge_proxies(rows, stored_proxies, files, clock),
        children={name: rows[name] for name in CHILD_TABLES if name in rows},
        removed_children=files.removed_children(rows),
    )


class _Merge:
    """Incoming rows over stored ones of the same table: which stored row each one meets, and the gathered result."""

    def __init__(self, incoming: pa.Table, stored: pa.Table, key: tuple[str, str]) -> None:
        import pyarrow as pa

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

    def gather(
        self,
        versions: Sequence[VersionId],
        rule_of: Callable[[str], _Rule],
        kept: Mapping[_Rule, set[VersionId]],
        computed: Mapping[str, list[Any]],
    ) -> pa.Table:
        """One row per version. `kept` says for each rule which versions may take the stored row's columns."""
        import pyarrow as pa

        new = self._indices(versions, self.incoming_at, self.stored_at)
        old = self._indices(versions, self.stored_at, self.incoming_at)
        columns = []
        for column in self.both.schema:
            if column.name in computed:
                columns.append(pa.array(computed[column.name], column.type))
                continue
            rule = rule_of(column.name)
            choice = new
            if rule != "incoming":
                keep = np.fromiter((v in kept[rule] for v in versions), bool, len(versions))
                if rule == "coalesce":
                    valid = self.both.column(column.name).is_valid().to_numpy()
                    keep &= ~valid[new]
                choice = np.where(keep, old, new)
            columns.append(self.both.column(column.name).take(pa.array(choice)))
        return pa.table(columns, schema=self.both.schema).combine_chunks()

    @staticmethod
    def _indices(
        versions: Sequence[VersionId], first: Mapping[VersionId, int], second: Mapping[VersionId, int]
    ) -> npt.NDArray[np.int64]:
        return np.fromiter((first[v] if v in first else second[v] for v in versions), np.int64, len(versions))


class _FilesMerge(_Merge):
    """The `files` rows after a write, with what it means for the other tables."""

    def __init__(self, rows: Mapping[TableName, pa.Table], stored: pa.Table, clock: str) -> None:
        incoming = rows.get("files", stored.schema.empty_table())
        super().__init__(incoming, stored, ("bucket", "file_id"))
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
        best: dict[FileKey, tuple[datetime, int]] = {}
        for index, (key, mtime) in enumerate(
            zip(_file_keys(self.both, "bucket", "file_path"), self.values("mtime"), strict=True)
        ):
            best[key] = max(best.get(key, (_EARLIEST, -1)), (instant(mtime), index))
        return {key: self.ids[index][1] for key, (_, index) in best.items()}

    def changed_rows(self) -> pa.Table:
        """The rows that are new or differ from the stored ones."""
        superseded, first = self.values("superseded_at"), self.values("inspection_timestamp")
        last, count = self.values("last_inspected"), self.values("inspection_count")
        keys = _file_keys(self.both, "bucket", "file_path")
        versions: list[VersionId] = []
        computed: dict[str, list[Any]] = {
            "superseded_at": [],
            "inspection_timestamp": [],
            "last_inspected": [],
            "inspection_count": [],
        }
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
            computed["last_inspected"].append(max(before[0], self._clock) if inspected else before[0] or None)
            computed["inspection_count"].append(before[1] + inspected)
        kept: dict[_Rule, set[VersionId]] = {"coalesce": self._met, "header": self._keeps_header}
        return self.gather(versions, lambda column: _FILE_RULES.get(column, "header"), kept, computed)

    def removed_children(self, rows: Mapping[TableName, pa.Table]) -> dict[TableName, list[VersionId]]:
        """The versions whose stored parts, channels and attributes go out, because others come in or none are true."""
        replaced = self._met & self.read_now
        return {name: sorted(self.other_bytes | (replaced if name in rows else set())) for name in CHILD_TABLES}


def _merge_proxies(rows: Mapping[TableName, pa.Table], stored: pa.Table, files: _FilesMerge, clock: str) -> pa.Table:
    incoming = rows.get("proxy_outputs", stored.schema.empty_table())
    merge = _Merge(incoming, stored, ("s3_bucket", "proxy_id"))
    keys, file_ids = _file_keys(merge.both, "s3_bucket", "s3_key"), merge.values("file_id")
    superseded = merge.values("superseded_at")
    thumbnails, proxies = merge.values("thumbnail_s3_key"), merge.values("proxy_s3_key")
    known = set(files.ids)
    # The last one wins if a file's current version has several outputs; ours have one, named by the file_id.
    remade = {keys[i]: v for v, i in merge.incoming_at.items() if file_ids[i] == files.current.get(keys[i])}
    versions: list[VersionId] = []
    result: list[str | None] = []
    kept: dict[_Rule, set[VersionId]] = {"coalesce": set(), "thumbnail": set(), "proxy": set()}
    for version in dict.fromkeys(merge.ids):
        i, s = merge.incoming_at.get(version), merge.stored_at.get(version)
        at = s if i is None else i
        assert at is not None
        key, source = keys[at], (version[0], file_ids[at])
        if i is not None and source not in known:
            raise ValueError(f"proxy_outputs has a row of file_id {source[1]}, which files has not")
        was = None if s is None else superseded[s]
        if i is not None:
            is_current = remade.get(key) == version
        else:
            is_current = (
                was is None
                and files.current.get(key) == source[1]
                and key not in remade
                and source not in files.other_bytes
            )
        superseded_at = None if is_current else was or clock
        if i is None and superseded_at == was and version not in merge.duplicated:
            continue
        versions.append(version)
        result.append(superseded_at)
        if i is not None and s is not None and was is None and source not in files.other_bytes:
            kept["coalesce"].add(version)
            if thumbnails[i] is None:
                kept["thumbnail"].add(version)
            if proxies[i] is None:
                kept["proxy"].add(version)
    return merge.gather(versions, _proxy_rule, kept, {"superseded_at": result})


def _proxy_rule(column: str) -> _Rule:
    if column in {"proxy_id", "file_id", "s3_key", "s3_bucket"}:
        return "incoming"
    if column.startswith("thumb") or column == "still_view":
        return "thumbnail"
    if column.startswith("proxy_") or column == "encoder":
        return "proxy"
    return "coalesce"


_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


def instant(mtime: str | None) -> datetime:
    """The moment of an ISO 8601 text, in UTC if it names no zone; the earliest one if it is unreadable."""
    try:
        moment = datetime.fromisoformat(mtime or "")
    except ValueError:
        return _EARLIEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _pairs(table: pa.Table, first: str, second: str) -> list[tuple[Any, Any]]:
    return list(zip(table.column(first).to_pylist(), table.column(second).to_pylist(), strict=True))


def _file_keys(table: pa.Table, bucket: str, file_path: str) -> list[FileKey]:
    return [FileKey(*pair) for pair in _pairs(table, bucket, file_path)]


def file_columns(table: TableName) -> tuple[str, str]:
    """The columns of a table that hold bucket and key of the file."""
    return ("s3_bucket", "s3_key") if table == "proxy_outputs" else ("bucket", "file_path")


def version_columns(table: TableName) -> tuple[str, str]:
    """The columns of a table that together name one version."""
    return ("s3_bucket", "proxy_id") if table == "proxy_outputs" else ("bucket", "file_id")


# What `versions_by_location` needs of the files table.
VERSION_COLUMNS: Final = ("bucket", "file_path", *FileVersion._fields)


def versions_by_location(locations: Iterable[Location], files: pa.Table) -> dict[Location, FileVersion]:
    """The versions that rows of `files` (its `VERSION_COLUMNS`) describe, by the location that was asked for."""
    rows = zip(*(files.column(name).to_pylist() for name in VERSION_COLUMNS), strict=True)
    known = {
        FileKey(bucket, path): FileVersion(file_id, etag, instant(mtime), state, instant(last_inspected))
        for bucket, path, file_id, etag, mtime, state, last_inspected in rows
    }
    found = ((location, known.get(FileKey(location.bucket, location.key))) for location in locations)
    return {location: version for location, version in found if version is not None}
