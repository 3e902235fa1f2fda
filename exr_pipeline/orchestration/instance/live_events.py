"""Events of a run that is under way, handed to whoever watches it: what keeps an open run page moving.

Belongs here: when to look for new events. Not here: how they are stored and read (`event_storage`).
Why not Dagster's own watchers: docs/decisions/0003-batched-events.md.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from dagster._core.event_api import EventLogCursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster._core.event_api import EventHandlerFn
    from dagster._core.storage.event_log.base import EventLogConnection

SECONDS_BETWEEN_LOOKS: Final = 0.5
_SECONDS_TO_END: Final = 15


class LiveEvents:
    """Watchers of runs; each has a thread that looks for events after the watcher's own cursor."""

    def __init__(self, read: Callable[[str, str | None], EventLogConnection | None]) -> None:
        """`read` returns the next events of a run after a cursor, or None while they cannot be read."""
        self._read = read
        self._watchers: dict[tuple[str, EventHandlerFn], _Watcher] = {}
        self._lock = threading.Lock()

    def watch(self, run_id: str, cursor: str | None, handler: EventHandlerFn) -> None:
        """Call `handler` with every event of a run after `cursor`, until `end_watch` or `close`."""
        watcher = _Watcher(self._read, run_id, cursor, handler)
        with self._lock:
            replaced = self._watchers.pop((run_id, handler), None)
            self._watchers[run_id, handler] = watcher
        if replaced is not None:
            replaced.ended.set()
        watcher.start()

    def end_watch(self, run_id: str, handler: EventHandlerFn) -> None:
        """Stop calling this handler; no error if it is not called."""
        with self._lock:
            watcher = self._watchers.pop((run_id, handler), None)
        if watcher is not None:
            watcher.ended.set()

    def close(self) -> None:
        """End all watchers, and wait for their threads."""
        with self._lock:
            watchers = list(self._watchers.values())
            self._watchers.clear()
        for watcher in watchers:
            watcher.ended.set()
        # A handler may call `end_watch`, so the lock is not held here.
        for watcher in watchers:
            watcher.join(_SECONDS_TO_END)


class _Watcher(threading.Thread):
    def __init__(
        self,
        read: Callable[[str, str | None], EventLogConnection | None],
        run_id: str,
        cursor: str | None,
        handler: EventHandlerFn,
    ) -> None:
        super().__init__(name=f"events of {run_id}", daemon=True)
        self.ended = threading.Event()
        self._read, self._run_id, self._cursor, self._handler = read, run_id, cursor, handler

    def run(self) -> None:
        more = True
        while not self.ended.wait(0 if more else SECONDS_BETWEEN_LOOKS):
            page = self._read(self._run_id, self._cursor)
            more = page is not None and page.has_more
            for record in page.records if page is not None else ():
                self._cursor = str(EventLogCursor.from_storage_id(record.storage_id))
                if self.ended.is_set():
                    return
                self._handler(record.event_log_entry, self._cursor)
