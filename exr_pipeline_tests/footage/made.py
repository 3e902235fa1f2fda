"""Small movies and sounds, made for tests: a frame tells its number, a sound its time.

Belongs here: making them. Not here: what is expected of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

FILM = Fraction(24000, 1001)
BT709 = (1, 1, 1, 1)
_LEVELS = (16, 235)


def numbered(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame whose eight vertical bars are the bits of its number (the lowest one left), above a green half."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[height // 2 :] = (40, 160, 80)
    for bit in range(8):
        level = _LEVELS[index >> bit & 1]
        picture[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = level
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number that `numbered` has drawn, of a picture of any size."""
    height, width = picture.shape[:2]
    row = picture[height // 4].astype(int).sum(axis=-1)
    return sum((int(row[(2 * bit + 1) * width // 16]) > 3 * 128) << bit for bit in range(8))


def movie(
    path: Path,
    *,
    video: str | None = "libx264",
    audio: str | None = "aac",
    pixel_format: str = "yuv420p",
    frames: int = 24,
    rate: Fraction = FILM,
    size: tuple[int, int] = (160, 96),
    layout: str = "stereo",
    sample_rate: int = 48_000,
    time_code: str | None = None,
    rotation: int | None = None,
    aspect: Fraction | None = None,
    tags: tuple[int, int, int, int] | None = None,
    options: dict[str, str] | None = None,
    pictures: Any = numbered,
) -> Path:
    """A movie or sound, by default an MP4 of 24 numbered frames with a tone in stereo."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        if video:
            stream = container.add_stream(video, rate=rate, options=options or {})
            stream.width, stream.height, stream.pix_fmt = *size, pixel_format
            stream.codec_context.thread_count = 1
            if rotation is not None:
                stream.set_display_rotation(rotation)
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if time_code is not None:
                stream.metadata["timecode"] = time_code
            context = stream.codec_context
            if tags is not None:
                context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
            streams.append(stream)
        if audio:
            sound = container.add_stream(audio, rate=sample_rate, layout=layout)
            sound.metadata["language"] = "eng"
            streams.append(sound)
        if video:
            for index in range(frames):
                source = av.VideoFrame.from_ndarray(pictures(index, size), format="rgb24")
                frame = source.reformat(format=pixel_format, dst_colorspace=(tags or BT709)[2])
                frame.pts, frame.time_base = index, 1 / rate
                container.mux(streams[0].encode(frame))
        if audio:
            channels = len(av.AudioLayout(layout).channels)
            times = np.arange(round(sample_rate * frames / rate)) / sample_rate
            tone = (np.sin(times * 440 * 2 * np.pi) * 0.5).astype(np.float32)
            for start in range(0, len(tone), 1024):
                block = np.ascontiguousarray(np.repeat(tone[None, start : start + 1024], channels, axis=0))
                tones = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                tones.sample_rate, tones.pts, tones.time_base = sample_rate, start, Fraction(1, sample_rate)
                container.mux(streams[-1].encode(tones))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def sound(path: Path, codec: str = "pcm_s16le", **changes: Any) -> Path:
    """A second of a tone."""
    return movie(path, video=None, audio=codec, **changes)


def ffprobe(path: Path, *more: str) -> dict[str, Any]:
    """What ffprobe says of a file. Without it, the test is skipped or, where everything is required, fails."""
    program = shutil.which("ffprobe")
    if program is None:
        reason = "ffprobe is not installed (apt install ffmpeg): NOT compared with it"
        if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [program, "-v", "error", "-show_streams", "-show_format", *more, "-of", "json", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=600).stdout)
    return found


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    """All frames of a movie as RGB, converted by its tags."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]
