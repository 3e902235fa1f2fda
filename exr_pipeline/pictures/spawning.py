"""Spawned processes that do not run the caller's main module again.

Belongs here: that one departure from `multiprocessing`'s spawn. A script without `if __name__ == "__main__"`, a program
read from standard input, or a main module with side effects may so use worker processes.
"""

from __future__ import annotations

import threading
from functools import cache
from multiprocessing import popen_spawn_posix, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

_lock = threading.Lock()


class _Popen(popen_spawn_posix.Popen):
    def _launch(self, process_obj: Any) -> None:
        launching = threading.get_ident()
        original = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, object]:
            data = original(name)
            if threading.get_ident() == launching:
                data.pop("init_main_from_name", None)
                data.pop("init_main_from_path", None)
            return data

        with _lock:
            spawn.get_preparation_data = without_main
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                spawn.get_preparation_data = original


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name multiprocessing calls
        return _Popen(process_obj)


class _Context(SpawnContext):
    Process = _Process


@cache
def spawn_context() -> SpawnContext:
    """A spawn context whose processes start without the caller's main module."""
    return _Context()
