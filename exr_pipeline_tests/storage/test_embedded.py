"""The S3 server of one's own: it starts, keeps its data, and never outlives its owner."""

import os
import select
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage

LOCATION = Location("s3", "show", "renders/a b.exr")


def access(server: EmbeddedS3) -> ObjectStorage:
    return ObjectStorage(
        Settings(
            _env_file=None,
            s3_endpoint=server.endpoint,
            s3_access_key=server.access_key,
            s3_secret_key=server.secret_key,
        )
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stored(server: EmbeddedS3) -> dict[str, bytes]:
    storage = access(server)
    return {
        info.location.key: storage.read(info.location)[1] for info in storage.iter_objects(Location("s3", "show", ""))
    }


def test_two_servers_start_at_once_and_each_finds_its_own_objects_after_a_restart(tmp_path: Path) -> None:
    data = os.urandom(300_000)

    def run(name: str) -> tuple[str, int]:
        with EmbeddedS3(tmp_path / name) as server:
            server.create_bucket("show")
            access(server).write(Location("s3", "show", name), data, content_type="image/x-exr", tags={})
            return server.endpoint, server.pid

    with ThreadPoolExecutor(2) as threads:
        (one, pid_of_one), (other, pid_of_other) = threads.map(run, ["one", "other"])
    assert one != other
    assert not is_running(pid_of_one)
    assert not is_running(pid_of_other)
    assert sum(path.stat().st_size for path in (tmp_path / "one").rglob("*") if path.is_file()) < 1_000_000

    pids: list[int] = []

    def restart_and_fail() -> None:
        with EmbeddedS3(tmp_path / "one") as server:
            server.create_bucket("show")
            assert stored(server) == {"one": data}
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        restart_and_fail()
    assert not is_running(pids[0])


def test_a_folder_in_use_is_refused(s3_server: EmbeddedS3) -> None:
    with pytest.raises(RetryableError, match="another embedded S3 server"), EmbeddedS3(s3_server.directory):
        pass
    s3_server.create_bucket("still-there")


def test_a_server_that_does_not_start_shows_its_log_and_leaves_the_folder_free(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").touch()
    for _ in range(2):
        with pytest.raises(RetryableError, match="filerldb2"), EmbeddedS3(tmp_path):
            pass


def test_the_server_dies_with_its_killed_parent_and_its_objects_survive(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from exr_pipeline_tests.storage.test_embedded import EmbeddedS3, LOCATION, access
        with EmbeddedS3(Path(sys.argv[1])) as server:
            server.create_bucket("show")
            access(server).write(LOCATION, b"before", content_type="image/x-exr", tags={})
            access(server).write(LOCATION, b"after", content_type="image/x-exr", tags={})
            print(server.pid, flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        descriptor = os.pidfd_open(pid)
        parent.kill()
    ended, _, _ = select.select([descriptor], [], [], 30)
    os.close(descriptor)
    assert ended, "the kernel reports the end of the server"
    with EmbeddedS3(tmp_path) as server:
        assert stored(server) == {LOCATION.key: b"after"}


def test_its_environment_configures_this_project(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    environment = s3_server.environment()
    assert environment["NO_PROXY"] == "intranet,127.0.0.1"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3_server.create_bucket("configured")
    assert list(ObjectStorage(Settings(_env_file=None)).iter_objects(Location("s3", "configured", ""))) == []
