"""Movies, sounds and stills at the command line: `probe`, and `thumbnail` and `proxy` of movies and sounds.

Belongs here: arguments and output. Not here: probing or rendering (`footage`), or pictures of renders (`cli.files`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, report_error, stdout, table, warn
from exr_pipeline.cli.places import existing, place
from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.formats import format_of_name, labels
from exr_pipeline.storage.spool import spool_folder

if TYPE_CHECKING:
    from exr_pipeline.footage import MediaProbe
    from exr_pipeline.pictures import PictureSettings, RenderedPictures
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.workers.pool import WorkerPool

_STREAM_COLUMNS = ("stream", "type", "codec", "picture or sound", "rate", "length", "color")


def probe(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|URL...", help=f"Movies, sounds, or {labels('still')} files to read.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, one for each file.")] = False,
) -> None:
    """Print the streams, codecs, sizes, rates, color tags and time code of movies, sounds and stills.

    For renders, use `exr-pipeline inspect`.
    """
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.workers.pool import WorkerPool

    settings = load_settings()
    storage = ObjectStorage(settings)
    failed = 0
    with WorkerPool(workers=1, memory_mb=settings.worker_memory_mb) as pool:
        for file in files:
            try:
                with _fetched(file, storage) as (info, path):
                    _print(file, info, path, pool, settings.worker_timeout_seconds, as_json=as_json)
            except (BadInputError, RetryableError) as error:
                failed += 1
                report_error(str(error))
    if failed:
        raise typer.Exit(1)


@contextmanager
def _fetched(file: str, storage: ObjectStorage) -> Iterator[tuple[ObjectInfo, Path]]:
    """Fetch a file to this machine's disk while the block runs."""
    location = existing(file)
    path = storage.local_path(location)
    if path is not None:
        yield storage.head(location), path
        return
    with spool_folder() as folder:
        path = folder / "source"
        yield storage.download(location, path), path


def _print(file: str, info: ObjectInfo, path: Path, pool: WorkerPool, timeout: float, *, as_json: bool) -> None:
    from exr_pipeline.cli.files import show_inspection
    from exr_pipeline.footage.probe import probe_media
    from exr_pipeline.ingest.read_header import source_file
    from exr_pipeline.inspection import inspection_json

    name, format_ = info.location.url, format_of_name(info.location.name)
    if format_ is not None and format_.category == "render":
        raise BadInputError(file, f"a render: use exr-pipeline inspect {file}")
    if format_ is not None and format_.category == "still":
        still = pool.call(format_.header.load(), name, timeout, str(path), source_file(info)).result()
        if as_json:
            _write_line(inspection_json(still))
        else:
            show_inspection(still)
        return
    media = pool.call(probe_media, name, timeout, str(path), name).result()
    if as_json:
        _write_line({"file": {"path": info.location.key, "uri": name, "size_bytes": info.size}, **media.to_json()})
    else:
        _show(name, media)


def _write_line(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")


def _show(name: str, media: MediaProbe) -> None:
    facts = [(key, escape(str(value))) for key, value in media.summary().items() if value not in ("", None)]
    stdout.print(table(("", escape(name)), facts))
    rows = []
    for stream in media.streams:
        picture = f"{stream.width}x{stream.height} {stream.pixel_format or ''}" if stream.width else ""
        sound = f"{stream.channel_layout or stream.channel_count or ''} {stream.sample_format or ''}".strip()
        tags = (stream.color_primaries, stream.color_transfer, stream.color_matrix, stream.color_range)
        rate = stream.frame_rate or (f"{stream.sample_rate} Hz" if stream.sample_rate else "")
        length = "" if stream.duration_seconds is None else f"{stream.duration_seconds:.3f} s"
        codec = " ".join(filter(None, (stream.codec, stream.profile)))
        cells = (str(stream.index), stream.type, codec, picture or sound, rate, length, "/".join(filter(None, tags)))
        rows.append(tuple(map(escape, cells)))
    stdout.print(table(_STREAM_COLUMNS, rows))
    labelled = [("file", *tag) for tag in media.tags]
    labelled += [(f"stream {stream.index}", *tag) for stream in media.streams for tag in stream.tags]
    if labelled:
        stdout.print(table(("of", "tag", "value"), [tuple(map(escape, row)) for row in labelled]))


def media_thumbnail(source: str, target: str, settings: Settings, chosen: PictureSettings) -> None:
    """Write the thumbnail of a movie or sound."""
    with _render(source, settings, chosen, proxy=False) as pictures:
        still = pictures.thumbnail
        assert still is not None
        _write(target, still.data, f"image/{chosen.thumbnail_format}", "thumbnail", settings)
        _warn_of_pictures(pictures)
        stdout.print(f"{escape(target)}: {still.width}x{still.height}, {escape(str(pictures.provenance))}")


def media_proxy(source: str, target: str, settings: Settings, chosen: PictureSettings) -> None:
    """Write the proxy of a movie or sound."""
    with _render(source, settings, chosen, proxy=True) as pictures:
        video = pictures.proxy
        assert video is not None
        kind, size = ("video/mp4", f"{video.width}x{video.height}, ") if video.width else ("audio/mp4", "")
        _write(target, video.mp4, kind, "proxy", settings)
        _warn_of_pictures(pictures)
        stdout.print(f"{escape(target)}: {size}{video.duration:.3f} s, {escape(str(pictures.provenance))}")


def _warn_of_pictures(pictures: RenderedPictures) -> None:
    for warning in pictures.warnings:
        warn(warning)


@contextmanager
def _render(source: str, settings: Settings, chosen: PictureSettings, *, proxy: bool) -> Iterator[RenderedPictures]:
    """Render the pictures of a movie or sound. The proxy's file exists while the block runs."""
    from exr_pipeline.footage.probe import probe_media
    from exr_pipeline.footage.render import render_media
    from exr_pipeline.ingest.media_files import render_timeout
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.workers.pool import WorkerPool

    with (
        spool_folder() as folder,
        _fetched(source, ObjectStorage(settings)) as (info, path),
    ):
        name = info.location.url
        target = str(folder / "proxy.mp4") if proxy else None
        with WorkerPool(workers=1, memory_mb=chosen.worker_memory_mb) as pool:
            media = pool.call(probe_media, name, chosen.worker_timeout_seconds, str(path), name).result()
            pictures = pool.call(
                render_media,
                name,
                render_timeout(media, settings),
                str(path),
                name,
                media,
                thumbnail=not proxy,
                proxy_path=target,
                settings=chosen,
            ).result()
        yield pictures


def _write(target: str, data: bytes | Path, content_type: str, media_type: str, settings: Settings) -> None:
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.storage.outputs import media_tags

    ObjectStorage(settings).write(place(target), data, content_type=content_type, tags=media_tags(media_type))
