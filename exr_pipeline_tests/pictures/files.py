"""Small EXR and DPX files with known pixels, written by the format's own libraries."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO as Oiio

from exr_pipeline.pictures import PictureSettings
from exr_pipeline.sample.raw_exr import mip_mapped, subsampled
from exr_pipeline.settings import Settings


def picture_settings(**changes: Any) -> PictureSettings:
    names = {"ocio": None, "ocio_config_path": None, "workers": 2, "proxy_seconds": 0.25} | changes
    return PictureSettings.from_settings(Settings(_env_file=None, **names))


def window(width: int, height: int, x: int = 0, y: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x, y], np.int32), np.array([x + width - 1, y + height - 1], np.int32)


def write_exr(path: Path, channels: dict[str, np.ndarray], **attributes: Any) -> Path:
    """One part, ZIP, its windows as large as the first channel unless `dataWindow`/`displayWindow` are given."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **attributes}
    OpenEXR.File(header, channels).write(str(path))
    return path


def rgb_channels(pixels: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": np.ascontiguousarray(pixels[..., index]) for index, name in enumerate("RGB")}


def write_rgb(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
    return write_exr(path, rgb_channels(pixels.astype(np.float32)), **attributes)


def flat(width: int, height: int, color: tuple[float, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.float32), (height, width, len(color))).copy()


def patches(colors: np.ndarray, side: int = 32) -> np.ndarray:
    """A row of square patches, shape (side, side * n, 3)."""
    return np.repeat(np.repeat(np.asarray(colors, np.float32)[np.newaxis], side, axis=0), side, axis=1)


def patch_means(image: np.ndarray, count: int) -> np.ndarray:
    """The mean color of the middle half of each patch of a row of `count`."""
    height, width = image.shape[0], image.shape[1] / count
    rows = slice(height // 4, height - height // 4)
    columns = [slice(round((i + 0.25) * width), round((i + 0.75) * width)) for i in range(count)]
    return np.stack([image[rows, column].reshape(-1, 3).mean(axis=0) for column in columns])


def write_mip_exr(path: Path, levels: list[np.ndarray]) -> Path:
    """A tiled mip map with the given pixels per level, full size first, 1x1 last."""
    path.write_bytes(mip_mapped([rgb_channels(level.astype(np.float16)) for level in levels], 32, {}))
    return path


def write_luminance_chroma_exr(
    path: Path,
    luminance: np.ndarray,
    red: np.ndarray,
    blue: np.ndarray,
    attributes: Mapping[str, tuple[str, bytes]] | None = None,
) -> Path:
    """Y in full, RY and BY in half resolution."""
    channels = {"Y": (luminance, 1), "RY": (red, 2), "BY": (blue, 2)}
    path.write_bytes(
        subsampled({name: (p.astype(np.float32), step) for name, (p, step) in channels.items()}, attributes or {})
    )
    return path


def write_deep_exr(
    path: Path, samples: Sequence[tuple[float, ...]], size: int = 16, names: Sequence[str] = "RGBAZ"
) -> Path:
    """Every pixel holds these samples of float channels."""
    spec = Oiio.ImageSpec(size, size, len(names), "float")
    spec.channelnames = tuple(names)
    spec.deep = True
    deep = Oiio.DeepData()
    deep.init(size * size, len(names), ["float"] * len(names), list(names))
    for pixel in range(size * size):
        deep.set_samples(pixel, len(samples))
        for index, sample in enumerate(samples):
            for channel, value in enumerate(sample):
                deep.set_deep_value(pixel, channel, index, value)
    output = Oiio.ImageOutput.create("openexr")
    assert output.open(str(path), spec), output.geterror()
    assert output.write_deep_image(deep), output.geterror()
    assert output.close()
    return path


def write_dpx(
    path: Path,
    pixels: np.ndarray,
    *,
    transfer: int,
    colorimetric: int | None = None,
    orientation: int = 0,
    rate: float | None = None,
) -> Path:
    """A 16-bit RGB DPX of values 0..1 whose header has these SMPTE 268M codes; `colorimetric` is as `transfer`."""
    spec = Oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "uint16")
    output = Oiio.ImageOutput.create("dpx")
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(pixels.astype(np.float32)), output.geterror()
    assert output.close()
    data = bytearray(path.read_bytes())
    order = ">" if data[:4] == b"SDPX" else "<"
    data[801], data[802] = transfer, transfer if colorimetric is None else colorimetric
    data[768:770] = struct.pack(f"{order}H", orientation)
    if rate is not None:
        data[1940:1944] = struct.pack(f"{order}f", rate)
    path.write_bytes(data)
    return path
