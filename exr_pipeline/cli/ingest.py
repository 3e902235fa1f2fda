"""Commands that work through Dagster in this process: `ingest`, `retry` and `sequences`.

Belongs here: arguments, the progress bar, the summary. Not here: runs (`orchestration.instance.run_now`).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from exr_pipeline.cli.console import INTERRUPTED, fail, load_settings, progress_line, stdout
from exr_pipeline.cli.places import existing, readable, url_prefix
from exr_pipeline.errors import BadInputError
from exr_pipeline.products.registry import PRODUCT_NAMES
from exr_pipeline.storage.locations import is_source
from exr_pipeline.tables.specs import READY, REJECTED, RETRYABLE
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exr_pipeline.ingest.chunk import ChunkProgress
    from exr_pipeline.orchestration.instance.run_now import IngestListener, IngestReport
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location


def _products(text: str) -> tuple[str, ...]:
    """The products that a text such as `thumbnail,proxy` names. Raises `typer.BadParameter`."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in PRODUCT_NAMES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(PRODUCT_NAMES)}")
    return names


def ingest(
    source: Annotated[
        str, typer.Argument(help="A URL prefix such as s3://renders/shot_010/, a local folder, or one file.")
    ],
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Also the files that are known and unchanged, unless they are archived.")
    ] = False,
    outdated: Annotated[
        bool,
        typer.Option(
            "--outdated",
            help="Also the files whose pictures are missing, or not what the settings would make now.",
        ),
    ] = False,
    only: Annotated[
        str,
        typer.Option(
            metavar="PRODUCTS", help=f"Make only these, with commas between them: {', '.join(PRODUCT_NAMES)}."
        ),
    ] = "",
    where: Annotated[
        str,
        typer.Option(
            metavar="SQL",
            help="Only files of the tables for which this is true, over the columns of files and of their first part.",
        ),
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="How many files to ingest at most, in order of URL.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the files that would be ingested, and why. Changes nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, with every file in it.")] = False,
) -> None:
    """Ingest the new, changed and retryable files under SOURCE through Dagster.

    Rejected files do not make the command fail: they are an answer. Files that could not be reached do.
    """
    from exr_pipeline.ingest.choose import Choice
    from exr_pipeline.orchestration.instance.run_now import ingest_source

    choice = Choice(outdated=outdated, again=again, where=where, limit=limit, only=_products(only))
    settings = load_settings()
    location = existing(source)
    if location.scheme == "file" and Path(f"/{location.key}").is_file() and not is_source(location.name):
        raise BadInputError(source, "neither a folder nor an image, movie or sound that is known by its extension")
    report = with_progress(lambda listener: ingest_source(location, settings, listener, choice=choice, dry_run=dry_run))
    if as_json:
        json.dump(_as_json(report, location, dry_run=dry_run), sys.stdout, indent=1)
        sys.stdout.write("\n")
        _exit_status(report)
    elif not report.listed:
        stdout.print(f"No files to ingest at {escape(location.url)}", highlight=False, soft_wrap=True)
    elif not report.chosen:
        state = "known, unchanged and up to date" if outdated else "known and unchanged"
        more = "" if again or outdated else " More can be done with --outdated or --again."
        stdout.print(f"Nothing to do: {report.considered} files, all {state}.{more}", highlight=False)
    elif dry_run:
        _list(report)
    else:
        summarise(report)


def _list(report: IngestReport) -> None:
    for candidate in report.chosen:
        detail = f" ({escape(visible_line(candidate.detail))})" if candidate.detail else ""
        line = f"{candidate.need:8} {escape(candidate.info.location.url)}{detail}"
        stdout.print(line, highlight=False, soft_wrap=True)
    counts = Counter(candidate.need for candidate in report.chosen)
    told = ", ".join(f"{count} {need}" for need, count in counts.items())
    stdout.print(f"Would ingest {len(report.chosen)} of {report.listed} files: {told}", highlight=False)
    _tell_left(report)


def _tell_left(report: IngestReport) -> None:
    if report.left:
        stdout.print(f"{report.left} more wait beyond --limit.", highlight=False)


def _as_json(report: IngestReport, source: Location, *, dry_run: bool) -> dict[str, object]:
    chosen = {each.info.location: {"need": each.need, "detail": each.detail or None} for each in report.chosen}
    ended = {
        outcome.location: {
            "state": outcome.state,
            "reason": outcome.reason,
            "thumbnail": outcome.thumbnail.url if outcome.thumbnail else None,
            "proxy": outcome.proxy.url if outcome.proxy else None,
        }
        for outcome in report.outcomes
    }
    return {
        "source": source.url,
        "dry_run": dry_run,
        "listed": report.listed,
        "chosen": len(report.chosen),
        "left": report.left,
        "states": report.states,
        "run_ids": report.run_ids,
        "problem": report.problem,
        "files": [{"uri": location.url, **facts, **ended.get(location, {})} for location, facts in chosen.items()],
    }


def retry(
    prefix: Annotated[str, typer.Argument(help="Only what is below this URL prefix or local folder.")] = "",
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
    """Try again every file that is rejected, retryable, not finished or shown as failed, in one run.

    Then try again every sequence that is rejected or retryable. Pauses between tries are not waited for.
    """
    from exr_pipeline.orchestration.instance.run_now import retry_failed, retry_sequences

    settings = load_settings()
    folder = url_prefix(prefix) if prefix else ""
    report = with_progress(lambda listener: retry_failed(settings, folder, listener, doubtful=doubtful))
    made: dict[str, int] = {}
    # What keeps files from being read would keep sequences too.
    if not doubtful and not report.problem:
        made = _with_sequence_progress(lambda *listener: retry_sequences(settings, folder, *listener))
    if not report.worked_on and not made:
        stdout.print("Nothing to retry.")
    if made:
        _summarize_sequences(made)
    if report.worked_on:
        summarise(report)
    if made.get(RETRYABLE):
        raise typer.Exit(1)


def sequences(
    source: Annotated[str, typer.Argument(help="A URL prefix such as s3://renders/shot_010/, or a local folder.")],
    *,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Also those whose media are not what the settings would make now.")
    ] = False,
) -> None:
    """Make movie, contact sheet and filmstrip of each ingested sequence under SOURCE that has none of its frames now.

    What the sensor does once a sequence is quiet, at once. Sequences that cannot be made are said, with the reason.
    """
    settings = load_settings()
    place = existing(source if source.endswith("/") else f"{source}/")
    made = sequences_with_progress(place, settings, also_outdated=outdated)
    if not made:
        stdout.print(f"Nothing to do: no sequence is new{', outdated' if outdated else ''} or has changed.")
        return
    _summarize_sequences(made)
    if made.get(RETRYABLE):
        raise typer.Exit(1)


def _summarize_sequences(made: Mapping[str, int]) -> None:
    counts = ", ".join(f"{made.get(state, 0)} {state}" for state in (READY, REJECTED, RETRYABLE))
    stdout.print(f"{sum(made.values())} sequences: {counts}")
    if made.get(REJECTED) or made.get(RETRYABLE):
        stdout.print("Why: exr-pipeline sql \"FROM sequence_outputs WHERE state <> 'ready'\"", highlight=False)


def sequences_with_progress(source: Location, settings: Settings, *, also_outdated: bool = False) -> dict[str, int]:
    """Make what is due of the sequences under a source behind a progress bar; how many ended in which state."""
    from exr_pipeline.orchestration.instance.run_now import make_sequences

    return _with_sequence_progress(
        lambda *listener: make_sequences(source, settings, *listener, also_outdated=also_outdated)
    )


def _with_sequence_progress(
    work: Callable[[Callable[[int], None], Callable[[Location, MovieProgress], None]], dict[str, int]],
) -> dict[str, int]:
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

        return work(found, progressed)


def with_progress(work: Callable[[IngestListener], IngestReport]) -> IngestReport:
    """Do an ingest behind a progress bar."""
    from exr_pipeline.orchestration.instance.run_now import IngestListener

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
    from exr_pipeline.orchestration.instance.run_now import RunInterruptedError

    try:
        yield
    except RunInterruptedError as error:
        fail(str(error), status=INTERRUPTED)


def summarise(report: IngestReport) -> None:
    """Print the counts and where the pictures are; ends with status 1 if files could not be reached."""
    counts = {state: report.states.get(state, 0) for state in (READY, REJECTED, RETRYABLE)}
    stdout.print(
        f"{report.worked_on} of {report.listed} files: " + ", ".join(f"{n} {state}" for state, n in counts.items()),
        highlight=False,
    )
    _tell_left(report)
    pictures = [picture for each in report.outcomes for picture in (each.thumbnail, each.proxy) if picture is not None]
    folders = sorted({picture.folder for picture in pictures})
    if folders:
        # All of one source lie in one bucket.
        common = replace(folders[0], key=os.path.commonpath([folder.key for folder in folders])).as_folder()
        several = f"in {len(folders)} folders below " if len(folders) > 1 else ""
        stdout.print(f"Pictures: {several}{escape(readable(common))}", highlight=False, soft_wrap=True)
    if counts[REJECTED]:
        stdout.print("Why files were rejected: exr-pipeline status")
    if counts[RETRYABLE] and not report.problem:
        stdout.print("Try the retryable ones again: exr-pipeline retry")
    _exit_status(report)


def _exit_status(report: IngestReport) -> None:
    if report.problem:
        fail(report.problem)
    if report.states.get(RETRYABLE):
        raise typer.Exit(1)
