"""The product `proxy`: a movie for the web that holds the picture, or of a movie or sound all of it.

Belongs here: what is stored, written and shown of it. Not here: how it is encoded (`pictures.held_frame`,
`footage.transcode`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.filesize import decimal

from exr_pipeline.products.picture_facts import picture_facts
from exr_pipeline.products.product import Facts, FileProduct, InlinePicture, OutputObject, ServedLink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exr_pipeline.pictures.results import Proxy
    from exr_pipeline.products.file_result import FileResult


def _movie(result: FileResult) -> tuple[bytes | Path, str] | None:
    made = result.pictures.proxy if result.pictures is not None else None
    return None if made is None else (made.mp4, "video/mp4" if made.width else "audio/mp4")


def _still(result: FileResult) -> tuple[bytes, str] | None:
    made = result.pictures.proxy if result.pictures is not None else None
    return None if made is None or made.still_jpeg is None else (made.still_jpeg, "image/jpeg")


def _row(result: FileResult) -> Mapping[str, Any]:
    made = result.pictures.proxy if result.pictures is not None else None
    if made is None:
        return {}
    return {
        "proxy_size_bytes": made.size_bytes,
        "proxy_colorspace": made.color_space or None,
        "proxy_resolution": f"{made.width}x{made.height}" if made.width else None,
        "proxy_view": made.view,
        "encoder": made.encoder,
        "proxy_still_size_bytes": None if made.still_jpeg is None else len(made.still_jpeg),
    }


def _facts(result: FileResult) -> Facts | None:
    pictures, at = result.pictures, result.stored.get("proxy")
    if pictures is None or pictures.proxy is None or at is None:
        return None
    made, still = pictures.proxy, result.stored.get("proxy_still")
    return {
        "movie": ServedLink(PROXY.asset),
        "icon": InlinePicture("webp", pictures.icon_webp),
        "uri": at.url,
        "resolution": proxy_size(made),
        "duration": round(made.duration, 3),
        "frame rate": str(made.rate),
        "size": decimal(made.size_bytes),
        "view": made.view,
        "encoder": made.encoder,
        **({} if still is None else {"still uri": still.url}),
        **picture_facts(result, pictures),
    }


def proxy_size(proxy: Proxy) -> str:
    """Its size in words."""
    return f"{proxy.width}x{proxy.height}" if proxy.width else "sound only"


PROXY: Final = FileProduct(
    name="proxy",
    asset="proxy_mp4",
    needs="picture",
    description=(
        "An H.264 movie in Rec.709 for web browsers, within EXR_PIPELINE_PROXY_WIDTH and _HEIGHT, next to the file "
        "in `.proxies/` or below EXR_PIPELINE_OUTPUT_ROOT. For a movie: its whole length with sound. For a sound: "
        "AAC."
    ),
    group="pictures",
    kinds=frozenset({"h264"}),
    comes_from=("source_file",),
    table="proxy_outputs",
    evidence="proxy_s3_key",
    objects=(
        OutputObject("proxy", "proxy.mp4", _movie),
        OutputObject(
            "proxy_still", "proxy.jpg", _still, part="still", only_of=("render", "still"), only_for="spaceharbor"
        ),
    ),
    row=_row,
    facts=_facts,
)
