"""Seconds from a file to its partition in a running deployment: by events, and by the sweep.

Belongs here: a daemon, events and files at a steady rate, and when partitions appear. Not here: runs, of which none is
started, or ticks by themselves (`sensor`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from bench.home import BATCHED
from bench.report import Report, Table
from bench.server import BUCKET, fill, running_server, settings_for
from bench.size import Size
from exr_pipeline_tests.services.kafka import Broker, Tansu
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

_PER_SECOND: Final = 1000
_SECONDS: Final = 60
_BATCHES_PER_SECOND: Final = 20
_KNOWN: Final = "known/"
_NEW: Final = "new/"
_PER_FOLDER: Final = 100
_AT_ONCE: Final = 20_000
_LONGEST_SECONDS: Final = 600
_ARRIVALS: Final = 20

# One sensor by itself: else what one finds would be missing for the other.
_DEFINITIONS: Final = """
import dagster as dg
from exr_pipeline.orchestration.build import build_defs

def only_one_sensor():
    all_of_them = build_defs()
    return dg.Definitions(
        assets=all_of_them.assets,
        jobs=all_of_them.jobs,
        resources=all_of_them.resources,
        executor=dg.in_process_executor,
        sensors=[sensor for sensor in all_of_them.sensors if sensor.name == "{sensor}"],
    )

defs = only_one_sensor()
"""


class Deployment:
    """A code server and a daemon with one of the sensors, and the partitions that come of it."""

    def __init__(self, folder: Path, sensor: str, environment: Mapping[str, str]) -> None:
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        config = {
            "storage": BATCHED,
            "telemetry": {"enabled": False},
            "sensors": {"use_threads": True, "num_workers": 4, "num_submit_workers": 4},
            "concurrency": {"runs": {"max_concurrent_runs": 0}},
        }
        # JSON is YAML.
        (self._home / "dagster.yaml").write_text(json.dumps(config))
        (self._home / "defs.py").write_text(_DEFINITIONS.format(sensor=sensor))
        os.environ.update({"DAGSTER_HOME": str(self._home), "EXR_PIPELINE_STATE_DIR": str(folder), **environment})

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both processes, until they have ticked."""
        port = free_port()
        location = {"host": "127.0.0.1", "port": port, "location_name": "bench"}
        workspace = self._home / "workspace.yaml"
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": location}]}))
        code = ["dagster", "api", "grpc", "-f", "defs.py", "-h", "127.0.0.1", "-p", str(port)]
        with ExitStack() as stack:
            server = stack.enter_context(self._service("code", *code))
            wait_until(lambda: answers(port) or not server.is_running, "the code server answers")
            if not server.is_running:
                raise RuntimeError(server.log_tail())
            stack.enter_context(self._service("daemon", "dagster._daemon", "run", "-w", str(workspace)))
            wait_until(self._has_ticked, "the sensor ticks")
            yield

    def _service(self, name: str, *module: str) -> Service:
        command: list[str | Path] = [sys.executable, "-m", *module]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        return Service(name, command, self._home / f"{name}.log", environment=environment, folder=self._home)

    def _has_ticked(self) -> bool:
        (ticks,) = self._home.rglob("schedules.db")
        with sqlite3.connect(f"file:{ticks}?mode=ro", uri=True) as database:
            return bool(database.execute("SELECT count(*) FROM job_ticks WHERE status <> 'STARTED'").fetchone()[0])

    def partitions_after(self, last: int) -> list[tuple[int, str]]:
        """The partitions that came after one, by its number, in their order."""
        path = self._home / "history" / "runs" / "index.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as database:
            return database.execute(
                "SELECT id, partition FROM dynamic_partitions WHERE id > ? ORDER BY id", (last,)
            ).fetchall()


def run(size: Size, folder: Path) -> Report:
    """Events at a steady rate beside single files that only the sweep can find."""
    count = size.files or (50 if size.tiny else _PER_SECOND * _SECONDS)
    rate = min(count, _PER_SECOND)
    with running_server(folder):
        before = dict(os.environ)
        by_events = _by_events(folder / "events", count, rate)
        os.environ.clear()
        os.environ.update(before)
        by_sweep = _by_sweep(folder / "sweep", count, 2 if size.tiny else _ARRIVALS)
    ratios = Table(["lag of the sweep, x that of events: median", "longest"])
    ratios.add(median(by_sweep) / median(by_events), max(by_sweep) / max(by_events))
    figures = Table(["sensor", "objects", "median lag, s", "99 % within, s", "longest lag, s"])
    for name, lags in (("events_in", by_events), ("source_files", by_sweep)):
        figures.add(name, len(lags), median(lags), quantiles(lags, n=100, method="inclusive")[-1], max(lags))
    return Report(
        "events",
        f"A daemon and a code server as they are by default, on SQLite, with one sensor each time; no run is started. "
        f"*events_in*: {rate} events a second for {count / rate:.0f} s to a topic of a Kafka broker on the same "
        "machine, each naming an object that was put before; the lag is the time from the event to the partition. "
        f"*source_files*: one file a second in a folder of a bucket of {count} known objects where nothing has "
        "arrived for long; the lag is the time from the upload to the partition. EXR_PIPELINE_SETTLE_SECONDS delays "
        "runs, not partitions, of events; it is 0 for the sweep.",
        ratios,
        figures,
        ["No event was lost: every one became a partition."],
    )


def _by_events(folder: Path, count: int, rate: int) -> list[float]:
    from exr_pipeline.storage.locations import Location

    # One more, before the clock starts: a process that has just started imports what it needs.
    keys = [_key(_NEW, number) for number in range(count + 1)]
    for start in range(0, len(keys), _AT_ONCE):
        fill(dict.fromkeys(keys[start : start + _AT_ONCE], b"any"))
    folder.mkdir()
    with Tansu(folder) as tansu:
        broker = Broker(tansu.address, can_create=True)
        topic = broker.new_topic()
        environment = {
            "EXR_PIPELINE_SOURCES": f"s3://{BUCKET}/{_NEW}",
            "EXR_PIPELINE_EVENTS_KAFKA_BROKERS": tansu.address,
            "EXR_PIPELINE_EVENTS_KAFKA_TOPICS": topic,
        }
        deployment = Deployment(folder, "events_in", environment)
        _settle_keys()
        sent: dict[str, float] = {}

        def send(start: int, end: int) -> None:
            now = time.time()
            sent.update((Location("s3", BUCKET, key).partition_key, now) for key in keys[start:end])
            broker.send(topic, *(_notification(key) for key in keys[start:end]))

        with deployment.running():
            broker.send(topic, _notification(keys.pop()))
            wait_until(lambda: deployment.partitions_after(0), "the first partition")
            return _lags(deployment, sent, count, send, rate, _BATCHES_PER_SECOND, last=1)


def _by_sweep(folder: Path, known: int, arrivals: int) -> list[float]:
    from exr_pipeline.storage.locations import Location

    environment = {
        "EXR_PIPELINE_SOURCES": f"s3://{BUCKET}/{_KNOWN}",
        "EXR_PIPELINE_SETTLE_SECONDS": "0",
        "EXR_PIPELINE_SENSOR_MAX_RUNS": "1000",
    }
    deployment = Deployment(folder, "source_files", environment)
    _settle_keys()
    last = _know(folder, known, deployment)
    keys = [
        f"{_KNOWN}shot_{(index * 7919) % max(known // _PER_FOLDER, 1):05d}/late_{index}/a.1001.exr"
        for index in range(arrivals)
    ]
    sent: dict[str, float] = {}

    def send(start: int, end: int) -> None:
        for key in keys[start:end]:
            fill({key: b"any"})
            sent[Location("s3", BUCKET, key).partition_key] = time.time()

    with deployment.running():
        return _lags(deployment, sent, arrivals, send, 1, 1, last=last)


def _key(prefix: str, number: int) -> str:
    return f"{prefix}shot_{number // _PER_FOLDER:05d}/beauty.{1001 + number % _PER_FOLDER}.exr"


def _settle_keys() -> None:
    """A new home: there are no partition keys of earlier versions."""
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work

    with instance_for_work():
        return


def _know(folder: Path, count: int, deployment: Deployment) -> int:
    from exr_pipeline.ingest.read_header import source_file
    from exr_pipeline.inspection import FileState, unread_rows
    from exr_pipeline.orchestration.instance.home import open_instance
    from exr_pipeline.orchestration.partitions import FILES
    from exr_pipeline.pipeline import Pipeline
    from exr_pipeline.storage.locations import Location

    pipeline = Pipeline(settings_for(folder))
    now = datetime.now(UTC)
    with open_instance() as instance:
        for start in range(0, count, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, count))
            fill({_key(_KNOWN, number): b"any" for number in numbers})
        infos = pipeline.storage.iter_objects(Location("s3", BUCKET, _KNOWN))
        while some := list(islice(infos, _AT_ONCE)):
            rows = unread_rows([(source_file(info), FileState("ready", None)) for info in some], inspected_at=now)
            pipeline.tables.write(rows, now=now)
            instance.add_dynamic_partitions(FILES, [info.location.partition_key for info in some])
    return max(number for number, _ in deployment.partitions_after(0))


def _notification(key: str) -> bytes:
    s3 = {"bucket": {"name": BUCKET}, "object": {"key": key, "size": 3}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": s3}]}).encode()


def _lags(
    deployment: Deployment,
    sent: Mapping[str, float],
    count: int,
    send: Callable[[int, int], None],
    rate: int,
    batches_per_second: int,
    *,
    last: int = 0,
) -> list[float]:
    """Send at a rate, and see when partitions appear, until all are there."""
    begun = time.time()
    done = 0
    seen: dict[str, float] = {}
    while len(seen) < count:
        if time.time() - begun > _LONGEST_SECONDS:
            raise RuntimeError(f"{count - len(seen)} of {count} have no partition after {_LONGEST_SECONDS} s")
        due = min(int((time.time() - begun) * batches_per_second + 1) * rate // batches_per_second, count)
        if due > done:
            send(done, due)
            done = due
        found = deployment.partitions_after(last)
        now = time.time()
        seen |= {key: now for _, key in found}
        last = found[-1][0] if found else last
        time.sleep(0.01)
    return [seen[key] - moment for key, moment in sent.items()]
