"""Commands for the sample show: `sample` writes it, `demo` runs it through the whole pipeline.

Belongs here: what the demonstration does and prints. Not here: the show (`sample`), the server (`storage.embedded`).
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline import __version__
from exr_pipeline.cli.catalog import new_token
from exr_pipeline.cli.console import load_settings, progress_line, stdout, table
from exr_pipeline.cli.ingest import make_sequences_with_progress, run_with_progress
from exr_pipeline.cli.places import place
from exr_pipeline.errors import BadInputError
from exr_pipeline.extras import is_installed
from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exr_pipeline.orchestration.instance.run_now import IngestReport
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.embedded import EmbeddedS3
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore

BUCKET: Final = "renders"
SHOW: Final = Location("s3", BUCKET, "show/")
# A hidden object, so not a source file. It says that the show is complete.
_MARKER: Final = SHOW.child(".sample.json")

_COUNTS: Final = """
SELECT (SELECT count(*) FROM latest_files) AS files,
       (SELECT count(*) FROM latest_files WHERE state = 'ready') AS ready,
       (SELECT count(*) FROM parts JOIN latest_files USING (file_id)) AS parts,
       (SELECT count(*) FROM channels JOIN latest_files USING (file_id)) AS channels,
       (SELECT count(*) FROM attributes JOIN latest_files USING (file_id)) AS attributes,
       (SELECT count(thumbnail_s3_key) FROM proxy_outputs WHERE superseded_at IS NULL) AS thumbnails,
       (SELECT count(proxy_s3_key) FROM proxy_outputs WHERE superseded_at IS NULL) AS proxies,
       (SELECT count(movie_s3_key) FROM sequence_outputs) AS "sequence movies"
"""
# Users may have ingested files of their own next to the show.
_FINDINGS: Final = f"""
WITH mine AS (SELECT * FROM latest_files WHERE starts_with(uri, '{SHOW.url}'))
SELECT uri, state AS finding, reason AS detail FROM mine WHERE state <> 'ready'
UNION ALL
SELECT uri, 'black', 'every pixel is black' FROM proxy_outputs JOIN mine USING (file_id) WHERE is_black
UNION ALL
SELECT uri, 'NaN, Inf', nan_pixels || ' pixels with NaN, ' || inf_pixels || ' with infinity'
FROM proxy_outputs JOIN mine USING (file_id) WHERE nan_pixels + inf_pixels > 0
UNION ALL
SELECT sequence_path, 'missing', 'frames ' || first_missing || ' to ' || last_missing FROM sequence_gaps
WHERE bucket = '{SHOW.bucket}' AND starts_with(sequence_path, '{SHOW.key}')
ORDER BY 2 DESC, 1
"""  # noqa: S608 - our own names


def sample(
    target: Annotated[str, typer.Argument(help="Folder to write to, or a URL such as s3://renders/show.")],
) -> None:
    """Write the sample show: three shots, and a library of odd and broken files.

    The files are generated and always the same.
    """
    from exr_pipeline.storage.objects import ObjectStorage

    folder = place(target if target.endswith("/") else f"{target}/")
    write_sample(ObjectStorage(load_settings()), folder)


def write_sample(storage: ObjectStorage, folder: Location) -> None:
    """Write the sample show to a folder, with a progress bar."""
    from exr_pipeline.sample import write_show

    with progress_line() as line:

        def write_object(key: str, data: bytes) -> None:
            storage.write(folder.child(key), data, content_type="application/octet-stream", tags={})

        def show_progress(done: int, total: int, key: str) -> None:
            line.update("writing the sample show", done, total, key)

        show = write_show(write_object, progress=show_progress)
    stdout.print(f"Wrote {len(show.files)} files ({show.total_bytes / 1e6:.0f} MB) to {escape(folder.url)}")


def demo() -> None:
    """Write the sample show to an embedded S3 server, ingest it through Dagster, and print a summary."""
    started = time.monotonic()
    with embedded_store(load_settings()) as (settings, _):
        from exr_pipeline.orchestration.instance.run_now import ingest_source
        from exr_pipeline.storage.objects import ObjectStorage
        from exr_pipeline.tables import open_table_store

        storage = ObjectStorage(settings)
        if not _is_written(storage):
            write_sample(storage, SHOW)
            storage.write(
                _MARKER, json.dumps({"version": __version__}).encode(), content_type="application/json", tags={}
            )
        report = run_with_progress(lambda listener: ingest_source(SHOW, settings, listener))
        make_sequences_with_progress(SHOW, settings)
        _print_summary(report, open_table_store(settings), time.monotonic() - started)
        if is_installed("service"):
            print_catalog(settings)


@contextmanager
def embedded_store(settings: Settings) -> Iterator[tuple[Settings, EmbeddedS3]]:
    """Run the demonstration's S3 server in the state folder, with this process's settings pointing at it."""
    from exr_pipeline.storage.embedded import EmbeddedS3

    with EmbeddedS3(settings.state_dir.resolve() / "store") as server:
        server.create_bucket(BUCKET)
        os.environ.update(server.environment(), EXR_PIPELINE_SOURCES=SHOW.url)
        yield load_settings(warn_of_unknown=False), server


def _is_written(storage: ObjectStorage) -> bool:
    try:
        return json.loads(storage.read(_MARKER)[1]).get("version") == __version__  # type: ignore[no-any-return]
    except BadInputError:
        return False


def _print_summary(report: IngestReport, tables: TableStore, seconds: float) -> None:
    if not report.worked_on:
        stdout.print(f"Nothing to do: all {report.listed} files are in the tables and unchanged.\n")
    counts = tables.sql(_COUNTS).to_pylist()[0]
    findings = [[escape(cell or "") for cell in row.values()] for row in tables.sql(_FINDINGS).to_pylist()]
    stdout.print(table(list(counts), [list(counts.values())], title="In the tables"))
    columns = ("file or sequence", "finding", "detail")
    stdout.print(table(columns, findings, title="Problems found"))
    stdout.print(
        f"Finished in {seconds:.0f} s. Next:\n"
        "  make ui                                     browse the assets: each file is a partition with its picture,\n"
        "                                              and serve the catalog\n"
        '  .venv/bin/exr-pipeline sql "FROM files_by_compression"\n'
        "  .venv/bin/exr-pipeline status               list the rejected files with their reasons",
    )


def print_catalog(settings: Settings) -> None:
    """Where `make ui` serves the catalog, and a token for it: the token itself on a terminal only, not in a log."""
    address = "http://127.0.0.1:3000/v1"
    stdout.print(f"\nThe catalog, while make ui runs: {address}", highlight=False)
    if not stdout.is_terminal:
        stdout.print("  .venv/bin/exr-pipeline catalog token        print a token for it")
    bearer = new_token(settings) if stdout.is_terminal else "TOKEN"
    asked = f'curl -H "Authorization: Bearer {bearer}" "{address}/assets?limit=5"'
    stdout.print(f"  {escape(asked)}", highlight=False, soft_wrap=True)
