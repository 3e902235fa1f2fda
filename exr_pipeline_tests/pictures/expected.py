"""What patches of known colors must become, calculated without the code under test."""

from typing import Any

import numpy as np
import PyOpenColorIO as Ocio

from exr_pipeline.color.chromaticities import REC709, XYZ
from exr_pipeline.color.config import BUILT_IN_CONFIG

COLORS = np.array(
    [[0.18, 0.18, 0.18], [0.02, 0.02, 0.02], [0.5, 0.25, 0.1], [0.1, 0.3, 0.5], [0.9, 0.8, 0.7], [0.05, 0.2, 0.05]]
)

# ARRI Wide Gamut 3 and LogC3 at EI 800, "ALEXA Log C Curve", ARRI 2017.
AWG3 = (0.6840, 0.3130, 0.2210, 0.8480, 0.0861, -0.1020, 0.3127, 0.3290)
# ACEScg to linear Rec.709 with Bradford adaptation, as published by the Academy (to five places).
AP1_TO_REC709 = np.array([[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055], [-0.02400, -0.12897, 1.15297]])
# ACES2065-1 to ACEScg, S-2014-004 of the Academy.
AP0_TO_AP1 = np.array(
    [
        [1.4514393161, -0.2365107469, -0.2149285693],
        [-0.0765537734, 1.1762296998, -0.0996759264],
        [0.0083161484, -0.0060324498, 0.9977163014],
    ]
)
P3_D65 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
# All of one white: ITU-R BT.2407 for Rec.2020, Adobe RGB (1998) Color Image Encoding, SMPTE RP 431-2 with D65.
P3_TO_REC709 = np.array([[1.22494, -0.22494, 0.0], [-0.04206, 1.04206, 0.0], [-0.01964, -0.07864, 1.09827]])
REC2020_TO_REC709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)
ADOBE_TO_REC709 = np.array([[1.39836, -0.39836, 0.0], [0.0, 1.0, 0.0], [0.0, -0.04294, 1.04294]])
# IEC 61966-2-1, and ARRI's "ALEXA Wide Gamut RGB".
REC709_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
AWG3_TO_XYZ = np.array(
    [[0.638008, 0.214704, 0.097744], [0.291954, 0.823841, -0.115795], [0.002798, -0.067034, 1.153294]]
)
AWG3_TO_REC709 = np.linalg.inv(REC709_TO_XYZ) @ AWG3_TO_XYZ


def logc3(linear: np.ndarray) -> np.ndarray:
    return np.where(
        linear > 0.010591, 0.247190 * np.log10(5.555556 * linear + 0.052272) + 0.385537, 5.367655 * linear + 0.092809
    )


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def rec1886(linear: np.ndarray) -> np.ndarray:
    return 255 * np.clip(linear, 0, 1) ** (1 / 2.4)


def viewed(space: str, display: str, values: np.ndarray) -> np.ndarray:
    """8-bit values of the display's SDR view by OCIO's own exact processor."""
    config = Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)
    transform = Ocio.DisplayViewTransform(src=space, display=display, view="ACES 1.0 - SDR Video")
    pixels = np.ascontiguousarray(values, np.float32).ravel()
    config.getProcessor(transform).getDefaultCPUProcessor().applyRGB(pixels)
    return np.asarray(np.clip(pixels.reshape(values.shape), 0, 1) * 255)


# Attributes of a file, its values, the same colors in linear Rec.709, the space found, and the rule that found it.
SOURCES: list[tuple[dict[str, Any], np.ndarray, np.ndarray, str, str]] = [
    ({"colorInteropID": "lin_ap1_scene"}, COLORS, COLORS @ AP1_TO_REC709.T, "ACEScg", "colorInteropID"),
    ({}, COLORS, COLORS, "Linear Rec.709 (sRGB)", "default (lin_rec709_scene)"),
    ({"oiio:ColorSpace": "lin_rec709_scene"}, COLORS, COLORS, "Linear Rec.709 (sRGB)", "oiio:ColorSpace"),
    ({"chromaticities": REC709}, COLORS, COLORS, "Linear Rec.709 (sRGB)", "chromaticities"),
    ({"colorspace": "ARRI LogC3 (EI800)"}, logc3(COLORS),
     COLORS @ AWG3_TO_REC709.T, "ARRI LogC3 (EI800)", "colorspace"),
    ({"chromaticities": XYZ}, COLORS @ REC709_TO_XYZ.T, COLORS, "CIE XYZ (D65)", "chromaticities"),
    ({"chromaticities": AWG3}, COLORS, COLORS @ AWG3_TO_REC709.T,
     "linear, primaries 0.684 0.313 0.221 0.848 0.0861 -0.102 0.3127 0.329", "chromaticities"),
    ({"acesImageContainerFlag": 1}, COLORS, COLORS @ (AP1_TO_REC709 @ AP0_TO_AP1).T, "ACES2065-1",
     "acesImageContainerFlag"),
    ({"chromaticities": P3_D65}, COLORS, COLORS @ P3_TO_REC709.T, "Linear P3-D65", "chromaticities"),
    ({"chromaticities": REC2020}, COLORS, COLORS @ REC2020_TO_REC709.T, "Linear Rec.2020", "chromaticities"),
    ({"chromaticities": ADOBE_RGB}, COLORS, COLORS @ ADOBE_TO_REC709.T, "Linear AdobeRGB", "chromaticities"),
]  # fmt: skip


def rgb_of(frame: Any) -> np.ndarray:
    """0..255 RGB of a decoded frame of 4:2:0, BT.709 applied here rather than by a scaler's defaults."""
    planes = [np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in frame.planes]
    luma = (planes[0] - 16.0) / 219
    blue, red = (np.kron((p - 128.0) / 224, np.ones((2, 2)))[: frame.height, : frame.width] for p in planes[1:])
    rgb = np.stack([luma + 1.5748 * red, luma * 0, luma + 1.8556 * blue], axis=2)
    rgb[..., 1] = (luma - 0.2126 * rgb[..., 0] - 0.0722 * rgb[..., 2]) / 0.7152
    return np.asarray(np.clip(rgb, 0, 1) * 255)
