"""The encoder: 8-bit display RGB to a movie file, and files of the same encoder joined without encoding again.

Belongs here: FFmpeg through PyAV. Not here: how the RGB came about, or which frames there are.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.sequence_movies.presets import PRESETS_SETTING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction
    from types import TracebackType

    from numpy.typing import NDArray

    from exr_pipeline.pictures.still import Size
    from exr_pipeline.sequence_movies.presets import MoviePreset

_BT709: Final = 1  # ISO/IEC 23091-2: color primaries, transfer characteristics and matrix 1
_LIMITED: Final = 1
_FASTSTART: Final = frozenset({"mp4", "mov"})


class MovieWriter:
    """A movie file that is written frame by frame, all key frames closed; use as a context manager.

    Pixels are Rec.709 with the Rec.1886 curve, full range; the stream is converted to and tagged as BT.709, limited
    range. The file is complete only when the block ends without an exception; it is the caller's to put it in place.
    `time_code` is that of the first frame. `audio` may be added to `container` before the first frame.
    Raises `MisconfiguredError` if the encoder refuses the preset's options or the size.
    """

    def __init__(
        self,
        path: Path,
        preset: MoviePreset,
        *,
        size: Size,
        rate: Fraction,
        time_code: str | None = None,
        threads: int = 1,
    ) -> None:
        import av

        # Encoders of their own mind about what goes to the terminal.
        os.environ.setdefault("SVT_LOG", "1")
        self._preset = preset
        self._size = size
        self._rate = rate
        self._count = 0
        options = {"movflags": "+faststart"} if preset.container in _FASTSTART else {}
        self.container: Any = av.open(str(path), "w", format=preset.format, options=options)
        stream: Any = self.container.add_stream(preset.codec, rate=rate, options=preset.encoder_options)
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, preset.pixel_format
        self._stream = stream
        context = stream.codec_context
        context.thread_count = threads
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        context.time_base = 1 / rate
        if preset.tag is not None:
            context.codec_tag = preset.tag
        if time_code is not None:
            stream.metadata["timecode"] = time_code
        try:
            with _same_scheduling():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            self.container.close()
            raise self._refused(error) from None
        if context.options:
            self.container.close()
            unknown = ", ".join(context.options)
            raise MisconfiguredError(
                PRESETS_SETTING,
                f"preset {preset.name!r}: {preset.codec} has no option {unknown}",
                "correct the options of the preset",
            )

    def _refused(self, error: Exception) -> MisconfiguredError:
        return MisconfiguredError(
            PRESETS_SETTING,
            f"preset {self._preset.name!r}: {self._preset.codec} cannot encode {self._size.width}x{self._size.height} "
            f"pixels at {self._rate} frames per second with these options ({error})",
            "choose another size or preset",
        )

    def write(self, rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None = None) -> None:
        """The next frame: (H, W, 3) of the movie's size, and (H, W), where the preset keeps alpha; none is opaque."""
        import av
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        if self._preset.has_alpha:
            cover = np.full(rgb.shape[:2], 255, np.uint8) if alpha is None else alpha
            source = av.VideoFrame.from_ndarray(np.dstack((rgb, cover)), format="rgba")
        else:
            source = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = source.reformat(
            format=self._preset.pixel_format,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            interpolation=Interpolation.AREA,
        )
        # ProRes writes those of the frame, not those of the stream.
        frame.color_primaries = frame.color_trc = _BT709
        frame.pts = self._count
        frame.time_base = 1 / self._rate
        self._count += 1
        self.container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.container.mux(self._stream.encode())
        finally:
            self.container.close()


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Give this process's threads, also those begun inside, the scheduling that the calling one had before.

    SVT-AV1, where it may (as root, thus in most containers), makes its threads and the one that opens it real-time ones
    of the highest priority: all else on the machine stands still, and programs started thereafter inherit it.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in (int(task.name) for task in tasks.iterdir()):
            # It may have ended meanwhile.
            with suppress(ProcessLookupError):
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def join(
    parts: Sequence[tuple[Path, int]], target: Path, preset: MoviePreset, *, rate: Fraction, time_code: str | None
) -> None:
    """One movie of several that `MovieWriter` wrote with the same preset, size and rate, by their packets.

    `parts` are files and their numbers of frames. Every frame keeps its exact place in time.
    """
    import av

    options = {"movflags": "+faststart"} if preset.container in _FASTSTART else {}
    # By how many frames decoding runs ahead of showing; a part of few frames may need less than the others.
    delay = max(_delay(path, rate) for path, _ in parts)
    with av.open(str(target), "w", format=preset.format, options=options) as container:
        stream: Any = None
        position = decoded = 0
        for path, count in parts:
            with av.open(str(path)) as part:
                source = part.streams.video[0]
                if stream is None:
                    stream = _stream_like(container, source, preset, rate, time_code)
                for packet in part.demux(source):
                    if packet.size == 0 or packet.pts is None:
                        continue
                    packet.pts = position + round(packet.pts * packet.time_base * rate)
                    packet.dts = decoded - delay
                    packet.time_base = 1 / rate
                    packet.duration = 1
                    packet.stream = stream
                    container.mux(packet)
                    decoded += 1
            position += count


def _delay(path: Path, rate: Fraction) -> int:
    import av

    with av.open(str(path)) as part:
        first = next(part.demux(part.streams.video[0]))
        return 0 if first.dts is None else max(0, -round(first.dts * first.time_base * rate))


def _stream_like(container: Any, source: Any, preset: MoviePreset, rate: Fraction, time_code: str | None) -> Any:
    # Opaque: the codec's parameters are taken as they are; AV1 has no encoder with the name of its decoder.
    stream = container.add_stream_from_template(source, opaque=True)
    stream.time_base = 1 / rate
    stream.codec_context.framerate = rate
    if preset.tag is not None:
        stream.codec_context.codec_tag = preset.tag
    if time_code is not None:
        stream.metadata["timecode"] = time_code
    if preset.has_alpha and preset.container in {"webm", "mkv"}:
        stream.metadata["alpha_mode"] = "1"
    return stream
