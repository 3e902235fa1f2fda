"""Commands on single files, without tables or Dagster: `inspect`, `thumbnail` and `proxy`.

Belongs here: arguments and output. Not here: reading headers (`ingest.read_header`) or rendering (`pictures`).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, report_error, stdout, table, warn
from exr_pipeline.cli.picture_options import (
    Display,
    Exact,
    Layer,
    LookOption,
    Output,
    SourceSpace,
    ViewOption,
    check_name,
    picture_settings,
    still_format,
)
from exr_pipeline.cli.places import existing, place
from exr_pipeline.cli.probe import media_proxy, media_thumbnail
from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.formats import category_of, labels, plays
from exr_pipeline.storage.spool import spool_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.exr import Attribute
    from exr_pipeline.inspection import Inspection, SourceFile
    from exr_pipeline.pictures import PictureSettings, RenderedPictures
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

_VALUE_SHOWN: Final = 200
_SMALLEST, _LARGEST = 16, 8192

Input = Annotated[str, typer.Argument(metavar="IN", help="Picture, movie or sound to read: a path or a URL.")]


def inspect(
    files: Annotated[list[str], typer.Argument(metavar="FILE|URL...", help=f"{labels('render')} files to read.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, one for each file.")] = False,
) -> None:
    """Print the headers of files: every attribute of every part. Pixels are not read.

    Values of more than 200 characters are shortened. --json prints them in full.
    """
    import asyncio

    failed = asyncio.run(_inspect(files, as_json=as_json))
    if failed:
        raise typer.Exit(1)


async def _inspect(files: Sequence[str], *, as_json: bool) -> int:
    import asyncio

    from exr_pipeline.ingest.media_files import is_media
    from exr_pipeline.ingest.read_header import HeaderReader, headers_at_once
    from exr_pipeline.inspection import inspection_json, rejection_json
    from exr_pipeline.storage.objects import ObjectStorage

    settings = load_settings()
    reader = HeaderReader(ObjectStorage(settings))
    at_once = asyncio.Semaphore(headers_at_once(settings.header_fetches))

    async def read(file: str) -> tuple[SourceFile | None, Inspection | BadInputError | RetryableError]:
        source: SourceFile | None = None
        async with at_once:
            try:
                location = existing(file)
                if is_media(location):
                    raise BadInputError(file, f"not a render: use exr-pipeline probe {file}")
                source, data = await reader.start(location)
                return source, await reader.inspect(source, data)
            except (BadInputError, RetryableError) as error:
                return source, error

    failed = 0
    for task in [asyncio.create_task(read(file)) for file in files]:
        source, result = await task
        if isinstance(result, BadInputError | RetryableError):
            failed += 1
            report_error(str(result))
            if as_json and source is not None and isinstance(result, BadInputError):
                sys.stdout.write(json.dumps(rejection_json(source, result)) + "\n")
        elif as_json:
            sys.stdout.write(json.dumps(inspection_json(result)) + "\n")
        else:
            show_inspection(result)
    return failed


def show_inspection(inspection: Inspection) -> None:
    """Print the facts of a picture as tables."""
    from exr_pipeline.inspection.json import printable

    facts = inspection.summary()
    rows = [(name, escape(str(value))) for name, value in facts.items() if value not in ("", None)]
    stdout.print(table(("", escape(inspection.source.location.url)), rows))
    for part in inspection.parts:
        name = f"part {part.index}" + (f" {part.name}" if part.name else "")
        title = f"{name}: {part.data_window.width}x{part.data_window.height}"
        channels = [(escape(c.name), c.type, f"{c.x_sampling}x{c.y_sampling}") for c in part.channels]
        stdout.print(table(("channel", "type", "sampling"), channels, title=escape(title)))
        attributes = [(escape(printable(a.name)), escape(printable(a.type)), _value(a)) for a in part.attributes]
        stdout.print(table(("attribute", "type", "value"), attributes))
    for warning in inspection.warning_texts():
        stdout.print(f"[yellow]Warning:[/] {escape(warning)}")


def _value(attribute: Attribute) -> str:
    from exr_pipeline.inspection.json import json_value

    value = json_value(attribute)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape(text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}… {len(text)} characters")


def thumbnail(
    source: Input,
    target: Output,
    *,
    size: Annotated[
        int | None,
        typer.Option(
            min=_SMALLEST, max=_LARGEST, help="Longest side in pixels. Overrides EXR_PIPELINE_THUMBNAIL_SIZE."
        ),
    ] = None,
    view: ViewOption = "",
    display: Display = "",
    look: LookOption = "",
    source_space: SourceSpace = "",
    layer: Layer = "",
    exact: Exact = None,
) -> None:
    """Render a thumbnail of a file: a small still through the display's view.

    The extension of OUT selects the format: JPEG, PNG or WebP.

    The thumbnail of a movie is a frame near its middle. The thumbnail of a sound is its waveform.

    Picture rules and settings apply wherever no option is given (docs/color.md).
    """
    file_format = still_format(target)
    settings = load_settings()
    chosen = picture_settings(settings, display, view, look, source_space, layer, exact)
    chosen = replace(chosen, thumbnail_format=file_format)
    if size is not None:
        chosen = replace(chosen, thumbnail_size=size)
    if plays(source):
        media_thumbnail(source, target, settings, chosen)
        return
    pictures = _render(source, settings, chosen, thumbnail=True)
    still = pictures.thumbnail
    assert still is not None
    _write(target, still.data, f"image/{file_format}", "thumbnail", settings)
    _warn_of_pictures(pictures)
    stdout.print(f"{escape(target)}: {still.width}x{still.height}, {_provenance(pictures, still.view)}")


def proxy(
    source: Input,
    target: Output,
    *,
    size: Annotated[
        str,
        typer.Option(help="Longest side in pixels, or WIDTHxHEIGHT. Overrides EXR_PIPELINE_PROXY_WIDTH and _HEIGHT."),
    ] = "",
    view: ViewOption = "",
    display: Display = "",
    look: LookOption = "",
    source_space: SourceSpace = "",
    layer: Layer = "",
    exact: Exact = None,
) -> None:
    """Render a proxy of a file: an H.264 MP4 in Rec.709.

    The proxy of a movie is the whole movie with its sound. The proxy of a sound is AAC only.

    Picture rules and settings apply wherever no option is given (docs/color.md).
    """
    if category_of(source) == "sound":
        check_name(target, (".m4a", ".mp4"), "the proxy of a sound is AAC in an MP4")
    else:
        check_name(target, (".mp4",), "a proxy is an MP4")
    settings = load_settings()
    chosen = picture_settings(settings, display, view, look, source_space, layer, exact)
    if size:
        box = _box(size)
        chosen = replace(chosen, proxy_width=box[0], proxy_height=box[1])
    if plays(source):
        media_proxy(source, target, settings, chosen)
        return
    pictures = _render(source, settings, chosen, thumbnail=False)
    video = pictures.proxy
    assert video is not None
    assert isinstance(video.mp4, bytes)
    _write(target, video.mp4, "video/mp4", "proxy", settings)
    _warn_of_pictures(pictures)
    stdout.print(
        f"{escape(target)}: {video.width}x{video.height}, {video.duration:g} s, {_provenance(pictures, video.view)}",
    )


def _box(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", size.lower())
    box = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
    if not all(_SMALLEST <= side <= _LARGEST for side in box):
        raise MisconfiguredError(
            "--size", f"{size!r} is not a valid size", f"write pixels or WIDTHxHEIGHT, each {_SMALLEST} to {_LARGEST}"
        )
    return box


def _warn_of_pictures(pictures: RenderedPictures) -> None:
    for warning in pictures.warnings:
        warn(warning)


def _provenance(pictures: RenderedPictures, view: str) -> str:
    return escape(f"{pictures.provenance} to {view}")


def _render(source: str, settings: Settings, chosen: PictureSettings, *, thumbnail: bool) -> RenderedPictures:
    from exr_pipeline.pictures import PicturePool
    from exr_pipeline.storage.objects import ObjectStorage

    location = existing(source)
    storage = ObjectStorage(settings)
    with spool_folder() as folder:
        path = storage.local_path(location)
        if path is None:
            path = folder / "source"
            storage.download(location, path)
        with PicturePool(replace(chosen, workers=1)) as pool:
            return pool.submit(str(path), location.url, thumbnail=thumbnail, proxy=not thumbnail).result()


def _write(target: str, data: bytes, content_type: str, media_type: str, settings: Settings) -> None:
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.storage.outputs import media_tags

    storage: ObjectStorage = ObjectStorage(settings)
    storage.write(place(target), data, content_type=content_type, tags=media_tags(media_type))
