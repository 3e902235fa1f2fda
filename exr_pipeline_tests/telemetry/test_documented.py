"""docs/observability.md lists the metrics that there are, and the fields of a log line."""

from __future__ import annotations

import json
import logging
import re

from exr_pipeline.telemetry.instruments import METRICS
from exr_pipeline.telemetry.logs import JsonFormatter
from exr_pipeline_tests.docs.generated import REPOSITORY

PAGE = (REPOSITORY / "docs/observability.md").read_text(encoding="utf-8")


def test_the_page_lists_every_metric_as_the_code_has_it() -> None:
    table = [
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in PAGE.splitlines()
        if line.startswith("| `exr_pipeline_")
    ]
    assert table == [
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning)
        for each in METRICS
    ]


def test_those_that_follow_from_the_tables_are_the_last_five() -> None:
    assert [metric.origin for metric in METRICS[-5:]] == ["tables"] * 5
    assert "tables" not in [metric.origin for metric in METRICS[:-5]]


def test_the_page_lists_the_fields_of_a_log_line() -> None:
    section = PAGE.partition("## Logs")[2].partition("\n## ")[0]
    fields = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in section.splitlines() if "| `" in line[:4]))
    try:
        raise ValueError
    except ValueError as error:
        record = logging.makeLogRecord({"exc_info": (ValueError, error, error.__traceback__)})
    assert set(fields) == set(json.loads(JsonFormatter().format(record)))
