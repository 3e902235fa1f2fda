"""Asset checks of sequences: gaps, and frames that are unreadable, black, or hold NaN or infinite pixels.

Belongs here: which findings are checks, how severe each is, and what the page shows of them. Not here: finding them
(`ingest.sequence_maker`, which writes them into the rows of `sequence_outputs`).

A check is about all sequences of the tables as they are when a run ends, one evaluation per check and run: an
evaluation per sequence would cost 8 to 25 ms each and could not be written in batches, and one about the run's own
sequences only would turn green as soon as another sequence is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dagster as dg

from exr_pipeline.products.sequence_movie import SEQUENCE_MOVIE

if TYPE_CHECKING:
    from exr_pipeline.tables.store import TableStore

SEQUENCES_LISTED: Final = 50


@dataclass(frozen=True, slots=True)
class SequenceCheck:
    """A check: its name, what it says, and the column of `sequence_outputs` that is null where it passes."""

    name: str
    description: str
    column: str
    severity: dg.AssetCheckSeverity


SEQUENCE_CHECKS: Final = (
    SequenceCheck(
        "no_missing_frames",
        "No sequence lacks a frame between its first and its last.",
        "missing_frames",
        dg.AssetCheckSeverity.WARN,
    ),
    SequenceCheck(
        "frames_are_readable", "Every frame can be decoded.", "unreadable_frames", dg.AssetCheckSeverity.ERROR
    ),
    SequenceCheck("no_black_frames", "No frame is entirely black.", "black_frames", dg.AssetCheckSeverity.WARN),
    SequenceCheck(
        "pixels_are_finite",
        "No displayed pixel is NaN or infinite.",
        "nonfinite_frames",
        dg.AssetCheckSeverity.ERROR,
    ),
)
SEQUENCE_CHECK_SPECS: Final = tuple(
    dg.AssetCheckSpec(check.name, asset=SEQUENCE_MOVIE.asset, description=check.description)
    for check in SEQUENCE_CHECKS
)

# Where every frame is readable, unreadable_frames is an empty JSON object.
_IS_FOUND: Final = "coalesce({column}, '') NOT IN ('', '{{}}')"


def evaluate_sequence_checks(tables: TableStore) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation of each check over all sequences of the tables. Raises as `TableStore.sql` does."""
    counts = ", ".join(
        f"count(*) FILTER ({_IS_FOUND.format(column=check.column)}) AS {check.name}" for check in SEQUENCE_CHECKS
    )
    query = f"SELECT count(*) AS sequences, {counts} FROM sequence_outputs"  # noqa: S608 - our names
    (found,) = tables.sql(query).to_pylist()
    for check in SEQUENCE_CHECKS:
        bad = found[check.name]
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(SEQUENCE_MOVIE.asset),
            check_name=check.name,
            passed=not bad,
            severity=check.severity,
            description=f"{bad} of {found['sequences']} sequences",
            metadata={"sequences": dg.MetadataValue.table(_listed(tables, check))} if bad else {},
        )


def _listed(tables: TableStore, check: SequenceCheck) -> list[dg.TableRecord]:
    is_found = _IS_FOUND.format(column=check.column)
    query = f"""SELECT uri, {check.column} AS frames FROM sequence_outputs WHERE {is_found}
        ORDER BY generated_timestamp DESC, uri LIMIT {SEQUENCES_LISTED}"""  # noqa: S608 - our names
    return [dg.TableRecord(row) for row in tables.sql(query).to_pylist()]
