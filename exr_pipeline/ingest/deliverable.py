"""Which object to hand out for a file or sequence: the one that the rows of its current version name.

Belongs here: that question to the tables, and why there is none. Not here: URLs (`storage.presigned`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.outputs import OutputPlace

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore

# `source` is the file itself; a movie is that of a sequence.
Deliverable = Literal["source", "thumbnail", "proxy", "movie"]

_FRAMES: Final = """
    SELECT count(*) AS frames, count(*) FILTER (f.archived_at IS NULL) AS kept
    FROM sequence_frames s JOIN latest_files f ON f.file_id = s.file_id AND f.bucket IS NOT DISTINCT FROM s.bucket
    WHERE s.sequence_path = $path AND coalesce(s.bucket, '') = $bucket"""


def deliverable(tables: TableStore, settings: Settings, location: Location, wanted: Deliverable = "source") -> Location:
    """The object that the tables name for a file, or with `movie` for a sequence.

    Raises `BadInputError` with the reason and what to do if the tables do not know the file or sequence, if it is
    deleted or archived, and if the object was not made of the current version.
    """
    if wanted == "movie":
        return _movie(tables, settings, location)
    version = _row(tables, "files", location)
    if version["deleted_at"] is not None:
        raise BadInputError(location.url, "it was deleted from its store")
    if version["archived_at"] is not None:
        _refuse_archived(location)
    return location if wanted == "source" else _picture(tables, settings, location, wanted, version)


def _row(tables: TableStore, table: TableName, location: Location) -> dict[str, Any]:
    rows: list[dict[str, Any]] = tables.read(table, locations=[location]).to_pylist()
    # Buckets of different stores may have the same name.
    ours = [row for row in rows if row["uri"] is None or row["uri"].startswith(f"{location.scheme}://")]
    if not ours:
        what = "sequence" if table == "sequence_outputs" else "file"
        raise BadInputError(location.url, f"no such {what} in the tables: ingest it first")
    return ours[0]


def _picture(
    tables: TableStore, settings: Settings, location: Location, wanted: Deliverable, version: dict[str, Any]
) -> Location:
    column = f"{wanted}_s3_key"
    # A new version supersedes the outputs of the one before: those that are current show the current file.
    rows = tables.read("proxy_outputs", columns=("output_bucket", column), locations=[location]).to_pylist()
    if not rows or not rows[0][column]:
        _refuse_unmade(location, wanted, version)
    return OutputPlace.from_settings(settings).named(location, rows[0]["output_bucket"], rows[0][column])


def _movie(tables: TableStore, settings: Settings, location: Location) -> Location:
    row = _row(tables, "sequence_outputs", location)
    (frames,) = tables.sql(_FRAMES, {"path": location.path, "bucket": location.bucket}).to_pylist()
    if frames["frames"] == 0:
        raise BadInputError(location.url, "all frames were deleted from their store")
    if frames["kept"] == 0:
        _refuse_archived(location)
    if not row["movie_s3_key"]:
        _refuse_unmade(location, "movie", row)
    return OutputPlace.from_settings(settings).named(location, row["output_bucket"], row["movie_s3_key"])


def _refuse_archived(location: Location) -> NoReturn:
    raise BadInputError(location.url, f"it is archived. To bring it back: exr-pipeline unarchive {location.folder.url}")


def _refuse_unmade(location: Location, wanted: Deliverable, row: dict[str, Any]) -> NoReturn:
    command = "sequences" if wanted == "movie" else "ingest"
    why = f"{row['state']}: {row['reason']}" if row["reason"] else f"to make it: exr-pipeline {command} {location.url}"
    raise BadInputError(location.url, f"its {wanted} was not made ({why})")
