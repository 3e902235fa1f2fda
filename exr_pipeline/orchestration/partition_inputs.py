"""What an asset per sequence or per shot takes from the assets of files and sequences: file -> sequence -> shot.

Belongs here: the inputs that users declare, and which files or sequences each stands for. Not here: reading their rows
(`io_managers`), or which files are a sequence (`sequences`).

Dagster has no mapping between two dynamic partition sets, and deprecates mappings of one's own: its page and daemon
would not know them. So such an input depends on all partitions, which is what the graph shows, and its rows are those
that belong to the asset's own partition. The tables say which these are, so that no run reads all partition keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import dagster as dg

from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import TABLES

if TYPE_CHECKING:
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore

# The key in an input's metadata, and its values.
ROWS_OF: Final = "rows of"
FRAMES: Final = "the sequence's frames"
BELOW: Final = "everything below the folder"


def frames_of_sequence(table: TableName = "files") -> dg.AssetIn:
    """The input of an asset over `sequences_partitions`: rows of a table about the frames of its sequence."""
    return _input(table, FRAMES)


def below_folder(table: TableName = "files") -> dg.AssetIn:
    """The input of an asset over folders, such as shots: rows of a table about all files or sequences below its folder.

    The partition set is the user's own. `folder_key` makes its keys.
    """
    return _input(table, BELOW)


def folder_key(url: str) -> str:
    """The partition key of a folder such as `s3://renders/show/shot_010/`.

    Raises `MisconfiguredError` if the URL is not one of object storage.
    """
    return Location.from_url(url).as_folder().partition_key


def belonging_to(tables: TableStore, table: TableName, rows_of: str, partition_key: str) -> list[Location]:
    """The files, or for `sequence_outputs` the sequences, whose rows such an input gets in this partition.

    Raises as `TableStore.scan` does, and `DagsterInvariantViolationError` for an unknown `rows_of`.
    """
    own = Location.from_partition_key(partition_key)
    if rows_of == FRAMES:
        return _frames(tables, own)
    if rows_of != BELOW:
        raise dg.DagsterInvariantViolationError(f"{ROWS_OF!r} is {rows_of!r}: write {FRAMES!r} or {BELOW!r}")
    folder = own.as_folder()
    if TABLES[table].role != "latest":
        return _files_below(tables, folder)
    uris = tables.read(table, columns=["uri"]).column("uri").to_pylist()
    return sorted(location for location in map(Location.from_url, uris) if folder.holds(location))


def _input(table: TableName, rows_of: str) -> dg.AssetIn:
    return dg.AssetIn(partition_mapping=dg.AllPartitionMapping(), metadata={"table": table, ROWS_OF: rows_of})


def _frames(tables: TableStore, sequence: Location) -> list[Location]:
    from exr_pipeline.sequences.find import find_sequences

    folder = sequence.folder
    files = [location for location in _files_below(tables, folder) if location.folder == folder]
    found = {each.location: each for each in find_sequences(files, singles=True, udim="")}
    return [frame.location for frame in found[sequence].frames] if sequence in found else []


def _files_below(tables: TableStore, folder: Location) -> list[Location]:
    batches = tables.scan("files", columns=["uri"], bucket=folder.bucket, prefix=folder.path)
    locations = [Location.from_url(uri) for batch in batches for uri in batch.column("uri").to_pylist()]
    return sorted(location for location in locations if location.scheme == folder.scheme)
