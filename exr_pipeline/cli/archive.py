"""Commands that retire the partitions of finished work and bring them back: `archive` and `unarchive`.

Belongs here: arguments, the question before, the summary. Not here: what is done (`orchestration.maintenance.archive`).
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

Prefix = Annotated[str, typer.Argument(help="Only files below this URL prefix, local folder or partition key.")]
Show = Annotated[str, typer.Option(help="Only files of this show, as the runs' tag `exr_pipeline/show` has it.")]


def age(text: str) -> timedelta:
    """The time that a text such as 90d, 12h or 6w names. Raises `typer.BadParameter`."""
    found = re.fullmatch(r"(\d+)([hdw])", text.strip())
    if found is None or len(found[1]) > 6:
        raise typer.BadParameter(f"{text!r} is no age: write 90d, 12h or 6w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def archive(
    prefix: Prefix = "",
    *,
    show: Show = "",
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=age, metavar="AGE", help="Only files neither modified nor inspected for so long: 90d, 12h, 6w."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be archived.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Retire the partitions of finished files, so that Dagster's page stays quick. Rows, media and history stay.

    At least one of PREFIX, --show and --older-than is needed; they narrow one another. Files that are retryable or that
    a run is at keep their partitions. A file that changes comes back by itself; `unarchive` brings back any.
    """
    from exr_pipeline.ingest.finished_work import require_criterion
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.maintenance.archive import archive as retire
    from exr_pipeline.orchestration.maintenance.archive import scope_of
    from exr_pipeline.pipeline import Pipeline

    require_criterion("PREFIX", prefix, show, older_than is not None)
    pipeline = Pipeline(load_settings())
    scope = scope_of(url_prefix(prefix) if prefix else "", show, pipeline)
    with instance_for_work() as instance:
        if dry_run or not yes:
            would = retire(instance, pipeline, scope, older_than=older_than, dry_run=True)
            if dry_run:
                stdout.print(f"Would archive {_files(would.archived)}. {_left(would)}")
                return
            if not sys.stdin.isatty():
                fail("there is nobody to ask: add --yes, or look first with --dry-run", status=2)
            typer.confirm(f"Archive {_files(would.archived)}?", abort=True)
        with progress_line() as line:
            report = retire(instance, pipeline, scope, older_than=older_than, on_progress=line.update)
    stdout.print(
        f"Archived {_files(report.archived)}; removed {report.partitions_removed} partitions of files and "
        f"{report.sequences_removed} of sequences. {_left(report)}",
    )


def unarchive(prefix: Prefix = "", *, show: Show = "") -> None:
    """Bring back the partitions of archived files, with the statuses that they had.

    At least one of PREFIX and --show is needed; they narrow one another.
    """
    from exr_pipeline.ingest.finished_work import require_criterion
    from exr_pipeline.orchestration.instance.key_migration import instance_for_work
    from exr_pipeline.orchestration.maintenance.archive import scope_of
    from exr_pipeline.orchestration.maintenance.archive import unarchive as bring_back
    from exr_pipeline.pipeline import Pipeline

    require_criterion("PREFIX", prefix, show)
    pipeline = Pipeline(load_settings())
    scope = scope_of(url_prefix(prefix) if prefix else "", show, pipeline)
    with instance_for_work() as instance, progress_line() as line:
        report = bring_back(instance, pipeline, scope, on_progress=line.update)
    stdout.print(
        f"Brought back {_files(report.unarchived)} and {report.sequences_restored} partitions of sequences.",
    )


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _left(report: Archived) -> str:
    return (
        f"Left as they are: {report.recent} too recent, {report.unfinished} unfinished, {report.in_runs} in a run, "
        f"{report.archived_before} archived before."
    )
