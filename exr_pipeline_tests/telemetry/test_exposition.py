"""The text that Prometheus reads: of a real ingest, read by the library's own parser, printed and over HTTP."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.settings import Settings
from exr_pipeline.telemetry.exposition import host_and_port, prometheus_text, watch
from exr_pipeline.telemetry.instruments import METRICS
from exr_pipeline.telemetry.recording import record
from exr_pipeline.telemetry.start import flush_telemetry, start_telemetry
from exr_pipeline.telemetry.table_gauges import TableGauges
from exr_pipeline_tests.cli.conftest import Cli
from exr_pipeline_tests.cli.conftest import cli as cli
from exr_pipeline_tests.cli.conftest import home as home
from exr_pipeline_tests.ingest.chunk.conftest import THUMBNAILS, Bench
from exr_pipeline_tests.ingest.chunk.conftest import bench as bench
from exr_pipeline_tests.ingest.chunk.conftest import database as database
from exr_pipeline_tests.ingest.chunk.conftest import good as good
from exr_pipeline_tests.ingest.chunk.conftest import pool as pool
from exr_pipeline_tests.services.processes import free_port


def values(text: str) -> dict[tuple[str, ...], float]:
    """By the name and the values of the labels, as they are written."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_text_has_what_work_has_counted_and_what_the_tables_say(
    bench: Bench, good: bytes, tmp_path: Path, telemetry_ends: None
) -> None:
    settings = bench.settings.model_copy(update={"state_dir": tmp_path, "metrics": True})
    start_telemetry(settings)
    bench.ingest([bench.put("a.exr", good), bench.put("b.exr", b"no picture")], THUMBNAILS)
    flush_telemetry(60)

    text = prometheus_text(settings, TableGauges(bench.rows))

    found = values(text)
    assert found["exr_pipeline_files_total", "", "exr", "ready"] == 1
    assert found["exr_pipeline_stage_seconds_count", "decode"] == 1
    assert found["exr_pipeline_stage_seconds_bucket", "+Inf", "fetch"] == 2
    assert found["exr_pipeline_stage_bytes_total", "fetch"] == len(good) + len(b"no picture")
    assert found["exr_pipeline_files", "exr", "ready"] >= 1
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert kinds["exr_pipeline_stage_seconds"] == "histogram"
    assert set(kinds) <= {metric.name.removesuffix("_total") for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_those_that_prometheus_and_a_collector_would_choose(metric: object) -> None:
    assert isinstance(metric, type(METRICS[0]))
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.removesuffix("_total").endswith({"s": "_seconds", "By": "_bytes", "": ""}[metric.unit])


def read(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def test_the_port_answers_with_the_sums_and_is_taken_over_once_it_is_free(
    bench: Bench, tmp_path: Path, telemetry_ends: None
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    settings = bench.settings.model_copy(update={"state_dir": tmp_path, "metrics_address": address})
    start_telemetry(settings)
    with socket.create_server(("127.0.0.1", port)):
        # As while a code location is loaded again: the process before this one still has the port.
        watch(settings, bench.rows)
    watch(settings, bench.rows)
    watch(settings, bench.rows)
    record(METRICS[3], "file", value=7)
    flush_telemetry(60)
    assert values(read(address))["exr_pipeline_retries_total", "file"] == 7


@pytest.mark.parametrize("address", ["9464", "localhost", ":9464", "localhost:http", "localhost:99999"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(MisconfiguredError, match=r"EXR_PIPELINE_METRICS_ADDRESS: .*host:port"):
        host_and_port(address)


def test_an_address_has_a_host_and_a_port() -> None:
    assert host_and_port("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert host_and_port("[::1]:0") == ("::1", 0)


def test_an_address_means_that_work_is_counted() -> None:
    assert not Settings(_env_file=None).counts_metrics
    assert Settings(_env_file=None, metrics_address="127.0.0.1:9464").counts_metrics


def test_the_command_prints_the_metrics_of_tables_that_are_not_there_yet(cli: Cli) -> None:
    found = cli("metrics")
    assert found.status == 0
    assert values(found.out)["exr_pipeline_tables_up",] == 1
