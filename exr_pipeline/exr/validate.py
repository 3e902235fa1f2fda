"""Whether a header makes sense: findings, each with a code, a severity, the part and the attribute.

Belongs here: judging a parsed header, and its chunk offset tables. Not here: parsing, or what to do about findings.
An error means that the pixels cannot be what the header says; a warning, that the file can be read all the same.
Sources: the OpenEXR documentation's required attributes, and which headers OpenEXR 3.5 refuses.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from exr_pipeline.exr.chunks import chunk_count, uncompressed_bytes
from exr_pipeline.exr.codec import MAX_NAME_BYTES, encode_text
from exr_pipeline.exr.errors import HeaderError
from exr_pipeline.exr.header import KNOWN_FLAGS, SHORT_NAME_BYTES, Header, Part
from exr_pipeline.exr.values import CODE_NAMES, PIXEL_BYTES, Box2i, Channel
from exr_pipeline.untrusted_text import quoted

Severity = Literal["error", "warning"]

MAX_SIDE: Final = 1 << 20
MAX_PIXELS: Final = 1 << 34
MAX_COORDINATE: Final = (1 << 30) - 1

# Attributes that the format gives a meaning, with the type that they must have to carry it.
_STANDARD_TYPES: Final = {
    "channels": "chlist",
    "compression": "compression",
    "dataWindow": "box2i",
    "displayWindow": "box2i",
    "lineOrder": "lineOrder",
    "pixelAspectRatio": "float",
    "screenWindowCenter": "v2f",
    "screenWindowWidth": "float",
    "tiles": "tiledesc",
    "name": "string",
    "type": "string",
    "chunkCount": "int",
}
_NEEDED: Final = ("channels", "compression", "dataWindow", "displayWindow")
_EXPECTED: Final = ("lineOrder", "pixelAspectRatio", "screenWindowCenter", "screenWindowWidth")
_SHARED: Final = ("displayWindow", "pixelAspectRatio", "timeCode", "chromaticities")
_PART_TYPES: Final = frozenset({"scanlineimage", "tiledimage", "deepscanline", "deeptile"})
_DEEP_COMPRESSIONS: Final = frozenset({"none", "rle", "zips", "zstd"})

# What stands before a chunk's data: its line number or tile coordinates and its size, or sizes; then the data.
_SCANLINE_PREFIX: Final = 8
_TILE_PREFIX: Final = 20
_DEEP_EXTRA: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `part_index` and `attribute` are None if it is about the file or no attribute.

    `offset` is the byte it is about, from the file's start: the attribute's first one (the last attribute of its name),
    else the part's, the version field's, the offset tables', or the end of a truncated file.
    """

    code: str
    severity: Severity
    message: str
    part_index: int | None = None
    attribute: str | None = None
    offset: int = 0


Problem = tuple[str, Severity, str, str | None]


def validate(header: Header, *, file_size: int | None = None) -> list[Finding]:
    """What is wrong with a header: errors first, then warnings, each in the order of the file.

    With `file_size` in bytes, also whether the file can hold the chunks and pixels that are declared.
    """
    findings: list[Finding] = []
    if header.flags & ~KNOWN_FLAGS:
        message = f"unknown bits in the version field: {header.flags & ~KNOWN_FLAGS:#x}"
        findings.append(Finding("unknown-flags", "error", message, offset=4))
    if not header.parts:
        findings.append(Finding("no-parts", "error", "the multi-part file has no parts", offset=4))
    for index, part in enumerate(header.parts):
        for check in (_presence, _codes, _windows, _channels, _layout, _names):
            findings += [
                Finding(code, severity, text, index, at, header.offset(index, at))
                for code, severity, text, at in check(header, part)
            ]
    findings += _parts_together(header)
    if file_size is not None and not any(finding.severity == "error" for finding in findings):
        findings += _size(header, file_size)
    return sorted(findings, key=lambda finding: finding.severity)


def refuse(header: Header, findings: list[Finding], *, name: str) -> None:
    """Raise `HeaderError`, with the file's `name`, for the first finding that is an error; do nothing without one."""
    for finding in findings:
        if finding.severity == "error":
            part = f"part {finding.part_index}: " if len(header.parts) > 1 and finding.part_index is not None else ""
            raise HeaderError(name, part + finding.message, finding.offset)


def validate_chunk_offsets(header: Header, data: bytes, *, file_size: int) -> list[Finding]:
    """Whether the chunk offset tables point into the file, as far as `data` (the file's first bytes) hold them.

    If `data` hold the whole file, also whether its last chunk is complete. The header must have no errors.
    """
    counts = [chunk_count(part) or 0 for part in header.parts]
    position = header.size
    tables_end = position + 8 * sum(counts)
    last, last_part = 0, 0
    for index, count in enumerate(counts):
        if position + 8 * count > len(data):
            return []
        offsets = sorted(struct.unpack_from(f"<{count}Q", data, position))
        position += 8 * count
        if not count:
            continue
        lowest, highest = offsets[0], offsets[-1]
        if not lowest:
            message = f"incomplete: {offsets.count(0)} of {count} chunks were never written"
            return [Finding("incomplete", "error", message, index, offset=header.size)]
        if lowest < tables_end:
            message = "a chunk offset points into the header"
            return [Finding("chunk-offset", "error", message, index, offset=header.size)]
        if highest > last:
            last, last_part = highest, index
    if last >= file_size:
        message = f"truncated: the last chunk begins at byte {last} of a file of {file_size} bytes"
        return [Finding("truncated", "error", message, last_part, offset=file_size)]
    if len(data) == file_size and (end := _chunk_end(header, last_part, data, last)) > file_size:
        message = f"truncated: the last chunk ends at byte {end} of a file of {file_size} bytes"
        return [Finding("truncated", "error", message, last_part, offset=file_size)]
    return []


def _chunk_end(header: Header, part_index: int, data: bytes, offset: int) -> int:
    part = header.parts[part_index]
    position = offset + (4 if header.is_multipart else 0) + (16 if part.is_tiled else 4)
    layout = "<QQ" if part.is_deep else "<i"
    end = position + struct.calcsize(layout) + (8 if part.is_deep else 0)
    if end > len(data):
        return end
    return end + int(sum(struct.unpack_from(layout, data, position)))


def _short(text: str) -> str:
    """Quoted text for a message; values of attributes can have megabytes."""
    return repr(text if len(text) <= MAX_NAME_BYTES else text[:MAX_NAME_BYTES] + "…")


def _presence(header: Header, part: Part) -> Iterator[Problem]:
    names = [attribute.name for attribute in part.attributes]
    for name, count in Counter(names).items() if len(set(names)) < len(names) else ():
        if count > 1:
            yield "duplicate-attribute", "warning", f"attribute {quoted(name)} is stored {count} times", name
    for attribute in part.attributes:
        wanted = _STANDARD_TYPES.get(attribute.name)
        if wanted is not None and attribute.type != wanted:
            message = f"attribute {quoted(attribute.name)} has type {quoted(attribute.type)} instead of {wanted!r}"
            yield "wrong-type", "error", message, attribute.name
    needed = list(_NEEDED)
    if part.is_tiled:
        needed.append("tiles")
    if header.is_multipart:
        needed.append("name")
    if header.is_multipart or part.implied_type is None:
        needed += ["type", "chunkCount"]
    for name in needed:
        if part.get(name) is None:
            yield "missing-attribute", "error", f"required attribute {quoted(name)} is missing", name
    for name in _EXPECTED:
        if part.get(name) is None:
            yield "missing-attribute", "warning", f"required attribute {quoted(name)} is missing", name


def _codes(header: Header, part: Part) -> Iterator[Problem]:
    for attribute in part.attributes:
        names = CODE_NAMES.get(attribute.type)
        if names is not None and attribute.value not in names:
            severity: Severity = "error" if attribute.name == "compression" else "warning"
            message = f"unknown {attribute.type} code {attribute.value}"
            yield "unknown-code", severity, message, attribute.name
    if part.type not in _PART_TYPES:
        yield "unknown-type", "error", f"unknown part type {_short(part.type)}", "type"
    stored = part.typed("type", "string", part.type)
    if stored != part.type:
        yield "type-mismatch", "warning", f"type is {_short(stored)}, but the file's flags say {part.type}", "type"
    if part.is_deep and part.compression is not None and part.compression not in _DEEP_COMPRESSIONS:
        yield "deep-compression", "error", f"compression {part.compression} is not valid for deep data", "compression"
    if part.line_order == "randomY" and not part.is_tiled:
        yield "line-order", "warning", "line order randomY is valid for tiled parts only", "lineOrder"
    ratio = part.typed("pixelAspectRatio", "float", 1.0)
    if not 1e-6 <= ratio <= 1e6:
        yield "pixel-aspect-ratio", "error", f"invalid pixel aspect ratio: {ratio:g}", "pixelAspectRatio"
    width = part.typed("screenWindowWidth", "float", 1.0)
    if math.isnan(width) or width < 0:
        yield "screen-window", "error", f"invalid screen window width: {width:g}", "screenWindowWidth"


def _windows(header: Header, part: Part) -> Iterator[Problem]:
    windows: list[tuple[str, Box2i | None]] = [("dataWindow", part.data_window), ("displayWindow", part.display_window)]
    for name, window in windows:
        if window is None:
            continue
        corners = f"({window.min_x}, {window.min_y}) to ({window.max_x}, {window.max_y})"
        if window.width < 1 or window.height < 1:
            yield "empty-window", "error", f"{name} {corners} is empty", name
        elif max(map(abs, window)) > MAX_COORDINATE:
            yield "absurd-window", "error", f"{name} {corners} exceeds the coordinates allowed", name
        elif max(window.width, window.height) > MAX_SIDE or window.width * window.height > MAX_PIXELS:
            yield "absurd-window", "error", f"{name} is too large: {window.width}x{window.height} pixels", name


def _channels(header: Header, part: Part) -> Iterator[Problem]:
    attribute = part.get("channels")
    if attribute is None or attribute.type != "chlist":
        return
    names = [encode_text(channel.name) for channel in part.channels]
    if not names:
        yield "no-channels", "error", "the part has no channels", "channels"
    if len(set(names)) < len(names):
        double = next(name for name, count in Counter(names).items() if count > 1)
        yield (
            "duplicate-channel",
            "error",
            f"channel {quoted(double.decode(errors='surrogateescape'))} is listed twice",
            "channels",
        )
    elif names != sorted(names):
        yield "channel-order", "warning", "channels are not in alphabetical order", "channels"
    for channel in part.channels:
        problem = _channel_problem(part, channel)
        if problem is not None:
            yield problem[0], "error", f"channel {quoted(channel.name)}: {problem[1]}", "channels"


def _channel_problem(part: Part, channel: Channel) -> tuple[str, str] | None:
    if channel.type not in PIXEL_BYTES:
        return "unknown-pixel-type", f"unknown pixel type {channel.type.removeprefix('TYPE_')}"
    x, y = channel.x_sampling, channel.y_sampling
    if x < 1 or y < 1:
        return "sampling", f"invalid sampling {x}, {y}"
    if (x, y) != (1, 1) and (part.is_tiled or part.is_deep):
        return "sampling", f"sampling {x}, {y} is not valid in a {part.type} part"
    window = part.data_window
    if window is not None and (window.min_x % x or window.min_y % y or window.width % x or window.height % y):
        return "sampling", f"sampling {x}, {y} does not divide the data window"
    return None


def _layout(header: Header, part: Part) -> Iterator[Problem]:
    tiles = part.tiles
    if part.is_tiled and tiles is not None:
        if not (1 <= tiles.x_size <= MAX_SIDE and 1 <= tiles.y_size <= MAX_SIDE):
            yield "tile-size", "error", f"invalid tile size: {tiles.x_size}x{tiles.y_size} pixels", "tiles"
            return
        if tiles.level_mode > 2 or tiles.mode >> 4 > 1:
            yield "tile-mode", "error", f"unknown tile mode {tiles.mode:#x}", "tiles"
            return
    declared = part.typed("chunkCount", "int", None)
    if declared is None:
        return
    count = chunk_count(part)
    if count is not None and declared != count:
        yield "chunk-count", "error", f"chunkCount is {declared}, the data window requires {count}", "chunkCount"


def _names(header: Header, part: Part) -> Iterator[Problem]:
    if header.has_long_names:
        return
    names = [attribute.name for attribute in part.attributes] + [attribute.type for attribute in part.attributes]
    names += [channel.name for channel in part.channels]
    if max(map(len, names), default=0) <= SHORT_NAME_BYTES and "".join(names).isascii():
        return
    long = [name for name in names if len(name if name.isascii() else encode_text(name)) > SHORT_NAME_BYTES]
    if long:
        message = f"{len(long)} names exceed {SHORT_NAME_BYTES} bytes, but the long names flag is not set: "
        yield "long-name", "warning", f"{message}{quoted(long[0])}", None


def _parts_together(header: Header) -> Iterator[Finding]:
    if len(header.parts) < 2:
        return
    seen: set[str] = set()
    for index, part in enumerate(header.parts):
        if part.name is not None and part.name in seen:
            message = f"two parts have the name {_short(part.name)}"
            yield Finding("duplicate-part", "error", message, index, "name", header.offset(index, "name"))
        seen.add(part.name or "")
        for name in _SHARED:
            if part.value(name) != header.parts[0].value(name):
                message = f"{name} differs from that of the first part"
                yield Finding("shared-attribute", "warning", message, index, name, header.offset(index, name))


def _size(header: Header, file_size: int) -> Iterator[Finding]:
    """Compares the file's size with the least that the declared chunks and pixels take."""
    needed = header.size
    for index, part in enumerate(header.parts):
        count = chunk_count(part)
        if count is None:
            return
        prefix = (_TILE_PREFIX if part.is_tiled else _SCANLINE_PREFIX) + (4 if header.is_multipart else 0)
        if part.is_deep:
            prefix += _DEEP_EXTRA
        needed += count * (8 + prefix)
        if part.compression == "none":
            needed += uncompressed_bytes(part) or 0
        if needed > file_size:
            message = f"truncated: the file has {file_size} bytes, its header declares at least {needed}"
            yield Finding("truncated", "error", message, index, offset=file_size)
            return
