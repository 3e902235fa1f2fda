import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.pictures import PicturePool
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


def wait_until(condition, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep file whose samples are stored back to front: sorting them takes seconds."""
    path = tmp_path_factory.mktemp("slow") / "slow.exr"
    return write_deep_exr(path, [(0.1, 0.1, 0.1, 0.01, float(z)) for z in range(30, 0, -1)], size=256)


def test_files_are_rendered_beside_a_bad_one(tmp_path):
    bad = tmp_path / "bad.exr"
    bad.write_bytes(b"no picture")
    good = [write_rgb(tmp_path / f"{index}.exr", flat(64, 32, (0.5, 0.5, 0.5))) for index in range(3)]

    with PicturePool(picture_settings()) as pool:
        futures = [pool.submit(str(path), path.name, proxy=False) for path in (good[0], bad, *good[1:])]

    outcomes = [future.exception() for future in futures]
    assert [type(outcome) for outcome in outcomes] == [type(None), BadInputError, type(None), type(None)]
    assert str(outcomes[1]) == "bad.exr: neither an OpenEXR, DPX, TIFF, PNG nor JPEG file"
    assert futures[0].result().thumbnail.width == 64
    assert not children_of(os.getpid())


def test_a_killed_worker_costs_one_file_and_is_replaced(tmp_path, slow):
    good = [write_rgb(tmp_path / f"{index}.exr", flat(64, 32, (0.5, 0.5, 0.5))) for index in range(4)]

    with PicturePool(picture_settings(workers=1)) as pool:
        pool.submit(str(good[0]), "warm-up").result()
        future = pool.submit(str(slow), "slow.exr")
        rest = [pool.submit(str(path), path.name) for path in good]
        worker = children_of(os.getpid())[0]
        wait_until(lambda: not is_idle(worker))
        time.sleep(0.5)  # Long enough for the worker's acknowledgement, much shorter than the slow file.
        os.kill(worker, signal.SIGKILL)

        assert str(future.exception()) == "slow.exr: its worker process died (killed by SIGKILL)"
        assert [result.result().thumbnail.width for result in rest] == [64] * 4
        assert worker not in children_of(os.getpid())


def test_workers_killed_while_idle_cost_nothing(tmp_path):
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))

    with PicturePool(picture_settings(workers=2)) as pool:
        assert pool.submit(str(good), "good.exr").exception() is None
        for worker in children_of(os.getpid()):
            os.kill(worker, signal.SIGKILL)
        futures = [pool.submit(str(good), "good.exr", proxy=False) for _ in range(8)]

        assert [future.exception() for future in futures] == [None] * 8
    assert not children_of(os.getpid())


def is_idle(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_file_that_takes_too_long_is_given_up(tmp_path, slow):
    good = write_rgb(tmp_path / "good.exr", flat(64, 32, (0.5, 0.5, 0.5)))

    with PicturePool(picture_settings(workers=1, worker_timeout_seconds=0.05)) as pool:
        assert str(pool.submit(str(slow), "slow.exr").exception()) == "slow.exr: took longer than 0.05 s"
    with PicturePool(picture_settings(workers=1)) as pool:
        assert pool.submit(str(good), "good.exr").result().thumbnail.width == 64


def test_a_file_that_needs_too_much_memory_is_bad_input_and_the_next_one_is_not(tmp_path):
    # What is no colour is held whole, because its range decides how it is shown.
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
def test_the_threads_of_a_worker_share_the_memory_that_they_free(tmp_path):
    with PicturePool(picture_settings()) as pool:
        heaps = pool.call(heaps_of_threads, "heaps", 60.0, str(tmp_path / "heaps.xml")).result()

    assert 1 <= heaps <= 2


def test_a_cancelled_file_is_not_waited_for(slow):
    with PicturePool(picture_settings(workers=1)) as pool:
        future = pool.submit(str(slow), "slow.exr")
        assert future.cancel()

    with pytest.raises(CancelledError):
        future.result()


def test_a_bad_config_is_told_before_any_file(tmp_path):
    with (
        pytest.raises(MisconfiguredError, match="OCIO_CONFIG_PATH"),
        PicturePool(picture_settings(ocio_config_path=str(tmp_path / "missing.ocio"))),
    ):
        pass


def test_workers_die_with_a_killed_parent_and_do_not_run_its_main_module_again(tmp_path):
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
