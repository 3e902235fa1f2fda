"""A collector, and telemetry that is on in this process for as long as a test lasts."""

from collections.abc import Iterator

import pytest

from exr_pipeline.telemetry.start import stop_telemetry
from exr_pipeline_tests.telemetry.collector import Collector, running_collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the standard variables name."""
    with running_collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.endpoint)
        yield found
        stop_telemetry()


@pytest.fixture
def telemetry_ends() -> Iterator[None]:
    """What the test has started ends with it."""
    yield
    stop_telemetry()
