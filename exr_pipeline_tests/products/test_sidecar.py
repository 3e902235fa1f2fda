"""The header as JSON next to the pictures: whole where it fits, cut down in the documented order where not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exr_pipeline.products.sidecar import LARGEST_BYTES, bounded

DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "file": {"path": "a.exr"},
    "parts": [{"index": index, "name": "part"} for index in range(100)],
    "channels": [{"name": f"layer.{index}"} for index in range(1000)],
    "attributes": {
        "parts": [
            [
                {"name": "manifest", "type": "string", "value": "x" * 100_000},
                *({"name": f"note{index}", "type": "string", "value": "y" * 4000} for index in range(10)),
            ]
        ]
    },
}
LONG, ATTRIBUTES, CHANNELS, PARTS, REST = (
    "attributes longer than 4096 bytes",
    "attributes",
    "channels",
    "parts",
    "everything but file",
)


def test_what_fits_is_whole() -> None:
    assert json.loads(bounded(DOCUMENT, LARGEST_BYTES)) == DOCUMENT


@pytest.mark.parametrize(
    ("limit", "left_out", "kept"),
    [
        (100_000, [LONG], {"schema_version", "file", "parts", "channels", "attributes", "left_out"}),
        (30_000, [LONG, ATTRIBUTES], {"schema_version", "file", "parts", "channels", "left_out"}),
        (8_000, [LONG, ATTRIBUTES, CHANNELS], {"schema_version", "file", "parts", "left_out"}),
        (200, [LONG, ATTRIBUTES, CHANNELS, PARTS], {"schema_version", "file", "left_out"}),
    ],
)
def test_what_does_not_fit_is_cut_and_says_so(limit: int, left_out: list[str], kept: set[str]) -> None:
    data = bounded(DOCUMENT, limit)
    assert len(data) <= limit
    found = json.loads(data)
    assert (found["left_out"], set(found)) == (left_out, kept)
    if left_out == [LONG]:
        values = [one["value"] for one in found["attributes"]["parts"][0]]
        assert values == [None, *["y" * 4000] * 10]
        assert found["attributes"]["parts"][0][0]["name"] == "manifest"


def test_whatever_else_there_is_only_the_file_stays_in_the_end() -> None:
    document = {**DOCUMENT, "streams": ["s" * 9000], "tags": ["t" * 9000]}
    found = json.loads(bounded(document, 1000))
    assert (found["left_out"][-1], found["file"]) == (REST, {"path": "a.exr"})
    assert "tags" not in found
