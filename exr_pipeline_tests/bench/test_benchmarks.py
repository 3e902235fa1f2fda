"""Every benchmark runs, compares what it says, and its sides did the work. Nothing about how fast."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.sides import Side, Work, interleaved, started

ROOT = Path(__file__).parents[2]
SHORT = ["headers"]
LONG = ["pictures", "sequence", "ingest", "profile", "orchestration", "sensor", "install", "functions"]
LONG += ["publishing", "events", "tables", "catalog", "transfers"]
ALL = os.environ.get("EXR_PIPELINE_TEST_BENCH") == "all"
MEGABYTES = 64
CPU_SECONDS = 0.3


def bench(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert not check or ended.returncode == 0, ended.stderr
    return ended


def numbers(row: list[Any]) -> list[float]:
    return [cell for cell in row if isinstance(cell, float)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the benchmarks print and write when they are run at the size that means nothing."""
    out = tmp_path_factory.mktemp("bench") / "out.json"
    names = SHORT + LONG if ALL else SHORT
    printed = bench("--tiny", "--json", str(out), *names).stdout
    return printed, json.loads(out.read_text(encoding="utf-8"))


needs_all = pytest.mark.skipif(not ALL, reason="NOT TESTED: most benchmarks; EXR_PIPELINE_TEST_BENCH=all tries them")


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=needs_all) for name in LONG)])
def test_a_benchmark_runs_and_tells_ratios_before_figures(name: str, tiny: tuple[str, dict[str, Any]]) -> None:
    printed, result = tiny

    (report,) = [report for report in result["reports"] if report["name"] == name]

    for table in (report["ratios"], report["figures"]):
        assert table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert all(numbers(row) and all(number > 0 for number in numbers(row)) for row in table["rows"])
    ratios, figures = (f"| {' | '.join(report[table]['columns'])} |" for table in ("ratios", "figures"))
    assert 0 < printed.index(ratios) < printed.index(figures) < printed.index(f"Machine: {result['machine']}")


@needs_all
def test_a_deployment_grows_and_says_what_each_step_cost_and_how_archived_files_are_found_and_brought_back() -> None:
    printed = bench("--tiny", "--live", "3", "orchestration").stdout

    assert "archive` keeps 3 of them live" in printed
    assert [line.split()[1] for line in printed.splitlines() if re.match(r"\| \d", line)] == ["2", "4", "6", "8"] * 2
    assert re.search(r"found by prefix: [\d.]+ s, \d+ files", printed)
    assert re.search(r"one brought back by name: [\d.]+ s, 1 files", printed)


def test_the_list_names_every_benchmark_with_what_it_is() -> None:
    lines = bench("--list").stdout.splitlines()

    assert [line.split()[0] for line in lines] == [*SHORT, *LONG]
    assert all(len(line.split()) > 5 for line in lines)


def test_an_unknown_name_ends_with_an_error_that_names_the_known_ones() -> None:
    ended = bench("speed", check=False)

    assert ended.returncode == 2
    assert "no benchmark 'speed'" in ended.stderr
    assert "sensor" in ended.stderr


class Writing(Work):
    """Adds a letter to a file in each turn."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def run(self, path: Path) -> None:
        with path.open("a") as file:
            file.write(self.letter)

    def check(self, path: Path) -> str:
        return path.read_text()


class WritingA(Writing):
    def __init__(self) -> None:
        super().__init__("a")


class WritingB(Writing):
    def __init__(self) -> None:
        super().__init__("b")


class Holding(Work):
    """Holds memory while it runs, in itself and in a child at the same time."""

    def run(self) -> None:
        hold = f"import time; held = bytearray({MEGABYTES} << 20); time.sleep(0.5)"
        child = subprocess.Popen([sys.executable, "-c", hold])
        held = bytearray(MEGABYTES << 20)
        child.wait()
        del held


class BusyChild(Work):
    """Uses a processor for a while, in a child."""

    def run(self) -> None:
        busy = f"import time\nwhile time.process_time() < {CPU_SECONDS}: pass"
        subprocess.run([sys.executable, "-c", busy], check=True)


class Waiting(Work):
    def run(self) -> None:
        time.sleep(CPU_SECONDS)


class Failing(Work):
    def run(self) -> None:
        raise OSError("no such luck")


def test_sides_take_turns_in_either_order(tmp_path: Path) -> None:
    sides = [Side("a", WritingA), Side("b", WritingB)]

    with started(sides):
        interleaved(sides, 3, tmp_path / "letters")

    assert (tmp_path / "letters").read_text() == "abbaab"
    assert sides[1].values == ["ab", "abb", "abbaab"]
    assert [len(side.seconds) for side in sides] == [3, 3]


def test_peak_memory_counts_a_process_together_with_its_children() -> None:
    idle, holding = Side("idle", WritingA), Side("holding", Holding)

    with started([idle, holding]):
        idle.ask(Path("/dev/null"))
        holding.ask()

    assert holding.peak_mib > idle.peak_mib + 2 * MEGABYTES
    assert MEGABYTES < holding.worker_peak_mib < 2 * MEGABYTES
    assert idle.worker_peak_mib == 0


def test_peak_memory_is_not_that_of_the_process_that_started_it() -> None:
    held = bytearray(1024 << 20)
    idle = Side("idle", WritingA)

    with started([idle]):
        idle.ask(Path("/dev/null"))

    assert idle.peak_bytes < len(held)


def test_processor_time_counts_children_and_not_waiting() -> None:
    busy, waiting = Side("busy", BusyChild), Side("waiting", Waiting)

    with started([busy, waiting]):
        interleaved([busy, waiting], 1)

    assert busy.cpu_median >= CPU_SECONDS
    assert waiting.cpu_median < CPU_SECONDS <= waiting.median


def test_a_side_that_fails_stops_the_benchmark(capfd: pytest.CaptureFixture[str]) -> None:
    side = Side("unlucky", Failing)

    with pytest.raises(RuntimeError, match="'unlucky' failed"), started([side]):
        side.ask()

    assert "no such luck" in capfd.readouterr().err
