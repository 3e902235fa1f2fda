import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO
import pytest

from exr_pipeline.sample.raw_exr import halved, mip_mapped, subsampled
from exr_pipeline.sample.writers import (
    COMPRESSIONS,
    ExrPart,
    cineon_codes,
    dpx_bytes,
    exr_bytes,
    exr_time_code,
    log_c3,
    time_code,
)


def ramp(height: int, width: int) -> np.ndarray:
    return (np.arange(height * width).reshape(height, width) / 64).astype(np.float16)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pixels_windows_and_attributes_come_back_from_every_compression(compression: str) -> None:
    part = ExrPart(
        {"R": ramp(20, 30)},
        compression,
        {"framesPerSecond": Fraction(24000, 1001), "timeCode": exr_time_code(86400 + 25)},
        origin=(-3, 5),
        display=(40, 50),
    )

    file = OpenEXR.File(io.BytesIO(exr_bytes([part])), separate_channels=True)

    header = file.header()
    assert [v.tolist() for v in header["dataWindow"]] == [[-3, 5], [26, 24]]
    assert [v.tolist() for v in header["displayWindow"]] == [[0, 0], [39, 49]]
    assert header["framesPerSecond"] == Fraction(24000, 1001)
    code = header["timeCode"]
    assert (code.hours, code.minutes, code.seconds, code.frame) == (1, 0, 1, 1)
    np.testing.assert_allclose(file.channels()["R"].pixels, ramp(20, 30), atol=0.15)


def test_the_arrays_of_a_part_can_be_written_twice() -> None:
    part = ExrPart({"Z": ramp(4, 4).astype(np.float32)})

    assert exr_bytes([part]) == exr_bytes([part])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 70), (64, 32)])
def test_mip_levels_of_odd_sizes_are_read_by_both_libraries(height: int, width: int, tmp_path: Path) -> None:
    channels = {"B": ramp(height, width), "Z": ramp(height, width).astype(np.float32)}
    path = tmp_path / "mip.exr"
    path.write_bytes(mip_mapped(halved(channels), 16, {"owner": "me"}))

    file = OpenEXR.File(str(path), separate_channels=True)
    for name, pixels in channels.items():
        np.testing.assert_array_equal(file.channels()[name].pixels, pixels)
    levels = halved(channels)
    image: Any = OpenImageIO.ImageInput.open(str(path))
    for index, level in enumerate(levels):
        assert image.seek_subimage(0, index)
        np.testing.assert_array_equal(image.read_image(0, index, 0, 1, "half")[..., 0], level["B"])
    assert not image.seek_subimage(0, len(levels))


def test_subsampled_channels_are_read_by_the_openexr_library() -> None:
    data = subsampled({"Y": (ramp(36, 20), 1), "RY": (ramp(18, 10), 2)}, {"comments": "½"})

    file = OpenEXR.File(io.BytesIO(data), separate_channels=True)

    np.testing.assert_array_equal(file.channels()["Y"].pixels, ramp(36, 20))
    np.testing.assert_array_equal(file.channels()["RY"].pixels, ramp(18, 10))
    assert file.header()["comments"] == "½"


def test_an_attribute_of_no_known_type_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        subsampled({"Y": (ramp(2, 2), 1)}, {"odd": 1j})


def test_dpx_pixels_come_back_exactly(tmp_path: Path) -> None:
    codes = np.random.default_rng(7).integers(0, 1024, (9, 14, 3)).astype(np.uint32)
    path = tmp_path / "a.dpx"
    path.write_bytes(dpx_bytes(codes, name="a.dpx", time=(1, 2, 3, 4), rate=Fraction(25), position=3, length=9))

    image: Any = OpenImageIO.ImageInput.open(str(path))

    assert (image.read_image("uint16") >> 6 == codes).all()
    assert image.spec().get_string_attribute("dpx:TimeCode") == "01:02:03:04"
    assert path.stat().st_size == int.from_bytes(path.read_bytes()[16:20], "big")


@pytest.mark.parametrize(("linear", "code"), [(0.0, 95), (1.0, 685), (0.18, 468), (100.0, 1023), (-1.0, 95)])
def test_cineon_puts_black_at_95_and_white_at_685(linear: float, code: int) -> None:
    assert abs(int(cineon_codes(np.array([linear]))[0]) - code) <= 1


def test_log_c3_agrees_with_the_color_library() -> None:
    import PyOpenColorIO

    linear = np.linspace(0, 12, 500, dtype=np.float32)
    triples = np.repeat(log_c3(linear)[:, None], 3, axis=1)
    config = PyOpenColorIO.Config.CreateFromFile("ocio://studio-config-v2.2.0_aces-v1.3_ocio-v2.4")
    processor = config.getProcessor("ARRI LogC3 (EI800)", "Linear ARRI Wide Gamut 3").getDefaultCPUProcessor()
    processor.applyRGB(triples)

    np.testing.assert_allclose(triples[:, 1], linear, rtol=2e-3, atol=1e-4)


def test_time_codes_count_24_frames_a_second() -> None:
    assert time_code(0) == (0, 0, 0, 0)
    assert time_code(24 * 3600 + 47) == (1, 0, 1, 23)
    assert time_code(24 * 3600 * 24) == (0, 0, 0, 0)
