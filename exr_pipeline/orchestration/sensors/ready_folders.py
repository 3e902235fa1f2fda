"""Folders that a `.ready` object says are complete: their sequences need not wait for the quiet time.

Belongs here: when such a folder is worked on, and the runs that follow. Not here: how its event came (`events_in`), or
the sequences of all other folders (`sequences`), which also finds these after the quiet time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.ingest.discovery.named import SourceFiles
from exr_pipeline.ingest.discovery.needs_work import needs_work
from exr_pipeline.orchestration.partitions import SEQUENCES
from exr_pipeline.orchestration.sensors.sequences import (
    MAX_RUNS,
    requests,
    sequences_under_way,
    unfinished_sequence_runs,
)
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.specs import RETRYABLE

if TYPE_CHECKING:
    import dagster as dg

    from exr_pipeline.events.notifications import ObjectEvent
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.sequences.model import Sequence

READY: Final = ".ready"
# By then its frames are ingested, or the quiet time has passed for what there is of them.
READY_FOR: Final = timedelta(hours=1)
FOLDERS_PER_TICK: Final = 5
OBJECTS_PER_FOLDER: Final = 20_000


def ready_folders(events: Iterable[ObjectEvent], sources: SourceFiles) -> list[str]:
    """URLs of the folders of the sources that events of `.ready` objects name."""
    return [
        event.location.folder.url
        for event in events
        if event.location.name.endswith(READY) and sources.source_of(event.location) is not None
    ]


def complete_folders(
    instance: dg.DagsterInstance, pipeline: Pipeline, folders: Mapping[str, datetime], *, now: datetime
) -> tuple[list[dg.RunRequest], dict[str, datetime]]:
    """Runs over the sequences of folders whose frames are all in the tables, and the folders to look at again.

    Adds the partitions of new sequences. Each folder comes with when its event was read. The event is not believed:
    the object has to be there. A few folders have their turn at a time, the others wait.
    """
    due = {url: since for url, since in folders.items() if now - since < READY_FOR}
    if not due or unfinished_sequence_runs(instance) >= MAX_RUNS:
        return [], due
    left = dict(islice(due.items(), FOLDERS_PER_TICK, None))
    under_way = sequences_under_way(instance)
    wanted: set[str] = set()
    for url, since in islice(due.items(), FOLDERS_PER_TICK):
        found = _sequences_due(pipeline, Location.from_url(url), now=now)
        keys = {sequence.location.partition_key for sequence in found or []}
        wanted |= keys - under_way
        if found is None or keys & under_way:
            left[url] = since
    known = list(instance.get_dynamic_partitions(SEQUENCES)) if wanted else []
    if new := sorted(wanted - set(known)):
        instance.add_dynamic_partitions(SEQUENCES, new)
    return list(requests([], wanted, [*known, *new])), left


def _sequences_due(pipeline: Pipeline, folder: Location, *, now: datetime) -> list[Sequence] | None:
    """The sequences of a folder whose media are not up to date; None while frames are not in the tables yet."""
    from exr_pipeline.ingest.discovery.settled_sequences import outdated, sequences_in

    settings, tables = pipeline.settings, pipeline.tables
    try:
        listed = list(islice(pipeline.storage.iter_objects(folder), OBJECTS_PER_FOLDER))
    except (BadInputError, MisconfiguredError):
        return []
    there = [info for info in listed if info.location.folder == folder]
    if not any(info.location.name.endswith(READY) for info in there):
        return []
    sources = SourceFiles(settings)
    frames = [info for info in there if info.location in sources]
    versions = tables.current_versions([info.location for info in frames])
    retry_after = timedelta(seconds=settings.retry_after_seconds)
    unread = any(version.state == RETRYABLE for version in versions.values())
    if unread or needs_work(frames, versions, now=now, retry_after=retry_after):
        return None
    return outdated(tables, sequences_in(tables, folder, udim=settings.udim_hint), now=now, retry_after=retry_after)
