"""Small renders for tests that need files of known kinds rather than a whole show."""

import numpy as np

from exr_pipeline.sample.writers import ExrPart, exr_bytes


def render(level: float = 0.18, *, size: tuple[int, int] = (64, 36), color_space: str = "lin_ap1_scene") -> bytes:
    """A picture with a ramp from black to `level`, in half, ZIP."""
    width, height = size
    ramp = np.broadcast_to(np.linspace(0, level, width, dtype=np.float16), (height, width))
    channels = {name: ramp.copy() for name in ("R", "G", "B")}
    return exr_bytes([ExrPart(channels, attributes={"colorInteropID": color_space})])


def truncated(data: bytes | None = None) -> bytes:
    """A render whose header is whole and whose pixels are cut."""
    data = data or render(size=(256, 144))
    return data[: len(data) * 2 // 3]


def with_bad_pixels() -> bytes:
    """A render of the right length whose compressed pixels are damaged: only decoding can tell."""
    noise = np.random.default_rng(7).random((36, 64)).astype(np.float16)
    data = bytearray(exr_bytes([ExrPart(dict.fromkeys(("R", "G", "B"), noise))]))
    data[-1500:-500] = bytes(1000)
    return bytes(data)
