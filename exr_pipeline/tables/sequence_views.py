"""Which current files are frames of which sequence, in SQL: the rules of `sequences.find`, spelled as it spells them.

Belongs here: the query. Not here: the rules themselves, or what is asked about sequences (`views`).
"""

from typing import Final

from exr_pipeline.formats import FRAME_EXTENSIONS

_EXTENSIONS: Final = "|".join(extension[1:] for extension in FRAME_EXTENSIONS)

# Folder and name before the number, the number, and the extension: `inspection.identity.split_frame_text`.
_NAME: Final = rf"^((?s:.*/)?(?:|[^/]*?[._]))(-?\d{{4,6}}\.\d{{1,3}}|-?\d+)(\.(?i:{_EXTENSIONS}))$"

# A number with leading zeros opens a padding of its own width, as does the shortest number; others belong to the
# widest padding that is no wider than they are. Negative numbers whose sign took the place of a digit, -001 before
# 0000, belong to the padding that is wider by one.
FRAMES_OF_SEQUENCES: Final = f"""
    WITH named AS (
        SELECT bucket, frame_number, state, uri, file_id,
            regexp_extract(file_path, '{_NAME}', ['stem', 'text', 'extension']) AS name
        FROM latest_files
        WHERE frame_number IS NOT NULL AND regexp_matches(file_path, '{_NAME}')
    ), numbered AS (
        SELECT bucket, frame_number, state, uri, file_id, name.stem, name.text, name.extension,
            TRY_CAST(name.text AS DECIMAL(18, 3)) AS number,
            regexp_extract(name.text, '\\d+') AS digits, length(digits) AS width,
            width > 1 AND starts_with(digits, '0') AS has_zeros
        FROM named
    ), padded AS (
        SELECT *, coalesce(
            max(width) FILTER (has_zeros) OVER (PARTITION BY bucket, stem, extension ORDER BY width),
            min(width) OVER (PARTITION BY bucket, stem, extension)) AS written
        FROM numbered
    ), paddings AS (
        SELECT bucket, stem, extension, written, CASE WHEN written > 1 AND max(number) < 0
            AND lead(written) OVER wider = written + 1 AND lead(min(number)) OVER wider >= 0
            THEN written + 1 ELSE written END AS padding
        FROM padded
        GROUP BY bucket, stem, extension, written
        WINDOW wider AS (PARTITION BY bucket, stem, extension ORDER BY written)
    )
    SELECT p.bucket, p.stem || repeat('#', q.padding) || p.extension AS sequence_path, p.frame_number, p.state, p.uri,
        p.file_id, replace(left(p.uri, length(p.uri) - length(p.text || p.extension)), '%23', '#')
            || repeat('#', q.padding) || p.extension AS sequence_uri
    FROM padded p JOIN paddings q ON q.stem = p.stem AND q.extension = p.extension AND q.written = p.written
        AND q.bucket IS NOT DISTINCT FROM p.bucket"""  # noqa: S608 - our names
