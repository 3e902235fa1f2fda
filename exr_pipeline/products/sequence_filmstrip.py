"""The product `filmstrip` of a sequence: evenly chosen frames in one row.

Belongs here: what is stored and shown of it. Not here: how it is made (`sequence_movies.sheets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.products.contact_sheet import sheet_facts, sheet_row
from exr_pipeline.products.product import Facts, SequenceProduct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.products.sequence_result import SequenceResult, SequenceWork, StoredMedium


def _make(work: SequenceWork) -> StoredMedium:
    from exr_pipeline.sequence_movies.sheets import sequence_filmstrip

    made = sequence_filmstrip(work.sequence, work.storage, settings=work.settings, pool=work.pool)
    return work.store(made, "filmstrip.jpg", made.jpeg, "image/jpeg")


def _row(medium: StoredMedium | None) -> Mapping[str, Any]:
    return sheet_row("filmstrip", medium)


def _facts(medium: StoredMedium, _: SequenceResult) -> Facts:
    return sheet_facts(SEQUENCE_FILMSTRIP.asset, medium)


SEQUENCE_FILMSTRIP: Final = SequenceProduct(
    name="filmstrip",
    asset="filmstrip",
    kind="jpeg",
    description="Evenly spaced frames of a sequence in one row, for scrubbing with the pointer.",
    endings=("filmstrip.jpg",),
    make=_make,
    row=_row,
    facts=_facts,
)
