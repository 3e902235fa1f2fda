"""The tables: names, columns, Arrow types, keys and rules of merging, the same for every store.

Belongs here: what a row looks like, and what becomes of it when it is written again. Not here: how rows are written
(`stores`), how the rules are applied (`merge`), or how rows are filled (`inspection`, `ingest`).
The first columns of each table are those of existing installations and never change; ours follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from exr_pipeline.formats import PICTURE_FORMATS

if TYPE_CHECKING:
    import pyarrow as pa

TableName = Literal[
    "files",
    "parts",
    "channels",
    "attributes",
    "proxy_outputs",
    "media_streams",
    "sequence_outputs",
    "outbox",
    "event_rejects",
]

METADATA_EMBEDDING_DIMENSIONS: Final = 384
CHANNEL_FINGERPRINT_DIMENSIONS: Final = 128

# What a file or a sequence ends as (files.state, sequence_outputs.state).
State = Literal["ready", "rejected", "retryable"]
READY: Final = "ready"
REJECTED: Final = "rejected"
RETRYABLE: Final = "retryable"

# Where a column comes from if a row of its version is stored already: from the incoming row; from that unless null;
# from the stored row, together with the other columns of its group, if the incoming row says nothing of the group; or
# it is computed from both.
MergeRule = Literal["incoming", "coalesce", "header", "thumbnail", "proxy", "computed"]

# What rows are: versions of files, of which one is current; what else is known of a version, replaced together; what
# was made of a file, of which one is current; the latest of something that has no versions; or what waits to be dealt
# with, and is then removed.
Role = Literal["versions", "children", "outputs", "latest", "queue"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type in the notation of `arrow_type`, its meaning, and its rule of merging.

    `timestamp` (ISO 8601 in UTC) and `json` are text in the tables, for VAST has no JSON and rows of existing
    installations hold text; the views give them as TIMESTAMPTZ and JSON.
    """

    name: str
    type: str
    meaning: str
    merge: MergeRule = "incoming"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table.

    `row_key` tells one row from another, `version` are the two columns that name one version, `file` those that hold
    bucket and path of the file or sequence. Columns of `required` are never null. `lasts` are the moments at which a
    version begins, and those at which it may end. `paths` are the columns that hold a key, or the absolute path of what
    is local, by the column of the bucket, which is then empty. `queued_at` is the moment since which a row of a queue
    waits, empty for other tables.
    """

    name: TableName
    role: Role
    row_key: tuple[str, ...]
    columns: tuple[Column, ...]
    version: tuple[str, str] = ("bucket", "file_id")
    file: tuple[str, str] = ("bucket", "file_path")
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"bucket": ("file_path",)})
    required: tuple[str, ...] = ()
    lasts: tuple[str, ...] = ()
    queued_at: str = ""

    @property
    def has_versions(self) -> bool:
        """Whether a row may be superseded."""
        return any(column.name == "superseded_at" for column in self.columns)

    def rule_of(self, column: str) -> MergeRule:
        """The rule of merging of a column."""
        return next(each.merge for each in self.columns if each.name == column)


_ID = (
    Column("file_id", "string", "Version of a file: hash of key and modification time"),
    Column("file_path", "string", "Key of the file in its bucket; absolute path of a local file"),
)
# A file_id says nothing of the bucket: the same key written to two buckets in one second has one file_id.
_BUCKET = Column("bucket", "string", "Bucket of the file; empty for local files")

_SPECS: Final = (
    TableSpec(
        "files",
        role="versions",
        row_key=("bucket", "file_id"),
        required=("bucket", "file_path", "file_id", "state"),
        lasts=("inspection_timestamp", "superseded_at", "deleted_at"),
        paths={"bucket": ("file_path", "file_path_normalized")},
        columns=(
            *_ID,
            Column("file_path_normalized", "string", "The same in lower case with forward slashes", "coalesce"),
            Column("header_hash", "string", "SHA-256 of the header's structure; null if there is no header", "header"),
            Column("size_bytes", "int64", "Size of the file", "coalesce"),
            Column("mtime", "timestamp", "Last modification; null if the file could never be looked up", "coalesce"),
            Column("multipart_count", "int32", "Number of parts", "header"),
            Column("is_deep", "bool", "Whether any part has deep data", "header"),
            Column(
                "metadata_embedding",
                f"vector[{METADATA_EMBEDDING_DIMENSIONS}]",
                "Metadata as a vector of unit length",
                "header",
            ),
            Column("frame_number", "int32", "Frame number in the file's name", "coalesce"),
            Column("inspection_timestamp", "timestamp", "First inspection of this version", "computed"),
            Column("inspection_count", "int32", "How often this version was inspected", "computed"),
            Column("last_inspected", "timestamp", "Latest inspection of this version", "computed"),
            _BUCKET,
            Column("uri", "string", "URL of the file", "coalesce"),
            Column("etag", "string", "Entity tag of this version", "coalesce"),
            Column(
                "format",
                "string",
                f"{', '.join(PICTURE_FORMATS)}, or the container of a movie or sound, such as mp4, mov, mxf, wav; "
                "null if the file could not be read",
                "header",
            ),
            Column("state", "string", "ready, rejected or retryable", "incoming"),
            Column("reason", "string", "Why the file is not ready, in one line", "incoming"),
            Column(
                "superseded_at",
                "timestamp",
                "When a later version replaced this one; null for the current version",
                "computed",
            ),
            Column("embedding_version", "int32", "Version of the rules behind the vectors", "header"),
            Column("warnings", "json", "List of findings that do not reject the file", "header"),
            Column("seen_at", "timestamp", "When this version was last seen in its store", "computed"),
            Column(
                "archived_at",
                "timestamp",
                "When this version was archived (its partition retired); null if it is not",
                "computed",
            ),
            Column(
                "deleted_at",
                "timestamp",
                "When this version was found missing from its store; null while it is there",
                "computed",
            ),
            Column(
                "xxh3_128", "string", "xxh3-128 of the file's bytes in hexadecimal; null if not computed", "coalesce"
            ),
            Column("sha256", "string", "SHA-256 of the file's bytes in hexadecimal; null if not computed", "coalesce"),
            Column(
                "retryable_since",
                "timestamp",
                "Since when every attempt at this version has ended as retryable; null in other states",
                "computed",
            ),
        ),
    ),
    TableSpec(
        "parts",
        role="children",
        row_key=("bucket", "file_id", "part_index"),
        columns=(
            *_ID,
            Column("part_index", "int32", "Index of the part, from 0"),
            Column("width", "int32", "Width of the data window"),
            Column("height", "int32", "Height of the data window"),
            Column("display_width", "int32", "Width of the display window"),
            Column("display_height", "int32", "Height of the display window"),
            Column("data_x_offset", "int32", "Left edge of the data window"),
            Column("data_y_offset", "int32", "Top edge of the data window"),
            Column("part_name", "string", "Name of the part"),
            Column("view_name", "string", "View of the part"),
            Column("multi_view", "bool", "Whether the file has several views"),
            Column("data_window", "json", "Data window"),
            Column("display_window", "json", "Display window"),
            Column("pixel_aspect_ratio", "float32", "Width of a pixel over its height"),
            Column("line_order", "string", "Order of the lines in the file"),
            Column("compression", "string", "Compression, by its name in the OpenEXR specification in lower case"),
            Column("color_space", "string", "Color space, determined by the rules in docs/color.md"),
            Column(
                "render_software",
                "string",
                "Program that wrote the image: the first of software, Software, renderingProgram, writer, "
                "creator; else the version that Nuke, Arnold, V-Ray, RenderMan, Redshift or Blender stores; for "
                "DPX, creator",
            ),
            Column("is_tiled", "bool", "Whether the part is tiled"),
            Column("tile_width", "int32", "Width of a tile"),
            Column("tile_height", "int32", "Height of a tile"),
            Column("tile_depth", "int32", "Depth of a tile (1)"),
            Column("is_deep", "bool", "Whether the part has deep data"),
            Column(
                "frame_rate",
                "string",
                "framesPerSecond as a fraction, such as 24000/1001; for DPX and Cineon, frame_rate, else "
                "film_frame_rate",
            ),
            Column("time_code", "string", "timeCode as hh:mm:ss:ff; for DPX, time_code"),
            _BUCKET,
        ),
    ),
    TableSpec(
        "channels",
        role="children",
        row_key=("bucket", "file_id", "part_index", "channel_index"),
        columns=(
            *_ID,
            Column("part_index", "int32", "Index of the part, from 0"),
            Column("channel_name", "string", "Full name of the channel"),
            Column("layer_name", "string", "Part of the name before the last dot; empty if there is none"),
            Column("component_name", "string", "Part of the name after the last dot"),
            Column("channel_type", "string", "HALF, FLOAT or UINT; for DPX and Cineon the sample format"),
            Column("x_sampling", "int32", "Horizontal subsampling"),
            Column("y_sampling", "int32", "Vertical subsampling"),
            Column("channel_fingerprint", f"vector[{CHANNEL_FINGERPRINT_DIMENSIONS}]", "Channel layout of the file"),
            Column("channel_index", "int32", "Index of the channel within the part, in file order"),
            Column("p_linear", "bool", "Whether the channel is perceptually linear"),
            _BUCKET,
        ),
    ),
    TableSpec(
        "attributes",
        role="children",
        row_key=("bucket", "file_id", "part_index", "attr_index"),
        columns=(
            *_ID,
            Column("part_index", "int32", "Index of the part, from 0"),
            Column("attr_name", "string", "Name of the attribute, exactly as stored"),
            Column("attr_type", "string", "Type of the attribute, exactly as stored"),
            Column("value_json", "json", "The value, lossless"),
            Column("value_text", "string", "The value of a text attribute"),
            Column("value_int", "int64", "The value of an integer attribute"),
            Column("value_float", "float64", "The value of a numeric attribute"),
            Column("attr_index", "int32", "Index of the attribute within the part's header, in file order"),
            _BUCKET,
        ),
    ),
    TableSpec(
        "proxy_outputs",
        role="outputs",
        row_key=("s3_bucket", "proxy_id"),
        version=("s3_bucket", "proxy_id"),
        file=("s3_bucket", "s3_key"),
        required=("s3_bucket", "s3_key", "file_id", "proxy_id"),
        lasts=("generated_timestamp", "superseded_at"),
        paths={
            "s3_bucket": ("s3_key",),
            "output_bucket": (
                *("thumbnail_s3_key", "proxy_s3_key", "filmstrip_s3_key", "proxy_still_s3_key"),
                "metadata_s3_key",
            ),
        },
        columns=(
            Column("proxy_id", "string", "Version of the outputs: the file_id that they were made from", "incoming"),
            Column("file_id", "string", "Version of the source file", "incoming"),
            Column("s3_key", "string", "The file_path of the source file", "incoming"),
            Column("s3_bucket", "string", "Bucket of the source file", "incoming"),
            Column("asset_id", "string", "Hash of the source's key, the same for all its versions", "coalesce"),
            Column("thumbnail_s3_key", "string", "Key of the thumbnail; null if none was made", "thumbnail"),
            Column("proxy_s3_key", "string", "Key of the proxy; null if none was made", "proxy"),
            Column("thumbnail_size_bytes", "int64", "Size of the thumbnail", "thumbnail"),
            Column("proxy_size_bytes", "int64", "Size of the proxy", "proxy"),
            Column("source_size_bytes", "int64", "Size of the source file", "coalesce"),
            Column("source_colorspace", "string", "Color space the pixels were read as", "coalesce"),
            Column("thumb_colorspace", "string", "Color space of the thumbnail", "thumbnail"),
            Column("proxy_colorspace", "string", "Color space of the proxy", "proxy"),
            Column("thumb_resolution", "string", "Size of the thumbnail, such as 256x144", "thumbnail"),
            Column("proxy_resolution", "string", "Size of the proxy, such as 1920x1080", "proxy"),
            Column(
                "processing_time_seconds", "float64", "Time spent on rendering the pictures of this file", "coalesce"
            ),
            Column("generated_timestamp", "timestamp", "When the outputs were made", "coalesce"),
            Column("generator_version", "string", "Version of this program", "coalesce"),
            Column(
                "superseded_at",
                "timestamp",
                "When a later version replaced this one; null for the current version",
                "computed",
            ),
            Column("output_bucket", "string", "Bucket of the outputs", "coalesce"),
            Column("layer", "string", "Layer that the pictures show", "coalesce"),
            Column("color_rule", "string", "Rule that decided the source color space", "coalesce"),
            Column("still_view", "string", "Display and view of the thumbnail", "thumbnail"),
            Column("proxy_view", "string", "Display and view of the proxy", "proxy"),
            Column("ocio_config", "string", "Name of the OCIO config", "coalesce"),
            Column("ocio_config_hash", "string", "Hash of the OCIO config", "coalesce"),
            Column("encoder", "string", "Encoder and its settings", "proxy"),
            Column("library_versions", "json", "Object of the libraries' versions", "coalesce"),
            Column("nan_pixels", "int64", "Pixels with a NaN, replaced before display", "coalesce"),
            Column("inf_pixels", "int64", "Pixels with an infinity, replaced before display", "coalesce"),
            Column("is_black", "bool", "Whether every pixel shown is black", "coalesce"),
            Column("warnings", "json", "List of warnings for viewers of the pictures", "coalesce"),
            Column("filmstrip_s3_key", "string", "Key of the filmstrip; null if none was made", "thumbnail"),
            Column("filmstrip_size_bytes", "int64", "Size of the filmstrip", "thumbnail"),
            Column(
                "alpha_handling",
                "string",
                "How alpha was handled: none, ignored, or premultiplied or straight, over black",
                "coalesce",
            ),
            Column("still_encoder", "string", "Encoder of the thumbnail and its settings", "thumbnail"),
            Column("proxy_still_s3_key", "string", "Key of the still of the proxy; null if none was made", "coalesce"),
            Column("proxy_still_size_bytes", "int64", "Size of the still of the proxy", "coalesce"),
            Column("metadata_s3_key", "string", "Key of the header as JSON; null if none was made", "coalesce"),
            Column("metadata_size_bytes", "int64", "Size of the header as JSON", "coalesce"),
        ),
    ),
    TableSpec(
        "media_streams",
        role="children",
        row_key=("bucket", "file_id", "stream_index"),
        columns=(
            *_ID,
            Column("stream_index", "int32", "Index of the stream in the file, from 0"),
            Column("stream_type", "string", "video, audio, subtitle, timecode, picture (a cover), attachment or data"),
            Column("codec", "string", "Codec, by its name in FFmpeg, such as h264, prores, pcm_s16le"),
            Column("profile", "string", "Profile of the codec"),
            Column("width", "int32", "Width of the stored picture"),
            Column("height", "int32", "Height of the stored picture"),
            Column("sample_aspect_ratio", "string", "Width of a pixel over its height as a fraction, such as 4/3"),
            Column("rotation", "int32", "Counterclockwise rotation for display, in degrees"),
            Column("pixel_format", "string", "Pixel format, by its name in FFmpeg, such as yuv420p, yuv422p10le"),
            Column("field_order", "string", "progressive, or the order of the fields (tt, bb, tb, bt)"),
            Column("color_primaries", "string", "Color primaries as tagged, by their name in FFmpeg, such as bt709"),
            Column("color_transfer", "string", "Transfer characteristics as tagged"),
            Column("color_matrix", "string", "Matrix coefficients as tagged"),
            Column("color_range", "string", "tv (limited) or pc (full), as tagged"),
            Column("frame_rate", "string", "Frames per second as a fraction, such as 24000/1001"),
            Column(
                "frame_count", "int64", "Number of frames; null if the file does not state it and it was not counted"
            ),
            Column("time_code", "string", "Time code of the first frame, hh:mm:ss:ff, or hh:mm:ss;ff with drop frames"),
            Column("sample_rate", "int32", "Audio samples per second"),
            Column("channel_count", "int32", "Number of audio channels"),
            Column("channel_layout", "string", "Layout of the audio channels, such as stereo, 5.1(side)"),
            Column("sample_format", "string", "Format of an audio sample, by its name in FFmpeg, such as s16, fltp"),
            Column("bit_rate", "int64", "Bits per second of the stream"),
            Column("start_seconds", "float64", "Time of the stream's first sample"),
            Column(
                "duration_seconds", "float64", "Length of the stream; that of the file if the stream does not state it"
            ),
            Column("language", "string", "Language as tagged, such as eng"),
            Column("is_default", "bool", "Whether the stream is flagged as default"),
            Column("tags_json", "json", "Object of all tags of the stream"),
            Column("container_format", "string", "Names of the container's format in FFmpeg, such as mov,mp4,m4a,3gp"),
            Column("container_duration_seconds", "float64", "Length of the file"),
            Column("container_bit_rate", "int64", "Bits per second of the file"),
            Column("container_tags_json", "json", "Object of all tags of the file"),
            _BUCKET,
        ),
    ),
    TableSpec(
        "sequence_outputs",
        role="latest",
        row_key=("bucket", "sequence_path"),
        version=("bucket", "sequence_path"),
        file=("bucket", "sequence_path"),
        required=("bucket", "sequence_path", "state"),
        paths={
            "bucket": ("sequence_path",),
            "output_bucket": ("movie_s3_key", "contact_sheet_s3_key", "filmstrip_s3_key"),
        },
        columns=(
            Column("bucket", "string", "Bucket of the frames; empty for local files"),
            Column(
                "sequence_path",
                "string",
                "The file_path of the frames with # for each digit of the frame number, as in `sequences`",
            ),
            Column("uri", "string", "The same as a URL"),
            Column("state", "string", "ready, rejected or retryable"),
            Column("reason", "string", "Why the sequence is not ready, in one line"),
            Column("frames_hash", "string", "Hash of the frames' names and entity tags that this row was made from"),
            Column("first_frame", "string", "First frame number, as written in its file's name"),
            Column("last_frame", "string", "Last frame number"),
            Column("frame_count", "int32", "Number of frames present"),
            Column("missing_frames", "string", "Frame numbers missing between first and last, such as 1005-1007,1010"),
            Column("unreadable_frames", "json", "Object of the frames that could not be read, with the reason of each"),
            Column("movie_frames", "int32", "Number of frames in the movie, including those that fill gaps"),
            Column("movie_s3_key", "string", "Key of the movie; null if none was made"),
            Column("movie_size_bytes", "int64", "Size of the movie"),
            Column("movie_resolution", "string", "Size of the movie's picture, such as 1920x1080"),
            Column("movie_duration_seconds", "float64", "Length of the movie"),
            Column("frame_rate", "string", "Frames per second as a fraction, such as 24000/1001"),
            Column("time_code", "string", "Time code of the first frame"),
            Column("movie_preset", "string", "Preset that the movie was encoded with"),
            Column("encoder", "string", "Encoder of the movie and its settings"),
            Column("contact_sheet_s3_key", "string", "Key of the contact sheet; null if none was made"),
            Column("contact_sheet_size_bytes", "int64", "Size of the contact sheet"),
            Column("filmstrip_s3_key", "string", "Key of the filmstrip; null if none was made"),
            Column("filmstrip_size_bytes", "int64", "Size of the filmstrip"),
            Column("output_bucket", "string", "Bucket of the outputs"),
            Column("source_colorspace", "string", "Color space the pixels of the first frame were read as"),
            Column("color_rule", "string", "Rule that decided the source color space"),
            Column("movie_view", "string", "Display and view of the movie"),
            Column("ocio_config", "string", "Name of the OCIO config"),
            Column("ocio_config_hash", "string", "Hash of the OCIO config"),
            Column("library_versions", "json", "Object of the libraries' versions"),
            Column("warnings", "json", "List of warnings for viewers of the pictures"),
            Column("processing_time_seconds", "float64", "Time spent on this sequence"),
            Column("generated_timestamp", "timestamp", "When the outputs were made"),
            Column("generator_version", "string", "Version of this program"),
            Column("still_view", "string", "Display and view of contact sheet and filmstrip"),
            Column("contact_sheet_encoder", "string", "Encoder of the contact sheet and its settings"),
            Column("filmstrip_encoder", "string", "Encoder of the filmstrip and its settings"),
            Column(
                "black_frames",
                "string",
                "Frames that are entirely black according to their own rows, such as 1005-1007,1010",
            ),
            Column("nonfinite_frames", "string", "Frames with NaN or infinite pixels according to their own rows"),
            Column(
                "partition_key",
                "string",
                "The sequence as Dagster's page writes it; null in rows of earlier versions",
            ),
            Column(
                "retryable_since",
                "timestamp",
                "Since when every attempt at this sequence has ended as retryable; null in other states",
            ),
        ),
    ),
    TableSpec(
        "outbox",
        role="queue",
        row_key=("sink", "event_id"),
        version=("sink", "event_id"),
        file=("sink", "event_id"),
        required=("sink", "event_id", "type", "payload", "created_at"),
        queued_at="created_at",
        paths={},
        columns=(
            Column("sink", "string", "Where the event goes: kafka, or webhook and a hash of its URL"),
            Column("event_id", "string", "Identifier of the event, the same for the same fact"),
            Column("type", "string", "Type of the event, such as proxy.generated"),
            Column("topic", "string", "Topic of the broker"),
            Column("key", "string", "Key of the message: events of one key stay in order"),
            Column("subject", "string", "What the event is about: the URL of the file or sequence"),
            Column("payload", "json", "Object that is published"),
            Column("created_at", "timestamp", "When the event was written"),
            Column("traceparent", "string", "Trace that the event belongs to, as W3C Trace Context has it; else null"),
        ),
    ),
    TableSpec(
        "event_rejects",
        role="queue",
        row_key=("source", "position"),
        version=("source", "position"),
        file=("source", "position"),
        required=("source", "position", "reason", "rejected_at"),
        queued_at="rejected_at",
        paths={},
        columns=(
            Column("source", "string", "Where the event came from, or the sink that refused it"),
            Column("position", "string", "Partition and offset, identifier of the message, or event_id"),
            Column("reason", "string", "Why it was rejected, in one line"),
            Column("content", "string", "The first 4096 characters of the event"),
            Column("rejected_at", "timestamp", "When it was rejected"),
        ),
    ),
)

TABLES: Final[Mapping[TableName, TableSpec]] = {spec.name: spec for spec in _SPECS}


def tables_of(*roles: Role) -> tuple[TableName, ...]:
    """The tables whose rows have one of these roles, in the order of `TABLES`."""
    return tuple(spec.name for spec in _SPECS if spec.role in roles)


def arrow_type(notation: str) -> pa.DataType:
    """The Arrow type of a column's notation (`string`, `timestamp`, `json`, `int64`, …, `vector[N]` of float32)."""
    import pyarrow as pa

    if notation.startswith("vector["):
        # VAST takes vectors of non-nullable items only.
        return pa.list_(pa.field("item", pa.float32(), nullable=False), int(notation[7:-1]))
    texts = dict.fromkeys(("string", "timestamp", "json"), pa.string())
    return ({"bool": pa.bool_()} | texts).get(notation) or pa.type_for_alias(notation)


@cache
def arrow_schema(table: TableName) -> pa.Schema:
    """The Arrow schema of a table; every column is nullable."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, arrow_type(column.type)) for column in TABLES[table].columns])
