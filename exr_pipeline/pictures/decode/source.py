"""An opened picture file: what its header says about the picture, and its pixels line by line, as they are read.

Belongs here: what all formats share, above all placing lines in the display window. Not here: any one format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from exr_pipeline.errors import BadInputError
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from exr_pipeline.color.source_space import CodeValues, ImageTags
    from exr_pipeline.exr import Box2i, Part
    from exr_pipeline.frame_rates import ShownRate
    from exr_pipeline.pictures.layers import ShownLayer

# What infinity becomes: the largest half, so that it stays the brightest of the picture.
BRIGHTEST: Final = 65504.0
# Scan order of DPX and Cineon to the orientation of TIFF and EXIF.
SCAN_ORDERS: Final = (1, 2, 4, 3, 5, 6, 8, 7)
# Lines read at once: a multiple of the lines in any chunk but DWAB's, few enough to stay in the processor's cache.
BLOCK_LINES: Final = 32


class Rows(NamedTuple):
    """Some lines of a data window: their first line's y, the first column's x, and pixels (rows, columns, channels)."""

    y: int
    x: int
    pixels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A local file that a reader opens: `name` in errors, its first bytes and size, and what is asked of the picture.

    Images of more than `max_image_mb` MiB are refused. `layer` names what is shown of an EXR (see `choose_layer`).
    """

    path: str
    name: str
    start: bytes
    size_bytes: int
    max_image_mb: int
    with_alpha: bool = False
    layer: str = ""


@dataclass(slots=True)
class Source:
    """A picture file that was opened. One channel for luminance and data, else three; alpha, if read, comes last.

    `display` is the window that is the picture. With `straight_alpha` the color is not yet multiplied by alpha.
    `levels` are the sizes of the display window that can be read, full size first; `read` yields the lines of one,
    in file order. Of an EXR, `part` is the part that is shown and `first_part` the one that speaks for the whole file.
    `shown_rate` is that of its frames, if the file states one. The counts and warnings grow while lines are read.
    """

    name: str
    layer: ShownLayer
    display: Box2i
    read: Callable[[int], Iterator[Rows]]
    levels: tuple[Size, ...] = ()
    has_alpha: bool = False
    straight_alpha: bool = False
    pixel_aspect: float = 1.0
    orientation: int = 1
    shown_rate: ShownRate | None = None
    time_code: str | None = None
    part: Part | None = None
    first_part: Part | None = None
    codes: CodeValues | None = None
    tags: ImageTags | None = None
    nan_pixels: int = 0
    inf_pixels: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """How many channels the lines have."""
        return len(self.layer.channels) + self.has_alpha

    def level(self, wanted: Size) -> int:
        """The smallest level that is at least as large as wanted."""
        fitting = [
            index
            for index, size in enumerate(self.levels)
            if size.width >= wanted.width and size.height >= wanted.height
        ]
        return max(fitting, default=0)

    def placed(self, level: int, *, as_stored: bool = False) -> Iterator[Rows]:
        """The lines of a level inside the display window, whose corner is 0, 0.

        What is not finite is counted and, unless they are wanted `as_stored`, replaced.
        """
        width, height = self.levels[level]
        for rows in self.read(level):
            top, left = rows.y - self.display.min_y, rows.x - self.display.min_x
            lines, columns = rows.pixels.shape[:2]
            first_row, last_row = max(top, 0), min(top + lines, height)
            first_column, last_column = max(left, 0), min(left + columns, width)
            if first_row >= last_row or first_column >= last_column:
                continue
            visible = rows.pixels[first_row - top : last_row - top, first_column - left : last_column - left]
            if not np.isfinite(visible).all():
                self.nan_pixels += int(np.isnan(visible).any(axis=2).sum())
                self.inf_pixels += int(np.isinf(visible).any(axis=2).sum())
                if not as_stored:
                    visible = np.nan_to_num(visible, nan=0.0, posinf=BRIGHTEST, neginf=0.0)
            yield Rows(first_row, first_column, visible)


def check_size(name: str, width: int, height: int, pixel_bytes: int, max_image_mb: int) -> None:
    """Raise `BadInputError` for an image that is larger than what may be decoded."""
    megabytes = width * height * pixel_bytes / (1 << 20)
    if megabytes > max_image_mb:
        raise BadInputError(
            name,
            f"the image takes {megabytes:.0f} MiB ({width}x{height} pixels), more than the limit of {max_image_mb} MiB",
        )


@cache
def oiio() -> Any:
    """OpenImageIO for one thread: parallelism is several processes, which is faster per file and can be killed."""
    import OpenImageIO as Oiio

    Oiio.attribute("threads", 1)
    Oiio.attribute("exr_threads", -1)
    return Oiio


def opened(path: str, name: str, format_name: str, hints: Any = None) -> Any:
    """OpenImageIO's reader of a file that must be of this format."""
    source = oiio().ImageInput.open(path, hints) if hints is not None else oiio().ImageInput.open(path)
    if source is None:
        raise failure(oiio(), path, name, "cannot be opened")
    if source.format_name() != format_name:
        raise BadInputError(name, f"begins like {format_name}, but the content is {source.format_name()}")
    return source


def first_line(text: str, path: str) -> str:
    """The first line of a library's message, without the path of a temporary file."""
    lines = [line for line in text.replace(path, "").strip(' :"').splitlines() if line.strip()]
    return lines[0].strip(' :"') if lines else "the library gives no reason"


def failure(source: Any, path: str, name: str, doing: str) -> BadInputError:
    """What OpenImageIO says went wrong with a file."""
    try:
        text = source.geterror()
    except UnicodeDecodeError:
        text = "the library's message is not text"
    return BadInputError(name, f"{doing}: {first_line(text, path)}")


def valid_orientation(value: object) -> int:
    """An orientation of TIFF and EXIF, 1 if it is none."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def valid_aspect(value: object) -> float:
    """A pixel aspect ratio, 1 if it is none that a camera or projector has."""
    return value if isinstance(value, float) and 0.1 <= value <= 10 else 1.0
