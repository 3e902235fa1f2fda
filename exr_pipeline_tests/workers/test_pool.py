import ctypes
import errno
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from signal import Signals

import numpy as np
import pytest

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.pictures import PicturePool
from exr_pipeline.workers.pool import WorkerEndedError, WorkerLostError, WorkerPool
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.pictures.files import (
    flat,
    picture_settings,
    write_deep_exr,
    write_exr,
    write_rgb,
)

pytestmark = pytest.mark.usefixtures("no_lasting_workers")


def children_of(pid: int) -> list[int]:
    """Living spawned workers of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread or a process may end meanwhile.
        with suppress(FileNotFoundError):
            for child in map(int, (task / "children").read_text().split()):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"spawn_main" in command:
                    found.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep file whose samples are stored back to front: sorting them takes seconds."""
    path = tmp_path_factory.mktemp("slow") / "slow.exr"
    return write_deep_exr(path, [(0.1, 0.1, 0.1, 0.01, float(z)) for z in range(30, 0, -1)], size=256)


def test_files_are_rendered_beside_a_bad_one(tmp_path: Path) -> None:
    bad = tmp_path / "bad.exr"
    bad.write_bytes(b"no picture")
    good = [write_rgb(tmp_path / f"{index}.exr", flat(64, 32, (0.5, 0.5, 0.5))) for index in range(3)]

    with PicturePool(picture_settings()) as pool:
        futures = [pool.submit(str(path), path.name, proxy=False) for path in (good[0], bad, *good[1:])]

    outcomes = [future.exception() for future in futures]
    assert [type(outcome) for outcome in outcomes] == [type(None), BadInputError, type(None), type(None)]
    assert str(outcomes[1]) == "bad.exr: not an OpenEXR, DPX, Cineon, TIFF, PNG or JPEG file"
    assert futures[0].result().thumbnail.width == 64
    assert not children_of(os.getpid())


def busy_worker() -> int:
    """The worker that has been given something to do, once it has had time to say so."""
    worker = children_of(os.getpid())[0]
    wait_until(lambda: not is_idle(worker))
    time.sleep(0.5)  # Long enough for the worker's acknowledgement, much shorter than the slow file.
    return worker


@pytest.mark.parametrize(
    "by", [signal.SIGKILL, *(pytest.param(by, marks=takes_long) for by in (signal.SIGTERM, signal.SIGSEGV))]
)
def test_a_file_whose_worker_is_killed_is_tried_once_more_by_itself_and_costs_its_neighbours_nothing(
    tmp_path: Path, slow: Path, by: Signals
) -> None:
    good = [write_rgb(tmp_path / f"{index}.exr", flat(64, 32, (0.5, 0.5, 0.5))) for index in range(4)]

    with PicturePool(picture_settings(workers=1)) as pool:
        pool.submit(str(good[0]), "warm-up").result()
        future = pool.submit(str(slow), "slow.exr")
        rest = [pool.submit(str(path), path.name) for path in good]
        worker = busy_worker()
        os.kill(worker, by)

        assert [result.result().thumbnail.width for result in rest] == [64] * 4
        assert future.result().thumbnail.width == 256
        assert worker not in children_of(os.getpid())


def end_by(number: int, tries: str) -> None:
    """Die, in a worker, after noting the process in a file."""
    with Path(tries).open("a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), number)
    time.sleep(60)


@pytest.mark.parametrize(
    ("by", "kind", "reason"),
    [
        (signal.SIGKILL, WorkerLostError, "another process killed its worker process twice (SIGKILL)"),
        (signal.SIGUSR1, WorkerLostError, "another process killed its worker process twice (SIGUSR1)"),
        (signal.SIGSEGV, WorkerEndedError, "its worker process crashed (killed by SIGSEGV)"),
        (signal.SIGABRT, WorkerEndedError, "its worker process crashed (killed by SIGABRT)"),
    ],
)
def test_only_a_crash_that_happens_again_in_a_fresh_process_is_evidence_against_a_file(
    tmp_path: Path, by: Signals, kind: type[Exception], reason: str
) -> None:
    tries = tmp_path / "tries"

    with WorkerPool(workers=1, memory_mb=1024) as pool:
        error = pool.call(end_by, "it.exr", 60.0, by, str(tries)).exception()

    assert type(error) is kind
    assert isinstance(error, RetryableError) is (kind is WorkerLostError)
    assert str(error).startswith(f"it.exr: {reason}")
    assert len(set(tries.read_text().split())) == 2


def test_calls_wait_while_one_is_tried_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    with WorkerPool(workers=2, memory_mb=1024) as pool:
        lost = pool.call(die_then_watch, "lost", 60.0, str(first), str(second))
        pool.call(time.sleep, "long", 60.0, 1.0)
        wait_until(first.exists)
        wait_until(second.exists)
        meanwhile = pool.call(Path.exists, "meanwhile", 60.0, tmp_path / "ended")

        assert lost.result() == []
        assert meanwhile.result(), "it began after the one that was alone had ended"


def die_then_watch(first: str, second: str) -> list[str]:
    """Die the first time, in a worker; the second time tell what else is called within a second."""
    if not Path(first).exists():
        Path(first).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path(second).touch()
    time.sleep(1)
    Path(second).with_name("ended").touch()
    return []


def test_a_cancelled_call_that_waits_for_its_second_attempt_is_not_made_again(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    with WorkerPool(workers=2, memory_mb=1024) as pool:
        other = pool.call(time.sleep, "other", 60.0, 2.0)
        future = pool.call(end_by, "it.exr", 60.0, signal.SIGKILL, str(tries))
        wait_until(tries.exists)
        time.sleep(0.5)
        assert future.cancel()
        other.result()
        assert pool.call(abs, "next", 60.0, -3).result() == 3

    assert len(tries.read_text().split()) == 1


def test_workers_killed_while_idle_cost_nothing(tmp_path: Path) -> None:
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))

    with PicturePool(picture_settings(workers=2)) as pool:
        assert pool.submit(str(good), "good.exr").exception() is None
        for worker in children_of(os.getpid()):
            os.kill(worker, signal.SIGKILL)
        futures = [pool.submit(str(good), "good.exr", proxy=False) for _ in range(8)]

        assert [future.exception() for future in futures] == [None] * 8
    assert not children_of(os.getpid())


def die_with_the_pipe(died: str) -> None:
    """The first time, die as by a kill at the worst moment: while holding what all others need to answer."""
    from pebble.pool.channel import WorkerChannel

    if Path(died).exists():
        return
    Path(died).touch()
    (channel,) = (each for each in gc.get_objects() if isinstance(each, WorkerChannel))
    channel.mutex.writer_mutex.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_while_it_answers_stops_no_other(tmp_path: Path) -> None:
    with WorkerPool(workers=2, memory_mb=1024) as pool:
        lost = pool.call(die_with_the_pipe, "lost", 60.0, str(tmp_path / "died"))
        others = [pool.call(abs, "other", 60.0, -number) for number in range(8)]

        assert [other.result(timeout=120) for other in others] == list(range(8))
        assert lost.result(timeout=120) is None


def is_idle(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_file_that_takes_too_much_processor_time_is_given_up(tmp_path: Path, slow: Path) -> None:
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))

    with PicturePool(picture_settings(workers=1, worker_timeout_seconds=2.0)) as pool:
        error = pool.submit(str(slow), "slow.exr").exception()
    assert isinstance(error, WorkerEndedError)
    assert str(error) == "slow.exr: processing took more than 2 s of processor time"
    with PicturePool(picture_settings(workers=1)) as pool:
        assert pool.submit(str(good), "good.exr").result().thumbnail.width == 64


def spin(seconds: float, begun: str) -> int:
    """Use processor time, in a worker; returns its process."""
    Path(begun).touch()
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def test_a_worker_that_was_stopped_for_longer_than_its_limit_goes_on_where_it_was(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    with WorkerPool(workers=1, memory_mb=1024) as pool:
        future = pool.call(spin, "it.exr", 1.0, 0.5, str(begun))
        wait_until(begun.exists)
        worker = children_of(os.getpid())[0]
        os.kill(worker, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(worker, signal.SIGCONT)
        assert future.result() == worker


def test_a_worker_that_stands_still_is_ended_and_its_file_may_be_tried_later() -> None:
    with WorkerPool(workers=1, memory_mb=1024) as pool:
        error = pool.call(time.sleep, "hung.exr", 0.1, 3600.0).exception()

    assert isinstance(error, WorkerLostError)
    assert str(error) == "hung.exr: its worker process hung for 1 s, twice"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), RetryableError),
        (OSError(errno.EMFILE, "Too many open files"), RetryableError),
        (OSError(errno.EIO, "Input/output error"), RetryableError),
        (OSError(errno.ESTALE, "Stale file handle"), RetryableError),
        (ValueError("odd"), BadInputError),
        (TypeError("odd"), BadInputError),
    ],
)
def test_trouble_of_the_machine_in_a_worker_is_not_the_files_fault(
    error: OSError | ValueError | TypeError, kind: type[Exception]
) -> None:
    with WorkerPool(workers=1, memory_mb=1024) as pool:
        assert type(pool.call(raise_it, "it.exr", 60.0, error).exception()) is kind


def raise_it(error: Exception) -> None:
    raise error


def test_a_file_that_needs_too_much_memory_is_bad_input_and_the_next_one_is_not(tmp_path: Path) -> None:
    # What is no color is held whole, because its range decides how it is shown.
    big = write_exr(tmp_path / "big.exr", {"mask": np.zeros((9000, 12000), np.float16)})
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))

    with PicturePool(picture_settings(workers=1, worker_memory_mb=1024)) as pool:
        assert pool.submit(str(good), "good.exr").exception() is None
        failed = pool.submit(str(big), "big.exr", proxy=False).exception()
        assert pool.submit(str(good), "good.exr").exception() is None

    assert isinstance(failed, BadInputError)
    assert "memory" in failed.reason


def heaps_of_threads(path: str) -> int:
    """How many heaps glibc has once eight threads at a time have taken memory; in a worker."""
    libc = ctypes.CDLL(None)
    together = threading.Barrier(8)

    def take() -> None:
        together.wait()
        libc.malloc(100)
        together.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(path.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return Path(path).read_text().count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="a C library without heaps per thread")
def test_the_threads_of_a_worker_share_the_memory_that_they_free(tmp_path: Path) -> None:
    with PicturePool(picture_settings()) as pool:
        heaps = pool.call(heaps_of_threads, "heaps", 60.0, str(tmp_path / "heaps.xml")).result()

    assert 1 <= heaps <= 2


def test_a_cancelled_file_is_not_waited_for(slow: Path) -> None:
    with PicturePool(picture_settings(workers=1)) as pool:
        future = pool.submit(str(slow), "slow.exr")
        assert future.cancel()

    with pytest.raises(CancelledError):
        future.result()


def test_a_bad_config_is_told_before_any_file(tmp_path: Path) -> None:
    with (
        pytest.raises(MisconfiguredError, match="OCIO_CONFIG_PATH"),
        PicturePool(picture_settings(ocio_config_path=str(tmp_path / "missing.ocio"))),
    ):
        pass


def test_workers_die_with_a_killed_parent_and_do_not_run_its_main_module_again(tmp_path: Path) -> None:
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))
    script = tmp_path / "script.py"  # No `if __name__ == "__main__"`, and work that must not happen twice.
    script.write_text(
        "import sys, time\n"
        "from exr_pipeline.pictures import PicturePool\n"
        "from exr_pipeline_tests.pictures.files import picture_settings\n"
        "print('main', flush=True)\n"
        "with PicturePool(picture_settings(workers=2)) as pool:\n"
        f"    print(pool.submit({str(good)!r}, 'good.exr').result().thumbnail.width, flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline().strip() for _ in range(2)] == ["main", "64"]
        workers = children_of(parent.pid)
        assert len(workers) == 2
        parent.kill()
        assert parent.stdout.read() == ""
    wait_until(lambda: not any(map(is_alive, workers)))


def environment_of_this_process(_: str) -> str:
    """All that a process was given to begin with, and what it has now; in a worker."""
    return Path("/proc/self/environ").read_text() + "".join(f"{name}={value}\0" for name, value in os.environ.items())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_workers_inherit_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "S3_SECRET_KEY": "hush-1",
        "S3_ACCESS_KEY": "hush-2",
        "VAST_DB_SECRET_KEY": "hush-3",
        "AWS_SESSION_TOKEN": "hush-4",
        "AWS_PROFILE": "hush-5",
        "AZURE_STORAGE_CONNECTION_STRING": "hush-6",
        "GOOGLE_APPLICATION_CREDENTIALS": "/hush-7.json",
        "EXR_PIPELINE_POSTGRES_URL": "postgresql://dagster:hush-8@host/dagster",
        "PGPASSWORD": "hush-9",
        "EXR_PIPELINE_REDIS_PASSWORD_FILE": "/run/secrets/hush-10",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHOT", "a variable of an OCIO config")
    with PicturePool(picture_settings()) as pool:
        seen = pool.call(environment_of_this_process, "environment", 60.0, "").result()
    assert "hush" not in seen
    assert "a variable of an OCIO config" in seen
    assert os.environ["S3_SECRET_KEY"] == "hush-1"

    # Those that fetch frames themselves have what the clouds' own chains look for, and nothing else.
    with WorkerPool(workers=1, memory_mb=1024, reads_storage=True) as pool:
        seen = pool.call(environment_of_this_process, "environment", 60.0, "").result()
    assert {f"hush-{number}" for number in range(1, 11) if re.search(rf"hush-{number}\b", seen)} == {
        f"hush-{number}" for number in range(4, 8)
    }


def test_what_a_library_prints_to_standard_error_in_a_worker_is_logged_and_not_shown(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="exr_pipeline.workers.messages")
    said = b"TIFFReadDirectory: Warning, \x1b]0;caf\xe9\x07.\n" + b"again\n" * 500 + b"the last word"

    with WorkerPool(workers=1, memory_mb=2048) as pool:
        assert pool.call(os.write, "x", None, 2, said).result() == len(said)

    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == r"worker process: TIFFReadDirectory: Warning, \x1b]0;caf\xe9\x07."
    assert lines.count("worker process: again") < 100
    assert sum(int(line.split()[-3]) for line in lines if line.endswith(" more lines")) > 400
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_crashes_leaves_its_last_words_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="exr_pipeline.workers.messages")

    with WorkerPool(workers=1, memory_mb=2048) as pool, pytest.raises(WorkerEndedError, match="SIGABRT"):
        pool.call(_complain_and_abort, "x", None).result()

    assert "worker process: free(): invalid pointer" in [record.getMessage() for record in caplog.records]
    assert capfd.readouterr() == ("", "")


def _complain_and_abort() -> None:
    os.write(2, b"free(): invalid pointer\n")
    os.abort()
