"""The proxy of a movie or sound: all of it, as H.264 and AAC, streamed from decoder to encoder.

Belongs here: pictures and sound in time. Not here: geometry and colour of a frame (`picture_graph`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.frame_rates import nominal_frame_rate
from exr_pipeline.media.channels import StereoMixer, are_tracks
from exr_pipeline.media.opening import decoded, opened, packets
from exr_pipeline.media.picture_graph import PictureGraph, kept_tags, made_colour_space, shown_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av import VideoFrame
    from av.container import InputContainer, OutputContainer

    from exr_pipeline.media.model import MediaProbe, MediaStream
    from exr_pipeline.pictures.still import Size

VIDEO_ENCODER: Final = "libx264 veryfast crf 20, yuv420p limited range"
AUDIO_ENCODER: Final = "aac 160 kb/s"
FALLBACK_RATE: Final = Fraction(24)
# Beyond this a stated rate is that of a clock rather than of frames.
_FASTEST: Final = 120
_X264: Final = "threads=1:open-gop=0"
_AUDIO_BITS: Final = 160_000
_AUDIO_RATES: Final = frozenset({44_100, 48_000})
# Further apart than this, two frames in a row are of two clocks.
_JUMP_SECONDS: Final = 600
_BACK_SECONDS: Final = 2
_TIME_CODE: Final = re.compile(r"\d\d:\d\d:\d\d[:;]\d\d")
_MICROSECONDS: Final = 1_000_000
_LIMITED: Final = 1
_TRACKS: Final = "the sound has many channels without names: odd ones are heard left, even ones right"


@dataclass
class Transcoded:
    """What was written: size and rate of the pictures (None without), length in seconds, encoder, what to know."""

    size: Size | None
    rate: Fraction | None
    seconds: float
    encoder: str
    colour_space: str
    warnings: list[str] = field(default_factory=list)


def constant_rate(stream: MediaStream) -> Fraction:
    """The rate of frames that a proxy gets: the stream's own, or 24 where it states none that frames can have.

    One found from times that are rounded, to milliseconds as in Matroska, is the one that it stands for.
    """
    rate = Fraction(stream.frame_rate) if stream.frame_rate else Fraction(0)
    if not 0 < rate <= _FASTEST:
        return FALLBACK_RATE
    nominal = nominal_frame_rate(float(rate))
    return nominal if abs(nominal - rate) < rate / 10_000 else rate


def transcode(path: str, name: str, media: MediaProbe, target: Path, box: Size) -> Transcoded:
    """Write an MP4 of the first video and the first audio stream to `target`.

    Pictures are upright, with square pixels, within `box`, at the stream's own constant rate: each frame is where its
    time says, one that is late is preceded by repetitions, one that is early is left out. Sound is stereo or mono,
    in time with the pictures. Memory does not depend on the length. Raises `BadInputError` if nothing can be decoded.
    """
    import av

    with opened(path, name) as source:
        with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            start = Fraction(source.start_time or 0, _MICROSECONDS)
            video, audio = media.first("video"), media.first("audio")
            pictures = None if video is None else _Pictures(source, output, video, media, box, start)
            sound = None if audio is None else _Sound(name, output, audio, start)
            tracks: dict[int, _Pictures | _Sound] = {
                track.index: track for track in (pictures, sound) if track is not None
            }
            warnings = _run(source, output, tracks)
        if pictures is not None and not pictures.count:
            raise BadInputError(name, f"no frame of stream {pictures.index} can be decoded")
        if pictures is None and sound is not None and not sound.samples:
            raise BadInputError(name, f"no sound of stream {sound.index} can be decoded")
    for track in tracks.values():
        warnings += track.warnings
    seconds = float(pictures.count / pictures.rate) if pictures is not None else sound.seconds if sound else 0.0
    stated = media.duration_seconds or 0.0
    if seconds < 0.9 * stated - 1:
        warnings.append(f"it ends after {seconds:.1f} of {stated:.1f} seconds")
    encoders = [text for text, made in ((VIDEO_ENCODER, pictures), (AUDIO_ENCODER, sound)) if made is not None]
    return Transcoded(
        size=None if pictures is None else pictures.size,
        rate=None if pictures is None else pictures.rate,
        seconds=seconds,
        encoder=", ".join([*encoders, "MP4 faststart"]),
        colour_space="" if pictures is None else pictures.colour_space,
        warnings=warnings,
    )


def _run(source: InputContainer, output: OutputContainer, tracks: dict[int, Any]) -> list[str]:
    damaged = 0
    for index, packet in packets(source, [source.streams[index] for index in tracks]):
        frames = decoded(packet)
        damaged += frames is None
        for frame in frames or ():
            for made in tracks[index].take(frame):
                output.mux(made)
    for track in tracks.values():
        for made in track.finish():
            output.mux(made)
    return [f"{damaged} packets could not be decoded and are left out"] if damaged else []


class _Pictures:
    """The video of a proxy."""

    def __init__(
        self,
        source: InputContainer,
        output: OutputContainer,
        facts: MediaStream,
        media: MediaProbe,
        box: Size,
        start: Fraction,
    ) -> None:
        self.index = facts.index
        self.rate = constant_rate(facts)
        self.size = shown_size(facts, box, even_sides=True)
        self.count = 0
        self.warnings: list[str] = []
        self._origin = start
        self._last: VideoFrame | None = None
        tags = kept_tags(source.streams[facts.index].codec_context)
        self.colour_space = made_colour_space(facts)
        self._graph = PictureGraph(facts, self.size, "yuv420p", tags=tags)
        gop = round(self.rate)
        options = {"preset": "veryfast", "crf": "20", "x264-params": f"{_X264}:keyint={gop}:min-keyint={gop}"}
        self._stream: Any = output.add_stream("libx264", rate=self.rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *self.size, "yuv420p"
        if media.time_code and _TIME_CODE.fullmatch(media.time_code):
            self._stream.metadata["timecode"] = media.time_code
        context = self._stream.codec_context
        context.thread_count = 1
        context.color_primaries, context.color_trc, context.colorspace = tags.primaries, tags.transfer, tags.matrix
        context.color_range = _LIMITED

    def take(self, frame: VideoFrame) -> Iterator[Any]:
        for shown in self._graph.push(frame):
            yield from self._place(shown)

    def finish(self) -> Iterator[Any]:
        for shown in self._graph.flush():
            yield from self._place(shown)
        yield from self._stream.encode(None)

    def _place(self, frame: VideoFrame) -> Iterator[Any]:
        """Encode a frame where its time is on the grid of the rate."""
        place = self.count
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base
            place = round((time - self._origin) * self.rate)
            away = (place - self.count) / self.rate
            if away > _JUMP_SECONDS or away < -_BACK_SECONDS:
                self.warnings = [f"the clock jumps at {float(self.count / self.rate):.1f} s"]
                self._origin, place = time - self.count / self.rate, self.count
        # What shows before the first frame is that frame.
        held = self._last or frame
        while self.count < place:
            yield from self._encode(held)
        if self.count == place:
            yield from self._encode(frame)
        self._last = frame

    def _encode(self, frame: VideoFrame) -> Iterator[Any]:
        frame.pts, frame.time_base = self.count, 1 / self.rate
        frame.pict_type = 0
        self.count += 1
        yield from self._stream.encode(frame)


class _Sound:
    """The sound of a proxy."""

    def __init__(self, name: str, output: OutputContainer, facts: MediaStream, start: Fraction) -> None:
        self.index = facts.index
        self.samples = 0
        self._rate = facts.sample_rate if facts.sample_rate in _AUDIO_RATES else 48_000
        self._layout = "mono" if facts.channel_count == 1 else "stereo"
        self._start = start
        self.warnings = [_TRACKS] if are_tracks(facts.channel_layout, facts.channel_count) else []
        self._mixer = StereoMixer(name, facts.channel_layout)
        self._graph: Any = None
        self._key: tuple[object, ...] = ()
        self._stream: Any = output.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.codec_context.bit_rate = _AUDIO_BITS
        self._stream.codec_context.thread_count = 1
        if facts.language:
            self._stream.metadata["language"] = facts.language

    @property
    def seconds(self) -> float:
        return self.samples / self._rate

    def take(self, frame: Any) -> Iterator[Any]:
        frame = self._mixer.mixed(frame)
        key = (frame.sample_rate, frame.format.name, frame.layout.name, frame.time_base)
        if self._graph is not None and key != self._key:
            yield from self._drain()
        if self._graph is None:
            self._graph, self._key = self._build(frame), key
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[Any]:
        if self._graph is not None:
            yield from self._drain()
        yield from self._stream.encode(None)

    def _build(self, frame: Any) -> Any:
        """Silence where sound is missing, so that it stays in time with the pictures."""
        import av.filter

        graph = av.filter.Graph()
        last = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=frame.time_base
        )
        first = "" if self.samples else ":first_pts=0"
        for name, arguments in (
            ("asetpts", f"PTS-({self._start.numerator}/{self._start.denominator})/TB"),
            ("aresample", f"{self._rate}:async=1{first}"),
            ("aformat", f"sample_fmts=fltp:sample_rates={self._rate}:channel_layouts={self._layout}"),
            ("abuffersink", None),
        ):
            filter_ = graph.add(name, arguments)
            last.link_to(filter_)
            last = filter_
        graph.configure()
        return graph

    def _drain(self) -> Iterator[Any]:
        self._graph.push(None)
        yield from self._ready()
        self._graph = None

    def _ready(self) -> Iterator[Any]:
        import av

        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            frame.pts, frame.time_base = self.samples, Fraction(1, self._rate)
            self.samples += frame.samples
            yield from self._stream.encode(frame)
