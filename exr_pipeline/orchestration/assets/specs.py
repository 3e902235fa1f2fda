"""The assets of a file: what there is, how it hangs together, what its tables look like.

Belongs here: the specs that the UI shows. Not here: the step that makes them (`orchestration.steps.files`), their
events (`orchestration.steps.file_events`).
"""

from collections.abc import Collection
from typing import Final

import dagster as dg

from exr_pipeline.ingest.choose import Product
from exr_pipeline.orchestration.partitions import files_partitions
from exr_pipeline.tables.specs import TABLES, TableName

SOURCE_FILE: Final = dg.AssetKey("source_file")
EXR_HEADER: Final = dg.AssetKey("exr_header")
CHANNEL_FINGERPRINT: Final = dg.AssetKey("channel_fingerprint")
THUMBNAIL: Final = dg.AssetKey("thumbnail")
PROXY_MP4: Final = dg.AssetKey("proxy_mp4")
PROXY_OUTPUTS: Final = dg.AssetKey("proxy_outputs")
SEQUENCE_MP4: Final = dg.AssetKey("sequence_mp4")

TABLE_IO: Final = "table_io"
MEDIA_IO: Final = "media_io"


def _columns(table: TableName, *names: str) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(column.name, column.type, column.meaning)
            for column in TABLES[table].columns
            if not names or column.name in names
        ]
    )


SOURCE_SPEC: Final = dg.AssetSpec(
    SOURCE_FILE,
    description="A picture, movie or sound as it lies in object storage. Others make it; the sensor finds it.",
    group_name="sources",
    kinds={"file"},
    partitions_def=files_partitions,
)

FILE_SPECS: Final = (
    dg.AssetSpec(
        EXR_HEADER,
        deps=[SOURCE_FILE],
        description=(
            "Every attribute of every part, without loss, in the tables files, parts, channels and attributes; "
            "of a movie or sound its streams, in media_streams. "
            "As a parameter of your own asset: rows of `files`, or of the table named by the input's metadata `table`."
        ),
        group_name="metadata",
        kinds={"openexr", "table"},
        metadata={
            "dagster/column_schema": _columns("files"),
            "table": "files",
            "columns of parts": _columns("parts"),
            "columns of channels": _columns("channels"),
            "columns of attributes": _columns("attributes"),
            "columns of media_streams": _columns("media_streams"),
        },
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(TABLE_IO),
    dg.AssetSpec(
        CHANNEL_FINGERPRINT,
        deps=[EXR_HEADER],
        description="The file's channel layout and metadata as vectors of unit length: near for files of one kind.",
        group_name="metadata",
        kinds={"vector", "table"},
        metadata={
            "dagster/column_schema": _columns(
                "channels", "file_id", "file_path", "channel_name", "channel_fingerprint"
            ),
            "table": "channels",
        },
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(TABLE_IO),
    dg.AssetSpec(
        THUMBNAIL,
        deps=[SOURCE_FILE],
        description=(
            "A JPEG in sRGB, through the display's view, of EXR_PIPELINE_THUMBNAIL_SIZE pixels at most, beside the "
            "file in `.proxies/` or below EXR_PIPELINE_OUTPUT_ROOT. "
            "Of a movie a frame near its middle, and a filmstrip; of a sound its waveform."
        ),
        group_name="pictures",
        kinds={"jpeg"},
        metadata={"table": "proxy_outputs"},
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(MEDIA_IO),
    dg.AssetSpec(
        PROXY_MP4,
        deps=[SOURCE_FILE],
        description=(
            "An H.264 movie in Rec.709, ready for the web, within EXR_PIPELINE_PROXY_WIDTH and _HEIGHT, beside the "
            "file in `.proxies/` or below EXR_PIPELINE_OUTPUT_ROOT. "
            "Of a movie all of it with its sound, of a sound AAC alone."
        ),
        group_name="pictures",
        kinds={"h264"},
        metadata={"table": "proxy_outputs"},
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(MEDIA_IO),
    dg.AssetSpec(
        PROXY_OUTPUTS,
        deps=[THUMBNAIL, PROXY_MP4],
        description="The table of what was made: where it lies, its size, from and to which color space, with what.",
        group_name="pictures",
        kinds={"table"},
        metadata={"dagster/column_schema": _columns("proxy_outputs"), "table": "proxy_outputs"},
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(TABLE_IO),
)

FILE_ASSETS: Final = tuple(spec.key for spec in FILE_SPECS)
HEADER_ASSETS: Final = frozenset({EXR_HEADER, CHANNEL_FINGERPRINT})


def assets_of(products: Collection[Product]) -> list[dg.AssetKey]:
    """The assets that are these products, every one if none is named."""
    made = {key for product in products for key in _OF_PRODUCT[product]}
    if made >= {THUMBNAIL, PROXY_MP4}:
        made.add(PROXY_OUTPUTS)
    return [key for key in FILE_ASSETS if key in made or not products]


_OF_PRODUCT: Final[dict[Product, tuple[dg.AssetKey, ...]]] = {
    "header": (EXR_HEADER, CHANNEL_FINGERPRINT),
    "thumbnail": (THUMBNAIL,),
    "proxy": (PROXY_MP4,),
}
