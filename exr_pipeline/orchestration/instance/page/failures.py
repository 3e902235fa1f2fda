"""The list of what failed and why: `/failures`, one click from every page of Dagster's.

Belongs here: finding failed partitions with the reasons that their latest attempts logged, and showing them. Not here:
the reason on the page of a partition (`reasons.js`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from exr_pipeline.orchestration.assets.sequences import SEQUENCE_ASSETS
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS, SOURCE_FILE
from exr_pipeline.orchestration.partitions import FILES, SEQUENCES, files_partitions, sequences_partitions
from exr_pipeline.storage.locations import Location
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

LISTED: Final = 200

_UNKNOWN: Final = "the run ended before it recorded a reason"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_STYLE: Final = """
body { font: 14px/1.5 sans-serif; margin: 24px; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 6px 12px 6px 0; border-bottom: 1px solid #ddd;
         overflow-wrap: anywhere }
td.assets { white-space: nowrap } td.assets a { display: block }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #16181d } a { color: #9db5ff }
  th, td { border-color: #444 } }
"""


@dataclass
class _Failure:
    """A file or sequence of which some assets have failed."""

    partition: str
    assets: list[str] = field(default_factory=list)
    reason: str = _UNKNOWN
    timestamp: float = 0.0


class Failures:
    """The endpoint of the list."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    async def __call__(self, _request: Request) -> Response:
        """The list as HTML."""
        return HTMLResponse(await run_in_threadpool(self._page), headers=_HEADERS)

    def _page(self) -> str:
        failures = [
            *self._failures(FILES, files_partitions, FILE_ASSETS),
            *self._failures(SEQUENCES, sequences_partitions, SEQUENCE_ASSETS),
        ]
        failures.sort(key=lambda failure: -failure.timestamp)
        return _html(failures)

    def _failures(
        self, name: str, partitions: dg.PartitionsDefinition[str], assets: Sequence[dg.AssetKey]
    ) -> list[_Failure]:
        keys = self._instance.get_dynamic_partitions(name)
        found: dict[str, _Failure] = {}
        for asset in assets:
            statuses = self._instance.get_status_by_partition(asset, keys, partitions) or {} if keys else {}
            for key, status in statuses.items():
                if status == AssetPartitionStatus.FAILED:
                    found.setdefault(key, _Failure(key)).assets.append(asset.path[-1])
        by_asset = defaultdict(list)
        for failure in found.values():
            by_asset[failure.assets[0]].append(failure.partition)
        for asset_name, failed in by_asset.items():
            for start in range(0, len(failed), LISTED):
                self._add_reasons(found, asset_name, failed[start : start + LISTED])
        if name == FILES:
            for failure in found.values():
                failure.assets.insert(0, SOURCE_FILE.path[-1])
        return list(found.values())

    def _add_reasons(self, found: dict[str, _Failure], asset: str, partitions: Sequence[str]) -> None:
        records = self._instance.fetch_observations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=partitions), limit=5 * len(partitions)
        ).records
        for record in records:
            failure = found[str(record.partition_key)]
            observation = record.asset_observation
            if observation is not None and observation.description and record.timestamp > failure.timestamp:
                failure.reason, failure.timestamp = observation.description, record.timestamp


def _html(failures: Sequence[_Failure]) -> str:
    rows = "".join(map(_row, failures[:LISTED]))
    more = f"<p>and {len(failures) - LISTED} more</p>" if len(failures) > LISTED else ""
    table = f"<table><tr><th>file or sequence<th>reason<th>assets</tr>{rows}</table>{more}"
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>Failures</title><style>{_STYLE}</style><p><a href="/">Dagster</a>'
        f"<h1>{len(failures)} failed</h1>{table if failures else '<p>No file or sequence has failed.'}</html>"
    )


def _row(failure: _Failure) -> str:
    query = escape(urlencode({"view": "partitions", "partition": failure.partition}))
    links = "".join(f'<a href="/assets/{asset}?{query}">{asset}</a>' for asset in failure.assets)
    url = Location.from_partition_key(failure.partition).url
    return (
        f'<tr><td>{escape(visible_line(url))}<td>{escape(visible_line(failure.reason))}<td class="assets">{links}</tr>'
    )
