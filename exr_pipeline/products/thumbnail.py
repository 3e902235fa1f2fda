"""The product `thumbnail`: a still of the picture, and of a movie a filmstrip too.

Belongs here: what is stored, written and shown of it. Not here: how stills are made (`pictures.still`,
`pictures.filmstrip`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.filesize import decimal

from exr_pipeline.products.picture_facts import picture_facts
from exr_pipeline.products.product import Facts, FileProduct, InlinePicture, OutputObject, ServedPicture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.pictures.results import Thumbnail
    from exr_pipeline.products.file_result import FileResult


def _still(result: FileResult) -> tuple[bytes, str] | None:
    made = result.pictures.thumbnail if result.pictures is not None else None
    return None if made is None else (made.data, "image/jpeg")


def _filmstrip(result: FileResult) -> tuple[bytes, str] | None:
    made = result.pictures.filmstrip if result.pictures is not None else None
    return None if made is None else (made.jpeg, "image/jpeg")


def _row(result: FileResult) -> Mapping[str, Any]:
    pictures = result.pictures
    made, strip = (None, None) if pictures is None else (pictures.thumbnail, pictures.filmstrip)
    if made is None:
        return {}
    return {
        "thumbnail_size_bytes": len(made.data),
        "filmstrip_size_bytes": None if strip is None else len(strip.jpeg),
        "thumb_colorspace": made.color_space,
        "thumb_resolution": thumbnail_size(made),
        "still_view": made.view,
        "still_encoder": made.encoder,
    }


def _facts(result: FileResult) -> Facts | None:
    pictures, at = result.pictures, result.stored.get("thumbnail")
    if pictures is None or pictures.thumbnail is None or at is None:
        return None
    made, strip, strip_at = pictures.thumbnail, pictures.filmstrip, result.stored.get("filmstrip")
    facts = {
        "picture": ServedPicture(THUMBNAIL.asset),
        "icon": InlinePicture("webp", pictures.icon_webp),
        "uri": at.url,
        "resolution": thumbnail_size(made),
        "size": decimal(len(made.data)),
        "view": made.view,
    }
    if strip is not None and strip_at is not None:
        facts |= {
            "filmstrip": ServedPicture(THUMBNAIL.asset, "filmstrip"),
            "filmstrip uri": strip_at.url,
            "filmstrip frames": strip.frames,
        }
    return {**facts, **picture_facts(result, pictures)}


def thumbnail_size(thumbnail: Thumbnail) -> str:
    """Its size in words."""
    return f"{thumbnail.width}x{thumbnail.height}"


THUMBNAIL: Final = FileProduct(
    name="thumbnail",
    asset="thumbnail",
    needs="picture",
    description=(
        "An sRGB JPEG, rendered through the display's view, at most EXR_PIPELINE_THUMBNAIL_SIZE pixels wide and "
        "high, next to the file in `.proxies/` or below EXR_PIPELINE_OUTPUT_ROOT. For a movie: a frame near its "
        "middle, and a filmstrip. For a sound: its waveform."
    ),
    group="pictures",
    kinds=frozenset({"jpeg"}),
    comes_from=("source_file",),
    table="proxy_outputs",
    evidence="thumbnail_s3_key",
    objects=(
        OutputObject("thumbnail", "thumb.jpg", _still),
        OutputObject("filmstrip", "filmstrip.jpg", _filmstrip, part="filmstrip", only_of=("movie",)),
    ),
    row=_row,
    facts=_facts,
)
