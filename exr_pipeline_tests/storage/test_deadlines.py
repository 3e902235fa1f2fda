"""What never returns is left behind, and what is merely slow is waited for."""

import os
import threading
import time
from pathlib import Path

import pytest

from exr_pipeline.errors import RetryableError
from exr_pipeline.storage.deadlines import HUNG_AT_MOST, AwakeClock, in_time


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Opening it for reading does not return until somebody writes."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_what_is_returned_or_raised_in_time_is_handed_on() -> None:
    assert in_time("x", "here", lambda _: 3) == 3
    with pytest.raises(ZeroDivisionError):
        in_time("x", "here", lambda _: 1 / 0)


def test_a_read_that_never_returns_is_left_behind(pipe: Path) -> None:
    with pytest.raises(RetryableError, match=r"^a\.exr: no answer for 0\.2 s"):
        in_time("a.exr", str(pipe), lambda _: pipe.read_bytes(), seconds=0.2)
    pipe.write_bytes(b"")


def test_what_gets_on_may_take_longer_than_that() -> None:
    def slow(got_on: object) -> str:
        assert callable(got_on)
        for _ in range(20):
            time.sleep(0.1)
            got_on()
        return "done"

    assert in_time("x", "here", slow, seconds=0.5) == "done"


def test_where_many_reads_hang_further_ones_fail_at_once_and_others_elsewhere_do_not() -> None:
    released = threading.Event()
    for _ in range(HUNG_AT_MOST):
        with pytest.raises(RetryableError, match="no answer for"):
            in_time("x", "a mount", lambda _: released.wait(60), seconds=0.01)
    began = threading.active_count()
    with pytest.raises(RetryableError, match="earlier calls in a mount"):
        in_time("x", "a mount", lambda _: None)
    assert threading.active_count() == began
    assert in_time("x", "another mount", lambda _: 1) == 1
    released.set()
    deadline = time.monotonic() + 60
    while threading.active_count() > began - HUNG_AT_MOST and time.monotonic() < deadline:
        time.sleep(0.01)
    assert in_time("x", "a mount", lambda _: 1) == 1


def test_a_jump_of_a_clock_or_a_suspended_process_is_no_time_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = AwakeClock()
    before = clock()
    # This process can't be suspended without suspending the test.
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert clock() - before <= 1.0
