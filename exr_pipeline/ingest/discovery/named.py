"""Objects that somebody names, such as events, looked up in their stores: what a listing would have found of them.

Belongs here: which of them are sources, and asking for them side by side. Not here: the forms of events
(`exr_pipeline.events`), or what becomes of what is found (`orchestration.sensors`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.store_errors import MissingObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exr_pipeline.events.notifications import ObjectEvent
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

LOOK_UP_SECONDS: Final = 15.0
WORTH_LISTING: Final = 20
# One request to a store.
_PAGE: Final = 1000


@dataclass
class Found:
    """What the stores say of named objects: `files` that are there, `gone` ones, and the errors of the others."""

    files: list[ObjectInfo] = field(default_factory=list)
    gone: list[Location] = field(default_factory=list)
    failed: dict[Location, str] = field(default_factory=dict)


class SourceFiles:
    """Which objects are files of the configured sources."""

    def __init__(self, settings: Settings) -> None:
        self._sources = [Location.from_url(url, setting="EXR_PIPELINE_SOURCES").as_folder() for url in settings.sources]
        self._rule = SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))

    def source_of(self, location: Location) -> Location | None:
        """The innermost source that holds an object, if any does."""
        holding = [source for source in self._sources if source.holds(location)]
        return max(holding, key=lambda source: len(source.key), default=None)

    def __contains__(self, location: Location) -> bool:
        source = self.source_of(location)
        return source is not None and self._rule.accepts(location, below=source.key)


def named_sources(events: Iterable[ObjectEvent], sources: SourceFiles) -> dict[Location, Location]:
    """The source files that events name, each once, and under which other key each may be meant."""
    named: dict[Location, Location] = {}
    for event in events:
        meant = [each for each in (event.location, event.as_written) if each is not None and each in sources]
        if meant:
            named[meant[0]] = meant[-1]
    return named


def look_up(
    named: Mapping[Location, Location], storage: ObjectStorage, *, at_once: int, seconds: float = LOOK_UP_SECONDS
) -> Found:
    """Ask for objects, `at_once` at a time. What was not answered within some seconds counts as failed.

    Of an object that is not there, its other key is tried. One that may not be looked at is left to the sweep. Many
    objects of one folder are found by listing a stretch of it, which takes one request instead of hundreds.
    """
    deadline = time.monotonic() + seconds
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="named")
    found = Found(files=_listed(named, storage, threads, deadline))
    seen = {info.location for info in found.files}
    asked = {
        location: threads.submit(_answer, location, other, storage)
        for location, other in named.items()
        if location not in seen
    }
    wait(asked.values(), max(deadline - time.monotonic(), 0))
    threads.shutdown(wait=False, cancel_futures=True)
    for location, answer in asked.items():
        _sort(location, named[location], answer, found)
    return found


def _listed(
    named: Mapping[Location, Location], storage: ObjectStorage, threads: ThreadPoolExecutor, deadline: float
) -> list[ObjectInfo]:
    """Those objects that have many neighbors among the named ones, as far as listings find them."""
    by_folder: dict[Location, list[Location]] = defaultdict(list)
    for location in named:
        by_folder[location.folder].append(location)
    crowded = {folder: sorted(each) for folder, each in by_folder.items() if len(each) >= WORTH_LISTING}
    listings = [threads.submit(_stretch, folder, each, storage) for folder, each in crowded.items()]
    done, _ = wait(listings, max(deadline - time.monotonic(), 0))
    return [info for listing in done for info in listing.result()]


def _stretch(folder: Location, locations: Sequence[Location], storage: ObjectStorage) -> list[ObjectInfo]:
    """What a listing finds of these objects, which are in order, but for the first: it is where the listing begins."""
    wanted, last = set(locations), locations[-1].key
    found: list[ObjectInfo] = []
    after: str | None = locations[0].key
    # Where there are many others in between, to ask for each is quicker.
    for _ in range(1 + len(locations) // WORTH_LISTING):
        try:
            page = storage.list_page(folder, after=after, limit=_PAGE)
        except (BadInputError, RetryableError, MisconfiguredError):
            break
        found += [info for info in page.objects if info.location in wanted]
        after = page.last_key
        if page.done or after is None or after >= last:
            break
    return found


def _answer(location: Location, other: Location, storage: ObjectStorage) -> ObjectInfo:
    try:
        return storage.head(location)
    except MissingObjectError:
        if other == location:
            raise
        return storage.head(other)


def _sort(location: Location, other: Location, answer: Future[ObjectInfo], found: Found) -> None:
    if not answer.done() or answer.cancelled():
        found.failed[location] = f"{location.url}: no answer yet"
        return
    try:
        found.files.append(answer.result())
    except MissingObjectError:
        found.gone += dict.fromkeys([location, other])
    except BadInputError:
        return
    except (RetryableError, MisconfiguredError) as error:
        found.failed[location] = str(error)
