"""H.264 in MP4.

Belongs here: encoding 8-bit display RGB. Not here: how the RGB came about.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from exr_pipeline.pictures.skipped import RepeatedFrames

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

# A held frame is one intra frame of a constant, fine quantiser, and skipped blocks after it.
# One thread: the same picture gives the same bytes.
_PRESET: Final = "ultrafast"
X264_PARAMETERS: Final = "threads=1:qp=16:bframes=0:ref=1:weightp=0:keyint=infinite"
ENCODER: Final = f"libx264 {_PRESET} {X264_PARAMETERS}, repeated frames, yuv420p BT.709 limited range, MP4 faststart"

_BT709: Final = 1  # ISO/IEC 23091-2: color primaries, transfer characteristics and matrix 1
_LIMITED: Final = 1

# ITU-R BT.709: luma of full-range RGB in 16..235, and the color differences around 128 in 16..240.
_LUMA: Final = np.array([0.2126, 0.7152, 0.0722])
_TO_YCBCR: Final = np.column_stack(
    [
        np.stack(
            [
                _LUMA * 219 / 255,
                (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _LUMA[2])) * 224 / 255,
                (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _LUMA[0])) * 224 / 255,
            ]
        ),
        [16, 128, 128],
    ]
)


def held_frame(rgb: NDArray[np.uint8], *, rate: Fraction, seconds: float) -> tuple[bytes, Fraction]:
    """One frame (H, W, 3; even sides) shown for about `seconds` at `rate` frames per second; the MP4 and its duration.

    The duration is a whole number of frames, at least one. Pixels are Rec.709 with the Rec.1886 curve, full range;
    the stream is converted to and tagged as BT.709, limited range.
    """
    import av

    height, width = rgb.shape[:2]
    count = max(1, round(seconds * rate))
    frame = av.VideoFrame.from_ndarray(_ycbcr(rgb), format="yuv420p")
    # faststart moves the index in a second pass over the file, so it needs one that can be reopened by name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proxy.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            options = {"preset": _PRESET, "x264-params": X264_PARAMETERS}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.thread_count = 1
            context.color_primaries = context.color_trc = context.colorspace = _BT709
            context.color_range = _LIMITED
            frame.pts, frame.time_base = 0, 1 / rate
            packets = [*stream.encode(frame), *stream.encode()]
            packets += map(av.Packet, RepeatedFrames.after(context.extradata or b"").packets(count - 1, width, height))
            for index, packet in enumerate(packets):
                packet.stream, packet.time_base = stream, 1 / rate
                packet.pts, packet.dts, packet.duration = index, index, 1
                container.mux(packet)
        return path.read_bytes(), count / rate


def _ycbcr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Limited-range BT.709 of full-range RGB: a plane of luma, then two of color differences, halved both ways.

    A third of the time that libswscale takes for it.
    """
    import cv2

    height, width = rgb.shape[:2]
    luma, blue, red = cv2.split(cv2.transform(rgb, _TO_YCBCR))
    half = (width // 2, height // 2)
    chroma = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (blue, red)]
    return np.concatenate([plane.ravel() for plane in (luma, *chroma)]).reshape(-1, width)
