"""The command `reconcile`: finds files that were deleted from the sources, and cleans up after them.

Belongs here: arguments, progress, the report as a table. Not here: any of the work
(`orchestration.maintenance.reconcile`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.filesize import decimal
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, progress_line, report_error, stdout, table
from exr_pipeline.cli.places import place

if TYPE_CHECKING:
    from exr_pipeline.ingest.deletions import SourceReport, Tally

_NAMES_SHOWN: Final = 20


def reconcile(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE_URL", help="Folders to compare with the tables: URLs or paths. All sources if omitted."
        ),
    ] = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Apply the changes instead of only reporting them.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Trust an empty listing of a source that has files in the tables.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find files that were deleted from their source. Nothing is changed without --apply.

    --apply marks the files in the tables, removes their media as EXR_PIPELINE_DELETED_MEDIA_DAYS says, and removes
    their partitions from Dagster. The store is first asked to confirm that each file is gone.
    """
    from exr_pipeline.orchestration.maintenance.reconcile import reconcile_now

    settings = load_settings()
    urls = [place(source).url for source in sources or ()]
    with progress_line() as line:
        reports = reconcile_now(settings, urls, dry_run=not apply, force=force, on_progress=line.update)
    if as_json:
        json.dump([asdict(report) for report in reports], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        for report in reports:
            _print(report)
    for report in reports:
        if report.error:
            report_error(f"{report.source}: {report.error}")
    if any(report.error for report in reports):
        raise typer.Exit(1)
    found = any(report.deleted.count or report.media.count or report.partitions for report in reports)
    if found and not apply and not as_json:
        stdout.print("Nothing was changed. To apply, run the same command with --apply.")


def _print(report: SourceReport) -> None:
    from exr_pipeline.orchestration.maintenance.reconcile import FINDINGS, titles

    title_of = titles(report)
    found: list[tuple[str, Tally]] = [(title_of[name], getattr(report, name)) for name in FINDINGS]
    rows: list[tuple[str, int, str, str]] = [
        (title, each.count, decimal(each.bytes) if each.bytes else "", escape(each.first[0]))
        for title, each in found
        if each.count
    ]
    if report.partitions:
        rows.append((title_of["partitions"], report.partitions, "", ""))
    stdout.print(
        f"{escape(report.source)}: {report.listed} objects listed, {report.known} files in the tables",
        soft_wrap=True,
    )
    if not rows:
        if not report.error:
            stdout.print("Nothing to do: no file is gone.")
        return
    stdout.print(table(("finding", "files", "size", "first"), rows))
    for title, each in found[:2]:
        for name in each.first[:_NAMES_SHOWN] if each.count > 1 else ():
            stdout.print(f"{title}: {escape(name)}", soft_wrap=True)
        if each.count > _NAMES_SHOWN:
            stdout.print(f"{title}: … and {each.count - _NAMES_SHOWN} more (--json lists {len(each.first)})")
