"""Dashboard, alert rules and the collector's configuration: their syntax, and that what they name is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from exr_pipeline.events.outbox import with_events
from exr_pipeline.telemetry.exposition import prometheus_text
from exr_pipeline.telemetry.instruments import (
    EVENTS_PUBLISHED,
    EVENTS_READ,
    LAST_TICK,
    METRICS,
    SENSOR_WAITING,
    TICK_SECONDS,
    TRIED_AGAIN,
    UNFINISHED_RUNS,
)
from exr_pipeline.telemetry.recording import record
from exr_pipeline.telemetry.start import start_telemetry, stop_telemetry
from exr_pipeline.telemetry.table_gauges import TableGauges
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.ingest.chunk.conftest import THUMBNAILS, Bench
from exr_pipeline_tests.ingest.chunk.conftest import bench as bench
from exr_pipeline_tests.ingest.chunk.conftest import database as database
from exr_pipeline_tests.ingest.chunk.conftest import good as good
from exr_pipeline_tests.ingest.chunk.conftest import pool as pool
from exr_pipeline_tests.tables.sample_rows import SampleFile, rows_of

DEPLOY = REPOSITORY / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in RULES]

# What Grafana's own model of a dashboard asks for, as far as this one uses it.
_PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "gridPos"],
    "properties": {
        "id": {"type": "integer"},
        "type": {"enum": ["row", "stat", "timeseries"]},
        "title": {"type": "string", "minLength": 1},
        "gridPos": {
            "type": "object",
            "required": ["h", "w", "x", "y"],
            "properties": {
                "h": {"type": "integer", "minimum": 1},
                "w": {"type": "integer", "minimum": 1, "maximum": 24},
                "x": {"type": "integer", "minimum": 0, "maximum": 23},
                "y": {"type": "integer", "minimum": 0},
            },
        },
        "targets": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["refId", "expr", "datasource", "legendFormat"],
                "properties": {"datasource": {"const": {"type": "prometheus", "uid": "${datasource}"}}},
            },
        },
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["title", "uid", "schemaVersion", "panels", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "maxLength": 40, "pattern": "^[A-Za-z0-9_-]+$"},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "panels": {"type": "array", "items": _PANEL},
        "id": {"type": "null"},
    },
}


def parsed(query: str) -> Any:
    """A query, with what Grafana puts in the place of its variables."""
    return promql_parser.parse(query.replace("$__rate_interval", "1m"))


def selectors(node: Any) -> Iterator[Any]:
    """All that a query selects series by."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        inner = getattr(node, name, None)
        if inner is not None and not isinstance(inner, str | int | float):
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or ():
        yield from selectors(inner)


def selected(query: str) -> set[str]:
    """The names of the metrics of a query."""
    return {str(each.name) for each in selectors(parsed(query))}


@pytest.fixture
def exported(bench: Bench, good: bytes, tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    """The series of a real ingest's text, and of all else that is recorded at all: labels by name."""
    settings = bench.settings.model_copy(update={"state_dir": tmp_path, "metrics": True, "publish_brokers": "b:1"})
    start_telemetry(settings)
    bench.ingest([bench.put("a.exr", good), bench.put("b.exr", b"no picture")], THUMBNAILS)
    # What needs a broker, a sensor or trouble, which other tests have.
    record(TRIED_AGAIN, "file")
    for result in ("accepted", "rejected"):
        record(EVENTS_READ, result)
    record(EVENTS_PUBLISHED, "kafka", "rejected")
    record(TICK_SECONDS, "source_files", value=1)
    record(LAST_TICK, "source_files", value=1)
    record(SENSOR_WAITING, "source_files", value=1)
    record(UNFINISHED_RUNS, "files", value=1)
    stop_telemetry()
    now = datetime.now(UTC)
    away = SampleFile("c.exr", state="retryable", reason="away")
    bench.rows.write(with_events(rows_of(SampleFile("d.exr"), away), settings, now=now), now=now)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(prometheus_text(settings, TableGauges(bench.rows))):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_all_that_queries_select_is_exported(exported: dict[str, list[dict[str, str]]]) -> None:
    for query in QUERIES:
        found = list(selectors(parsed(query)))
        assert found, query
        for selector in found:
            series = exported[str(selector.name)]
            for matcher in selector.matchers.matchers:
                values = {labels[matcher.name] for labels in series}
                wrong = {matcher.value} if str(matcher.op) == "MatchOp.NotEqual" else set()
                assert values - wrong if wrong else matcher.value in values, (query, matcher.name, values)


def test_queries_group_by_labels_that_there_are(exported: dict[str, list[dict[str, str]]]) -> None:
    for query in QUERIES:
        labels = {name for metric in selected(query) for name in exported[metric][0]}
        grouped = {name.strip() for group in re.findall(r"by \(([^)]*)\)", query) for name in group.split(",")}
        assert grouped <= labels, query


def test_every_metric_is_shown_or_watched() -> None:
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for query in QUERIES for name in selected(query)}
    assert used == {metric.name for metric in METRICS}


def test_a_name_that_is_not_exported_is_noticed() -> None:
    assert selected("sum(rate(no_such_metric[$__rate_interval])) / max(exr_pipeline_files)") == {
        "no_such_metric",
        "exr_pipeline_files",
    }


def test_the_dashboard_is_one() -> None:
    jsonschema.validate(DASHBOARD, _SCHEMA)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


def test_no_panel_lies_on_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) <= 23


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_long_how_bad_what_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, section = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert section in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_part_of_the_collector_is_used_and_there() -> None:
    config = yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text(encoding="utf-8"))
    pipelines = config["service"]["pipelines"].values()
    for part in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[part]} == set(config[part])


def test_the_example_of_prometheus_is_the_one_of_the_page() -> None:
    shipped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    page = (REPOSITORY / "docs/observability.md").read_text(encoding="utf-8")
    (shown,) = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    shipped["scrape_configs"][0].pop("scrape_interval")
    assert shown == shipped
