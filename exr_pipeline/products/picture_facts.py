"""What thumbnails and proxies say alike of the picture that they show.

Belongs here: facts of the decoded picture. Not here: those of one product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exr_pipeline.pictures import RenderedPictures
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.product import Facts


def picture_facts(result: FileResult, pictures: RenderedPictures) -> Facts:
    """How the picture came about, and what is wrong with its pixels."""
    return {
        "color space": color_space(result),
        "decided by": pictures.provenance.color_rule,
        "layer": pictures.provenance.layer,
        "seconds": round(pictures.seconds, 3),
        "NaN pixels": pictures.nan_pixels,
        "infinite pixels": pictures.inf_pixels,
        "black": pictures.is_black,
        "warnings": list(pictures.warnings),
    }


def color_space(result: FileResult) -> str:
    """The space that the pixels were read as and how the file spells it, the same on all assets of the file."""
    parts = result.inspection.parts if result.inspection is not None else ()
    statement = next((part.color_space.name for part in parts if part.color_space is not None), "")
    read_as = result.pictures.provenance.source_color_space if result.pictures is not None else ""
    if read_as and statement and read_as != statement:
        return f"{read_as} (stated in the file as {statement})"
    return read_as or statement or "not stated"
