"""Pixels of DPX files.

Belongs here: reading them through OpenImageIO, and what it does not know of DPX. Not here: their header
(`exr_pipeline.dpx`).
"""

from __future__ import annotations

import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.color.source_space import CodeValues
from exr_pipeline.dpx import LINE_PADDING_OFFSET, parse_dpx_header
from exr_pipeline.exr import Box2i
from exr_pipeline.inspection.color_space import StatedColorSpace, stated_dpx_color_space
from exr_pipeline.pictures.decode.source import (
    SCAN_ORDERS,
    Rows,
    Source,
    check_size,
    failure,
    oiio,
    opened,
    valid_aspect,
)
from exr_pipeline.pictures.layers import ShownLayer
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from exr_pipeline.dpx import DpxHeader
    from exr_pipeline.pictures.decode.source import PictureFile

# What it is if it does not say so.
_VIDEO: Final = StatedColorSpace("ITU-R BT.709", "default (DPX: Rec.709 video)")
# Red's and blue's share of luma.
_REC709: Final = (0.2126, 0.0722)
_REC601: Final = (0.299, 0.114)
_STANDARD_DEFINITION: Final = frozenset({"ITU-R BT.601 625", "ITU-R BT.601 525", "NTSC composite", "PAL composite"})


def open_dpx(file: PictureFile) -> Source:
    """The picture of a DPX file: R, G and B, of one element or of three, or one channel as luminance."""
    path, name, max_image_mb = file.path, file.name, file.max_image_mb
    header = parse_dpx_header(file.start, name=name, file_size=file.size_bytes)
    first = header.elements[0]
    is_chroma = {"Cb", "Cr", "Y"} <= set(first.components)
    planes = [element.descriptor for element in header.elements]
    is_planar = {"R", "G", "B"} <= set(planes)
    hints = oiio().ImageSpec()
    # The library takes luma and chroma for full range, and in two of the four orders for one another.
    hints.attribute("dpx:RawColor", 1 if is_chroma else 0)
    reader = opened(path, name, "dpx", hints)
    try:
        spec = reader.spec()
    finally:
        reader.close()
    width, height, count = int(spec.width), int(spec.height), 3 if spec.nchannels >= 3 or is_chroma or is_planar else 1
    check_size(name, width, height, 4 * max(spec.nchannels, count), max_image_mb)

    def read(_level: int) -> Iterator[Rows]:
        # DPX has no chunks to read one by one; the library reads whole elements anyway.
        with _with_line_padding(path, header) as readable:
            reader = opened(readable, name, "dpx", hints)
            try:
                if is_planar:
                    indices = [planes.index(plane) for plane in ("R", "G", "B")]
                    read = [_element(reader, readable, name, header, index, 1) for index in indices]
                    pixels = np.concatenate(read, axis=2)
                else:
                    stored = spec.nchannels if is_chroma else count
                    pixels = _element(reader, readable, name, header, 0, stored)
            finally:
                reader.close()
        if is_chroma:
            pixels = _rgb_from_luma_chroma(pixels, header)
        yield Rows(0, 0, pixels)

    channels = ("R", "G", "B") if is_chroma or is_planar else tuple(spec.channelnames[:count])
    return Source(
        name,
        ShownLayer(0, "rgb" if count == 3 else "luminance", channels),
        Box2i(0, 0, width - 1, height - 1),
        read,
        (Size(width, height),),
        pixel_aspect=valid_aspect(header.pixel_aspect_ratio),
        orientation=SCAN_ORDERS[header.orientation or 0],
        shown_rate=header.shown_rate,
        time_code=None if header.time_code is None else header.time_code.to_text(),
        codes=_codes(header),
    )


def _codes(header: DpxHeader) -> CodeValues:
    first = header.elements[0]
    return CodeValues(stated_dpx_color_space(header), _VIDEO, first.bit_depth, first.colorimetric)


def _element(reader: Any, path: str, name: str, header: DpxHeader, index: int, channels: int) -> NDArray[np.float32]:
    pixels = reader.read_image(index, 0, 0, channels, "float") if reader.seek_subimage(index, 0) else None
    if pixels is None:
        is_rle = header.elements[index].encoding == "rle"
        raise failure(
            reader, path, name, "damaged pixels, or an unknown run-length encoding" if is_rle else "damaged pixels"
        )
    return np.asarray(pixels, np.float32).reshape(header.height, header.width, channels)


@contextmanager
def _with_line_padding(path: str, header: DpxHeader) -> Iterator[str]:
    """The file, or a copy that says how its lines are padded.

    SMPTE 268M ends lines on a word of 32 bits; FFmpeg does so and leaves the field at 0, others don't pad at all. The
    library believes the field.
    """
    padding = _unstated_padding(path, header)
    if not padding:
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".dpx") as copy:
        data = bytearray(Path(path).read_bytes())
        order = ">" if header.byte_order == "big" else "<"
        struct.pack_into(f"{order}I", data, LINE_PADDING_OFFSET, padding)
        copy.write(data)
        copy.flush()
        yield copy.name


def _unstated_padding(path: str, header: DpxHeader) -> int:
    """Bytes at the end of each line that the header does not speak of: as many zeros as the standard asks for."""
    element = header.elements[0]
    sample_bytes = {8: 1, 12: 2, 16: 2}.get(element.bit_depth, 4)
    is_in_bytes = element.bit_depth != 12 or element.packing != "packed"
    samples = 2 if element.descriptor == "CbYCrY" else len(element.components)
    line = header.width * samples * sample_bytes
    padding = -line % 4
    if not padding or not is_in_bytes or element.value("line_padding") or element.encoding != "none":
        return 0
    size = header.height * (line + padding)
    with Path(path).open("rb") as file:
        file.seek(header.data_offset)
        data = np.frombuffer(file.read(size), np.uint8)
    if data.size < size:
        return 0
    return 0 if data.reshape(header.height, -1)[:, line:].any() else padding


def _rgb_from_luma_chroma(pixels: NDArray[np.float32], header: DpxHeader) -> NDArray[np.float32]:
    """R'G'B' (H, W, 3), 0 to 1, of the stored Y'CbCr of video range (ITU-R BT.709, BT.601)."""
    element = header.elements[0]
    shared = element.descriptor in {"CbYCrY", "CbYACrYA"}
    if shared:
        # One of two neighbours has Cb, the other Cr.
        pairs = pixels[:, : pixels.shape[1] // 2 * 2]
        blue, red = (np.repeat(pairs[:, start::2, 0], 2, axis=1) for start in (0, 1))
        edge = ((0, 0), (0, pixels.shape[1] - pairs.shape[1]))
        blue, red, luma = np.pad(blue, edge, "edge"), np.pad(red, edge, "edge"), pixels[:, :, 1]
    else:
        blue, luma, red = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    bits = min(element.bit_depth, 16)
    # Code values of 8 bits, of which 16 to 235 (240 of chroma) are used.
    scale = ((1 << bits) - 1) / (1 << (bits - 8))
    light = (luma * scale - 16) / 219
    blueness, redness = ((chroma * scale - 128) / 224 for chroma in (blue, red))
    is_601 = {element.colorimetric, element.transfer} & _STANDARD_DEFINITION
    red_share, blue_share = _REC601 if is_601 else _REC709
    rgb = np.empty((*light.shape, 3), np.float32)
    rgb[:, :, 0] = light + 2 * (1 - red_share) * redness
    rgb[:, :, 2] = light + 2 * (1 - blue_share) * blueness
    green_share = 1 - red_share - blue_share
    rgb[:, :, 1] = (light - red_share * rgb[:, :, 0] - blue_share * rgb[:, :, 2]) / green_share
    return rgb
