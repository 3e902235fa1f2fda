"""The queries of docs/compatibility.md, on rows of real headers and pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO
import pytest

from exr_pipeline.ingest.store_results import rows_of
from exr_pipeline.inspection import SourceFile, inspect_bytes
from exr_pipeline.pictures.render import render_picture
from exr_pipeline.products.file_result import FileResult
from exr_pipeline.sample.writers import REC709, ExrPart, exr_bytes
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.pictures.files import picture_settings

Rows = list[dict[str, Any]]
NOW, SEEN = datetime(2026, 5, 2, 10, tzinfo=UTC), datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
KEY, TILED, COPY = "Show/Beauty.1001.exr", "Show/Tiled.1001.exr", "Show/Tiled.1001.exr"
TEXTS = {"owner": "a studio", "capDate": "2026:05:01 09:00:00"}


def beauty() -> bytes:
    """A render with overscan, a layer and attributes that were renamed before."""
    pixel = np.full((40, 60), 0.18, np.float16)
    names = ("R", "G", "B", "A", "diffuse.R", "diffuse.G", "diffuse.B")
    attributes: dict[str, Any] = {
        **TEXTS,
        "aperture": 2.8,
        "chromaticities": REC709,
        "framesPerSecond": Fraction(24),
        "timeCode": OpenEXR.TimeCode(1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    return exr_bytes([ExrPart(dict.fromkeys(names, pixel), attributes=attributes, origin=(-6, -4), display=(48, 32))])


def tiled() -> bytes:
    pixel = np.full((32, 48), 0.18, np.float16)
    views: dict[str, Any] = {"multiView": ["left", "right"]}
    return exr_bytes([ExrPart(dict.fromkeys(("R", "G", "B"), pixel), attributes=views, tile=(16, 8))])


def blocks() -> Iterator[tuple[str, str]]:
    """Each query with the heading that it stands below."""
    text = (REPOSITORY / "docs" / "compatibility.md").read_text(encoding="utf-8")
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for number, query in enumerate(re.findall(r"^```sql\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)):
            yield (f"{heading} ({number})" if number else heading), query


QUERIES = dict(blocks())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "beauty.exr"
    path.write_bytes(beauty())
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, picture: Path) -> DuckDBStore:
    """Two files, one of them inspected twice and then replaced by another version, and a copy in another bucket."""
    store = DuckDBStore(tmp_path_factory.mktemp("tables") / "tables.duckdb")

    def result(bucket: str, key: str, data: bytes, etag: str, seen: datetime) -> FileResult:
        source = SourceFile(Location("s3", bucket, key), len(data), seen, etag)
        return FileResult(source.location, "ready", None, source, inspect_bytes(data, source))

    settings = picture_settings(compatibility="spaceharbor")
    shown = result("renders", KEY, beauty(), "a", SEEN)
    shown.pictures = render_picture(str(picture), shown.location.url, thumbnail=True, proxy=True, settings=settings)
    endings = {"thumbnail": "thumb.jpg", "proxy": "proxy.mp4", "proxy_still": "proxy.jpg"}
    shown.stored = {name: OutputPlace().at(shown.location, ending, "stem") for name, ending in endings.items()}
    first = result("renders", TILED, beauty(), "b", SEEN)
    later = result("renders", TILED, tiled(), "c", NOW)
    copy = result("archive", COPY, tiled(), "d", SEEN)
    for minute, batch in enumerate(([shown, first, copy], [shown], [later])):
        now = NOW + timedelta(minutes=minute)
        store.write(rows_of(batch, now=now), now=now)
    return store


def by_file(rows: Rows, column: str) -> dict[str, Any]:
    return {row["file_path"]: row[column] for row in rows}


def file_id(path: str, seen: datetime) -> str:
    return hashlib.sha256(f"{path}{seen.isoformat()}{hashlib.md5(path.encode()).hexdigest()}".encode()).hexdigest()[:16]


def check_identity(rows: Rows) -> None:
    found = {row["former_path"]: (row["file_id"], row["former_id"]) for row in rows}
    assert found[f"renders/{KEY}"] == (file_id(KEY, SEEN), file_id(f"renders/{KEY}", SEEN))
    assert set(found) == {f"renders/{KEY}", f"renders/{TILED}", f"archive/{COPY}"}


def check_channels(rows: Rows) -> None:
    names = [row["channel_name"] for row in rows if row["file_path"] == KEY]
    assert names == ["R", "G", "B", "A", "diffuse.B", "diffuse.G", "diffuse.R"]


def check_fingerprints(rows: Rows) -> None:
    assert len(rows) == 3
    assert all(any(row["channel_fingerprint"]) for row in rows)


def check_names(rows: Rows) -> None:
    names = {row["attr_name"] for row in rows if row["file_path"] == KEY}
    assert names >= {
        *("Copyright", "DateTime", "FNumber", "smpte:TimeCode", "PixelAspectRatio", "openexr:lineOrder"),
        "chromaticities",
    }
    assert not names & {"owner", "capDate", "aperture", "timeCode", "pixelAspectRatio", "lineOrder"}


def check_types(rows: Rows) -> None:
    types = {row["attr_name"]: row["attr_type"] for row in rows if row["file_path"] == KEY}
    named = ("owner", "aperture", "framesPerSecond", "chromaticities")
    assert [types[name] for name in named] == ["STRING", "FLOAT", "RATIONAL", "FLOAT[8]"]


def check_windows(rows: Rows) -> None:
    assert by_file(rows, "data_window")[KEY] == [-6, -4, 53, 35]
    assert by_file(rows, "display_window")[KEY] == [0, 0, 47, 31]


def check_tiles(rows: Rows) -> None:
    tiles = {row["file_path"]: (row["tile_width"], row["tile_height"], row["tile_depth"]) for row in rows}
    assert tiles == {KEY: (0, 0, 1), TILED: (16, 8, 1)}


def check_overscan(rows: Rows) -> None:
    (row,) = rows
    assert list(row.values()) == [KEY, 0, 60, 40, 48, 32, -6, -4]


def check_outputs(rows: Rows) -> None:
    (row,) = rows
    assert (row["s3_bucket"], row["s3_key"]) == ("renders", KEY)
    assert row["proxy_s3_key"].endswith(".mp4")


def check_counts(rows: Rows) -> None:
    (row,) = rows
    assert (row["file_path"], row["inspection_count"]) == (KEY, 2)


def check_colors(rows: Rows) -> None:
    assert sum(row["parts"] for row in rows) == 3
    assert "Linear Rec.709 (sRGB)" in {row["color_space"] for row in rows}


CHECKS: dict[str, Any] = {
    "Names that SpaceHarbor looks for": lambda rows: rows == [{"file_path": TILED, "buckets": 2}],
    "files.file_id and files.file_path": check_identity,
    "files.file_path_normalized": lambda rows: (
        {row["file_path_normalized"] for row in rows} == {f"/workspace/{KEY.lower()}", f"/workspace/{TILED.lower()}"}
    ),
    "files.file_path_normalized (1)": lambda rows: (
        rows == [{"bucket": "renders", "file_path_normalized": TILED.lower(), "versions": 2}]
    ),
    "files.header_hash": lambda rows: rows == [{"bucket": "renders", "file_path": TILED, "headers": 2}],
    "files.format": lambda rows: by_file(rows, "format") == {KEY: "openexr", TILED: "openexr"},
    "files.inspection_count and files.last_inspected": check_counts,
    "parts.data_window and parts.display_window": check_windows,
    "parts.display_width, display_height, data_x_offset, data_y_offset": check_overscan,
    "parts.line_order": lambda rows: {row["file_path"] for row in rows} == {KEY, TILED},
    "parts.color_space": check_colors,
    "parts.tile_width, tile_height, tile_depth": check_tiles,
    "parts.multi_view": lambda rows: rows == [{"file_path": TILED}],
    "channels": check_channels,
    "channels (1)": check_fingerprints,
    "attributes.attr_name": check_names,
    "attributes.attr_type": check_types,
    "proxy_outputs.proxy_id": check_outputs,
    "proxy_outputs.proxy_s3_key": lambda rows: (
        rows == [{"s3_key": KEY, "proxy_s3_key": "Show/.proxies/Beauty.1001_proxy.jpg"}]
    ),
    "proxy_outputs.proxy_s3_key (1)": lambda rows: (
        [(row["thumb_resolution"], row["proxy_resolution"]) for row in rows] == [("48x32", "48x32")]
    ),
    "aovs": lambda rows: (
        [row["channels"] for row in rows if row["file_path"] == KEY] == [["diffuse.B", "diffuse.G", "diffuse.R"]]
    ),
}


def test_every_query_is_checked() -> None:
    assert set(QUERIES) == set(CHECKS)


@pytest.mark.parametrize("heading", QUERIES)
def test_a_query_gives_what_the_document_says(store: DuckDBStore, heading: str) -> None:
    rows = store.sql(QUERIES[heading]).to_pylist()
    assert CHECKS[heading](rows) in (None, True), rows


def test_the_former_names_of_attributes_are_those_of_openimageio(picture: Path) -> None:
    former = re.findall(r"WHEN '\w+' THEN '([\w:]+)'", QUERIES["attributes.attr_name"])
    image = OpenImageIO.ImageInput.open(str(picture))
    names = {attribute.name for attribute in image.spec().extra_attribs}
    image.close()
    assert len(former) == 6
    assert set(former) <= names
