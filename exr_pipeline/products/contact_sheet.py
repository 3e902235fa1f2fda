"""The product `contact_sheet` of a sequence: evenly chosen frames on one sheet.

Belongs here: what is stored and shown of it. Not here: how it is made (`sequence_movies.sheets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from rich.filesize import decimal

from exr_pipeline.products.product import Facts, InlinePicture, SequenceProduct, ServedPicture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.products.sequence_result import SequenceResult, SequenceWork, StoredMedium
    from exr_pipeline.sequence_movies.sheets import Sheet


def _make(work: SequenceWork) -> StoredMedium:
    from exr_pipeline.sequence_movies.sheets import contact_sheet

    made = contact_sheet(work.sequence, work.storage, settings=work.settings, pool=work.pool)
    return work.store(made, "contact_sheet.jpg", made.jpeg, "image/jpeg")


def _row(medium: StoredMedium | None) -> Mapping[str, Any]:
    return sheet_row("contact_sheet", medium)


def _facts(medium: StoredMedium, _: SequenceResult) -> Facts:
    return sheet_facts(CONTACT_SHEET.asset, medium)


def sheet_row(name: str, medium: StoredMedium | None) -> Mapping[str, Any]:
    """The columns of a sheet, whose names begin with its own."""
    return {
        f"{name}_s3_key": None if medium is None else medium.at.path,
        f"{name}_size_bytes": None if medium is None else medium.size_bytes,
        f"{name}_encoder": None if medium is None else medium.made.encoder,
    }


def sheet_facts(asset: str, medium: StoredMedium) -> Facts:
    """What is shown of a sheet."""
    sheet = cast("Sheet", medium.made)
    return {
        "picture": ServedPicture(asset),
        "preview": InlinePicture("jpeg", sheet.preview_jpeg),
        "uri": medium.at.url,
        "resolution": f"{sheet.width}x{sheet.height}",
        "frames shown": len(sheet.frames),
        "frame size": f"{sheet.frame_size.width}x{sheet.frame_size.height}",
        "size": decimal(medium.size_bytes),
        "view": sheet.view,
    }


CONTACT_SHEET: Final = SequenceProduct(
    name="contact_sheet",
    asset="contact_sheet",
    kind="jpeg",
    description="Evenly spaced frames of a sequence on one sheet, with their frame numbers.",
    endings=("contact_sheet.jpg",),
    make=_make,
    row=_row,
    facts=_facts,
)
