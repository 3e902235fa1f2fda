"""The shots of the sample show: sequences of frames with the metadata that renderers and cameras leave in them.

Belongs here: frame ranges, layers and attributes of the shots. Not here: single files of odd kinds (`library`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exr_pipeline.sample import cryptomatte, worlds
from exr_pipeline.sample.facts import ExpectedPart, ShowFile, ShowSequence, Trouble, described
from exr_pipeline.sample.scene import Layers, Raster, World, render_layers
from exr_pipeline.sample.writers import (
    AP1,
    REC709,
    ExrPart,
    cineon_codes,
    dpx_bytes,
    exr_bytes,
    exr_time_code,
    log_c3,
    rgb_channels,
    time_code,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Made = tuple[ShowFile, bytes]

RATE: Final = Fraction(24000, 1001)
FIRST: Final = 1001
LAST: Final = 1024
NIGHT_LAST: Final = 1025
PLATE_FIRST: Final = 101
PLATE_LAST: Final = 124
TRUNCATED, MISSING, BLACK, NOT_FINITE = 1009, 1013, 1017, 1021

_SUNSET_SIZE: Final = (640, 360)
_SIZE: Final = (416, 234)
_HOUR: Final = 24 * 3600

BEAUTY: Final = ShowSequence("shot_010/beauty/shot_010_beauty.", ".exr", FIRST, LAST, RATE)
COMP: Final = ShowSequence("shot_010/comp/shot_010_comp_v002.", ".exr", FIRST, LAST, RATE)
NIGHT: Final = ShowSequence("shot_020/beauty/shot_020_beauty.", ".exr", FIRST, NIGHT_LAST, RATE, (MISSING,))
MATTES: Final = ShowSequence("shot_020/mattes/shot_020_mattes.", ".exr", FIRST, LAST, RATE)
PLATES: Final = ShowSequence("shot_020/plates/plate.", ".dpx", PLATE_FIRST, PLATE_LAST, RATE)
CAMERA: Final = ShowSequence("shot_030/plates/A042C007_240517_R1ZQ.", ".exr", FIRST, LAST, RATE)
SEQUENCES: Final = (BEAUTY, COMP, NIGHT, MATTES, PLATES, CAMERA)

TROUBLES: Final = (
    Trouble(NIGHT.key(TRUNCATED), "truncated", "rejected", "the file ends before its pixels do"),
    Trouble(NIGHT.key(MISSING), "missing_frame", "absent", f"frame {MISSING} is missing"),
    Trouble(NIGHT.key(BLACK), "black_frame", "ready", "every pixel is black"),
    Trouble(NIGHT.key(NOT_FINITE), "nan_and_inf", "ready", "pixels are NaN or infinite"),
)


@dataclass(frozen=True)
class Section:
    """Some files of the show: how many, and what makes them one by one."""

    count: int
    make: Callable[[], Iterator[Made]]


def sections() -> tuple[Section, ...]:
    """The shots."""
    return (
        Section(len(BEAUTY.frames) + len(COMP.frames), lambda: _in_order(_sunset_frame, BEAUTY.frames)),
        Section(
            len(NIGHT.frames) + len(MATTES.frames),
            lambda: _in_order(_night_frame, sorted({*NIGHT.frames, *MATTES.frames})),
        ),
        Section(len(PLATES.frames), lambda: _in_order(_plate_frame, PLATES.frames)),
        Section(len(CAMERA.frames), lambda: _in_order(_camera_frame, CAMERA.frames)),
    )


def moment(world: Callable[[float], World], frame: int, first: int) -> tuple[World, World]:
    """The world at a frame and one frame earlier."""
    return world(float((frame - first) / RATE)), world(float((frame - 1 - first) / RATE))


def render_metadata(world: World, shot: str, frame: int, first: int) -> dict[str, Any]:
    """What a renderer writes beside the pixels."""
    minutes, hundredths = divmod(1873 + 37 * (frame - first), 6000)
    return {
        "framesPerSecond": RATE,
        "timeCode": exr_time_code(_HOUR + frame - first),
        "imageCounter": frame,
        "owner": "Sample Show (CC0)",
        "comments": f"{shot} lighting v002 — “golden hour”, take 3",
        "capDate": "2024:05:17 19:42:10",
        "utcOffset": -7200.0,
        "software": "sphere-caster 1.0",
        "camera": "cam_main",
        "nominalFocalLength": 35.0,
        "aperture": 2.8,
        "worldToCamera": world.camera.world_to_camera(),
        "render/scene": f"/show/{shot}/lighting/{shot}_lgt_v002.usd",
        "render/time": f"{minutes:02d}m{hundredths // 100:02d}.{hundredths % 100:02d}s",
        "render/samples": 4,
        "render/memory": "412.6 MB",
    }


def layer_channels(layers: Layers) -> dict[str, NDArray[Any]]:
    """RGBA and the usual layers beside it, in the types that renderers use."""
    return {
        **beauty_channels(layers),
        **rgb_channels(layers.diffuse, "diffuse."),
        **rgb_channels(layers.specular, "specular."),
        **normal_channels(layers),
        "depth.Z": layers.z,
        "motion.X": layers.motion[..., 0].astype(np.float16),
        "motion.Y": layers.motion[..., 1].astype(np.float16),
        "objectId": layers.object_id,
    }


def beauty_channels(layers: Layers, prefix: str = "", dtype: type = np.float16) -> dict[str, NDArray[Any]]:
    """R, G, B and A."""
    return {**rgb_channels(layers.rgb, prefix, dtype), f"{prefix}A": layers.alpha.astype(dtype)}


def normal_channels(layers: Layers) -> dict[str, NDArray[Any]]:
    """N.X, N.Y and N.Z in world space."""
    return {f"N.{axis}": np.ascontiguousarray(layers.normal[..., i].astype(np.float16)) for i, axis in enumerate("XYZ")}


def exr(key: str, kind: str, parts: list[ExrPart], space: str, stated_by: str, frame: int | None = None) -> Made:
    """An EXR file and its facts."""
    data = exr_bytes(parts)
    return ShowFile(key, kind, len(data), "exr", "ready", described(parts), space, stated_by, frame), data


def _in_order(make: Callable[[int], list[Made]], frames: Iterable[int]) -> Iterator[Made]:
    """Files of the frames in order, with a few frames at most made ahead, so that memory stays bounded."""
    workers = min(os.cpu_count() or 1, 2)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[list[Made]]] = deque()
        try:
            for frame in frames:
                pending.append(pool.submit(make, frame))
                if len(pending) > workers:
                    yield from pending.popleft().result()
            yield from chain.from_iterable(future.result() for future in pending)
        finally:
            for future in pending:
                future.cancel()


def _sunset_frame(frame: int) -> list[Made]:
    now, before = moment(worlds.sunset, frame, FIRST)
    layers = render_layers(now, Raster.full(*_SUNSET_SIZE), before=before)
    names = now.object_names
    metadata = render_metadata(now, "shot_010", frame, FIRST)
    beauty = ExrPart(
        {**layer_channels(layers), **cryptomatte.channels("CryptoObject", names, layers.coverage_ids, layers.coverage)},
        "zip",
        {
            **metadata,
            **cryptomatte.attributes("CryptoObject", names),
            "colorInteropID": "lin_ap1_scene",
            "chromaticities": AP1,
        },
    )
    rows, columns = np.mgrid[-1:1:360j, -1:1:640j]
    vignette = (1 - 0.22 * (rows**2 + columns**2))[..., None]
    graded = layers.rgb * vignette * np.array([1.06, 1.0, 0.92])
    comp = ExrPart(
        rgb_channels(graded),
        "dwaa",
        {
            **{key: metadata[key] for key in ("framesPerSecond", "timeCode", "owner", "capDate")},
            "software": "node-comp 14.2",
            "comments": "shot_010 comp v002, for review",
            "oiio:ColorSpace": "ACEScg",
            "dwaCompressionLevel": 45.0,
        },
    )
    return [
        exr(BEAUTY.key(frame), "multi-layer", [beauty], "ACEScg", "colorInteropID", frame),
        exr(COMP.key(frame), "comp", [comp], "ACEScg", "oiio:ColorSpace", frame),
    ]


def _night_frame(frame: int) -> list[Made]:
    now, before = moment(worlds.night, frame, FIRST)
    layers = render_layers(now, Raster.full(*_SIZE), before=before)
    metadata = {**render_metadata(now, "shot_020", frame, FIRST), "chromaticities": REC709}
    made = []
    if frame in NIGHT.frames:
        made.append(_night_beauty(layers, metadata, frame))
    if frame in MATTES.frames:
        mattes = {
            f"matte.{channel}": (layers.object_id == index).astype(np.float16)
            for channel, index in zip("RGB", (2, 3, 4), strict=True)
        }
        part = ExrPart(
            {**mattes, "objectId": layers.object_id}, "rle", metadata | {"comments": "moonstone mirror amber"}
        )
        made.append(exr(MATTES.key(frame), "mattes", [part], "", "", frame))
    return made


def _night_beauty(layers: Layers, metadata: dict[str, Any], frame: int) -> Made:
    rgba = beauty_channels(layers)
    if frame == BLACK:
        rgba = {name: np.zeros_like(pixels) for name, pixels in rgba.items()}
    if frame == NOT_FINITE:
        rgba["R"][100:104, 200:210] = np.nan
        rgba["G"][60, 60:90] = np.inf
        rgba["B"][61, 60:90] = -np.inf
    parts = [
        ExrPart(rgba, "piz", metadata, name="rgba"),
        ExrPart({"Z": layers.z}, "zips", metadata, name="depth"),
        ExrPart(normal_channels(layers), "pxr24", metadata, name="normal"),
    ]
    facts, data = exr(NIGHT.key(frame), "multi-part", parts, "Linear Rec.709 (sRGB)", "chromaticities", frame)
    if frame == TRUNCATED:
        data = data[: len(data) // 4]
        return ShowFile(
            facts.key,
            "truncated",
            len(data),
            "exr",
            "rejected",
            facts.parts,
            facts.color_space,
            "chromaticities",
            frame,
        ), data
    return facts, data


def _plate_frame(frame: int) -> list[Made]:
    now = worlds.night(float((frame - PLATE_FIRST) / RATE), empty=True)
    layers = render_layers(now, Raster.full(*_SIZE))
    key = PLATES.key(frame)
    data = dpx_bytes(
        cineon_codes(layers.rgb * np.float32(1.6)),
        name=key.rpartition("/")[2],
        time=time_code(_HOUR + frame - PLATE_FIRST),
        rate=RATE,
        position=frame - PLATE_FIRST,
        length=len(PLATES.frames),
    )
    part = ExpectedPart(dict.fromkeys("RGB", "UINT10"), "none", *_SIZE, *_SIZE)
    return [(ShowFile(key, "dpx", len(data), "dpx", "ready", (part,), "Cineon", "transfer", frame), data)]


def _camera_frame(frame: int) -> list[Made]:
    now, _ = moment(worlds.noon, frame, FIRST)
    layers = render_layers(now, Raster.full(*_SIZE))
    attributes = {
        "framesPerSecond": RATE,
        "timeCode": exr_time_code(10 * _HOUR + frame - FIRST),
        "colorspace": "ARRI LogC3 (EI800)",
        "reelName": "A042R1ZQ",
        "cameraMake": "ARRI",
        "cameraModel": "ALEXA Mini",
        "cameraSerialNumber": "K1.0042",
        "lensMake": "Cooke",
        "lensModel": "S4i 32 mm",
        "nominalFocalLength": 32.0,
        "aperture": 4.0,
        "focus": 3.2,
        "isoSpeed": 800.0,
        "shutterAngle": 172.8,
        "capDate": "2024:05:17 12:03:44",
        "owner": "Sample Show (CC0)",
        "imageRotation": 0.0,
    }
    part = ExrPart(rgb_channels(log_c3(layers.rgb)), "piz", attributes)
    return [exr(CAMERA.key(frame), "camera plate", [part], "ARRI LogC3 (EI800)", "colorspace", frame)]
