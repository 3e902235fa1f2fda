"""A Redis server of a test's own, the system's own program on a free port.

Without one, tests that need it are skipped with a loud reason, or fail where EXR_PIPELINE_TEST_REQUIRE_ALL is set.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until


def redis_program() -> str:
    """The path of redis-server."""
    if path := shutil.which("redis-server"):
        return path
    message = "NOT TESTED: no redis-server on this machine (apt-get install redis-server); no run was distributed"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def running_redis(folder: Path, password: str) -> Iterator[str]:
    """The URL, without the password, of a new server that keeps nothing on disk and asks for one."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "redis.conf").write_text(f'requirepass "{password}"\n')
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    command: list[str | Path] = [redis_program(), folder / "redis.conf", *options]
    with Service("redis", command, folder / "redis.log", folder=folder) as service:
        wait_until(lambda: answers(port) or not service.is_running, service.log_tail(), seconds=20)
        assert service.is_running, service.log_tail()
        yield f"redis://127.0.0.1:{port}/0"
