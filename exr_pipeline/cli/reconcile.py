"""The command `reconcile`: what was deleted at the sources, and what follows from it.

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

from exr_pipeline.cli.console import load_settings, progress_line, stdout, table, tell
from exr_pipeline.cli.places import place

if TYPE_CHECKING:
    from exr_pipeline.ingest.deletions import SourceReport, Tally

_NAMES_SHOWN: Final = 20


def reconcile(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE_URL", help="Folders to compare with the tables: URLs or paths. All sources if none."
        ),
    ] = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Do what the report says instead of only saying it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Believe a listing without a single file where the tables hold some.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find files that were deleted at their source. Only reports, unless told to --apply.

    Then they are marked in the tables, their media are removed by the policy (EXR_PIPELINE_DELETED_MEDIA_DAYS), and
    their partitions from Dagster. Every deletion is confirmed by the store first.
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
            tell(f"{report.source}: {report.error}")
    if any(report.error for report in reports):
        raise typer.Exit(1)
    found = any(report.deleted.count or report.media.count or report.partitions for report in reports)
    if found and not apply and not as_json:
        stdout.print("Nothing was changed. To do it: the same command with --apply")


def _print(report: SourceReport) -> None:
    from exr_pipeline.orchestration.maintenance.reconcile import FINDINGS, titles

    called = titles(report)
    found: list[tuple[str, Tally]] = [(called[name], getattr(report, name)) for name in FINDINGS]
    rows: list[tuple[str, int, str, str]] = [
        (title, each.count, decimal(each.bytes) if each.bytes else "", escape(each.first[0]))
        for title, each in found
        if each.count
    ]
    if report.partitions:
        rows.append((called["partitions"], report.partitions, "", ""))
    stdout.print(
        f"{escape(report.source)}: {report.listed} objects listed, {report.known} files in the tables",
        soft_wrap=True,
    )
    if not rows:
        if not report.error:
            stdout.print("No file is gone, nothing to do.")
        return
    stdout.print(table(("finding", "files", "size", "first"), rows))
    for title, each in found[:2]:
        for name in each.first[:_NAMES_SHOWN] if each.count > 1 else ():
            stdout.print(f"{title}: {escape(name)}", soft_wrap=True)
        if each.count > _NAMES_SHOWN:
            stdout.print(f"{title}: … and {each.count - _NAMES_SHOWN} more (--json names {len(each.first)})")
