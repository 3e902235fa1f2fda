"""Alpha of movies: whether a stream has it and of which kind, decoding it, and its color over black in linear light.

Belongs here: those. Not here: alpha of renders and stills (`pictures.shown`), or size and format of frames
(`picture_graph`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from exr_pipeline.footage.quicktime import graphics_modes

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame
    from av.container import InputContainer
    from numpy.typing import NDArray

AlphaKind = Literal["none", "straight", "premultiplied", "premultiplied with white", "ignored"]

NOT_DECODED: Final = "the alpha cannot be decoded: the color is shown without it"
# Of QuickTime, beside the straight kind.
_PREMULTIPLIED: Final[dict[int, AlphaKind]] = {0x101: "premultiplied with white", 0x102: "premultiplied"}
# FFmpeg's own decoders of these read the color only; alpha is a second picture in the same packet.
_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_OPAQUE: Final = 0xFFFF
_LINES: Final = 256


@dataclass(frozen=True, slots=True)
class Alpha:
    """The alpha of one stream, and the transfer curve of its color (a code of H.273).

    With `may_be_unused` there is alpha only if some frame has it: palettes merely have room for it. With
    `clear_is_unused` a frame that is clear all over has none: nobody says what the fourth byte of uncompressed AVI is.
    """

    kind: AlphaKind
    transfer: int
    may_be_unused: bool = False
    clear_is_unused: bool = False


def alpha_of(container: InputContainer, index: int, path: str) -> Alpha:
    """The alpha of a video stream, as its format and container say."""
    from av import VideoFormat

    stream: Any = container.streams[index]
    context = stream.codec_context
    transfer = int(context.color_trc)
    if _has_second_picture(stream):
        return Alpha("straight" if _own_decoder(stream) is not None else "ignored", transfer)
    pixels = VideoFormat(context.pix_fmt) if context.pix_fmt else None
    if pixels is None or not has_alpha(pixels):
        return Alpha("none", transfer)
    if pixels.has_palette:
        return Alpha("straight", transfer, may_be_unused=True)
    kind: AlphaKind = "straight"
    if container.format.name.startswith("mov"):
        kind = _PREMULTIPLIED.get(graphics_modes(path).get(stream.id, 0), "straight")
    is_raw = context.codec.name == "rawvideo" and container.format.name == "avi"
    return Alpha(kind, transfer, may_be_unused=is_raw, clear_is_unused=is_raw)


def has_alpha(pixels: VideoFormat) -> bool:
    """Whether pixels of this format may be transparent."""
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


class Decoder:
    """The decoder of a video stream that gives its alpha too."""

    def __init__(self, stream: Any) -> None:
        self._own = _own_decoder(stream) if _has_second_picture(stream) else None

    def frames(self, packet: Any) -> list[VideoFrame]:
        """The frames that are ready once this packet of the stream is decoded. Raises libav's errors."""
        if self._own is None:
            return list(packet.decode())
        return list(self._own.decode(packet if packet.size else None))

    def restart(self) -> None:
        """Forget what went before, after a jump in the stream."""
        if self._own is not None:
            self._own.flush_buffers()


class OverBlack:
    """Frames with alpha as opaque ones over black."""

    def __init__(self, alpha: Alpha) -> None:
        self._alpha = alpha
        self._was_seen = False

    @property
    def handling(self) -> str:
        """What became of the alpha, for records; of one that may be unused, once the frames are through."""
        kind = self._alpha.kind
        if self._alpha.may_be_unused and not self._was_seen:
            kind = "none"
        return kind if kind in {"none", "ignored"} else f"{kind}, over black"

    def flattened(self, rgba: VideoFrame) -> VideoFrame:
        """A frame of 16-bit RGB (rgb48le) of one with straight or premultiplied alpha (rgba64le), at the same time."""
        import av

        pixels = np.asarray(rgba.to_ndarray(), np.uint16)
        color = np.array(pixels[:, :, :3], order="C")
        cover = pixels[:, :, 3:]
        is_used = cover.any() or not self._alpha.clear_is_unused
        if is_used and int(cover.min()) < _OPAQUE:
            self._was_seen = True
            for top in range(0, len(color), _LINES):
                lines = slice(top, top + _LINES)
                color[lines] = self._over_black(color[lines], cover[lines])
        frame = av.VideoFrame.from_ndarray(color, format="rgb48le")
        frame.pts, frame.time_base = rgba.pts, rgba.time_base
        return frame

    def _over_black(self, color: NDArray[np.uint16], cover: NDArray[np.uint16]) -> NDArray[np.uint16]:
        kind = self._alpha.kind
        if kind == "premultiplied":
            return color
        if kind == "premultiplied with white":
            white = _OPAQUE - cover
            return np.asarray(color - np.minimum(color, white), np.uint16)
        light, code = _tables(self._alpha.transfer)
        # The fourth root, since curves are steep near black.
        root = np.sqrt(np.sqrt(light[color] * (cover / np.float32(_OPAQUE))))
        return np.asarray(code[np.rint(root * _OPAQUE).astype(np.uint16)], np.uint16)


def _has_second_picture(stream: Any) -> bool:
    context = stream.codec_context
    if context is None or context.codec.name not in _DECODERS:
        return False
    # As the track's header says, or in its tags, which are in capitals.
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())


def _own_decoder(stream: Any) -> Any:
    import av

    try:
        return av.CodecContext.create(_DECODERS[stream.codec_context.codec.name], "r")
    except av.codec.codec.UnknownCodecError:
        return None


@cache
def _tables(transfer: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Light (0 to 1) of each 16-bit code value, and the code value of the fourth power of each 65535th of light."""
    codes = np.linspace(0, 1, _OPAQUE + 1, dtype=np.float32)
    light = _converted(codes, transfer, to_light=True)
    brightest = light[-1]
    back = _converted((codes**4 * brightest).astype(np.float32), transfer, to_light=False)
    return light / brightest, np.rint(np.clip(back, 0, 1) * _OPAQUE).astype(np.uint16)


def _converted(values: NDArray[np.float32], transfer: int, *, to_light: bool) -> NDArray[np.float32]:
    """From code values to light or back: by the curve of PQ, HLG and linear light as tagged, else sRGB, as stills."""
    import PyOpenColorIO as Ocio

    match transfer:
        case 8:
            curve = Ocio.MatrixTransform()
        case 16:
            curve = Ocio.BuiltinTransform("CURVE - ST-2084_to_LINEAR")
        case 18:
            curve = Ocio.BuiltinTransform("CURVE - HLG-OETF-INVERSE")
        case _:
            curve = Ocio.ExponentWithLinearTransform(gamma=[2.4, 2.4, 2.4, 1], offset=[0.055, 0.055, 0.055, 0])
    curve.setDirection(Ocio.TRANSFORM_DIR_FORWARD if to_light else Ocio.TRANSFORM_DIR_INVERSE)
    pixels = np.ascontiguousarray(np.repeat(values[:, None], 3, axis=1))
    processor = Ocio.Config.CreateRaw().getProcessor(curve).getDefaultCPUProcessor()
    processor.apply(Ocio.PackedImageDesc(pixels, len(pixels), 1, 3))
    return pixels[:, 0]
