"""From decoded frames of a movie to upright frames with square pixels of one size and format.

Belongs here: libavfilter graphs, and which matrix and range a frame is converted by. Not here: reading or encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.footage.alpha import has_alpha
from exr_pipeline.footage.color_tags import PRIMARIES, TRANSFERS, UNSPECIFIED
from exr_pipeline.pictures.still import Size, even, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av import VideoFrame

    from exr_pipeline.footage.alpha import OverBlack
    from exr_pipeline.footage.model import MediaStream

# H.273 matrix codes by the names that libswscale has for their coefficients.
_COEFFICIENTS: Final = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
# Movies without tags: those of high definition are BT.709, smaller ones BT.601, as players take them to be.
_HIGH_DEFINITION: Final = Size(1280, 720)
_FULL: Final = 2
_TURNS: Final = {90: ("transpose=cclock",), 180: ("hflip", "vflip"), 270: ("transpose=clock",)}
_SCALING: Final = "area+accurate_rnd+full_chroma_inp+full_chroma_int"
# Wide color or high dynamic range: the values are kept and so are the tags, since there is no right conversion.
_WIDE_PRIMARIES: Final = frozenset({9, 11, 12})
_HIGH_RANGE_TRANSFERS: Final = frozenset({16, 18})
REC709: Final = "Rec.709"
_BT709: Final = 1
_BT2020: Final = 9


@dataclass(frozen=True, slots=True)
class ColorTags:
    """H.273 codes of a picture that is stored with limited range."""

    primaries: int = _BT709
    transfer: int = _BT709
    matrix: int = _BT709

    @property
    def is_bt709(self) -> bool:
        """Whether it is ordinary high-definition video."""
        return self == ColorTags()


def kept_tags(context: Any) -> ColorTags:
    """The tags of what is made of a stream: BT.709, but for wide color and high dynamic range, kept as tagged."""
    primaries, transfer = int(context.color_primaries), int(context.color_trc)
    if primaries not in _WIDE_PRIMARIES and transfer not in _HIGH_RANGE_TRANSFERS:
        return ColorTags()
    matrix = _BT2020 if int(context.colorspace) in {9, 10} else _BT709
    return ColorTags(primaries, _BT709 if transfer == UNSPECIFIED else transfer, matrix)


def made_color_space(stream: MediaStream) -> str:
    """The color space of what is made of a stream: Rec.709, or where its tags are kept, these."""
    primaries, transfer = stream.color_primaries, stream.color_transfer
    if any(PRIMARIES[code] == primaries for code in _WIDE_PRIMARIES) or any(
        TRANSFERS[code] == transfer for code in _HIGH_RANGE_TRANSFERS
    ):
        return f"as tagged ({primaries}/{transfer})"
    return REC709


def shown_size(stream: MediaStream, box: Size, *, even_sides: bool) -> Size:
    """The size of a stream's upright picture with square pixels within a box."""
    width, height = stream.width or 1, stream.height or 1
    aspect = float(Fraction(stream.sample_aspect_ratio or "1"))
    if (stream.rotation or 0) % 180:
        width, height, aspect = height, width, 1 / aspect
    size = fitted(width, height, aspect, box)
    return even(size, box) if even_sides else size


class PictureGraph:
    """Turns frames of one stream into frames of `size` and `pixel_format` (rgb24, or yuv420p with limited range).

    Frames that change their size or format on the way are followed. Interlaced ones are de-interlaced, frame by frame.
    Those with alpha are put over black.
    """

    def __init__(
        self, stream: MediaStream, size: Size, pixel_format: str, *, tags: ColorTags, over_black: OverBlack
    ) -> None:
        self._turns = _TURNS.get((stream.rotation or 0) % 360, ())
        self._scaled = Size(size.height, size.width) if "transpose" in "".join(self._turns) else size
        self._format = pixel_format
        self._tags = tags
        self._over_black = over_black
        self._graph: Any = None
        self._key: tuple[object, ...] = ()

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frames that are ready once this one went in; times are kept."""
        interlaced = frame.interlaced_frame
        if has_alpha(frame.format):
            frame = self._over_black.flattened(_in_rgba(frame))
        matrix, full = _matrix_and_range(frame)
        key = (frame.width, frame.height, frame.format.name, matrix, full, frame.time_base)
        if key != self._key:
            yield from self.flush()
            self._graph, self._key = self._build(frame, matrix, full, interlaced=interlaced), key
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> Iterator[VideoFrame]:
        """The frames that are still within."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
            self._graph, self._key = None, ()

    def _ready(self) -> Iterator[VideoFrame]:
        import av

        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def _build(self, frame: VideoFrame, matrix: str | None, full: bool, *, interlaced: bool) -> Any:
        scaling = [f"w={self._scaled.width}", f"h={self._scaled.height}", f"flags={_SCALING}"]
        scaling += _source_options(matrix, full)
        if self._format != "rgb24":
            scaling += [f"out_color_matrix={_COEFFICIENTS[self._tags.matrix]}", "out_range=limited"]
        # A frame put over black has lost its mark.
        which = "interlaced" if frame.interlaced_frame else "all"
        steps = [f"bwdif=mode=send_frame:deint={which}"] if interlaced else []
        return _graph_of(
            frame, [*steps, f"scale={':'.join(scaling)}", f"format={self._format}", *self._turns, "setsar=1"]
        )


def _graph_of(frame: VideoFrame, steps: Sequence[str]) -> Any:
    import av.filter

    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    for step in steps:
        name, _, arguments = step.partition("=")
        filter_ = graph.add(name, arguments or None)
        last.link_to(filter_)
        last = filter_
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _in_rgba(frame: VideoFrame) -> VideoFrame:
    """A frame with alpha in its own size as 16-bit RGBA."""
    options = [f"flags={_SCALING}", *_source_options(*_matrix_and_range(frame))]
    graph = _graph_of(frame, [f"scale={':'.join(options)}", "format=rgba64le"])
    graph.vpush(frame)
    made: VideoFrame = graph.vpull()
    return made


def _source_options(matrix: str | None, full: bool) -> list[str]:
    return [] if matrix is None else [f"in_color_matrix={matrix}", f"in_range={'full' if full else 'limited'}"]


def _matrix_and_range(frame: VideoFrame) -> tuple[str | None, bool]:
    """The coefficients that a frame's Y'CbCr was made with, None for RGB and grey, and whether its range is full."""
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return None, True
    large = frame.width >= _HIGH_DEFINITION.width or frame.height >= _HIGH_DEFINITION.height
    matrix = _COEFFICIENTS.get(int(frame.colorspace), "bt709" if large else "bt601")
    return matrix, int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
