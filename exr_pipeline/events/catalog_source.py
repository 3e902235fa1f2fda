"""Changes that the VAST Catalog knows of: a cluster's own index of its files, made anew every few minutes.

Belongs here: asking it for what has changed since the last look. Not here: other tables of VAST DataBase
(`tables.stores.vast`), or what is done about a file. Facts about its columns: docs/events-in.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.events.source import Batch, Message, Positions
from exr_pipeline.extras import require
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.stores.vast_session import VastConnection

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

    from exr_pipeline.settings import Settings

CATALOG_BUCKET: Final = "vast-big-catalog-bucket"
_SETTING: Final = "EXR_PIPELINE_EVENTS_CATALOG"
# The catalog changes every quarter of an hour or so. To ask more often finds nothing.
SECONDS_BETWEEN_LOOKS: Final = 60.0
# Of a cluster that is asked for the first time: what is older is left to the sweep.
_FIRST_LOOK: Final = timedelta(hours=1)
_COLUMNS: Final = ["parent_path", "name", "ctime"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CatalogSource:
    """Files below some paths of a cluster. Positions are `since`, a `ctime` in nanoseconds, and `looked`, a time.

    The catalog has paths of the cluster, so that `places` says which URL a path has as an object.
    """

    name = "catalog"

    def __init__(self, connection: VastConnection, places: Mapping[str, Location]) -> None:
        self._connection, self._places = connection, places

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The source that the settings name. Raises `MisconfiguredError` if something is missing or wrong."""
        require("vast")
        places = {}
        for path, url in settings.events_catalog.items():
            location = Location.from_url(url, setting=_SETTING).as_folder()
            if not path.startswith("/") or location.scheme != "s3":
                raise MisconfiguredError(
                    _SETTING, f"{path}={url} is not a path and its URL", "write /path/of/a/view=s3://bucket/"
                )
            places[f"{path.rstrip('/')}/"] = location
        return cls(VastConnection.from_settings(settings.model_copy(update={"vast_db_bucket": CATALOG_BUCKET})), places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def check(self) -> str:
        """See `EventSource`."""
        with self._table() as table:
            return f"the VAST Catalog answers, {len(table.columns())} columns; looked at for {', '.join(self._places)}"

    def acknowledge(self, positions: Positions) -> Positions:
        """Nothing hears of it: the catalog has no readers to remember."""
        return positions

    def read(self, positions: Positions, *, limit: int, seconds: float) -> Batch:
        """The files that have changed since the last look, oldest change first; asks once a minute at most."""
        now = datetime.now(UTC)
        since = positions.get("since", int((now - _FIRST_LOOK - _EPOCH).total_seconds() * 1e9))
        if now.timestamp() - positions.get("looked", 0) < SECONDS_BETWEEN_LOOKS:
            time.sleep(seconds)
            return Batch([], positions)
        changed: list[tuple[int, str, Location]] = []
        for path, place in self._places.items():
            rows = self._changed(path, since)
            columns = [rows.column("parent_path"), rows.column("name"), rows.column("ctime").cast("int64")]
            for parent, name, moment in zip(*(column.to_pylist() for column in columns), strict=True):
                if moment > since:
                    changed.append((moment, f"{parent}{name}", place.child(f"{parent}{name}"[len(path) :])))
        changed.sort()
        chosen = changed[:limit]
        # What was left out is asked for at once.
        looked = now.timestamp() if len(chosen) == len(changed) else 0
        after = {"since": chosen[-1][0] if chosen else since, "looked": looked}
        return Batch([_message(path, location) for _, path, location in chosen], after)

    def _changed(self, path: str, since: int) -> pa.Table:
        # The client compares with microseconds, and without a time zone.
        moment = (_EPOCH + timedelta(microseconds=since // 1000)).replace(tzinfo=None)
        with self._table() as table:
            predicate = (table["ctime"] >= moment) & table["parent_path"].startswith(path)
            found: pa.Table = table.select(columns=_COLUMNS, predicate=predicate).read_all()
            return found

    @contextmanager
    def _table(self) -> Iterator[Any]:
        from vastdb import errors

        with self._connection.transaction() as transaction:
            try:
                table: Any = transaction.catalog(fail_if_missing=False)
            except errors.NotFound:
                table = None
            if table is None:
                raise MisconfiguredError(_SETTING, "the cluster has no VAST Catalog", "turn it on in the cluster")
            yield table


def _message(path: str, location: Location) -> Message:
    content = json.dumps({"s3_bucket": location.bucket, "s3_key": location.key}).encode()
    return Message("catalog", path, content)
