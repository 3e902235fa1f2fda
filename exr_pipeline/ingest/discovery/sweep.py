"""Where a tick of the sensor looks: the next stretch of every source, and the folders where files have just arrived.

Belongs here: bounded listing, and what is hot. Not here: what becomes of what is found (`orchestration.sensors.files`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.ingest.discovery.cursor import HotFolder
from exr_pipeline.storage.locations import OUTPUT_FOLDER, Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exr_pipeline.ingest.discovery.cursor import Cursor
    from exr_pipeline.ingest.discovery.needs_work import Candidate
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

HOT_FOLDERS: Final = 32
HOT_FOR: Final = timedelta(hours=2)

# One request to a store.
_PAGE: Final = 1000
# Sorts behind whatever is in a folder of outputs, so that their listing is left out.
_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a tick found, and the sources, by their URLs, that it could not look into."""

    files: list[ObjectInfo]
    unavailable: dict[str, MisconfiguredError | RetryableError] = field(default_factory=dict)


@dataclass
class _Budget:
    """What a tick may still list, and until when."""

    objects: int
    deadline: float
    clock: Callable[[], float] = time.monotonic

    @property
    def is_spent(self) -> bool:
        return self.objects <= 0 or self.clock() >= self.deadline


def hot_folders(before: Sequence[HotFolder], arrivals: Iterable[Candidate], *, now: datetime) -> list[HotFolder]:
    """The folders of the latest arrivals, new or changed within `HOT_FOR`: at most `HOT_FOLDERS`, in a steady order.

    A backlog makes nothing hot: only a file's own date does.
    """
    latest = {folder.url: folder for folder in before}
    for candidate in arrivals:
        url, modified = candidate.info.location.folder.url, min(candidate.info.last_modified, now)
        known = latest.get(url)
        if candidate.need != "retry" and (known is None or known.latest < modified):
            latest[url] = HotFolder(url, modified, known.after if known else None)
    # Stores date to the second: of those as late as each other, the ones met last.
    hot = [url for url, folder in reversed(latest.items()) if now - folder.latest < HOT_FOR]
    hottest = set(sorted(hot, key=lambda url: latest[url].latest, reverse=True)[:HOT_FOLDERS])
    return [folder for url, folder in latest.items() if url in hottest]


def list_sources(settings: Settings, storage: ObjectStorage, cursor: Cursor, *, now: datetime) -> Listed:
    """The files of the next stretch of each source and of the hot folders; moves the cursor on.

    Listing ends after `sensor_max_listed` objects of each kind or after `sensor_seconds`, whichever comes first; a tick
    goes on at least one request in the sweep, so that every sweep comes to its end. After the last key a source starts
    over. One that is unavailable holds up no other and goes on from where it was.

    Raises its `RetryableError` or `MisconfiguredError` if every source is unavailable; then the cursor must be dropped.
    """
    for gone in set(cursor.after) - set(settings.sources):
        del cursor.after[gone]
    start = time.monotonic()
    rule = SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))
    budget = _Budget(settings.sensor_max_listed, start + settings.sensor_seconds / 2)
    listed = _list_hot(settings, storage, cursor, rule, budget, now)
    unavailable = listed.unavailable
    deadline = start + settings.sensor_seconds
    limit = max(settings.sensor_max_listed // len(settings.sources), 1)
    # Whoever had no turn for want of time is the first next time.
    first = cursor.turn % len(settings.sources)
    has_begun = False
    for number, url in enumerate((*settings.sources[first:], *settings.sources[:first])):
        if has_begun and time.monotonic() >= deadline:
            break
        cursor.turn = (first + number + 1) % len(settings.sources)
        # It has just taken its time to fail.
        if url in unavailable:
            continue
        has_begun = True
        prefix = Location.from_url(url, setting="EXR_PIPELINE_SOURCES")
        try:
            objects, after = _list_on(storage, prefix, cursor.after.get(url), _Budget(limit, deadline))
        except (MisconfiguredError, RetryableError) as error:
            unavailable[url] = error
            continue
        listed.files.extend(info for info in objects if rule.accepts(info.location, below=prefix.key))
        if after is None:
            cursor.after.pop(url, None)
        else:
            cursor.after[url] = after
    if unavailable and set(unavailable) == set(settings.sources):
        raise next(iter(unavailable.values()))
    return Listed(list({info.location: info for info in listed.files}.values()), unavailable)


def _list_hot(
    settings: Settings, storage: ObjectStorage, cursor: Cursor, rule: SourceRule, budget: _Budget, now: datetime
) -> Listed:
    """The files of the hot folders, as far as the budget goes; the next tick begins with those that had no turn."""
    sources = {url: Location.from_url(url, setting="EXR_PIPELINE_SOURCES") for url in settings.sources}
    listed = Listed([])
    waiting: list[HotFolder] = []
    looked: list[HotFolder] = []
    for folder in cursor.hot:
        prefix = Location.from_url(folder.url)
        holding = [url for url, source in sources.items() if source.as_folder().holds(prefix.as_folder())]
        if not holding or now - folder.latest >= HOT_FOR:
            continue
        if budget.is_spent or not listed.unavailable.keys().isdisjoint(holding):
            waiting.append(folder)
            continue
        source = max(holding, key=lambda url: len(sources[url].key))
        after = folder.after
        if after is None and settings.output_root is None:
            after = prefix.child(f"{OUTPUT_FOLDER}/{_LAST}").key
        try:
            objects, after = _list_on(storage, prefix, after, budget)
        except MisconfiguredError:
            # The folder may just have been deleted: what the source itself says is what counts.
            continue
        except RetryableError as error:
            listed.unavailable[source] = error
            looked.append(folder)
            continue
        listed.files.extend(info for info in objects if rule.accepts(info.location, below=sources[source].key))
        looked.append(HotFolder(folder.url, folder.latest, after))
    cursor.hot = waiting + looked
    return listed


def _list_on(
    storage: ObjectStorage, prefix: Location, after: str | None, budget: _Budget
) -> tuple[list[ObjectInfo], str | None]:
    """Objects from `after` on until the budget is spent, one request at least; and where to go on, None at the end."""
    found: list[ObjectInfo] = []
    while True:
        page = storage.list_page(prefix, after=after, limit=max(min(budget.objects, _PAGE), 1))
        found += page.objects
        budget.objects -= len(page.objects)
        if page.done or page.last_key is None:
            return found, None
        after = page.last_key
        if budget.is_spent:
            return found, after
