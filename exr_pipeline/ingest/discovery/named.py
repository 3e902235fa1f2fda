"""Objects that somebody names, such as events, looked up in their stores: what a listing would have found of them.

Belongs here: which of them are sources, and asking for them side by side. Not here: the forms of events
(`exr_pipeline.events`), or what becomes of what is found (`orchestration.sensors`).
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.storage.store_errors import MissingObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exr_pipeline.events.notifications import ObjectEvent
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage

LOOK_UP_SECONDS: Final = 15.0


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
    named: dict[Location, Location], storage: ObjectStorage, *, at_once: int, seconds: float = LOOK_UP_SECONDS
) -> Found:
    """Ask for objects, `at_once` at a time. What was not answered within some seconds counts as failed.

    Of an object that is not there, its other key is tried. One that may not be looked at is left to the sweep.
    """
    deadline = time.monotonic() + seconds
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="named")
    asked = {location: threads.submit(_answer, location, other, storage) for location, other in named.items()}
    wait(asked.values(), max(deadline - time.monotonic(), 0))
    threads.shutdown(wait=False, cancel_futures=True)
    found = Found()
    for (location, answer), other in zip(asked.items(), named.values(), strict=True):
        _sort(location, other, answer, found)
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
