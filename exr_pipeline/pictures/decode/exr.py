"""Pixels of EXR files: only the channels, part and level that are shown.

Belongs here: judging the header, and reading pixels through OpenImageIO and OpenEXR. Not here: parsing headers
(`exr_pipeline.exr`) or what to show (`pictures.layers`).
Alpha is read only if asked for: color in EXR is premultiplied, so it already is the picture over black.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from exr_pipeline.color.chromaticities import REC709, rgb_to_xyz
from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    NeedMoreBytes,
    Part,
    chunk_count,
    levels,
    parse_header,
    refuse,
    validate,
    validate_chunk_offsets,
)
from exr_pipeline.frame_rates import shown_rate_of
from exr_pipeline.pictures.data_pictures import FARTHEST
from exr_pipeline.pictures.decode import zip_chunks
from exr_pipeline.pictures.decode.deep import alphas, in_order, with_only
from exr_pipeline.pictures.decode.luminance_chroma import rgb_from_luminance_chroma, upsampled
from exr_pipeline.pictures.decode.source import (
    BLOCK_LINES,
    Rows,
    Source,
    check_size,
    failure,
    first_line,
    oiio,
    opened,
    valid_orientation,
)
from exr_pipeline.pictures.layers import COVERED, choose_layer
from exr_pipeline.pictures.still import Size
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from exr_pipeline.exr import Header
    from exr_pipeline.pictures.decode.source import PictureFile
    from exr_pipeline.pictures.layers import ShownLayer

# Of the header's attributes, those without which the library does not read pixels.
_NEEDED: Final = frozenset(
    {
        *("channels", "chunkCount", "compression", "dataWindow", "displayWindow", "lineOrder", "name"),
        *("pixelAspectRatio", "screenWindowCenter", "screenWindowWidth", "tiles", "type", "version", "view"),
    }
)
_SORTED_STATES: Final = (1, 3)  # deepImageState: sorted, tidy
_DWAB_LINES: Final = 256
_INTEGER_BITS: Final = (1, 8, 16, 32)
_MIP_MAP: Final = 1  # Of the tile description's level modes.


def open_exr(file: PictureFile) -> Source:
    """The picture of an EXR file: of the layer asked for, or of what `choose_layer` finds best if none is.

    Raises `BadInputError` for a header that is damaged or makes no sense.
    """
    path, name, max_image_mb = file.path, file.name, file.max_image_mb
    header = _read_header(path, name, file.start, file.size_bytes)
    shown = choose_layer(header, name=name, wanted=file.layer)
    has_alpha = file.with_alpha and bool(shown.alpha)
    read = replace(shown, channels=(*shown.channels, shown.alpha)) if has_alpha else shown
    part = header.parts[shown.part_index]
    data, display = part.data_window, part.display_window
    assert data is not None
    assert display is not None
    pixel_bytes = sum(2 if channel.type == "HALF" else 4 for channel in part.channels)
    check_size(name, data.width, data.height, pixel_bytes, max_image_mb)
    check_size(name, display.width, display.height, 4 * len(read.channels), max_image_mb)

    # OpenImageIO refuses subsampled channels and does not combine luminance and chroma.
    through_library = shown.kind == "luminance-chroma" or _is_subsampled(part)

    def stored(level: int) -> Iterator[Rows]:
        if through_library:
            return _luminance_chroma_rows(path, name, header, read)
        if part.is_deep:
            return _flattened(path, name, read, part)
        return _flat_rows(path, name, header, read, level)

    types = {channel.name: channel.type for channel in part.channels}
    integers = [index for index, channel in enumerate(read.channels) if types[channel] == "UINT"]

    def rows(level: int) -> Iterator[Rows]:
        return (
            _from_0_to_1(lambda: stored(level), integers, source) if integers and shown.kind == "rgb" else stored(level)
        )

    source = Source(
        name, shown, display, rows, _levels(part, through_library=through_library), has_alpha=has_alpha, part=part
    )
    source.first_part = header.parts[0]
    if part.is_deep and not alphas(shown, [channel.name for channel in part.channels]):
        why = " without alpha" if shown.kind in COVERED else ""
        source.warnings.append(f"deep samples{why}: the nearest sample of each pixel is shown")
    if (
        data.min_x > display.max_x
        or data.max_x < display.min_x
        or data.min_y > display.max_y
        or data.max_y < display.min_y
    ):
        source.warnings.append("the data window lies outside the display window: the picture is black")
    source.pixel_aspect = part.pixel_aspect_ratio
    source.orientation = valid_orientation(part.typed("Orientation", "int", 1))
    source.shown_rate = shown_rate_of(part)
    code = part.typed("timeCode", "timecode", None)
    source.time_code = None if code is None else code.to_text()
    return source


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
    refuse(header, findings, name=name)
    return header


def _from_0_to_1(stored: Callable[[], Iterator[Rows]], integers: list[int], source: Source) -> Iterator[Rows]:
    """Colors whose channels at `integers` hold whole numbers, of as many bits as the highest of them needs.

    OpenEXR does not say what integers mean, so that the file is read twice: to find the highest, and to show them.
    """
    highest = max((rows.pixels[:, :, integers].max(initial=0) for rows in stored()), default=0)
    bits = next(bits for bits in _INTEGER_BITS if highest < 2**bits or bits == _INTEGER_BITS[-1])
    source.warnings.append(f"the channels are integers: shown as {bits}-bit colors")
    for y, x, pixels in stored():
        shown = np.array(pixels, np.float32)
        shown[:, :, integers] /= 2**bits - 1
        yield Rows(y, x, shown)


def _is_subsampled(part: Part) -> bool:
    return any((channel.x_sampling, channel.y_sampling) != (1, 1) for channel in part.channels)


def _levels(part: Part, *, through_library: bool) -> tuple[Size, ...]:
    """The sizes of the mip levels; the full one alone unless the windows agree."""
    assert part.display_window is not None
    tiles = part.tiles
    mip_mapped = part.is_tiled and tiles is not None and tiles.level_mode == _MIP_MAP
    if not mip_mapped or part.is_deep or through_library or part.data_window != part.display_window:
        return (Size(part.display_window.width, part.display_window.height),)
    return tuple(Size(width, height) for width, height in levels(part))


def _columns(spec: Any, layer: ShownLayer, name: str) -> tuple[int, int, list[int]]:
    """The range of channels to read and where the shown ones are in it. OpenImageIO has its own channel order."""
    names = list(spec.channelnames)
    try:
        indices = [names.index(channel) for channel in layer.channels]
    except ValueError:
        raise BadInputError(name, f"channel {quoted(layer.channels[0])} cannot be read") from None
    low = min(indices)
    return low, max(indices) + 1, [index - low for index in indices]


def _flat_rows(path: str, name: str, header: Header, layer: ShownLayer, level: int) -> Iterator[Rows]:
    part = header.parts[layer.part_index]
    data, display = part.data_window, part.display_window
    assert data is not None
    assert display is not None
    first = data.min_y
    if zip_chunks.is_readable(part, layer.channels):
        shown = range(display.min_y, display.max_y + 1)
        with contextlib.suppress(zip_chunks.UnusualChunkError):
            for y, pixels in zip_chunks.lines(path, header, layer.part_index, layer.channels, shown):
                yield Rows(y, data.min_x, pixels)
                first = y + len(pixels)
            return
    yield from _library_rows(path, name, layer, part, level, first)


def _library_rows(path: str, name: str, layer: ShownLayer, part: Part, level: int, first: int) -> Iterator[Rows]:
    """Lines as OpenImageIO reads them, of scanlines those from `first` on."""
    source = opened(path, name, "openexr")
    try:
        if not source.seek_subimage(layer.part_index, level):
            raise failure(source, path, name, "cannot be opened")
        spec = source.spec()
        low, high, picks = _columns(spec, layer, name)
        lines = _DWAB_LINES if part.compression == "dwab" else BLOCK_LINES
        if spec.tile_height:
            lines = max(lines // spec.tile_height, 1) * spec.tile_height
        end = spec.y + spec.height
        display = part.display_window
        assert display is not None
        for y in range(spec.y if spec.tile_height else first, end, lines):
            stop = min(y + lines, end)
            if not level and (stop <= display.min_y or y > display.max_y):
                continue
            pixels = _read_lines(source, spec, layer, level, (y, stop), (low, high))
            if pixels is None:
                raise failure(source, path, name, "damaged pixels")
            yield Rows(y, spec.x, pixels if picks == list(range(high - low)) else pixels[:, :, picks])
    finally:
        source.close()


def _read_lines(
    source: Any, spec: Any, layer: ShownLayer, level: int, lines: tuple[int, int], channels: tuple[int, int]
) -> NDArray[np.float32] | None:
    stored = {str(spec.channelformat(channel)) for channel in range(*channels)}
    if "uint" in stored and len(stored) > 1:
        alone = [(channel, channel + 1) for channel in range(*channels)]
        read = [_read_lines(source, spec, layer, level, lines, channel) for channel in alone]
        planes = [plane for plane in read if plane is not None]
        return np.concatenate(planes, axis=2) if len(planes) == len(read) else None
    # As float, integers would be divided by the largest.
    type_name = "uint" if stored == {"uint"} else "float"
    if spec.tile_height:
        # The library is slow at making float of tiles.
        type_name = "half" if stored == {"half"} else type_name
        edges = (spec.x, spec.x + spec.width, *lines, 0, 1)
        pixels = source.read_tiles(layer.part_index, level, *edges, *channels, type_name)
    else:
        pixels = source.read_scanlines(layer.part_index, level, *lines, 0, *channels, type_name)
    if pixels is None:
        return None
    return np.asarray(pixels, np.float32).reshape(lines[1] - lines[0], spec.width, channels[1] - channels[0])


def _flattened(path: str, name: str, layer: ShownLayer, part: Part) -> Iterator[Rows]:
    """A deep part, its samples composited in depth."""
    stored = oiio().ImageBuf(path, layer.part_index, 0)
    if not stored.read(layer.part_index, 0) or stored.has_error:
        raise failure(stored, path, name, "damaged deep pixels")
    deep = with_only(stored, layer)
    del stored
    flat = oiio().ImageBufAlgo.flatten(deep)
    if flat.has_error:
        raise failure(flat, path, name, "deep pixels cannot be flattened")
    pixels = np.array(flat.get_pixels("float"), np.float32)
    if part.typed("deepImageState", "deepImageState", None) not in _SORTED_STATES:
        in_order(deep, pixels)
    values = pixels[:, :, : len(layer.channels)]
    types = {channel.name: channel.type for channel in part.channels}
    for index, channel in enumerate(layer.channels):
        if types[channel] == "UINT":
            values[:, :, index] = np.rint(values[:, :, index] * np.float64(0xFFFFFFFF))  # The library divides by it.
    if layer.kind in {"depth", "data"}:
        values[pixels[:, :, list(deep.spec().channelnames).index("A")] == 0] = FARTHEST
    yield Rows(flat.spec().y, flat.spec().x, values)


def _primaries(part: Part) -> tuple[float, ...] | None:
    """The chromaticities, unless they span no color space, which `source_space` warns of."""
    primaries: tuple[float, ...] | None = part.typed("chromaticities", "chromaticities", None)
    try:
        rgb_to_xyz(primaries or REC709)
    except ValueError:
        return None
    return primaries


def _with_few_attributes(path: str, header: Header) -> io.BytesIO:
    """The file with only those attributes that its pixels need: the library refuses a file for any that it dislikes."""
    parts = [
        Part(tuple(attribute for attribute in part.attributes if attribute.name in _NEEDED), part.implied_type)
        for part in header.parts
    ]
    start = replace(header, parts=tuple(parts)).to_bytes()
    data = Path(path).read_bytes()
    count = sum(chunk_count(part) or 0 for part in header.parts)
    offsets = np.frombuffer(data, "<u8", count, header.size) - np.uint64(header.size - len(start))
    return io.BytesIO(b"".join((start, offsets.tobytes(), memoryview(data)[header.size + 8 * count :])))


def _luminance_chroma_rows(path: str, name: str, header: Header, layer: ShownLayer) -> Iterator[Rows]:
    """Luminance and chroma, and channels with subsampling, through the OpenEXR library."""
    import OpenEXR

    part = header.parts[layer.part_index]
    data = part.data_window
    assert data is not None
    # The library reports damaged pixels on standard output only and then returns what it has.
    report = io.StringIO()
    try:
        with contextlib.redirect_stdout(report):
            file = OpenEXR.File(_with_few_attributes(path, header), separate_channels=True, num_threads=0)
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
        raise BadInputError(name, f"damaged pixels: {first_line(detail, path)}") from error
    if "Exception" in report.getvalue():
        raise BadInputError(name, f"damaged pixels: {first_line(report.getvalue(), path)}")
    if layer.kind == "luminance-chroma":
        pixels = rgb_from_luminance_chroma(*planes[:3], chromaticities=_primaries(part))
        if len(planes) > 3:
            pixels = np.dstack([pixels, planes[3]])
    else:
        pixels = np.stack(planes, axis=2)
    yield Rows(data.min_y, data.min_x, pixels)
