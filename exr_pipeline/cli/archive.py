"""Commands that remove the partitions of finished work and restore them: `archive` and `unarchive`.

Belongs here: arguments, the confirmation prompt, the summary. Not here: the work (`orchestration.maintenance.archive`).
"""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from exr_pipeline.cli.console import fail, load_settings, progress_line, stdout
from exr_pipeline.cli.places import url_prefix

if TYPE_CHECKING:
    from exr_pipeline.orchestration.maintenance.archive import Archived

_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}

Prefix = Annotated[str, typer.Argument(help="Only files under this URL prefix, local folder or partition key.")]
Show = Annotated[str, typer.Option(help="Only files of this show, as in the run tag `exr_pipeline/show`.")]


def parse_age(text: str) -> timedelta:
    """The time that a text such as 90d, 12h or 6w names. Raises `typer.BadParameter`."""
    match = re.fullmatch(r"(\d+)([hdw])", text.strip())
    if match is None or len(match[1]) > 6:
        raise typer.BadParameter(f"{text!r} is not a valid age: write 90d, 12h or 6w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def archive(
    prefix: Prefix = "",
    *,
    show: Show = "",
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_age,
            metavar="AGE",
            help="Only files neither modified nor inspected for this long, such as 90d, 12h or 6w.",
        ),
    ] = None,
    most_live: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Only so many of the files touched longest ago that N at most stay."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be archived, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove the partitions of finished files to keep Dagster's page fast. Rows, media and history are kept.

    At least one of PREFIX, --show, --older-than and --most-live is required. Files must match all that are given; of
    --older-than and --most-live the one that archives more counts. Files that are retryable or in a run keep their
    partitions. The partition of a file returns when the file changes. `unarchive` restores the partitions of any
    archived files.
    """
    from exr_pipeline.ingest.finished_work import require_criterion
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.maintenance.archive import archive as retire
    from exr_pipeline.orchestration.maintenance.archive import scope_of
    from exr_pipeline.pipeline import Pipeline

    require_criterion("PREFIX", prefix, show, older_than is not None or most_live is not None)
    pipeline = Pipeline(load_settings())
    scope = scope_of(url_prefix(prefix) if prefix else "", show, pipeline)
    with instance_for_work() as instance:
        if dry_run or not yes:
            would = retire(instance, pipeline, scope, older_than=older_than, most_live=most_live, dry_run=True)
            if dry_run:
                stdout.print(f"Would archive {_files(would.archived)}. {_describe_skipped(would)}")
                return
            if not sys.stdin.isatty():
                fail("cannot ask for confirmation without a terminal: add --yes, or try --dry-run first", status=2)
            typer.confirm(f"Archive {_files(would.archived)}?", abort=True)
        with progress_line() as line:
            report = retire(
                instance, pipeline, scope, older_than=older_than, most_live=most_live, on_progress=line.update
            )
    stdout.print(
        f"Archived {_files(report.archived)}. Removed {report.partitions_removed} file partitions and "
        f"{report.sequences_removed} sequence partitions. {_describe_skipped(report)}",
    )


def unarchive(prefix: Prefix = "", *, show: Show = "") -> None:
    """Restore the partitions of archived files with the statuses they had.

    At least one of PREFIX and --show is required. Files must match all that are given.
    """
    from exr_pipeline.ingest.finished_work import require_criterion
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.maintenance.archive import scope_of
    from exr_pipeline.orchestration.maintenance.archive import unarchive as restore
    from exr_pipeline.pipeline import Pipeline

    require_criterion("PREFIX", prefix, show)
    pipeline = Pipeline(load_settings())
    scope = scope_of(url_prefix(prefix) if prefix else "", show, pipeline)
    with instance_for_work() as instance, progress_line() as line:
        report = restore(instance, pipeline, scope, on_progress=line.update)
    stdout.print(
        f"Restored {_files(report.unarchived)} and {report.sequences_restored} sequence partitions.",
    )


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _describe_skipped(report: Archived) -> str:
    return (
        f"Skipped: {report.recent} too recent, {report.unfinished} unfinished, {report.in_runs} in a run, "
        f"{report.archived_before} already archived."
    )
