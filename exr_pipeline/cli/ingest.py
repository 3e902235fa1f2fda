"""Commands that run Dagster in this process: `ingest`, `retry` and `sequences`.

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


def _parse_products(text: str) -> tuple[str, ...]:
    """The products that a text such as `thumbnail,proxy` names. Raises `typer.BadParameter`."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in PRODUCT_NAMES]:
        raise typer.BadParameter(f"{unknown[0]!r} is not a product: choose from {', '.join(PRODUCT_NAMES)}")
    return names


def ingest(
    source: Annotated[
        str, typer.Argument(help="URL prefix such as s3://renders/shot_010/, local folder, or single file.")
    ],
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Also ingest files that are known and unchanged, except archived ones.")
    ] = False,
    outdated: Annotated[
        bool,
        typer.Option(
            "--outdated",
            help="Also ingest files whose pictures are missing or differ from what the settings would now make.",
        ),
    ] = False,
    only: Annotated[
        str,
        typer.Option(
            metavar="PRODUCTS", help=f"Make only these products, comma-separated: {', '.join(PRODUCT_NAMES)}."
        ),
    ] = "",
    where: Annotated[
        str,
        typer.Option(
            metavar="SQL",
            help="Only files in the tables that match this condition on the columns of files and of their first part.",
        ),
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Ingest at most this many files, in order of URL.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files that would be ingested, and why. Change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object that includes every file.")] = False,
) -> None:
    """Ingest the new, changed and retryable files under SOURCE through Dagster.

    The command succeeds if files are rejected. It fails if files could not be reached.
    """
    from exr_pipeline.ingest.choose import Choice
    from exr_pipeline.orchestration.instance.run_now import ingest_source

    choice = Choice(outdated=outdated, again=again, where=where, limit=limit, only=_parse_products(only))
    settings = load_settings()
    location = existing(source)
    if location.scheme == "file" and Path(f"/{location.key}").is_file() and not is_source(location.name):
        raise BadInputError(source, "not a folder, and its extension is not that of a known image, movie or sound")
    report = run_with_progress(
        lambda listener: ingest_source(location, settings, listener, choice=choice, dry_run=dry_run)
    )
    if as_json:
        json.dump(_as_json(report, location, dry_run=dry_run), sys.stdout, indent=1)
        sys.stdout.write("\n")
        _exit_status(report)
    elif not report.listed:
        stdout.print(f"No files to ingest at {escape(location.url)}", highlight=False, soft_wrap=True)
    elif not report.chosen:
        state = "known, unchanged and up to date" if outdated else "known and unchanged"
        more = "" if again or outdated else " To ingest more, add --outdated or --again."
        stdout.print(f"Nothing to do: all {report.considered} files are {state}.{more}", highlight=False)
    elif dry_run:
        _print_candidates(report)
    else:
        print_summary(report)


def _print_candidates(report: IngestReport) -> None:
    for candidate in report.chosen:
        detail = f" ({escape(visible_line(candidate.detail))})" if candidate.detail else ""
        line = f"{candidate.need:8} {escape(candidate.info.location.url)}{detail}"
        stdout.print(line, highlight=False, soft_wrap=True)
    counts = Counter(candidate.need for candidate in report.chosen)
    needs = ", ".join(f"{count} {need}" for need, count in counts.items())
    stdout.print(f"Would ingest {len(report.chosen)} of {report.listed} files: {needs}", highlight=False)
    _print_left(report)


def _print_left(report: IngestReport) -> None:
    if report.left:
        stdout.print(f"{report.left} more are beyond --limit.", highlight=False)


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
    prefix: Annotated[str, typer.Argument(help="Only files and sequences under this URL prefix or local folder.")] = "",
    *,
    doubtful: Annotated[
        bool,
        typer.Option(
            "--doubtful",
            help="Only files that an earlier version rejected because a worker was killed or suspended, the clock "
            "jumped, or a disk was full.",
        ),
    ] = False,
) -> None:
    """Retry every file that is rejected, retryable, unfinished or shown as failed, in one run.

    Then retry every sequence that is rejected or retryable. The pauses between tries are skipped.
    """
    from exr_pipeline.orchestration.instance.run_now import retry_failed, retry_sequences

    settings = load_settings()
    folder = url_prefix(prefix) if prefix else ""
    report = run_with_progress(lambda listener: retry_failed(settings, folder, listener, doubtful=doubtful))
    states: dict[str, int] = {}
    # A problem that keeps files from being read also affects sequences.
    if not doubtful and not report.problem:
        states = _run_with_sequence_progress(lambda *listener: retry_sequences(settings, folder, *listener))
    if not report.worked_on and not states:
        stdout.print("Nothing to retry.")
    if states:
        _print_sequence_summary(states)
    if report.worked_on:
        print_summary(report)
    if states.get(RETRYABLE):
        raise typer.Exit(1)


def sequences(
    source: Annotated[str, typer.Argument(help="URL prefix such as s3://renders/shot_010/, or local folder.")],
    *,
    outdated: Annotated[
        bool,
        typer.Option("--outdated", help="Also sequences whose media differ from what the settings would now make."),
    ] = False,
) -> None:
    """Make movie, contact sheet and filmstrip of each ingested sequence under SOURCE that is new or has changed.

    The sensor does the same once a sequence is quiet; this command does not wait. It counts the sequences that could
    not be made, and prints how to list the reasons.
    """
    settings = load_settings()
    place = existing(source if source.endswith("/") else f"{source}/")
    states = make_sequences_with_progress(place, settings, also_outdated=outdated)
    if not states:
        stdout.print(f"Nothing to do: no sequence is new{', outdated' if outdated else ''} or changed.")
        return
    _print_sequence_summary(states)
    if states.get(RETRYABLE):
        raise typer.Exit(1)


def _print_sequence_summary(states: Mapping[str, int]) -> None:
    counts = ", ".join(f"{states.get(state, 0)} {state}" for state in (READY, REJECTED, RETRYABLE))
    stdout.print(f"{sum(states.values())} sequences: {counts}")
    if states.get(REJECTED) or states.get(RETRYABLE):
        stdout.print("To see why: exr-pipeline sql \"FROM sequence_outputs WHERE state <> 'ready'\"", highlight=False)


def make_sequences_with_progress(
    source: Location, settings: Settings, *, also_outdated: bool = False
) -> dict[str, int]:
    """Make the media that sequences under a source need, with a progress bar. Returns how many ended in each state."""
    from exr_pipeline.orchestration.instance.run_now import make_sequences

    return _run_with_sequence_progress(
        lambda *listener: make_sequences(source, settings, *listener, also_outdated=also_outdated)
    )


def _run_with_sequence_progress(
    work: Callable[[Callable[[int], None], Callable[[Location, MovieProgress], None]], dict[str, int]],
) -> dict[str, int]:
    with _report_interruption(), progress_line() as line:
        total = 0
        finished: set[Location] = set()

        def set_total(count: int) -> None:
            nonlocal total
            total = count

        def show_progress(sequence: Location, movie: MovieProgress) -> None:
            finished.add(sequence)
            what = f"sequence {len(finished)} of {total}"
            line.update(what, movie.done, movie.total, f"{movie.rate:.1f} frames/s {sequence.name}")

        return work(set_total, show_progress)


def run_with_progress(work: Callable[[IngestListener], IngestReport]) -> IngestReport:
    """Run an ingest with a progress bar."""
    from exr_pipeline.orchestration.instance.run_now import IngestListener

    with _report_interruption(), progress_line() as line:
        total = 0

        def set_total(files: int) -> None:
            nonlocal total
            total = files

        def show_progress(ended: int, chunk: ChunkProgress) -> None:
            line.update("ingesting", ended, total, chunk.summary())

        return work(
            IngestListener(
                on_listed=lambda count: line.update("listing", count), on_found=set_total, on_progress=show_progress
            )
        )


@contextmanager
def _report_interruption() -> Iterator[None]:
    from exr_pipeline.orchestration.instance.run_now import RunInterruptedError

    try:
        yield
    except RunInterruptedError as error:
        fail(str(error), status=INTERRUPTED)


def print_summary(report: IngestReport) -> None:
    """Print the counts and where the pictures are. Exits with status 1 if files could not be reached."""
    counts = {state: report.states.get(state, 0) for state in (READY, REJECTED, RETRYABLE)}
    stdout.print(
        f"{report.worked_on} of {report.listed} files: " + ", ".join(f"{n} {state}" for state, n in counts.items()),
        highlight=False,
    )
    _print_left(report)
    pictures = [picture for each in report.outcomes for picture in (each.thumbnail, each.proxy) if picture is not None]
    folders = sorted({picture.folder for picture in pictures})
    if folders:
        # All pictures of one source are in one bucket.
        common = replace(folders[0], key=os.path.commonpath([folder.key for folder in folders])).as_folder()
        several = f"in {len(folders)} folders under " if len(folders) > 1 else ""
        stdout.print(f"Pictures: {several}{escape(readable(common))}", highlight=False, soft_wrap=True)
    if counts[REJECTED]:
        stdout.print("To see why files were rejected: exr-pipeline status")
    if counts[RETRYABLE] and not report.problem:
        stdout.print("To try retryable files again: exr-pipeline retry")
    _exit_status(report)


def _exit_status(report: IngestReport) -> None:
    if report.problem:
        fail(report.problem)
    if report.states.get(RETRYABLE):
        raise typer.Exit(1)
