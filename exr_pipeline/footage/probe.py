"""What a movie or sound says of itself: container, streams, codecs, sizes, rates, color, time code.

Belongs here: reading it through libav. Not here: the facts' forms (`model`), pictures (`render`). Runs in a worker
process where the file is nobody's: libav on hostile bytes may crash.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage import color_tags
from exr_pipeline.footage.model import MediaProbe, MediaStream
from exr_pipeline.footage.opening import decoded, opened, packets

if TYPE_CHECKING:
    from fractions import Fraction

    from av.container import InputContainer

# Containers that don't tell how many frames there are have them counted, which reads the whole file once.
COUNTED_UP_TO_BYTES: Final = 1 << 30
_MICROSECONDS: Final = 1_000_000
_FIELD_ORDERS: Final = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}
_SHORT_NAMES: Final = {"mpegts": "ts", "asf": "wmv", "mpeg": "mpg"}


def probe_media(path: str, name: str) -> MediaProbe:
    """The streams of a movie or sound in the local file `path`; `name` is the file's name as the user knows it.

    Raises `BadInputError` if it is none, is damaged so that nothing can be decoded, or is truncated.
    """
    if not Path(path).stat().st_size:
        raise BadInputError(name, "the file is empty")
    layouts: dict[int, str] = {}
    with opened(path, name, layouts=layouts) as container:
        _check_whole(container, path, name)
        counts = _frame_counts(container, path)
        tags = _tags(container.metadata)
        streams = tuple(_stream(stream, container, counts, layouts) for stream in container.streams)
        for stream in streams:
            if stream.type == "video" and stream.codec is None:
                raise BadInputError(name, f"stream {stream.index} has an unknown codec")
        if not any(stream.type in {"video", "audio"} and stream.codec for stream in streams):
            raise BadInputError(name, "the file has neither pictures nor sound")
        rotated = _with_rotations(path, name, streams)
        codes = [stream.time_code for stream in rotated if stream.time_code]
        return MediaProbe(
            format=_format(container, name),
            container_format=container.format.name,
            duration_seconds=None if container.duration is None else container.duration / _MICROSECONDS,
            bit_rate=container.bit_rate or None,
            time_code=codes[0] if codes else dict(tags).get("timecode"),
            tags=tags,
            streams=rotated,
        )


def _format(container: InputContainer, name: str) -> str:
    """A short name: what the content says, and the extension where two names stand for one format."""
    names = container.format.name.split(",")
    extension = name.rpartition(".")[2].lower()
    if names[0] == "matroska":
        return "webm" if extension == "webm" else "mkv"
    if names[0] == "mov":
        brand = container.metadata.get("major_brand", "qt").strip().lower()
        return {"qt": "mov", "m4a": "m4a"}.get(brand, "3gp" if brand.startswith("3g") else "mp4")
    return _SHORT_NAMES.get(names[0], names[0])


def _check_whole(container: InputContainer, path: str, name: str) -> None:
    """Raises `BadInputError` if an index at the file's start tells of samples beyond the file's end."""
    if not container.format.name.startswith("mov"):
        return
    size = Path(path).stat().st_size
    for stream in container.streams:
        entries = stream.index_entries
        missing = _beyond(entries, size)
        if missing:
            there = len(entries) - missing
            raise BadInputError(name, f"truncated: only {there} of {len(entries)} samples of a stream are present")


def _beyond(entries: Any, size: int) -> int:
    """How many samples at the end of an index lie beyond a file's size."""
    count = 0
    for position in range(len(entries) - 1, -1, -1):
        entry = entries[position]
        if entry.pos + entry.size <= size:
            break
        count += 1
    return count


def _frame_counts(container: InputContainer, path: str) -> dict[int, int]:
    """Frames of the video streams: as the index has them, else counted in files that are not too large."""
    videos = [stream for stream in container.streams.video if not _is_cover(stream)]
    # Others than MOV and MP4 may state a number that was guessed when writing began.
    is_indexed = container.format.name.startswith("mov")
    counts = {stream.index: stream.frames for stream in videos if is_indexed and stream.frames}
    unknown = [stream for stream in videos if stream.index not in counts]
    if unknown and Path(path).stat().st_size <= COUNTED_UP_TO_BYTES:
        counts |= {stream.index: 0 for stream in unknown}
        for index, packet in packets(container, unknown):
            counts[index] += bool(packet.size)
    return counts


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _type(stream: Any) -> str:
    if stream.type == "video" and _is_cover(stream):
        return "picture"
    if stream.type == "data" and "timecode" in stream.metadata:
        return "timecode"
    return str(stream.type or "data")


def _stream(stream: Any, container: InputContainer, counts: dict[int, int], layouts: dict[int, str]) -> MediaStream:
    from av.stream import Disposition

    context = stream.codec_context
    duration = _seconds(stream.duration, stream.time_base)
    if duration is None and container.duration is not None:
        duration = container.duration / _MICROSECONDS
    facts: dict[str, Any] = {
        "index": stream.index,
        "type": _type(stream),
        "codec": None if context is None else _codec(context),
        "profile": stream.profile,
        "time_code": stream.metadata.get("timecode"),
        "bit_rate": None if context is None else context.bit_rate or None,
        "start_seconds": _seconds(stream.start_time, stream.time_base),
        "duration_seconds": duration,
        "language": stream.language,
        "is_default": bool(stream.disposition & Disposition.default),
        "tags": _tags(stream.metadata),
    }
    if context is None:
        return MediaStream(**facts)
    if stream.type == "video":
        facts |= _video_facts(stream) | {"frame_count": counts.get(stream.index)}
    elif stream.type == "audio":
        facts |= {
            "sample_rate": context.sample_rate or None,
            "channel_count": context.channels or None,
            "channel_layout": layouts.get(stream.index) or _layout(context),
            "sample_format": context.format.name if context.format else None,
        }
    return MediaStream(**facts)


def _codec(context: Any) -> str:
    """The codec's own name; that of its decoder may be another."""
    return str(getattr(context.codec, "canonical_name", None) or context.codec.name)


def _layout(context: Any) -> str | None:
    """The layout's name; None where the file tells no more than how many channels there are."""
    name = context.layout.name if context.channels else ""
    return None if not name or name.endswith(" channels") else str(name)


def _video_facts(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio
    return {
        "width": context.width or None,
        "height": context.height or None,
        "sample_aspect_ratio": _fraction(aspect),
        "pixel_format": context.pix_fmt,
        "field_order": _FIELD_ORDERS.get(int(context.field_order or 0)),
        "color_primaries": color_tags.PRIMARIES.get(int(context.color_primaries)),
        "color_transfer": color_tags.TRANSFERS.get(int(context.color_trc)),
        "color_matrix": color_tags.MATRICES.get(int(context.colorspace)),
        "color_range": color_tags.RANGES.get(int(context.color_range)),
        "frame_rate": _fraction(stream.guessed_rate or stream.average_rate),
    }


def _with_rotations(path: str, name: str, streams: tuple[MediaStream, ...]) -> tuple[MediaStream, ...]:
    """The streams, those of video with how their first frame is to be turned: only frames tell that."""
    from dataclasses import replace

    turned = list(streams)
    for position, stream in enumerate(streams):
        if stream.type == "video":
            with opened(path, name) as container:
                read = packets(container, [container.streams[stream.index]])
                frame: Any = next((frame for _, packet in read for frame in decoded(packet) or ()), None)
                if frame is None:
                    raise BadInputError(name, f"no frame of stream {stream.index} can be decoded")
                turned[position] = replace(stream, rotation=round(frame.rotation) or None)
    return tuple(turned)


def _seconds(value: int | None, base: Fraction | None) -> float | None:
    return None if value is None or base is None else float(value * base)


def _fraction(value: Fraction | None) -> str | None:
    return f"{value.numerator}/{value.denominator}" if value else None


def _tags(metadata: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(metadata.items()))
