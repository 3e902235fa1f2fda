"""A private PostgreSQL server from the machine's own binaries, in a folder that goes away with it.

Without the binaries, tests that need it are skipped with a loud reason, or fail where EXR_PIPELINE_TEST_REQUIRE_ALL is
set. Not here: what Dagster keeps in it.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

_SUPERUSER = "tester"
_DEADLINE_SECONDS = 60


def postgres_binaries() -> Path | None:
    """The folder of initdb and postgres: Debian keeps them out of PATH, one folder for each version."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def require_postgres() -> Path:
    """The same for a test, which is skipped or fails without."""
    if binaries := postgres_binaries():
        return binaries
    message = "NOT TESTED: no PostgreSQL on this machine (apt-get install postgresql); its event storage is untried"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


class PostgresServer:
    """A cluster of its own; running inside a `with` block, and between `start` and `stop` or `kill`.

    `durable`: whether it waits for the disk at each commit, as in production. Tests have no use for that.
    """

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        self._binaries = binaries
        # PostgreSQL does not run as root, and what pytest makes as root nobody else may enter.
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="exr_pipeline_postgres_", dir="/tmp"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "fsync": "on" if durable else "off",
        }
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
        self._run("initdb", "--auth=trust", "--no-sync", f"--username={_SUPERUSER}", "--encoding=UTF8", "--locale=C")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self.remove()

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server itself is there, be it that it still recovers."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers; after a `kill` it recovers first."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        self._process = self._spawn()
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
            # It refuses to start while processes of a killed one still end.
            if self._process.poll() is not None:
                self._process = self._spawn()

    def stop(self) -> None:
        """Stop it in order; its clients are disconnected."""
        self._end(signal.SIGINT)

    def remove(self) -> None:
        """Remove what it has on disk, after it was stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL to the server, whose own processes then end by themselves."""
        self._end(signal.SIGKILL)

    def url(self, database: str = "postgres") -> str:
        """How SQLAlchemy and Dagster reach a database of it."""
        return f"postgresql+psycopg2://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"d{uuid4().hex}"
        connection = self._connect()
        try:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        return self.url(name)

    def _spawn(self) -> subprocess.Popen[bytes]:
        arguments = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port), *arguments],
                user=self._user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(host="127.0.0.1", port=self.port, user=_SUPERUSER, dbname="postgres")

    def _answers(self) -> bool:
        import psycopg2

        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_DEADLINE_SECONDS)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command: list[str | Path] = [self._binaries / program, "-D", self.folder / "data", *arguments]
        subprocess.run(command, user=self._user, cwd=self.folder, check=True, capture_output=True)


def _unprivileged() -> str:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
