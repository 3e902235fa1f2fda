"""Which current files a condition in SQL holds for: what `--where` and a job's `where` mean everywhere.

Belongs here: the rows that a condition sees, and the question. Not here: what is then done with the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exr_pipeline.tables.store import TableStore

# One row per current file: the columns of `files` and, null where the file has none, those of its first part.
FILES_WITH_FIRST_PART: Final = """(
    SELECT f.*, p.* EXCLUDE (file_id, file_path, bucket, is_deep)
    FROM latest_files f
    LEFT JOIN parts p ON p.file_id = f.file_id AND p.bucket IS NOT DISTINCT FROM f.bucket AND p.part_index = 0
)"""


def files_where(store: TableStore, condition: str, *, url_prefix: str = "") -> set[str]:
    """The URLs of the current files below a URL prefix for which a condition in SQL holds.

    The condition may name the columns of `files` and, of the first part, of `parts`, and ask any table in a subquery.
    Raises `BadQueryError` if it is wrong.
    """
    below = url_prefix.replace("'", "''")
    # A comment at the end of the condition must not hide the bracket.
    query = f"SELECT uri FROM {FILES_WITH_FIRST_PART} WHERE starts_with(uri, '{below}') AND ({condition}\n)"  # noqa: S608 - the user's own SQL, which can only read
    return set(store.sql(query).column("uri").to_pylist())
