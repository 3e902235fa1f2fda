"""The proxy of a movie or sound: all of it, as H.264 and AAC, streamed from decoder to encoder.

Belongs here: pictures and sound in time. Not here: geometry and color of a frame (`picture_graph`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.alpha import Decoder
from exr_pipeline.footage.channels import StereoMixer, are_tracks
from exr_pipeline.footage.opening import decoded, opened, packets
from exr_pipeline.footage.picture_graph import PictureGraph, kept_tags, made_color_space, shown_size
from exr_pipeline.frame_rates import DEFAULT_RATE, MEASURED, ShownRate, shown_rate
from exr_pipeline.sequence_movies.time_code import can_drop, counted_rate, to_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import VideoFrame
    from av.container import InputContainer, OutputContainer

    from exr_pipeline.footage.alpha import OverBlack
    from exr_pipeline.footage.model import MediaProbe, MediaStream
    from exr_pipeline.pictures.still import Size

VIDEO_ENCODER: Final = "libx264 veryfast crf 20, yuv420p limited range"
AUDIO_ENCODER: Final = "aac 160 kb/s"
_X264: Final = "threads=1:open-gop=0"
_AUDIO_BITS: Final = 160_000
_AUDIO_RATES: Final = frozenset({44_100, 48_000})
# Further apart than this, two frames in a row are of two clocks.
_JUMP_SECONDS: Final = 600
_BACK_SECONDS: Final = 2
_TIME_CODE: Final = re.compile(r"\d\d:\d\d:\d\d[:;](\d\d)")
# A small file may state times of years. No more is made of it than of any real file of that size, which needs more
# bytes for a second than these.
_BYTES_PER_SECOND: Final = 100
_SECONDS_OF_ANY: Final = 900
_LONGEST_SECONDS: Final = 24 * 3600
_MICROSECONDS: Final = 1_000_000
_LIMITED: Final = 1
_JUMPS: Final = "the timestamps jump"
_TRACKS: Final = "the audio channels are not named: odd ones are mixed to the left, even ones to the right"


@dataclass
class Transcoded:
    """What was written: size and rate of the pictures (None without), length in seconds, encoder, what to know."""

    size: Size | None
    rate: Fraction | None
    seconds: float
    encoder: str
    color_space: str
    warnings: list[str] = field(default_factory=list)


def constant_rate(stream: MediaStream) -> ShownRate:
    """The rate of frames that a proxy gets: the stream's own, or 24 where it states none that frames can have.

    One found from times that are rounded, to milliseconds as in Matroska, is the one that it stands for.
    """
    if not stream.frame_rate:
        return ShownRate(DEFAULT_RATE)
    return shown_rate(Fraction(stream.frame_rate), text=stream.frame_rate, within=MEASURED)


def longest_proxy(file_bytes: int) -> int:
    """Seconds of pictures or sound that are made of a file of this size at most, whatever times it states."""
    return min(_SECONDS_OF_ANY + file_bytes // _BYTES_PER_SECOND, _LONGEST_SECONDS)


def kept_time_code(text: str | None, rate: Fraction) -> tuple[str | None, str]:
    """A movie's time code as its proxy gets it, and a warning if that is another or none."""
    if not text:
        return None, ""
    match = _TIME_CODE.fullmatch(text)
    is_possible = int(match[1]) < rate if match else False
    if match and counted_rate(rate) is not None:
        is_possible = to_frames(text, rate) is not None
    if not is_possible:
        return None, f"the time code {text} is not valid at {rate} frames per second: the movie has none"
    if ";" in text and not can_drop(rate):
        kept = text.replace(";", ":")
        return (
            kept,
            f"the time code {text} is drop-frame, which is not valid at {rate} frames per second: {kept} is used",
        )
    return text, ""


def transcode(
    path: str, name: str, media: MediaProbe, target: Path, box: Size, over_black: OverBlack | None
) -> Transcoded:
    """Write an MP4 of the first video and the first audio stream to `target`.

    Pictures are upright, with square pixels, within `box`, at the stream's own constant rate: each frame is where its
    time says, one that is late is preceded by repetitions, one that is early is left out. Sound is stereo or mono,
    in time with the pictures. Memory does not depend on the length, which is `longest_proxy` at most. `over_black` is
    that of the video. Raises `BadInputError` if nothing can be decoded.
    """
    import av

    with opened(path, name) as source:
        with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            start = Fraction(source.start_time or 0, _MICROSECONDS)
            video, audio = media.first("video"), media.first("audio")
            longest = longest_proxy(Path(path).stat().st_size)
            pictures = None
            if video is not None:
                assert over_black is not None
                pictures = _Pictures(source, output, video, media, over_black, box, start, longest)
            sound = None if audio is None else _Sound(name, output, audio, start, longest)
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
    if any(track.is_full for track in tracks.values()):
        warnings.append(f"the output ends after {seconds:.1f} seconds, the limit for a file of this size")
    elif seconds < 0.9 * stated - 1:
        warnings.append(f"the file ends after {seconds:.1f} of the {stated:.1f} seconds that it states")
    encoders = [text for text, made in ((VIDEO_ENCODER, pictures), (AUDIO_ENCODER, sound)) if made is not None]
    return Transcoded(
        size=None if pictures is None else pictures.size,
        rate=None if pictures is None else pictures.rate,
        seconds=seconds,
        encoder=", ".join([*encoders, "MP4 faststart"]),
        color_space="" if pictures is None else pictures.color_space,
        warnings=warnings,
    )


def _run(source: InputContainer, output: OutputContainer, tracks: dict[int, Any]) -> list[str]:
    damaged = 0
    for index, packet in packets(source, [source.streams[index] for index in tracks]):
        frames = decoded(packet, tracks[index].decoder)
        damaged += frames is None
        for frame in frames or ():
            for made in tracks[index].take(frame):
                output.mux(made)
        if tracks[index].is_full:
            break
    for track in tracks.values():
        for made in track.finish():
            output.mux(made)
    return [f"{damaged} packets could not be decoded and were skipped"] if damaged else []


class _Pictures:
    """The video of a proxy."""

    def __init__(
        self,
        source: InputContainer,
        output: OutputContainer,
        facts: MediaStream,
        media: MediaProbe,
        over_black: OverBlack,
        box: Size,
        start: Fraction,
        longest: int,
    ) -> None:
        self.index = facts.index
        self.rate, *said = constant_rate(facts)
        time_code, of_time_code = kept_time_code(media.time_code, self.rate)
        self.size = shown_size(facts, box, even_sides=True)
        self.count = 0
        self.warnings = [*filter(None, (*said, of_time_code))]
        self._most = round(longest * self.rate)
        self._origin = start
        self._last: VideoFrame | None = None
        tags = kept_tags(source.streams[facts.index].codec_context)
        self.color_space = made_color_space(facts)
        self.decoder: Decoder | None = Decoder(source.streams[facts.index])
        self._graph = PictureGraph(facts, self.size, "yuv420p", tags=tags, over_black=over_black)
        gop = max(1, round(self.rate))
        options = {"preset": "veryfast", "crf": "20", "x264-params": f"{_X264}:keyint={gop}:min-keyint={gop}"}
        self._stream: Any = output.add_stream("libx264", rate=self.rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *self.size, "yuv420p"
        if time_code is not None:
            self._stream.metadata["timecode"] = time_code
        context = self._stream.codec_context
        context.thread_count = 1
        context.color_primaries, context.color_trc, context.colorspace = tags.primaries, tags.transfer, tags.matrix
        context.color_range = _LIMITED

    @property
    def is_full(self) -> bool:
        return self.count >= self._most

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
            if _is_jump(away):
                _warn_of_jump(self.warnings, self.count / self.rate)
                self._origin, place = time - self.count / self.rate, self.count
        # What shows before the first frame is that frame.
        held = self._last or frame
        while self.count < place and not self.is_full:
            yield from self._encode(held)
        if self.count == place and not self.is_full:
            yield from self._encode(frame)
        self._last = frame

    def _encode(self, frame: VideoFrame) -> Iterator[Any]:
        frame.pts, frame.time_base = self.count, 1 / self.rate
        frame.pict_type = 0
        self.count += 1
        yield from self._stream.encode(frame)


def _is_jump(seconds: Fraction) -> bool:
    return seconds > _JUMP_SECONDS or seconds < -_BACK_SECONDS


def _warn_of_jump(warnings: list[str], seconds: Fraction) -> None:
    if not any(warning.startswith(_JUMPS) for warning in warnings):
        warnings.append(f"{_JUMPS} at {float(seconds):.1f} s")


class _Sound:
    """The sound of a proxy."""

    def __init__(self, name: str, output: OutputContainer, facts: MediaStream, start: Fraction, longest: int) -> None:
        self.index = facts.index
        self.decoder: Decoder | None = None
        self.samples = 0
        self._longest = longest
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

    @property
    def is_full(self) -> bool:
        return self.samples >= self._longest * self._rate

    def take(self, frame: Any) -> Iterator[Any]:
        frame = self._mixer.mixed(frame)
        if frame.pts is not None and frame.time_base is not None:
            away = frame.pts * frame.time_base - self._start - Fraction(self.samples, self._rate)
            if _is_jump(away):
                _warn_of_jump(self.warnings, Fraction(self.samples, self._rate))
                if self._graph is not None:
                    yield from self._drain()
                self._start += away
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
