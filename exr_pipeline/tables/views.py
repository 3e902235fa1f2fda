"""The ready-made SQL views: their queries in DuckDB's dialect and what each one answers.

Belongs here: SQL over the tables of `specs`. Not here: running it, or finding sequences in SQL (`sequence_views`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exr_pipeline.tables.sequence_views import FRAMES_OF_SEQUENCES
from exr_pipeline.tables.specs import TABLES, TableName

_VIEW_TYPES: Final = {"timestamp": "TIMESTAMPTZ", "json": "JSON"}


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A view: its name, the question that it answers, and its query.

    One with `parameters` is called like a function: `SELECT * FROM files_as_of('2026-04-02')`.
    """

    name: str
    meaning: str
    query: str
    parameters: Sequence[str] = ()

    @property
    def usage(self) -> str:
        """What stands after FROM."""
        return f"{self.name}({', '.join(self.parameters)})" if self.parameters else self.name

    @property
    def statement(self) -> str:
        """DDL that makes the view, in place of an older one."""
        if self.parameters:
            return f"CREATE OR REPLACE MACRO {self.usage} AS TABLE {self.query}"
        return f"CREATE OR REPLACE VIEW {self.name} AS {self.query}"


def _typed(table: TableName, alias: str) -> str:
    """All columns of a table in the types that views give them. What is no time or no JSON becomes null."""
    cast = [
        f"TRY_CAST({alias}.{c.name} AS {_VIEW_TYPES[c.type]}) AS {c.name}"
        for c in TABLES[table].columns
        if c.type in _VIEW_TYPES
    ]
    return f"{alias}.* REPLACE ({', '.join(cast)})" if cast else f"{alias}.*"


def _of_files(table: TableName, files: str, *, more: str = "") -> str:
    """The rows of a table that belong to the versions of files that another query gives."""
    return f"""
        SELECT {_typed(table, "t")}{more}
        FROM {table} t JOIN {files} f ON t.file_id = f.file_id AND t.bucket IS NOT DISTINCT FROM f.bucket"""  # noqa: S608 - our names


def _between(begin: str, *ends: str) -> str:
    """Whether a version was there at a moment, given the columns with its beginning and its possible ends."""
    over = [f" AND ({end} IS NULL OR TRY_CAST({end} AS TIMESTAMPTZ) > moment::TIMESTAMPTZ)" for end in ends]
    return f"TRY_CAST({begin} AS TIMESTAMPTZ) <= moment::TIMESTAMPTZ{''.join(over)}"


def _as_of(table: TableName) -> ViewSpec:
    spec = TABLES[table]
    if spec.lasts:
        condition = _between(*(f"t.{moment}" for moment in spec.lasts))
        query = f"SELECT {_typed(table, 't')} FROM {table} t WHERE {condition}"  # noqa: S608 - our names
        meaning = f"The rows of `{table}` that were current at a given time, as far as is known now"
    else:
        query = _of_files(table, "files_as_of(moment)")
        meaning = f"The rows of `{table}` of the versions that were current at a given time"
    return ViewSpec(f"{table}_as_of", meaning, query, ("moment",))


def _grouped(columns: str) -> str:
    """Latest parts grouped by columns: in how many files and parts, how many bytes, and one file as an example."""
    return f"""
        SELECT {columns}, count(DISTINCT (bucket, file_id)) AS files, count(*) AS parts,
            sum(size_bytes) FILTER (first_in_group)::BIGINT AS size_bytes, min(uri) AS example
        FROM (
            SELECT *, row_number() OVER (PARTITION BY bucket, file_id, {columns} ORDER BY part_index) = 1
                AS first_in_group
            FROM latest_parts
        )
        GROUP BY {columns}
        ORDER BY files DESC, {columns}"""  # noqa: S608 - columns of ours


# Attributes that tell a camera, by preference: what scenes and renderers call it, then what the camera is, in the
# OpenEXR standard's names, in ARRI's (as ACES containers and Nuke write them) and DPX's.
CAMERA_ATTRIBUTES: Final = {
    "camera_name": ("camera", "Camera", "cameraName", "vrayInfo/camera", "cameraLabel", "cameraIdentifier"),
    "camera_make": ("cameraMake",),
    "camera_model": (
        "cameraModel",
        "com.arri.camera.CameraModel",
        "arri/camera/camera_model",
        "arri/camera/CameraModel",
        "input_device",
    ),
    "camera_serial_number": (
        "cameraSerialNumber",
        "com.arri.camera.CameraSerialNumber",
        "arri/camera/CameraSerialNumber",
        "input_device_serial",
    ),
}


def _cameras() -> str:
    """One row per part that names a camera. Nuke puts `exr/` before the attributes that it passes on."""
    columns = []
    for column, names in CAMERA_ATTRIBUTES.items():
        ranked = [prefix + name for name in names for prefix in ("", "exr/")]
        position = f"list_position({ranked}, attr_name)"
        columns.append(f"arg_min(trim(value_text), {position}) FILTER ({position} IS NOT NULL) AS {column}")
    every = [prefix + name for names in CAMERA_ATTRIBUTES.values() for name in names for prefix in ("", "exr/")]
    return f"""
        SELECT f.bucket, f.file_path, a.part_index, {", ".join(columns)}, f.uri, f.file_id
        FROM attributes a JOIN latest_files f ON a.file_id = f.file_id AND a.bucket IS NOT DISTINCT FROM f.bucket
        WHERE attr_name IN {tuple(every)} AND trim(value_text) <> ''
        GROUP BY ALL
        ORDER BY f.bucket, f.file_path, a.part_index"""  # noqa: S608 - names of ours


def _stated_order() -> str:
    listed = [f"`{column}` is the first of {', '.join(names)}" for column, names in CAMERA_ATTRIBUTES.items()]
    return "; ".join(listed)


VIEWS: Final = (
    ViewSpec(
        "latest_files",
        "The current version of each file that is not known to be deleted",
        f"SELECT {_typed('files', 't')} FROM files t WHERE superseded_at IS NULL AND deleted_at IS NULL",  # noqa: S608
    ),
    ViewSpec(
        "deleted_files",
        "The files that were deleted from their store, and whether their pictures are kept",
        """
        SELECT f.bucket, f.file_path, f.deleted_at::TIMESTAMPTZ AS deleted_at, f.state, f.size_bytes,
            TRY_CAST(f.mtime AS TIMESTAMPTZ) AS mtime, o.proxy_id IS NOT NULL AS has_media, f.uri, f.file_id
        FROM files f
        LEFT JOIN proxy_outputs o ON o.file_id = f.file_id AND o.s3_bucket IS NOT DISTINCT FROM f.bucket
            AND o.superseded_at IS NULL
        WHERE f.superseded_at IS NULL AND f.deleted_at IS NOT NULL
        ORDER BY f.bucket, f.file_path""",
    ),
    ViewSpec(
        "latest_parts",
        "The parts of the current version of each file, with the file's size and URL",
        _of_files("parts", "latest_files", more=", f.uri, f.size_bytes, f.frame_number, f.format, f.state"),
    ),
    *(
        ViewSpec(
            f"latest_{table}",
            f"The rows of `{table}` of the current version of each file, with the file's URL",
            _of_files(table, "latest_files", more=", f.uri"),
        )
        for table in ("channels", "attributes", "media_streams")
    ),
    ViewSpec(
        "latest_proxy_outputs",
        "Thumbnail and proxy of the current version of each file",
        f"SELECT {_typed('proxy_outputs', 't')} FROM proxy_outputs t WHERE superseded_at IS NULL",  # noqa: S608
    ),
    ViewSpec(
        "latest_sequence_outputs",
        "Movie, contact sheet and filmstrip of each sequence; join `sequences` by `bucket` and `sequence_path`",
        f"SELECT {_typed('sequence_outputs', 't')} FROM sequence_outputs t",  # noqa: S608
    ),
    ViewSpec(
        "movies",
        "The current movies and sounds: length, and the first video and the first audio stream",
        """
        SELECT f.bucket, f.file_path, f.format, min(s.container_duration_seconds) AS duration_seconds,
            arg_min(struct_pack(codec, width, height, frame_rate, frame_count, time_code, color_primaries,
                color_transfer, color_matrix, color_range), stream_index) FILTER (stream_type = 'video') AS video,
            arg_min(struct_pack(codec, sample_rate, channel_count, channel_layout, language), stream_index)
                FILTER (stream_type = 'audio') AS audio,
            f.size_bytes, f.state, f.uri, f.file_id
        FROM media_streams s JOIN latest_files f ON s.file_id = f.file_id AND s.bucket IS NOT DISTINCT FROM f.bucket
        GROUP BY ALL
        ORDER BY f.bucket, f.file_path""",
    ),
    ViewSpec("files_by_color_space", "Number of files per color space", _grouped("color_space")),
    ViewSpec("files_by_compression", "Number of files per compression", _grouped("compression")),
    ViewSpec(
        "files_by_resolution",
        "Number of files per display window, data window and pixel aspect ratio",
        _grouped("display_width, display_height, width, height, pixel_aspect_ratio"),
    ),
    ViewSpec(
        "failed_files",
        "The current files that are rejected or retryable, with the reason",
        """
        SELECT bucket, file_path, state, reason, size_bytes, mtime, last_inspected, inspection_count, uri, file_id
        FROM latest_files WHERE state <> 'ready'
        ORDER BY bucket, file_path""",
    ),
    ViewSpec(
        "files_without_pictures",
        "The ready files without a thumbnail or without a proxy",
        """
        SELECT f.bucket, f.file_path, o.thumbnail_s3_key IS NOT NULL AS has_thumbnail,
            o.proxy_s3_key IS NOT NULL AS has_proxy, f.uri, f.file_id
        FROM latest_files f
        LEFT JOIN latest_proxy_outputs o ON o.file_id = f.file_id AND o.s3_bucket IS NOT DISTINCT FROM f.bucket
        WHERE f.state = 'ready' AND (o.thumbnail_s3_key IS NULL OR o.proxy_s3_key IS NULL)
        ORDER BY f.bucket, f.file_path""",
    ),
    ViewSpec(
        "sequence_frames",
        "The current files that are frames, with their sequence as in `sequence_outputs` and its next frame",
        f"""
        SELECT bucket, sequence_path, frame_number, lead(frame_number) OVER frames AS next_frame, state, uri, file_id,
            sequence_uri
        FROM ({FRAMES_OF_SEQUENCES})
        WINDOW frames AS (PARTITION BY bucket, sequence_path ORDER BY frame_number)""",  # noqa: S608
    ),
    ViewSpec(
        "sequences",
        "The sequences, as in `sequence_outputs`: first and last frame, and the numbers of frames present, "
        "missing and not ready",
        """
        SELECT bucket, sequence_path, min(frame_number) AS first_frame, max(frame_number) AS last_frame,
            count(DISTINCT frame_number) AS frames,
            max(frame_number)::BIGINT - min(frame_number) + 1 - count(DISTINCT frame_number) AS missing_frames,
            count(*) FILTER (state <> 'ready') AS failed_frames, min(sequence_uri) AS uri
        FROM sequence_frames
        GROUP BY bucket, sequence_path
        ORDER BY bucket, sequence_path""",
    ),
    ViewSpec(
        "sequence_gaps",
        "The ranges of missing frames in each sequence",
        """
        SELECT bucket, sequence_path, frame_number::BIGINT + 1 AS first_missing, next_frame::BIGINT - 1 AS last_missing,
            next_frame::BIGINT - frame_number - 1 AS missing_frames, sequence_uri AS uri
        FROM sequence_frames
        WHERE next_frame > frame_number::BIGINT + 1
        ORDER BY bucket, sequence_path, first_missing""",
    ),
    ViewSpec(
        "cameras",
        f"The cameras stated in the parts of the current files: {_stated_order()}; each also with Nuke's prefix `exr/`",
        _cameras(),
    ),
    ViewSpec(
        "cryptomatte_layers",
        "The Cryptomatte layers of the current files from their attributes `cryptomatte/<layer_id>/…` (also with "
        "Nuke's prefix `exr/`): `name`, `hash`, `conversion`, whether the header has a `manifest`, and the "
        "`manif_file`",
        r"""
        SELECT bucket, file_path, part_index, layer_id,
            min(value_text) FILTER (field = 'name') AS layer_name,
            count(*) FILTER (field = 'manifest') > 0 AS has_manifest,
            min(value_text) FILTER (field = 'manif_file') AS manifest_file,
            min(value_text) FILTER (field = 'hash') AS hash,
            min(value_text) FILTER (field = 'conversion') AS conversion,
            uri, file_id
        FROM (
            SELECT f.bucket, f.file_path, a.part_index, f.uri, f.file_id, a.value_text,
                regexp_extract(attr_name, '^(?:exr/)?cryptomatte/([^/]+)/', 1) AS layer_id,
                regexp_extract(attr_name, '[^/]*$') AS field
            FROM attributes a JOIN latest_files f ON a.file_id = f.file_id AND a.bucket IS NOT DISTINCT FROM f.bucket
            WHERE regexp_matches(attr_name, '^(?:exr/)?cryptomatte/[^/]+/[^/]+$')
        )
        GROUP BY ALL
        ORDER BY bucket, file_path, part_index, layer_id""",
    ),
    ViewSpec(
        "file_views",
        "The views of the current files: `view` of each part, then those that `multiView` lists; `part_index` is the "
        "first part of the view, or the part with the list",
        """
        SELECT f.bucket, f.file_path, v.view_name, min(v.part_index) AS part_index,
            row_number() OVER (PARTITION BY f.bucket, f.file_id ORDER BY min(v.source), min(v.place)) - 1 AS view_index,
            f.uri, f.file_id
        FROM (
            SELECT bucket, file_id, part_index, 0 AS source, part_index AS place, view_name
            FROM parts WHERE view_name <> ''
            UNION ALL
            SELECT bucket, file_id, part_index, 1, generate_subscripts(listed, 1), unnest(listed)
            FROM (
                SELECT *, from_json(value_json, '["VARCHAR"]') AS listed
                FROM attributes WHERE attr_name = 'multiView' AND attr_type = 'stringvector'
            )
        ) v JOIN latest_files f ON v.file_id = f.file_id AND v.bucket IS NOT DISTINCT FROM f.bucket
        GROUP BY f.bucket, f.file_path, v.view_name, f.uri, f.file_id
        ORDER BY f.bucket, f.file_path, view_index""",
    ),
    *(_as_of(table) for table in TABLES if TABLES[table].role not in ("latest", "queue")),
)
