"""Spawned processes that do not run the caller's main module again, and inherit none of its secrets.

Belongs here: these departures from `multiprocessing`'s spawn. A script without `if __name__ == "__main__"`, a program
read from standard input, or a main module with side effects may so use worker processes. They decode what strangers
wrote: whoever finds a hole in a decoder finds no key in the environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from functools import cache
from multiprocessing import popen_spawn_posix, spawn, util
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_lock = threading.Lock()

# Of clouds and of ours: keys, tokens, passwords, the files that hold them, and URLs with a password in them.
_SECRET_NAME: Final = re.compile(
    r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|AUTH|^AWS_|^AZURE_|^GOOGLE_|CONNECTION_STRING", re.I
)
_CLOUD_NAME: Final = re.compile(r"AWS_|AZURE_|GOOGLE_")
_SECRET_VALUE: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def environment_without_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what gives access to anything. All else stays: an OCIO config may use any variable."""
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET_NAME.search(name) and not _SECRET_VALUE.search(value)
    }


def environment_with_cloud(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same with what the clouds' own chains of credentials look for, and no other secret."""
    of_clouds = {name: value for name, value in environment.items() if _CLOUD_NAME.match(name)}
    return environment_without_secrets(environment) | of_clouds


class _Popen(popen_spawn_posix.Popen):
    environment = staticmethod(environment_without_secrets)

    def _launch(self, process_obj: Any) -> None:
        launching = threading.get_ident()
        original = spawn.get_preparation_data
        start = util.spawnv_passfds

        def without_main(name: str) -> dict[str, object]:
            data = original(name)
            if threading.get_ident() == launching:
                data.pop("init_main_from_name", None)
                data.pop("init_main_from_path", None)
            return data

        def without_secrets(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
            if threading.get_ident() != launching:
                return start(path, args, passfds)
            child = subprocess.Popen(args, executable=path, pass_fds=passfds, env=self.environment())
            # It is multiprocessing that waits for it.
            child.returncode = 0
            return child.pid

        with _lock:
            spawn.get_preparation_data = without_main
            util.spawnv_passfds = without_secrets
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                spawn.get_preparation_data = original
                util.spawnv_passfds = start


class _PopenWithCredentials(_Popen):
    environment = staticmethod(environment_with_cloud)


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name multiprocessing calls
        return _Popen(process_obj)


class _ProcessWithCredentials(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name multiprocessing calls
        return _PopenWithCredentials(process_obj)


class _Context(SpawnContext):
    Process = _Process


class _ContextWithCredentials(SpawnContext):
    Process = _ProcessWithCredentials


@cache
def spawn_context(*, with_credentials: bool = False) -> SpawnContext:
    """A spawn context whose processes start without the caller's main module.

    They inherit nothing that gives access to anything, unless `with_credentials`: for processes that fetch from storage
    themselves, by whatever the cloud's own chain of credentials finds in variables.
    """
    return _ContextWithCredentials() if with_credentials else _Context()
