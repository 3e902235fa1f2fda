"""From the chromaticities of primaries and white to matrices between color spaces.

Belongs here: that arithmetic (SMPTE RP 177, Bradford adaptation). Not here: names of spaces (`source_space`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# CIE x, y of red, green, blue and white.
REC709: Final = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
# SMPTE RP 145 and EBU Tech. 3213: what ITU-R BT.601 is shown with, in 525 and in 625 lines.
SMPTE_C: Final = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290)
EBU: Final = (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290)
AP0: Final = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.0770, 0.32168, 0.33767)
XYZ: Final = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3)
D65: Final = REC709[6:]

_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def rgb_to_xyz(chromaticities: Sequence[float]) -> NDArray[np.float64]:
    """The 3x3 matrix from linear RGB to CIE XYZ with Y = 1 for white.

    Raises `ValueError` for chromaticities that span no color space.
    """
    values = np.asarray(chromaticities, np.float64)
    if values.shape != (8,) or not np.isfinite(values).all() or abs(values[7]) < 1e-6:
        raise ValueError("the chromaticities do not span a color space")
    primaries = np.array([[x, y, 1 - x - y] for x, y in values[:6].reshape(3, 2)]).T
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError("the chromaticities do not span a color space")
    scale = np.linalg.solve(primaries, _xyz(values[6], values[7]))
    return np.asarray(primaries * scale)


def to_ap0(chromaticities: Sequence[float]) -> NDArray[np.float64]:
    """The 3x3 matrix from linear RGB of these chromaticities to ACES2065-1, the white point adapted by Bradford.

    CIE XYZ itself, as a file of X, Y and Z states it, is taken as XYZ relative to D65: its "white" is no light.
    """
    to_xyz = rgb_to_xyz(chromaticities)
    white = D65 if np.allclose(chromaticities, XYZ, atol=1e-3) else tuple(chromaticities)[6:]
    source = _BRADFORD @ _xyz(white[0], white[1])
    target = _BRADFORD @ _xyz(AP0[6], AP0[7])
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(target / source) @ _BRADFORD
    return np.asarray(np.linalg.inv(rgb_to_xyz(AP0)) @ adaptation @ to_xyz)
