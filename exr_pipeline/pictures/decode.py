"""Pixels of one EXR or DPX file, placed in its display window: only the channels, part and level that are shown.

Belongs here: reading files through OpenImageIO and OpenEXR. Not here: colour, sizes of outputs, encoding.
Alpha is read only if asked for: in EXR and DPX as used here colour is premultiplied, so it already is the picture over
black.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np

from exr_pipeline.dpx import MAGICS, parse_dpx_header
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    MAGIC,
    Box2i,
    Header,
    NeedMoreBytes,
    Part,
    levels,
    parse_header,
    validate,
    validate_chunk_offsets,
)
from exr_pipeline.pictures.deep import in_order
from exr_pipeline.pictures.layers import ShownLayer, choose_layer
from exr_pipeline.pictures.luminance_chroma import rgb_from_luminance_chroma, upsampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from exr_pipeline.dpx import DpxHeader

    Box = Callable[[int, int, float], tuple[int, int]]

DPX_MAGICS: Final = tuple(MAGICS)

_SORTED_STATES: Final = (1, 3)  # deepImageState: sorted, tidy

# SMPTE 268M scan order to the orientation of TIFF and EXIF.
_DPX_ORIENTATIONS: Final = (1, 2, 4, 3, 5, 6, 8, 7)

# What infinity becomes: the largest half, so that it stays the brightest of the picture.
BRIGHTEST: Final = 65504.0

_FIRST_READ: Final = 1 << 16
_BLOCK_LINES: Final = 64  # A multiple of the lines in any chunk but DWAB's.
_DWAB_LINES: Final = 256


class Rows(NamedTuple):
    """Some lines of a data window: their first line's y, the first column's x, and pixels (rows, columns, channels)."""

    y: int
    x: int
    pixels: NDArray[np.float32]


@dataclass(slots=True)
class Decoded:
    """A decoded picture: `pixels` (H, W, channels) of the display window (at a mip level), finite, not yet coloured.

    One channel for luminance and data, else three. `alpha` (H, W) is there if it was asked for and the layer has it;
    the colour is multiplied by it. `full_width` and `full_height` are those of the display window
    itself. `part` is the header of what was read of an EXR, `dpx` that of a DPX.
    """

    pixels: NDArray[np.float32]
    layer: ShownLayer
    full_width: int
    full_height: int
    pixel_aspect: float = 1.0
    orientation: int = 1
    frame_rate: Fraction | None = None
    time_code: str | None = None
    alpha: NDArray[np.float32] | None = None
    part: Part | None = None
    dpx: DpxHeader | None = None
    nan_pixels: int = 0
    inf_pixels: int = 0
    warnings: list[str] = field(default_factory=list)


@cache
def _oiio() -> Any:
    """OpenImageIO for one thread: parallelism is several processes, which is faster per file and can be killed."""
    import OpenImageIO as Oiio

    Oiio.attribute("threads", 1)
    Oiio.attribute("exr_threads", -1)
    return Oiio


def decode(path: str, name: str, *, enough: Box, max_image_mb: int, with_alpha: bool = False) -> Decoded:
    """The picture of the file at `path`, called `name` in errors.

    `enough(width, height, pixel_aspect)` is the largest size that is wanted of a display window of that size: of a
    tiled file with mip levels the smallest level that is not below it is read. Images of more than `max_image_mb`
    MiB are refused before any memory is taken. Raises `BadInputError` for any file that cannot be read completely.
    """
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            start = file.read(_FIRST_READ)
    except OSError as error:
        raise BadInputError(name, f"cannot be read: {error.strerror}") from error
    _oiio().attribute("limits:imagesize_MB", max_image_mb)
    if start.startswith(DPX_MAGICS):
        return _decode_dpx(path, name, parse_dpx_header(start, name=name, file_size=size), max_image_mb)
    if not start:
        raise BadInputError(name, "empty file")
    if not start.startswith(MAGIC):
        raise BadInputError(name, "neither an OpenEXR nor a DPX file")
    return _decode_exr(path, name, _read_header(path, name, start, size), enough, max_image_mb, with_alpha)


def _read_header(path: str, name: str, start: bytes, size: int) -> Header:
    while True:
        try:
            header = parse_header(start, name=name)
            break
        except NeedMoreBytes as more:
            if len(start) >= size:
                raise
            with Path(path).open("rb") as file:
                start = file.read(max(more.needed, 2 * len(start)))
    findings = validate(header, file_size=size)
    if not any(finding.severity == "error" for finding in findings):
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            findings = validate_chunk_offsets(header, cast("bytes", data), file_size=size)
    for finding in findings:
        if finding.severity == "error":
            raise BadInputError(name, finding.message)
    return header


def _check_size(name: str, width: int, height: int, pixel_bytes: int, max_image_mb: int) -> None:
    megabytes = width * height * pixel_bytes / (1 << 20)
    if megabytes > max_image_mb:
        raise BadInputError(
            name, f"{width}x{height} pixels of {megabytes:.0f} MiB, more than the {max_image_mb} MiB that are decoded"
        )


def _decode_exr(path: str, name: str, header: Header, enough: Box, max_image_mb: int, with_alpha: bool) -> Decoded:
    layer = choose_layer(header, name=name)
    colours = len(layer.channels)
    read = replace(layer, channels=(*layer.channels, layer.alpha)) if with_alpha and layer.alpha else layer
    part = header.parts[layer.part_index]
    data, display = part.data_window, part.display_window
    assert data is not None
    assert display is not None
    aspect = part.pixel_aspect_ratio
    pixel_bytes = sum(2 if channel.type == "HALF" else 4 for channel in part.channels)
    _check_size(name, data.width, data.height, pixel_bytes, max_image_mb)
    _check_size(name, display.width, display.height, 4 * len(read.channels), max_image_mb)

    if layer.kind == "luminance-chroma" or _is_subsampled(part):
        level, blocks = 0, _luminance_chroma_blocks(path, name, header, read)
    elif part.is_deep:
        level, blocks = 0, _flattened(path, name, read, part)
    else:
        level = _level(part, enough(display.width, display.height, aspect))
        blocks = _flat_blocks(path, name, read, part, level)
    decoded = Decoded(np.empty(0, np.float32), layer, display.width, display.height, part=part)
    if level:
        width, height = list(levels(part))[level]
        display = Box2i(display.min_x, display.min_y, display.min_x + width - 1, display.min_y + height - 1)
    decoded.pixels = _placed(blocks, display, len(read.channels), decoded)
    if read is not layer:
        decoded.alpha = decoded.pixels[:, :, colours]
        decoded.pixels = decoded.pixels[:, :, :colours]
    if (
        data.min_x > display.max_x
        or data.max_x < display.min_x
        or data.min_y > display.max_y
        or (data.max_y < display.min_y)
    ):
        decoded.warnings.append("the data window lies outside the display window: the picture is black")
    decoded.pixel_aspect = aspect
    decoded.orientation = _orientation(part.typed("Orientation", "int", 1))
    rate = part.typed("framesPerSecond", "rational", None)
    if rate is not None and rate.numerator > 0 and rate.denominator > 0:
        decoded.frame_rate = Fraction(rate.numerator, rate.denominator)
    code = part.typed("timeCode", "timecode", None)
    decoded.time_code = None if code is None else code.to_text()
    return decoded


def _orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_subsampled(part: Part) -> bool:
    return any((channel.x_sampling, channel.y_sampling) != (1, 1) for channel in part.channels)


def _level(part: Part, enough: tuple[int, int]) -> int:
    """The smallest mip level that is at least as large as wanted; 0 unless the windows agree."""
    tiles = part.tiles
    if not part.is_tiled or tiles is None or tiles.level_mode != 1 or part.data_window != part.display_window:
        return 0
    fitting = [
        level for level, (width, height) in enumerate(levels(part)) if width >= enough[0] and height >= enough[1]
    ]
    return max(fitting, default=0)


def _placed(blocks: Iterator[Rows], display: Box2i, channels: int, decoded: Decoded) -> NDArray[np.float32]:
    """The display window's pixels: overscan cropped, what is missing black, NaN and infinity replaced and counted."""
    canvas = np.zeros((display.height, display.width, channels), np.float32)
    for rows in blocks:
        top, left = rows.y - display.min_y, rows.x - display.min_x
        height, width = rows.pixels.shape[:2]
        first_row, last_row = max(top, 0), min(top + height, display.height)
        first_column, last_column = max(left, 0), min(left + width, display.width)
        if first_row >= last_row or first_column >= last_column:
            continue
        visible = rows.pixels[first_row - top : last_row - top, first_column - left : last_column - left]
        target = canvas[first_row:last_row, first_column:last_column]
        target[...] = visible
        if not np.isfinite(visible).all():
            _make_finite(target, decoded)
    return canvas


def _make_finite(pixels: NDArray[np.float32], decoded: Decoded) -> None:
    decoded.nan_pixels += int(np.isnan(pixels).any(axis=2).sum())
    decoded.inf_pixels += int(np.isinf(pixels).any(axis=2).sum())
    np.nan_to_num(pixels, copy=False, nan=0.0, posinf=BRIGHTEST, neginf=0.0)


def _reason(text: str, path: str) -> str:
    """The first line of a library's message, without the path of a temporary file."""
    lines = [line for line in text.replace(path, "").strip(' :"').splitlines() if line.strip()]
    return lines[0].strip(' :"') if lines else "the library gives no reason"


def _failure(source: Any, path: str, name: str, doing: str) -> BadInputError:
    try:
        text = source.geterror()
    except UnicodeDecodeError:
        text = "the library's message is not text"
    return BadInputError(name, f"{doing}: {_reason(text, path)}")


def _open(path: str, name: str, format_name: str) -> Any:
    source = _oiio().ImageInput.open(path)
    if source is None:
        raise _failure(_oiio(), path, name, "cannot be opened")
    if source.format_name() != format_name:
        raise BadInputError(name, f"begins like {format_name} but is {source.format_name()}")
    return source


def _columns(spec: Any, layer: ShownLayer, name: str) -> tuple[int, int, list[int]]:
    """The range of channels to read and where the shown ones are in it. OpenImageIO has its own channel order."""
    names = list(spec.channelnames)
    try:
        indices = [names.index(channel) for channel in layer.channels]
    except ValueError:
        raise BadInputError(name, f"channel {layer.channels[0]!r} cannot be read") from None
    low = min(indices)
    return low, max(indices) + 1, [index - low for index in indices]


def _flat_blocks(path: str, name: str, layer: ShownLayer, part: Part, level: int) -> Iterator[Rows]:
    source = _open(path, name, "openexr")
    try:
        if not source.seek_subimage(layer.part_index, level):
            raise _failure(source, path, name, "cannot be opened")
        spec = source.spec()
        low, high, picks = _columns(spec, layer, name)
        lines = _DWAB_LINES if part.compression == "dwab" else _BLOCK_LINES
        if spec.tile_height:
            lines = max(lines // spec.tile_height, 1) * spec.tile_height
        end = spec.y + spec.height
        display = part.display_window
        assert display is not None
        for y in range(spec.y, end, lines):
            stop = min(y + lines, end)
            if not level and (stop <= display.min_y or y > display.max_y):
                continue
            pixels = _read_lines(source, spec, layer.part_index, level, (y, stop), (low, high))
            if pixels is None:
                raise _failure(source, path, name, "damaged pixels")
            yield Rows(y, spec.x, pixels if picks == list(range(high - low)) else pixels[:, :, picks])
    finally:
        source.close()


def _read_lines(
    source: Any, spec: Any, part_index: int, level: int, lines: tuple[int, int], channels: tuple[int, int]
) -> NDArray[np.float32] | None:
    if spec.tile_height:
        pixels = source.read_tiles(part_index, level, spec.x, spec.x + spec.width, *lines, 0, 1, *channels, "float")
    else:
        pixels = source.read_scanlines(part_index, level, *lines, 0, *channels, "float")
    if pixels is None:
        return None
    return np.asarray(pixels, np.float32).reshape(lines[1] - lines[0], spec.width, channels[1] - channels[0])


def _flattened(path: str, name: str, layer: ShownLayer, part: Part) -> Iterator[Rows]:
    """A deep part, its samples composited in depth."""
    oiio = _oiio()
    deep = oiio.ImageBuf(path, layer.part_index, 0)
    if not deep.read(layer.part_index, 0) or deep.has_error:
        raise _failure(deep, path, name, "damaged deep pixels")
    flat = oiio.ImageBufAlgo.flatten(deep)
    if flat.has_error:
        raise _failure(flat, path, name, "deep pixels cannot be flattened")
    low, _, picks = _columns(flat.spec(), layer, name)
    pixels = np.array(flat.get_pixels("float"), np.float32)
    if part.typed("deepImageState", "deepImageState", None) not in _SORTED_STATES:
        in_order(deep, pixels)
    yield Rows(flat.spec().y, flat.spec().x, pixels[:, :, [low + pick for pick in picks]])


def _luminance_chroma_blocks(path: str, name: str, header: Header, layer: ShownLayer) -> Iterator[Rows]:
    """Subsampled channels, which OpenImageIO refuses, through the OpenEXR library."""
    import OpenEXR

    part = header.parts[layer.part_index]
    data = part.data_window
    assert data is not None
    # The library reports damaged pixels on standard output only and then returns what it has.
    report = io.StringIO()
    try:
        with contextlib.redirect_stdout(report):
            file = OpenEXR.File(path, separate_channels=True, num_threads=0)
            channels = file.channels(layer.part_index)
            planes = [
                upsampled(
                    np.asarray(channels[channel].pixels),
                    (channels[channel].xSampling, channels[channel].ySampling),
                    (data.height, data.width),
                )
                for channel in layer.channels
            ]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, UnicodeDecodeError) as error:
        detail = report.getvalue() or str(error)
        raise BadInputError(name, f"damaged pixels: {_reason(detail, path)}") from error
    if "Exception" in report.getvalue():
        raise BadInputError(name, f"damaged pixels: {_reason(report.getvalue(), path)}")
    if layer.kind == "luminance-chroma":
        primaries = part.typed("chromaticities", "chromaticities", None)
        pixels = rgb_from_luminance_chroma(*planes[:3], chromaticities=primaries)
        if len(planes) > 3:
            pixels = np.dstack([pixels, planes[3]])
    else:
        pixels = np.stack(planes, axis=2)
    yield Rows(data.min_y, data.min_x, pixels)


def _decode_dpx(path: str, name: str, header: DpxHeader, max_image_mb: int) -> Decoded:
    source = _open(path, name, "dpx")
    try:
        spec = source.spec()
        _check_size(name, spec.width, spec.height, 4 * spec.nchannels, max_image_mb)
        count = 3 if spec.nchannels >= 3 else 1
        layer = ShownLayer(0, "rgb" if count == 3 else "luminance", tuple(spec.channelnames[:count]))
        pixels = source.read_image(0, 0, 0, count, "float")
        if pixels is None:
            raise _failure(source, path, name, "damaged pixels")
    finally:
        source.close()
    decoded = Decoded(np.empty(0, np.float32), layer, spec.width, spec.height, dpx=header)
    window = Box2i(0, 0, spec.width - 1, spec.height - 1)
    rows = Rows(0, 0, np.asarray(pixels, np.float32).reshape(spec.height, spec.width, count))
    decoded.pixels = _placed(iter([rows]), window, count, decoded)
    decoded.orientation = _DPX_ORIENTATIONS[header.orientation or 0]
    aspect = header.pixel_aspect_ratio
    if aspect is not None and 0.1 <= aspect <= 10:
        decoded.pixel_aspect = aspect
    decoded.frame_rate = header.frame_rate
    decoded.time_code = None if header.time_code is None else header.time_code.to_text()
    return decoded
