"""The ready-made SQL views: their queries in DuckDB's dialect and what each one answers.

Belongs here: SQL over the tables of `schema`. Not here: running it.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, the question that it answers, and its query."""

    name: str
    meaning: str
    query: str


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


VIEWS: Final = (
    View(
        "latest_files",
        "The current version of each file",
        "SELECT * FROM files WHERE superseded_at IS NULL",
    ),
    View(
        "latest_parts",
        "The parts of the current version of each file, with the file's size and URL",
        """
        SELECT p.*, f.uri, f.size_bytes, f.frame_number, f.format, f.state
        FROM parts p JOIN latest_files f ON p.file_id = f.file_id AND p.bucket IS NOT DISTINCT FROM f.bucket""",
    ),
    View(
        "latest_proxy_outputs",
        "Thumbnail and proxy of the current version of each file",
        "SELECT * FROM proxy_outputs WHERE superseded_at IS NULL",
    ),
    View("files_by_color_space", "How many files are in which colour space", _grouped("color_space")),
    View("files_by_compression", "How many files use which compression", _grouped("compression")),
    View(
        "files_by_resolution",
        "How many files have which display window, data window and pixel aspect ratio",
        _grouped("display_width, display_height, width, height, pixel_aspect_ratio"),
    ),
    View(
        "failed_files",
        "The current files that are rejected or to be retried, and why",
        """
        SELECT bucket, file_path, state, reason, size_bytes, mtime, last_inspected, inspection_count, uri, file_id
        FROM latest_files WHERE state <> 'ready'
        ORDER BY bucket, file_path""",
    ),
    View(
        "files_without_pictures",
        "The ready files that lack a thumbnail or a proxy",
        """
        SELECT f.bucket, f.file_path, o.thumbnail_s3_key IS NOT NULL AS has_thumbnail,
            o.proxy_s3_key IS NOT NULL AS has_proxy, f.uri, f.file_id
        FROM latest_files f
        LEFT JOIN latest_proxy_outputs o ON o.file_id = f.file_id AND o.s3_bucket IS NOT DISTINCT FROM f.bucket
        WHERE f.state = 'ready' AND (o.thumbnail_s3_key IS NULL OR o.proxy_s3_key IS NULL)
        ORDER BY f.bucket, f.file_path""",
    ),
    View(
        "sequence_frames",
        "The current files that are frames: their sequence (`#` stands for the frame number) and the next frame of it",
        r"""
        SELECT bucket, sequence, frame_number, lead(frame_number) OVER frames AS next_frame, state, uri, file_id
        FROM (
            SELECT *, regexp_replace(file_path, '-?\d+(\.[^./]*)$', '#\1') AS sequence
            FROM latest_files WHERE frame_number IS NOT NULL
        )
        WINDOW frames AS (PARTITION BY bucket, sequence ORDER BY frame_number)""",
    ),
    View(
        "sequences",
        "The sequences: first and last frame, frames that are there, missing, and not ready",
        """
        SELECT bucket, sequence, min(frame_number) AS first_frame, max(frame_number) AS last_frame,
            count(DISTINCT frame_number) AS frames,
            max(frame_number) - min(frame_number) + 1 - count(DISTINCT frame_number) AS missing_frames,
            count(*) FILTER (state <> 'ready') AS failed_frames
        FROM sequence_frames
        GROUP BY bucket, sequence
        ORDER BY bucket, sequence""",
    ),
    View(
        "sequence_gaps",
        "The runs of missing frames in each sequence",
        """
        SELECT bucket, sequence, frame_number + 1 AS first_missing, next_frame - 1 AS last_missing,
            next_frame - frame_number - 1 AS missing_frames
        FROM sequence_frames
        WHERE next_frame > frame_number + 1
        ORDER BY bucket, sequence, first_missing""",
    ),
)
