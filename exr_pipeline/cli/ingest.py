"""Commands that work through Dagster in this process: `ingest`, `retry` and `sequences`.

Belongs here: arguments, the progress bar, the summary. Not here: runs (`orchestration.run_now`).
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli.console import INTERRUPTED, fail, load_settings, progress_line, stdout
from exr_pipeline.cli.places import existing, url_prefix
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.locations import is_source
from exr_pipeline.tables.schema import READY, REJECTED, RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exr_pipeline.ingest.chunk import Progress as ChunkProgress
    from exr_pipeline.movies.sequence_movie import MovieProgress
    from exr_pipeline.orchestration.run_now import IngestListener, IngestReport
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location


def ingest(
    source: Annotated[
        str, typer.Argument(help="A URL prefix such as s3://renders/shot_010/, a local folder, or one file.")
    ],
) -> None:
    """Ingest the new, changed and retryable files under SOURCE through Dagster.

    Rejected files do not make the command fail: they are an answer. Files that could not be reached do.
    """
    from exr_pipeline.orchestration.run_now import ingest_source

    settings = load_settings()
    location = existing(source)
    if location.scheme == "file" and Path(f"/{location.key}").is_file() and not is_source(location.name):
        raise BadInputError(source, "neither a folder nor an image, movie or sound that is known by its extension")
    report = with_progress(lambda listener: ingest_source(location, settings, listener))
    if not report.listed:
        stdout.print(f"No files to ingest at {escape(location.url)}", highlight=False, soft_wrap=True)
    else:
        summarise(report)


def retry(
    prefix: Annotated[str, typer.Argument(help="Only files below this URL prefix or local folder.")] = "",
    *,
    doubtful: Annotated[
        bool,
        typer.Option(
            "--doubtful",
            help="Only files that an earlier version rejected when a worker was killed or suspended, the clock jumped, "
            "or a disk was full.",
        ),
    ] = False,
) -> None:
    """Try again every file that is rejected, retryable, not finished or shown as failed, in one run."""
    from exr_pipeline.orchestration.run_now import retry_failed

    settings = load_settings()
    folder = url_prefix(prefix) if prefix else ""
    report = with_progress(lambda listener: retry_failed(settings, folder, listener, doubtful=doubtful))
    if report.worked_on:
        summarise(report)
    else:
        stdout.print("Nothing to retry.")


def sequences(
    source: Annotated[str, typer.Argument(help="A URL prefix such as s3://renders/shot_010/, or a local folder.")],
) -> None:
    """Make movie, contact sheet and filmstrip of each ingested sequence under SOURCE that has none of its frames now.

    What the sensor does once a sequence is quiet, at once. Sequences that cannot be made are said, with the reason.
    """
    settings = load_settings()
    made = sequences_with_progress(existing(source if source.endswith("/") else f"{source}/"), settings)
    if not made:
        stdout.print("Nothing to do: no sequence is new or has changed.")
        return
    counts = ", ".join(f"{made.get(state, 0)} {state}" for state in (READY, REJECTED, RETRYABLE))
    stdout.print(f"{sum(made.values())} sequences: {counts}")
    if made.get(REJECTED) or made.get(RETRYABLE):
        stdout.print("Why: exr-pipeline sql \"FROM sequence_outputs WHERE state <> 'ready'\"", highlight=False)
    if made.get(RETRYABLE):
        raise typer.Exit(1)


def sequences_with_progress(source: Location, settings: Settings) -> dict[str, int]:
    """Make what is outdated of the sequences under a source behind a progress bar; how many ended in which state."""
    from exr_pipeline.orchestration.run_now import make_sequences

    with _interruption_told(), progress_line() as line:
        total = 0
        finished: set[Location] = set()

        def found(count: int) -> None:
            nonlocal total
            total = count

        def progressed(sequence: Location, movie: MovieProgress) -> None:
            finished.add(sequence)
            what = f"sequence {len(finished)} of {total}"
            line.update(what, movie.done, movie.total, f"{movie.rate:.1f} frames/s {sequence.name}")

        return make_sequences(source, settings, found, progressed)


def with_progress(work: Callable[[IngestListener], IngestReport]) -> IngestReport:
    """Do an ingest behind a progress bar."""
    from exr_pipeline.orchestration.run_now import IngestListener

    with _interruption_told(), progress_line() as line:
        total = 0

        def found(files: int) -> None:
            nonlocal total
            total = files

        def progressed(ended: int, chunk: ChunkProgress) -> None:
            line.update("ingesting", ended, total, chunk.summary())

        return work(
            IngestListener(
                on_listed=lambda count: line.update("listing", count), on_found=found, on_progress=progressed
            )
        )


@contextmanager
def _interruption_told() -> Iterator[None]:
    from exr_pipeline.orchestration.run_now import RunInterruptedError

    try:
        yield
    except RunInterruptedError as error:
        fail(str(error), status=INTERRUPTED)


def summarise(report: IngestReport) -> None:
    """Print the counts; ends with status 1 if files could not be reached."""
    counts = {state: report.states.get(state, 0) for state in (READY, REJECTED, RETRYABLE)}
    if not report.worked_on:
        stdout.print(f"Nothing to do: {report.listed} files, all known and unchanged.")
        return
    stdout.print(
        f"{report.worked_on} of {report.listed} files: " + ", ".join(f"{n} {state}" for state, n in counts.items())
    )
    if counts[REJECTED]:
        stdout.print("Why files were rejected: exr-pipeline status")
    if report.problem:
        fail(report.problem)
    if counts[RETRYABLE]:
        stdout.print("Try the retryable ones again: exr-pipeline retry")
        raise typer.Exit(1)
