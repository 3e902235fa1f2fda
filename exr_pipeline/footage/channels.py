"""Sound of any number of channels: as plain samples, and mixed to two.

Belongs here: which channel is heard on which side. Not here: resampling and encoding (`transcode`), or drawing
(`waveform`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av import AudioFrame, AudioLayout
    from numpy.typing import NDArray

# libswresample takes no more.
_MOST_RESAMPLED: Final = 64
_HALF_POWER: Final = 0.5**0.5
# Left and right of a channel by libav's name of it, as libswresample has them; it drops some of those above the head.
_LEFT: Final = dict.fromkeys(("FL", "FLC", "DL", "BIL"), (1.0, 0.0)) | dict.fromkeys(
    ("BL", "SL", "TFL", "TBL", "TSL", "BFL", "WL", "SDL", "SSL", "TTL"), (_HALF_POWER, 0.0)
)
_PLACES: Final[dict[str, tuple[float, float]]] = {
    **_LEFT,
    **{name.replace("L", "R"): (right, left) for name, (left, right) in _LEFT.items()},
    "FC": (_HALF_POWER, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    **dict.fromkeys(("BC", "TC", "TFC", "TBC", "BFC"), (0.5, 0.5)),
    # Ambisonic sound: the channel of all directions, and the one from left to right.
    "AMBI0": (_HALF_POWER, _HALF_POWER),
    "AMBI1": (0.5, -0.5),
}
_AMBISONIC: Final = "AMBI"
_LISTED: Final = re.compile(r"\d+ channels \((.*)\)")
# Of files that only count their channels, in the order of FLAC, Vorbis and Opus. Beyond eight there is no usual order.
_USUAL: Final = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
# These need no mixing.
_PLAIN: Final = frozenset({"mono", "stereo", "1 channels", "2 channels"})


class Interleaver:
    """Decoded frames of one stream as samples, full scale 1. Frames may change their format on the way."""

    def __init__(self, name: str) -> None:
        """`name` is the file's, for errors."""
        self._name = name
        self._resampler: Any = None
        self._key: tuple[object, ...] = ()

    def samples(self, frame: AudioFrame) -> NDArray[np.float32]:
        """The samples (time, channels) of a frame. Raises `BadInputError` for more channels than can be interleaved."""
        import av
        from av.audio.frame import format_dtypes

        channels = frame.layout.nb_channels
        if channels > _MOST_RESAMPLED:
            if frame.format.is_planar or frame.format.name not in format_dtypes:
                raise BadInputError(self._name, f"{channels} audio channels are more than this program can interleave")
            return _floats(frame.to_ndarray()).reshape(-1, channels)
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or key != self._key:
            self._resampler, self._key = av.AudioResampler(format="flt"), key
        # Of planar sound with eight channels or more, PyAV's to_ndarray reads beyond the end of the list of planes.
        blocks = [one.to_ndarray() for one in self._resampler.resample(frame)]
        return np.concatenate([np.zeros((1, 0), np.float32), *blocks], axis=1).reshape(-1, channels)


class StereoMixer:
    """Frames of any number of channels as frames of at most two."""

    def __init__(self, name: str, layout: str | None) -> None:
        """`name` is the file's, for errors; `layout` is the stream's as it was probed: decoded frames may lack it."""
        listed = _LISTED.fullmatch(layout or "")
        self._channels = listed[1].split("+") if listed else []
        self._interleaver = Interleaver(name)

    def mixed(self, frame: AudioFrame) -> AudioFrame:
        """The frame itself, or its channels mixed to stereo, at the same time. Raises `BadInputError`."""
        import av

        if frame.layout.name in _PLAIN and not self._channels:
            return frame
        names = channel_names(frame.layout)
        if not are_named(names) and len(names) == len(self._channels):
            names = self._channels
        samples = self._interleaver.samples(frame) @ stereo_weights(names)
        stereo = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        stereo.sample_rate, stereo.pts, stereo.time_base = frame.sample_rate, frame.pts, frame.time_base
        return stereo


def channel_names(layout: AudioLayout) -> list[str]:
    """libav's names of a layout's channels; `NONE` where the file says nothing."""
    return [channel.name for channel in layout.channels]


def own_order(layout: AudioLayout) -> str | None:
    """The channels of a layout that has no name because they are in an order of the file's own; None for any other."""
    if not layout.name.startswith(f"{layout.nb_channels} channels ("):
        return None
    return f"{layout.nb_channels} channels ({'+'.join(channel_names(layout))})"


def are_named(names: Sequence[str]) -> bool:
    """Whether the names say where each channel belongs."""
    return all(name in _PLACES or name.startswith(_AMBISONIC) for name in names)


def are_tracks(layout: str | None, count: int | None) -> bool:
    """Whether a stream has more channels than any usual order, and does not say where they belong."""
    return layout is None and (count or 0) > max(_USUAL)


def stereo_weights(names: Sequence[str]) -> NDArray[np.float32]:
    """How much of each channel is heard left and right (channels, 2).

    Channels without names are in the usual order of so many. More than eight are tracks rather than places: odd ones
    are heard left, even ones right, and each side is their mean, so that nothing is clipped.
    """
    if are_named(names):
        return np.array([_PLACES.get(name, (0.0, 0.0)) for name in names], np.float32)
    if len(names) in _USUAL:
        # Nobody says that it is the channel of effects, so it is heard.
        usual = [(0.5, 0.5) if name == "LFE" else _PLACES[name] for name in _USUAL[len(names)]]
        return np.array(usual, np.float32)
    weights = np.zeros((len(names), 2), np.float32)
    for side in (0, 1):
        weights[side::2, side] = 1 / len(names[side::2])
    return weights


def _floats(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype.kind == "f":
        return np.asarray(values, np.float32)
    if values.dtype == np.uint8:
        return np.asarray((values.astype(np.float32) - 128) / 128, np.float32)
    return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
