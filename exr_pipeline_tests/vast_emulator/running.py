"""Starts the emulator as a process of its own and talks to its admin endpoints.

Belongs here: what tests hold on to. Not here: the server itself.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any


class RunningEmulator:
    """An emulator process; `url` is its endpoint."""

    def __init__(self, *args: str) -> None:
        command = [sys.executable, "-m", "exr_pipeline_tests.vast_emulator", "--port", "0", *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        assert line.startswith("ready on http://127.0.0.1:"), line
        self.url = line.removeprefix("ready on ")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def admin(self, path: str, data: Any = None, method: str | None = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/__emulator__/{path}", method=method, data=body)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def fault(self, **rule: Any) -> None:
        """Ask for a fault, such as `match="commit", drop="after"`."""
        self.admin("fault", rule)

    def rows(self, table: str, schema: str, bucket: str = "vastdb") -> Any:
        return self.admin(f"rows?bucket={bucket}&schema={schema}&table={table}")


@contextlib.contextmanager
def running_emulator(*args: str) -> Iterator[RunningEmulator]:
    emulator = RunningEmulator(*args)
    try:
        yield emulator
    finally:
        emulator.stop()
