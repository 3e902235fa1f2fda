"""The pictures of a movie or sound: thumbnail, filmstrip and proxy, and a record of how.

Belongs here: the order of the steps. Not here: any of the steps. Runs in a worker process, as `probe` does.
"""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.alpha import NOT_DECODED, OverBlack, alpha_of
from exr_pipeline.footage.frames import frames_at, representative
from exr_pipeline.footage.model import color_text
from exr_pipeline.footage.opening import opened
from exr_pipeline.footage.picture_graph import REC709, made_color_space
from exr_pipeline.footage.transcode import transcode
from exr_pipeline.footage.waveform import drawn, measured
from exr_pipeline.pictures import still
from exr_pipeline.pictures.filmstrip import FILMSTRIP_FRAMES, FRAME_BOX, filmstrip
from exr_pipeline.pictures.provenance import Provenance
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from exr_pipeline.footage.model import MediaProbe
    from exr_pipeline.pictures.picture_settings import PictureSettings

_NO_VIEW: Final = "none (display-referred)"
_WAVEFORM: Final = "none (waveform)"
_KEPT: Final = "wide color or high dynamic range is kept as tagged: it looks flat on an ordinary display"
_BY_SIZE: Final = "the stream states no color: treated as BT.709, or as BT.601 below 1280x720"


def render_media(
    path: str,
    name: str,
    media: MediaProbe,
    *,
    thumbnail: bool,
    proxy_path: str | None,
    settings: PictureSettings,
) -> RenderedPictures:
    """The thumbnail and filmstrip, if wanted, of a movie or sound, and its proxy written to `proxy_path`, if given.

    `media` is what `probe` has found in the local file `path`; `name` is the file's name as the user knows it.
    Raises `BadInputError` for a file at fault.
    """
    started = time.perf_counter()
    box = Size(settings.thumbnail_size, settings.thumbnail_size)
    video, audio = media.first("video"), media.first("audio")
    strip = over_black = None
    if video is not None:
        with opened(path, name) as container:
            alpha = alpha_of(container, video.index, path)
        over_black = OverBlack(alpha)
        count = min(FILMSTRIP_FRAMES, video.frame_count or FILMSTRIP_FRAMES)
        places = [(2 * index + 1) / (2 * count) for index in range(count)]
        large = Size(max(box.width, FRAME_BOX.width), max(box.height, FRAME_BOX.height))
        frames = frames_at(path, name, media, video, over_black, places if thumbnail else [0.5], large)
        shown, is_black = representative(frames), not any(frame.max() > 2 for frame in frames)
        strip = filmstrip(frames) if thumbnail else None
        layer, view, made_space = f"video stream {video.index}", _NO_VIEW, made_color_space(video)
        space = color_text(video)
        rule = "tags of the stream" if space != "not stated" else _BY_SIZE
    elif audio is not None:
        shown = drawn(measured(path, name, audio), still.fitted(16 * 4096, 9 * 4096, 1.0, box))
        is_black, layer, view, space, rule = False, f"audio stream {audio.index}", _WAVEFORM, "", ""
        made_space = "as shown"
    else:
        raise BadInputError(name, "the file has neither pictures nor sound")
    proxy, warnings = None, [_KEPT] if view == _NO_VIEW and made_space != REC709 else []
    if over_black is not None and over_black.handling == "ignored":
        warnings.append(NOT_DECODED)
    if proxy_path is not None:
        target = Path(proxy_path)
        made = transcode(path, name, media, target, Size(settings.proxy_width, settings.proxy_height), over_black)
        warnings += made.warnings
        width, height = made.size or (0, 0)
        rate, size = made.rate or Fraction(0), target.stat().st_size
        proxy = Proxy(target, width, height, made.seconds, rate, view, made.color_space, made.encoder, size)
    return RenderedPictures(
        thumbnail=_thumbnail(shown, box, view, made_space, settings.thumbnail_format) if thumbnail else None,
        proxy=proxy,
        icon_webp=still.icon(shown),
        provenance=Provenance(
            layer=layer,
            source_color_space=space,
            color_rule=rule,
            library_versions=_library_versions(),
            alpha_handling="" if over_black is None else over_black.handling,
        ),
        nan_pixels=0,
        inf_pixels=0,
        is_black=is_black,
        warnings=tuple(warnings),
        seconds=time.perf_counter() - started,
        filmstrip=strip,
    )


def _library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the pixels, by their names."""
    from importlib.metadata import version

    import av

    versions = {name: version(name) for name in ("av", "opencv-python-headless", "simplejpeg")}
    return versions | {name: ".".join(map(str, av.library_versions[name])) for name in ("libavcodec", "libswscale")}


def _thumbnail(
    shown: NDArray[np.uint8], box: Size, view: str, color_space: str, file_format: still.StillFormat
) -> Thumbnail:
    import cv2

    size = still.fitted(shown.shape[1], shown.shape[0], 1.0, box)
    if shown.shape[:2] != (size.height, size.width):
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    return Thumbnail(
        still.encoded(shown, file_format), size.width, size.height, view, color_space, still.encoder(file_format)
    )
