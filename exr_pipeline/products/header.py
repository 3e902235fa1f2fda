"""The product `header`: every attribute of every part, without loss.

Belongs here: what the page shows of a header. Not here: reading it (`inspection`, `footage.probe`), or its rows
(`inspection.rows`, `footage.rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.filesize import decimal

from exr_pipeline.products.picture_facts import color_space
from exr_pipeline.products.product import Facts, FileProduct

if TYPE_CHECKING:
    from exr_pipeline.products.file_result import FileResult

CHANNELS_SHOWN: Final = 64


def _facts(result: FileResult) -> Facts | None:
    inspection = result.inspection
    if result.media is not None:
        size = None if result.source is None else result.source.size_bytes
        return {**_spaced(result.media.summary()), "size": "" if size is None else decimal(size)}
    if inspection is None:
        return None
    return {
        **_spaced(inspection.summary()),
        "color space": color_space(result),
        "size": decimal(inspection.source.size_bytes),
        "channel names": ", ".join(inspection.channel_names()[:CHANNELS_SHOWN]),
        "warnings": inspection.warning_texts(),
    }


def _spaced(facts: Facts) -> Facts:
    return {name.replace("_", " "): value for name, value in facts.items()}


HEADER: Final = FileProduct(
    name="header",
    asset="exr_header",
    needs="header",
    description=(
        "Every attribute of every part, lossless, in the tables files, parts, channels and attributes. For movies "
        "and sounds: their streams, in media_streams. As an input of your own asset: rows of `files`, or of the "
        "table that the input's metadata `table` names."
    ),
    group="metadata",
    kinds=frozenset({"openexr", "table"}),
    comes_from=("source_file",),
    table="files",
    more_tables=("parts", "channels", "attributes", "media_streams"),
    facts=_facts,
)
