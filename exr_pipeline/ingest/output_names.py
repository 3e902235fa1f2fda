"""Which names the outputs of a file get where other programs look for them by the stem of the file's name.

Belongs here: asking storage and tables whether a stem is free. Not here: the rule (`storage.outputs`). Why it is done
so: docs/decisions/0012-names-after-the-stem.md.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Protocol

from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace, is_after_stem, stem_of, stem_owner
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.storage.outputs import NamedAfter
    from exr_pipeline.tables.specs import TableName

log = logging.getLogger(__name__)

# A stem has few files, and each file asks.
_PAGE: Final = 32
OUTPUT_KEYS: Final = ("thumbnail_s3_key", "proxy_s3_key")


class OutputRows(Protocol):
    """What is needed of a table store."""

    def read(self, table: TableName, *, columns: Sequence[str], locations: Collection[Location]) -> pa.Table:
        """The current rows of these files."""


class OutputNames:
    """The names of outputs under `EXR_PIPELINE_COMPATIBILITY`; without it, those that no two sources share."""

    def __init__(self, settings: Settings, storage: ObjectStorage, rows: OutputRows) -> None:
        self._are_after_stems = bool(settings.compatibility)
        self._rule = SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))
        self._storage, self._rows = storage, rows

    def of(self, source: Location) -> tuple[NamedAfter, str | None]:
        """What the outputs of a file are named after, and the warning if another source has the stem.

        Raises as a listing and a query do.
        """
        if not self._are_after_stems:
            return "own", None
        others = [other for other in self._with_its_stem(source) if other != source]
        if not others:
            return "stem", None
        owner = owner_among([source, *others], self._outputs([source, *others]))
        if owner == source.name:
            return "stem", None
        warning = f"outputs have the whole name of the file: {quoted(owner)} in the same folder has its stem"
        log.warning("%s: %s", source.url, warning)
        return "name", warning

    def _with_its_stem(self, source: Location) -> Iterator[Location]:
        """The sources next to this one whose names differ in their extension only."""
        stem = f"{source.folder.key}{stem_of(source.name)}"
        after: str | None = f"{stem}."
        while after is not None:
            page = self._storage.list_page(source.folder, after=after, limit=_PAGE)
            for info in page.objects:
                location = info.location
                if not location.key.startswith(f"{stem}."):
                    return
                if location.folder == source.folder and self._is_same_stem(location, source):
                    yield location
            after = None if page.done else page.last_key

    def _is_same_stem(self, one: Location, other: Location) -> bool:
        return stem_of(one.name) == stem_of(other.name) and self._rule.accepts(one, below=one.folder.key)

    def _outputs(self, sources: Collection[Location]) -> dict[str, list[str]]:
        """The names of outputs that the tables know, by the name of their source."""
        columns = ("s3_bucket", "s3_key", *OUTPUT_KEYS)
        rows = self._rows.read("proxy_outputs", columns=columns, locations=sources).to_pylist()
        return {row["s3_key"].rpartition("/")[2]: output_names(row) for row in rows}


def output_names(row: Mapping[str, Any]) -> list[str]:
    """The names of the outputs that a row of `proxy_outputs` points to."""
    return [row[column].rpartition("/")[2] for column in OUTPUT_KEYS if row.get(column)]


def owner_among(sources: Iterable[Location], outputs: Mapping[str, Collection[str]]) -> str:
    """Which of these sources of one stem has it, by the names of the outputs that each has now."""
    names = [source.name for source in sources]
    holding = [name for name in names if any(is_after_stem(output, name) for output in outputs.get(name, ()))]
    return stem_owner(names, holding)


def by_stem(sources: Iterable[Location]) -> dict[Location, list[Location]]:
    """Sources by their folder and stem."""
    found: dict[Location, list[Location]] = defaultdict(list)
    for source in sources:
        found[source.folder.child(stem_of(source.name))].append(source)
    return found
