"""Inputs that the benchmarks make for themselves: renders of 24 channels in the encodings that studios use.

Belongs here: files. Not here: what is measured on them. Drawn by the sample show's renderer, with grain, because
renders have noise and codecs are slower on it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.predecessor import PictureChain
from exr_pipeline.sample import library, shots, worlds
from exr_pipeline.sample.facts import ShowFile
from exr_pipeline.sample.scene import Layers, Raster, render_layers
from exr_pipeline.sample.writers import ExrPart, exr_bytes, rgb_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS: Final = 24
ENCODINGS: Final = ("ZIP", "PIZ", "DWAA", "multi-part ZIP", "tiled mip ZIP")

_ATTRIBUTES: Final = {"colorInteropID": "lin_ap1_scene", "software": "sphere-caster 1.0"}
_TILE: Final = 64
_GRAIN: Final = 0.02


def show_kinds() -> Iterator[tuple[ShowFile, bytes]]:
    """A readable file of each kind in the sample show: its library, and the first frame of each sequence."""
    seen = set()
    for facts, data in chain(
        chain.from_iterable(section.make() for section in library.sections()),
        chain.from_iterable(islice(section.make(), 2) for section in shots.sections()),
    ):
        if facts.state == "ready" and facts.kind not in seen:
            seen.add(facts.kind)
            yield facts, data


@dataclass(frozen=True)
class RenderSize:
    """A resolution to render, and by how much its pixels are repeated to make a larger one."""

    name: str
    width: int
    height: int
    repeat: int = 1


TWO_K: Final = RenderSize("2K", 2048, 1152)
FOUR_K: Final = RenderSize("4K", 2048, 1152, 2)
TINY: Final = RenderSize("tiny", 256, 144)


class Renders:
    """24 half channels of one frame at one size, written in any of the encodings."""

    def __init__(self, size: RenderSize) -> None:
        now, before = shots.moment(worlds.sunset, shots.FIRST, shots.FIRST)
        layers = render_layers(now, Raster.full(size.width, size.height), before=before)
        random = np.random.default_rng(1001)
        self._groups = {
            name: {channel: _grainy(pixels, size.repeat, random) for channel, pixels in group.items()}
            for name, group in _groups(layers).items()
        }

    def moved(self, columns: int) -> Renders:
        """The same picture, moved sideways: another frame for an encoder."""
        other = copy(self)
        other._groups = {
            name: {channel: np.roll(pixels, columns, axis=1) for channel, pixels in group.items()}
            for name, group in self._groups.items()
        }
        return other

    def write(self, encoding: str, path: Path) -> Path:
        """Write the frame to a file."""
        if encoding == "multi-part ZIP":
            parts = [ExrPart(group, "zip", _ATTRIBUTES, name=name) for name, group in self._groups.items()]
            path.write_bytes(exr_bytes(parts))
            return path
        everything = {channel: pixels for group in self._groups.values() for channel, pixels in group.items()}
        assert len(everything) == CHANNELS
        if encoding == "tiled mip ZIP":
            flat = path.with_suffix(".flat.exr")
            flat.write_bytes(exr_bytes([ExrPart(everything, "none", _ATTRIBUTES)]))
            _mip_map(flat, path)
            flat.unlink()
        else:
            path.write_bytes(exr_bytes([ExrPart(everything, encoding.lower(), _ATTRIBUTES)]))
        return path


def _mip_map(source: Path, target: Path) -> None:
    tiles = ("--tile", str(_TILE), str(_TILE), "--compression", "zip")
    tool = PictureChain.found().oiiotool
    subprocess.run(
        [tool, str(source), *tiles, "-otex:fileformatname=exr", str(target)], check=True, capture_output=True
    )


def _groups(layers: Layers) -> dict[str, dict[str, NDArray[Any]]]:
    """Parts or layers: the beauty, what it is the sum of, and technical ones."""
    facing = layers.normal[..., 2:3]
    return {
        "rgba": shots.beauty_channels(layers),
        "diffuse": rgb_channels(layers.diffuse, "diffuse."),
        "specular": rgb_channels(layers.specular, "specular."),
        "key": rgb_channels(layers.diffuse * np.float32(0.7), "key."),
        "fill": rgb_channels(layers.diffuse * np.float32(0.3), "fill."),
        "rim": rgb_channels(layers.rgb * (1 - np.abs(facing)), "rim."),
        "normal": shots.normal_channels(layers),
        "motion": {f"motion.{axis}": layers.motion[..., i].astype(np.float16) for i, axis in enumerate("XY")},
    }


def _grainy(pixels: NDArray[Any], repeat: int, random: np.random.Generator) -> NDArray[np.float16]:
    large = pixels.repeat(repeat, axis=0).repeat(repeat, axis=1).astype(np.float32)
    large *= 1 + np.float32(_GRAIN) * random.standard_normal(large.shape, np.float32)
    return large.astype(np.float16)
