"""What is drawn onto frames: name, frame and time code on request, and marks of frames that are not there.

Belongs here: text and lines on 8-bit pictures. Not here: which frames get them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BurnInField = Literal["name", "frame", "timecode"]
BURN_IN_FIELDS: Final[tuple[BurnInField, ...]] = ("name", "frame", "timecode")

_MARK: Final = (224, 32, 32)
_PLACES: Final[dict[BurnInField, str]] = {"name": "left", "timecode": "middle", "frame": "right"}


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _font_size(height: int) -> int:
    return max(8, height // 28)


def with_burn_in(rgb: NDArray[np.uint8], texts: Mapping[BurnInField, str]) -> NDArray[np.uint8]:
    """A copy of a frame with texts along its bottom: the name left, the time code in the middle, the frame right."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    for field, text in texts.items():
        _text(draw, image.size, text, _PLACES[field])
    return np.array(image)


def with_mark(rgb: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of a frame crossed out in red, a text in its middle: it does not show what its place in time should."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    line = max(1, height // 150)
    draw.line((0, 0, width - 1, height - 1), fill=_MARK, width=line)
    draw.line((0, height - 1, width - 1, 0), fill=_MARK, width=line)
    _text(draw, image.size, text, "centre")
    return np.array(image)


def labelled(rgb: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of a picture with a text in its lower left corner."""
    return with_burn_in(rgb, {"name": text})


def _text(draw: Any, size: tuple[int, int], text: str, place: str) -> None:
    width, height = size
    font_size = _font_size(height)
    font = _font(font_size)
    while font_size > 6 and draw.textlength(text, font=font) > width * (0.9 if place == "centre" else 0.45):
        font_size -= 1
        font = _font(font_size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(1, font_size // 4)
    x = {"left": 2 * pad, "right": width - (right - left) - 2 * pad}.get(place, (width - (right - left)) // 2)
    y = (height - (bottom - top)) // 2 if place == "centre" else height - (bottom - top) - 2 * pad
    fill = _MARK if place == "centre" else (0, 0, 0)
    draw.rectangle((x - pad, y - pad, x + right - left + pad, y + bottom - top + pad), fill=fill)
    draw.text((x - left, y - top), text, font=font, fill=(255, 255, 255))
