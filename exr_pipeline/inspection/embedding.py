"""A file's metadata and its channel layout as vectors of unit length: near for files that are alike.

Belongs here: the rules of both vectors. Not here: storing or comparing them. No model, no randomness.

A vector consists of blocks. Each block describes one aspect, has length 1 on its own and enters with the square root of
its weight; the weights sum to 1. So the cosine of two vectors is the weighted mean of the blocks' cosines, and each
aspect in which two files differ takes them further apart, up to its weight, whatever the others do. Blocks are of three
kinds:

- *set*: a bag of words, each counted in the dimension that its CRC-32 selects, or in its own dimension where the words
  are known beforehand (`words`). Nothing at all counts in the first dimension, which no hashed word selects.
- *number*: two dimensions, cosine and sine of a quarter turn times the number's place in its range. The distance grows
  with the difference over the whole range.

Any change of rules, blocks or their order is another `EMBEDDING_VERSION`; vectors of two versions don't compare.
"""

from __future__ import annotations

import math
import zlib
from array import array
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

from exr_pipeline.exr import encode_text
from exr_pipeline.exr.values import COMPRESSIONS
from exr_pipeline.inspection.identity import split_frame
from exr_pipeline.tables.specs import CHANNEL_FINGERPRINT_DIMENSIONS, METADATA_EMBEDDING_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exr_pipeline.exr import Attribute
    from exr_pipeline.inspection.model import Inspection, PartFacts

EMBEDDING_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Block:
    """One aspect: its name, number of dimensions, weight, meaning, and for known words their own dimensions.

    Words that aren't known count in the block's last dimension.
    """

    name: str
    size: int
    weight: float
    meaning: str
    words: tuple[str, ...] = ()


_COMPONENTS: Final = ("R", "G", "B", "A", "X", "Y", "Z", "N", "U", "V", "RY", "BY", "ZBack", "id", "depth")
_PIXEL_TYPES: Final = ("HALF", "FLOAT", "UINT")

FINGERPRINT_BLOCKS: Final = (
    Block("channels", 64, 0.40, "set: layer.component of every channel; a part's name is the layer if it has none"),
    Block("layers", 32, 0.20, "set: layers"),
    Block("components", 16, 0.15, "set: components of all channels", _COMPONENTS),
    Block("pixel types", 4, 0.10, "set: pixel types of all channels", _PIXEL_TYPES),
    Block("sampling", 4, 0.05, "set: x and y sampling and perceptual linearity of all channels", ("1 1", "2 2", "2 1")),
    Block("channel count", 2, 0.04, "number: log2 of the channels, 1 to 4096"),
    Block("layer count", 2, 0.03, "number: log2 of the layers, 1 to 4096"),
    Block("part count", 2, 0.02, "number: log2 of the parts, 1 to 4096"),
    Block("depth", 2, 0.01, "set: flat or deep, of all parts", ("flat",)),
)
METADATA_BLOCKS: Final = (
    Block("layout", CHANNEL_FINGERPRINT_DIMENSIONS, 0.26, "the channel fingerprint"),
    Block("place", 64, 0.14, "set: folders and name without frame number, and each word of them"),
    Block("attributes", 64, 0.12, "set: name and type of the attributes of every part that no other block describes"),
    Block("values", 48, 0.10, "set: name and stored bytes of the same attributes, except those that state the frame"),
    Block("color space", 16, 0.05, "set: stated color space of each part"),
    Block("software", 8, 0.03, "set: words of the writing program of each part"),
    Block("views", 8, 0.02, "set: views of the file, or none", ("none", "left", "right")),
    Block("compression", 16, 0.05, "set: compression of each part", tuple(COMPRESSIONS.values())),
    Block(
        "type", 6, 0.05, "set: type of each part", ("scanlineimage", "tiledimage", "deepscanline", "deeptile", "dpx")
    ),
    Block("line order", 4, 0.01, "set: line order of each part", ("increasingY", "decreasingY", "randomY")),
    Block("tiles", 4, 0.01, "set: none, or the level mode of each part", ("none", "0", "1")),
    Block("display width", 2, 0.03, "number: log2 of the display window's width, 1 to 65536"),
    Block("display height", 2, 0.03, "number: log2 of the display window's height, 1 to 65536"),
    Block("aspect", 2, 0.02, "number: log2 of the display window's shape in pixel aspect, 1/16 to 16"),
    Block("data width", 2, 0.015, "number: log2 of the data window's width, 1 to 65536"),
    Block("data height", 2, 0.015, "number: log2 of the data window's height, 1 to 65536"),
    Block("data left", 2, 0.01, "number: the data window's left edge in widths of the display window, -2 to 2"),
    Block("data top", 2, 0.01, "number: the data window's top edge in heights of the display window, -2 to 2"),
    Block("frame rate", 2, 0.01, "number: log2 of the frames per second, 1 to 256; 1 if not stated"),
    Block("frame", 2, 0.02, "number: frame number n as n / (|n| + 1000), -1 to 1; -1 if there is none"),
)
# Attributes with blocks of their own. Counting them once more would let a collision outweigh what those blocks say.
_DESCRIBED: Final = frozenset(
    {
        "channels",
        "chunkCount",
        "compression",
        "dataWindow",
        "displayWindow",
        "framesPerSecond",
        "lineOrder",
        "multiView",
        "name",
        "pixelAspectRatio",
        "tiles",
        "type",
        "version",
        "view",
    }
)
# Attributes whose values differ from frame to frame: what they tell, the frame number tells.
_PER_FRAME: Final = frozenset(
    {
        "timeCode",
        "keyCode",
        "capDate",
        "DateTime",
        "imageCounter",
        "ImageCounter",
        "time_code",
        "file_name",
        "creation_time",
        "frame_position",
    }
)
assert sum(block.size for block in FINGERPRINT_BLOCKS) == CHANNEL_FINGERPRINT_DIMENSIONS
assert sum(block.size for block in METADATA_BLOCKS) == METADATA_EMBEDDING_DIMENSIONS


@lru_cache(maxsize=65536)
def _hashed(word: str) -> int:
    return zlib.crc32(encode_text(word))


class _Writer:
    """Fills one file's row block by block, in the order of the table."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.row = [0.0] * sum(block.size for block in blocks)
        self._blocks = iter(blocks)
        self._start = 0

    def _next(self) -> tuple[Block, int]:
        block, start = next(self._blocks), self._start
        self._start += block.size
        return block, start

    def hashed(self, hashes: Sequence[int]) -> None:
        block, start = self._next()
        if not hashes:
            self.row[start] = 1.0
        for value in hashes:
            self.row[start + 1 + value % (block.size - 1)] += 1.0

    def words(self, words: Sequence[str]) -> None:
        self.hashed([_hashed(word) for word in words])

    def known(self, words: Sequence[str]) -> None:
        block, start = self._next()
        places = {word: place for place, word in enumerate(block.words)}
        for word in words:
            self.row[start + places.get(word, block.size - 1)] += 1.0
        if not words:
            self.row[start] = 1.0

    def number(self, value: float, low: float, high: float) -> None:
        _, start = self._next()
        turn = math.pi / 2 * min(max((value - low) / (high - low), 0.0), 1.0)
        self.row[start], self.row[start + 1] = math.cos(turn), math.sin(turn)

    def numbers(self, values: Sequence[float]) -> None:
        block, start = self._next()
        self.row[start : start + block.size] = values


def _unit_row(row: list[float], blocks: Sequence[Block]) -> list[float]:
    """Each block scaled to the square root of its weight; the row to length 1."""
    start = 0
    for block in blocks:
        end = start + block.size
        values = row[start:end]
        scale = math.sqrt(block.weight) / (math.sqrt(sum(map(mul, values, values))) or 1.0)
        row[start:end] = [value * scale for value in values]
        start = end
    return row


class Vectors(NamedTuple):
    """Both vectors of a file, each of length 1: `array` of type `f` with 128 and 384 numbers."""

    channel_fingerprint: array[float]
    metadata_embedding: array[float]


def vectors(inspection: Inspection) -> Vectors:
    """A file's channel layout (`FINGERPRINT_BLOCKS`) and its metadata (`METADATA_BLOCKS`) as vectors."""
    layout = _unit_row(_layout(inspection), FINGERPRINT_BLOCKS)
    metadata = _unit_row(_metadata(inspection, layout), METADATA_BLOCKS)
    return Vectors(array("f", layout), array("f", metadata))


def _layout(inspection: Inspection) -> list[float]:
    parts = inspection.parts
    names: list[str] = []
    layers: dict[str, None] = {}
    components: list[str] = []
    for part in parts:
        part_layer = (part.name or "") if len(parts) > 1 else ""
        for channel in part.channels:
            layer, _, component = channel.name.rpartition(".")
            layer = layer or part_layer
            layers[layer] = None
            names.append(f"{layer}.{component}")
            components.append(component)
    channels = [channel for part in parts for channel in part.channels]
    writer = _Writer(FINGERPRINT_BLOCKS)
    writer.words(names)
    writer.words(list(layers))
    writer.known(components)
    writer.known([channel.type for channel in channels])
    writer.known(
        [f"{channel.x_sampling} {channel.y_sampling}{' linear' if channel.p_linear else ''}" for channel in channels]
    )
    writer.number(math.log2(max(len(channels), 1)), 0, 12)
    writer.number(math.log2(max(len(layers), 1)), 0, 12)
    writer.number(math.log2(len(parts)), 0, 12)
    writer.known(["deep" if part.is_deep else "flat" for part in parts])
    return writer.row


def _metadata(inspection: Inspection, layout: Sequence[float]) -> list[float]:
    parts = inspection.parts
    writer = _Writer(METADATA_BLOCKS)
    writer.numbers(layout)
    writer.words(_place(inspection.source.location.key))
    others = [attribute for part in parts for attribute in part.attributes if attribute.name not in _DESCRIBED]
    writer.words([f"{attribute.name}\0{attribute.type}" for attribute in others])
    writer.hashed([_value_hash(attribute) for attribute in others if attribute.name not in _PER_FRAME])
    writer.words([part.color_space.name for part in parts if part.color_space])
    writer.words([word for part in parts for word in (part.render_software or "").lower().split()])
    writer.known(inspection.views or ("none",))
    writer.known([part.compression for part in parts])
    writer.known([part.type for part in parts])
    writer.known([part.line_order or "" for part in parts])
    writer.known(["none" if part.tiles is None else str(part.tiles.level_mode) for part in parts])
    _write_geometry(writer, parts[0])
    writer.number(_log2_rate(parts[0].frame_rate), 0, 8)
    frame = inspection.source.frame_number
    writer.number(-1 if frame is None else frame / (abs(frame) + 1000), -1, 1)
    return writer.row


def _write_geometry(writer: _Writer, part: PartFacts) -> None:
    display, data = part.display_window, part.data_window
    width, height = display.width, display.height
    writer.number(math.log2(width), 0, 16)
    writer.number(math.log2(height), 0, 16)
    writer.number(math.log2(width * part.pixel_aspect_ratio / height), -4, 4)
    writer.number(math.log2(data.width), 0, 16)
    writer.number(math.log2(data.height), 0, 16)
    writer.number((data.min_x - display.min_x) / width, -2, 2)
    writer.number((data.min_y - display.min_y) / height, -2, 2)


def _place(key: str) -> list[str]:
    stem, _ = split_frame(key.lower())
    words = stem.replace(".", "/").replace("_", "/").replace("-", "/").split("/")
    return [stem, *stem.split("/"), *(word for word in words if word)]


def _value_hash(attribute: Attribute) -> int:
    return zlib.crc32(attribute.raw or repr(attribute.value).encode(), _hashed(attribute.name))


def _log2_rate(rate: str | None) -> float:
    if rate is None:
        return 0.0
    numerator, _, denominator = rate.partition("/")
    return math.log2(max(int(numerator) / int(denominator), 1.0))
