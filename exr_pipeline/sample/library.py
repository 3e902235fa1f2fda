"""The library of the sample show: one file of each odd kind that a pipeline meets sooner or later.

Belongs here: single files and what is special about them. Not here: sequences (`shots`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.sample import worlds
from exr_pipeline.sample.facts import ExpectedPart, ShowFile, Trouble
from exr_pipeline.sample.raw_exr import halved, mip_mapped, subsampled
from exr_pipeline.sample.scene import FIRST_SPHERE, Layers, Raster, World, render_layers
from exr_pipeline.sample.shots import RATE, Made, Section, beauty_channels, exr, render_metadata
from exr_pipeline.sample.writers import AP0, COMPRESSIONS, REC709, ExrPart, rgb_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIFFICULT_KEY: Final = "library/Büro & Café, take #3/lumière, v1 (50%) #2 — 夜.0001.exr"
NOT_AN_EXR: Final = "library/notes.exr"
TROUBLES: Final = (
    Trouble(NOT_AN_EXR, "not_an_exr", "rejected", "this is not an EXR file"),
    Trouble(DIFFICULT_KEY, "difficult_key", "ready", ""),
)

_SIZE: Final = (320, 180)
_SECONDS: Final = 0.42
_ACESCG: Final = {"colorInteropID": "lin_ap1_scene"}


def sections() -> tuple[Section, ...]:
    """The library."""
    makers: list[Callable[[], Made]] = [
        _hero,
        _mip_mapped,
        _tiled,
        _deep,
        _stereo_single_part,
        _stereo_multi_part,
        _luminance_chroma,
        _luminance_only,
        _overscan,
        _crop,
        _negative_crop,
        _anamorphic,
        _floats,
        _ids,
        _depth,
        _aces_container,
        _untagged,
        _every_attribute,
        _difficult_key,
        _not_an_exr,
    ]
    return Section(len(COMPRESSIONS), _compressions), Section(len(makers), lambda: (make() for make in makers))


def _picture(raster: Raster | None = None, world: World | None = None) -> Layers:
    return render_layers(world or worlds.sunset(_SECONDS), raster or Raster.full(*_SIZE))


def _metadata() -> dict[str, Any]:
    return render_metadata(worlds.sunset(_SECONDS), "library", 1, 1) | _ACESCG


def _acescg(key: str, kind: str, parts: list[ExrPart], frame: int | None = None) -> Made:
    return exr(key, kind, parts, "ACEScg", "colorInteropID", frame)


def _compressions() -> Iterator[Made]:
    channels = beauty_channels(_picture())
    for name in COMPRESSIONS:
        yield _acescg(f"library/compression/{name}.exr", f"compression {name}", [ExrPart(channels, name, _metadata())])


def _hero() -> Made:
    # In bands, so that the working memory stays that of a small frame.
    bands = [beauty_channels(_picture(Raster(1920, 1080, 0, y, 1920, 180))) for y in range(0, 1080, 180)]
    channels = {name: np.concatenate([band[name] for band in bands]) for name in "RGBA"}
    part = ExrPart(channels, "dwab", _metadata())
    return _acescg("library/hero/sunset_hero.1001.exr", "1080p still", [part], 1001)


def _mip_mapped() -> Made:
    channels = beauty_channels(_picture(Raster.full(512, 288)))
    data = mip_mapped(halved(channels), 64, {"framesPerSecond": RATE, "software": "sphere-caster 1.0", **_ACESCG})
    part = ExpectedPart(dict.fromkeys("ABGR", "HALF"), "zip", 512, 288, 512, 288, tiled=True)
    key = "library/tiled/sunset_mip_levels.exr"
    return ShowFile(
        key, "mip levels", len(data), parts=(part,), color_space="ACEScg", color_stated_by="colorInteropID"
    ), data


def _tiled() -> Made:
    part = ExrPart(beauty_channels(_picture(), dtype=np.float32), "pxr24", _metadata(), tile=(64, 32))
    return _acescg("library/tiled/sunset_tiles_float.exr", "tiled", [part])


def _deep() -> Made:
    """Each ball on its own behind the ones before it: up to one sample per object and pixel, nearest first."""
    world, raster = worlds.sunset(_SECONDS), Raster.full(160, 90)
    floor = 1
    objects = (floor, *range(FIRST_SPHERE, FIRST_SPHERE + len(world.spheres)))
    layers = [render_layers(world, raster, visible=(index,)) for index in objects]
    depth = np.stack([layer.z for layer in layers], axis=-1)
    alpha = np.stack([layer.alpha for layer in layers], axis=-1)
    color = np.stack([layer.rgb for layer in layers], axis=-1)
    nearest = np.argsort(depth, axis=-1, kind="stable")
    names = {"R": 0, "G": 1, "B": 2}
    channels: dict[str, NDArray[Any]] = {name: np.empty((90, 160), object) for name in (*names, "A", "Z", "ZBack")}
    for y, x in np.ndindex(90, 160):
        order = nearest[y, x]
        order = order[alpha[y, x, order] > 0]
        if not order.size:
            continue
        for name, index in names.items():
            channels[name][y, x] = color[y, x, index, order].astype(np.float16)
        channels["A"][y, x] = alpha[y, x, order].astype(np.float16)
        channels["Z"][y, x] = depth[y, x, order]
        channels["ZBack"][y, x] = depth[y, x, order]
    part = ExrPart(channels, "zips", _metadata(), deep=True)
    return _acescg("library/deep/spheres_deep.exr", "deep", [part])


def _eyes() -> tuple[Layers, Layers]:
    world = worlds.noon(_SECONDS)
    eyes = [world.camera.moved_right(shift) for shift in (-0.06, 0.06)]
    left, right = (
        _picture(None, World(eye, world.spheres, world.lamps, world.sun, world.sky, world.floor)) for eye in eyes
    )
    return left, right


def _stereo_single_part() -> Made:
    left, right = _eyes()
    channels = {**beauty_channels(left), **beauty_channels(right, "right.")}
    part = ExrPart(channels, "zip", {"multiView": ["left", "right"], "framesPerSecond": RATE, "chromaticities": REC709})
    key = "library/stereo/noon_multiview.exr"
    return exr(key, "stereo, one part", [part], "Linear Rec.709 (sRGB)", "chromaticities")


def _stereo_multi_part() -> Made:
    parts = [
        ExrPart(beauty_channels(eye), "zip", {"view": view, "chromaticities": REC709}, name=f"rgba.{view}")
        for view, eye in zip(("left", "right"), _eyes(), strict=True)
    ]
    key = "library/stereo/noon_two_parts.exr"
    return exr(key, "stereo, two parts", parts, "Linear Rec.709 (sRGB)", "chromaticities")


def _luminance_chroma() -> Made:
    rgb = _picture(None, worlds.noon(_SECONDS)).rgb
    luminance = np.maximum(rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32), np.float32(1e-4))
    red, blue = ((rgb[..., i] - luminance) / luminance for i in (0, 2))
    channels = {
        "Y": (luminance.astype(np.float16), 1),
        "RY": (_quartered(red), 2),
        "BY": (_quartered(blue), 2),
    }
    data = subsampled(channels, {"chromaticities": REC709, "framesPerSecond": RATE, "owner": "Sample Show (CC0)"})
    part = ExpectedPart(dict.fromkeys(("BY", "RY", "Y"), "HALF"), "zip", *_SIZE, *_SIZE)
    return ShowFile(
        "library/luminance/noon_y_ry_by.exr",
        "luminance-chroma",
        len(data),
        parts=(part,),
        color_space="Linear Rec.709 (sRGB)",
        color_stated_by="chromaticities",
    ), data


def _quartered(values: NDArray[Any]) -> NDArray[Any]:
    height, width = values.shape
    mean: NDArray[Any] = values.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)).astype(np.float16)
    return mean


def _luminance_only() -> Made:
    luminance = _picture().rgb @ np.array([0.2722, 0.6741, 0.0537], np.float32)
    part = ExrPart({"Y": luminance.astype(np.float16)}, "zip", _metadata())
    return _acescg("library/luminance/sunset_y.exr", "luminance", [part])


def _windowed(key: str, kind: str, window: tuple[int, int, int, int]) -> Made:
    x, y, width, height = window
    layers = _picture(Raster(*_SIZE, x, y, width, height))
    part = ExrPart(beauty_channels(layers), "zip", _metadata(), origin=(x, y), display=_SIZE)
    return _acescg(key, kind, [part])


def _overscan() -> Made:
    return _windowed("library/windows/overscan.exr", "overscan", (-32, -18, 384, 216))


def _crop() -> Made:
    return _windowed("library/windows/crop.exr", "crop", (70, 40, 150, 110))


def _negative_crop() -> Made:
    return _windowed("library/windows/crop_beyond_the_corner.exr", "crop with a negative offset", (-40, -20, 200, 120))


def _anamorphic() -> Made:
    layers = _picture(Raster.full(160, 180, 2.0))
    attributes = {**_metadata(), "pixelAspectRatio": 2.0}
    return _acescg(
        "library/windows/anamorphic_2x.exr", "pixel aspect 2", [ExrPart(beauty_channels(layers), "zip", attributes)]
    )


def _floats() -> Made:
    part = ExrPart(rgb_channels(_picture().rgb, dtype=np.float32), "zips", _metadata())
    return _acescg("library/types/rgb_float.exr", "float", [part])


def _ids() -> Made:
    part = ExrPart({"objectId": _picture().object_id}, "zip", {"owner": "Sample Show (CC0)"})
    return exr("library/types/object_id_uint.exr", "uint", [part], "", "")


def _depth() -> Made:
    return exr("library/types/depth_z.exr", "depth", [ExrPart({"Z": _picture().z}, "zip")], "", "")


def _aces_container() -> Made:
    """ST 2065-4: uncompressed half RGB in AP0."""
    to_ap0 = np.array(
        [
            [0.6954522414, 0.1406786965, 0.1638690622],
            [0.0447945634, 0.8596711185, 0.0955343182],
            [-0.0055258826, 0.0040252103, 1.0015006723],
        ],
        np.float32,
    )
    attributes = {"acesImageContainerFlag": 1, "chromaticities": AP0, "owner": "Sample Show (CC0)"}
    part = ExrPart(rgb_channels(_picture().rgb @ to_ap0.T), "none", attributes)
    return exr("library/color/aces_container.exr", "ACES2065-1", [part], "ACES2065-1", "acesImageContainerFlag")


def _untagged() -> Made:
    part = ExrPart(beauty_channels(_picture()), "zip")
    return exr("library/color/untagged.exr", "untagged", [part], "Linear Rec.709 (sRGB)", "")


def _every_attribute() -> Made:
    import OpenEXR

    swatch = struct.pack("<II", 16, 9) + bytes([200, 120, 60, 255]) * (16 * 9)
    attributes = {
        **_metadata(),
        "keyCode": OpenEXR.KeyCode(2, 17, 123456, 789, 4, 4, 64),
        "preview": OpenEXR.OpaqueAttribute(swatch, "preview"),
        "lensDistortion": np.array([0.0123, -0.0041], np.float32),
        "lightDirection": np.array([-0.85, 0.33, 0.42], np.float32),
        "filmOffset": (12, -7),
        "colorMatrix": np.eye(3, dtype=np.float32),
        "layerOrder": ["beauty", "diffuse", "specular"],
        "shutterCurve": np.array([0.0, 0.5, 1.0, 1.0, 0.5, 0.0], np.float32),
        "envmap": OpenEXR.ENVMAP_LATLONG,
        "studioBlob": OpenEXR.OpaqueAttribute(b"\x00\x01studio\xff", "studioType"),
        "empty": "",
        "note": "Größe – 4½ ″, ‘naïve’ 日本",
    }
    return _acescg(
        "library/metadata/every_attribute.exr", "attributes", [ExrPart(beauty_channels(_picture()), "zip", attributes)]
    )


def _difficult_key() -> Made:
    layers = _picture(None, worlds.night(_SECONDS))
    part = ExrPart(beauty_channels(layers), "zip", {"chromaticities": REC709})
    return exr(DIFFICULT_KEY, "difficult key", [part], "Linear Rec.709 (sRGB)", "chromaticities", 1)


def _not_an_exr() -> Made:
    data = b"Notes from lighting review, 17 May:\n- shot_020: lamp too hot on the moonstone\n- rename this to .txt\n"
    return ShowFile(NOT_AN_EXR, "not an EXR", len(data), "", "rejected"), data
