"""Inspection: the format by content, the facts from stated attributes, and one clear reason for a bad file."""

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO as Oiio
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.exr import (
    Attribute,
    Box2i,
    Channel,
    Header,
    HeaderError,
    NeedMoreBytes,
    Rational,
    TileDescription,
    TimeCode,
)
from exr_pipeline.inspection import inspect_bytes
from exr_pipeline_tests.exr.headers import attributes, header
from exr_pipeline_tests.inspection.files import inspected, inspected_header, source
from exr_pipeline_tests.test_dpx import made_up


def written(tmp_path: Path, height: int = 200) -> bytes:
    path = tmp_path / "a.exr"
    pixels = np.random.default_rng(1).random((height, 64, 3), np.float32)
    OpenEXR.File({"owner": "us"}, {"RGB": pixels}).write(str(path))
    return path.read_bytes()


def test_a_file_of_the_library_is_inspected_from_its_first_bytes(tmp_path: Path) -> None:
    data = written(tmp_path)
    inspection = inspect_bytes(data[:4096], source(size=len(data)))
    (part,) = inspection.parts
    assert inspection.format == "exr"
    assert inspection.channel_names() == ["B", "G", "R"]
    assert (part.data_window.width, part.data_window.height, part.compression) == (64, 200, "zip")
    assert inspection.warnings == ()


def test_a_header_longer_than_the_data_asks_for_more() -> None:
    data = header(Attribute.of("manifest", "string", "m" * 5000)).to_bytes()
    with pytest.raises(NeedMoreBytes) as caught:
        inspect_bytes(data[:500], source())
    assert caught.value.needed == len(data)
    for start in (b"", b"\x76\x2f"):
        with pytest.raises(NeedMoreBytes):
            inspect_bytes(start, source())


@pytest.mark.parametrize("cut", [6, 100, 300, 500, 2000, 8000, -1])
def test_a_truncated_file_is_bad_wherever_it_is_cut(cut: int, tmp_path: Path) -> None:
    data = written(tmp_path)[:cut]
    with pytest.raises(BadInputError, match="truncated") as caught:
        inspect_bytes(data, source(size=len(data)))
    assert not isinstance(caught.value, NeedMoreBytes)
    assert caught.value.name == "s3://show/renders/beauty.1001.exr"


@pytest.mark.parametrize(
    ("data", "key", "reason"),
    [
        (b"", "a.exr", "the file is empty"),
        (b"\x89PNG\r\n", "a.exr", "not an OpenEXR, DPX or Cineon file: it begins with 89 50 4e 47"),
        (b"\x76\x2f", "a.exr", "not an OpenEXR, DPX or Cineon file: it begins with 76 2f"),
        (made_up() + bytes(99), "a.exr", "the extension is .exr, the content is DPX"),
        (header().to_bytes() + bytes(99), "a.DPX", "the extension is .dpx, the content is OpenEXR"),
    ],
)
def test_what_is_not_what_it_says_is_bad(data: bytes, key: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        inspect_bytes(data, source(key, size=len(data)))
    assert caught.value.reason == reason


def test_the_first_error_is_the_reason() -> None:
    part: dict[str, Any] = {"type": "scanlineimage", "chunkCount": 2}
    bad = attributes(name="b", **part | {"dataWindow": Box2i(0, 0, -1, 4), "chunkCount": 1})
    data = Header.build([attributes(name="a", **part), bad]).to_bytes()
    with pytest.raises(HeaderError) as caught:
        inspect_bytes(data, source())
    assert caught.value.problem == "part 1: dataWindow (0, 0) to (-1, 4) is empty"
    assert data[caught.value.offset :].startswith(b"dataWindow\0")
    assert caught.value.offset > data.index(b"dataWindow\0")


def test_warnings_stay_with_the_inspection() -> None:
    inspection = inspected(screenWindowWidth=None)
    assert inspection.warning_texts() == ["part 0: required attribute 'screenWindowWidth' is missing (at byte 8)"]


@pytest.mark.parametrize(
    ("attribute", "rate"),
    [
        (Attribute.of("framesPerSecond", "rational", Rational(24000, 1001)), "24000/1001"),
        (Attribute.of("framesPerSecond", "rational", Rational(48, 2)), "48/2"),
        (Attribute.of("framesPerSecond", "rational", Rational(24, 0)), None),
        (Attribute.of("framesPerSecond", "float", 23.976), "24000/1001"),
        (Attribute.of("framesPerSecond", "float", float("nan")), None),
        (Attribute.of("framesPerSecond", "string", "24"), None),
        (Attribute.of("fps", "float", 24.0), None),
    ],
)
def test_the_frame_rate_is_the_stated_fraction(attribute: Attribute, rate: str | None) -> None:
    assert inspected(attribute).parts[0].frame_rate == rate


def test_time_code_and_views_are_read() -> None:
    stereo = Attribute.of("multiView", "stringvector", ("left", "right"))
    code = Attribute.of("timeCode", "timecode", TimeCode.of(1, 2, 3, 4, drop_frame=True))
    inspection = inspected(stereo, code)
    assert inspection.views == ("left", "right")
    assert inspection.multi_view
    assert inspection.parts[0].time_code == "01:02:03;04"
    assert not inspected(view="left").multi_view


@pytest.mark.parametrize(
    ("stored", "software"),
    [
        ({"Software": "OpenImageIO 3", "nuke/version": "15.1"}, "OpenImageIO 3"),
        ({"nuke/version": "15.1v2", "arnold/version": "7"}, "Nuke 15.1v2"),
        ({"BlenderMultiChannel": "Blender V2.55.1 and newer"}, "Blender V2.55.1 and newer"),
        ({"comments": "made by hand"}, None),
    ],
)
def test_the_program_is_the_first_that_is_named(stored: dict[str, str], software: str | None) -> None:
    extra = [Attribute.of(name, "string", value) for name, value in reversed(stored.items())]
    assert inspected(*extra).parts[0].render_software == software


def test_the_header_hash_is_one_per_sequence() -> None:
    first = inspected(Attribute.of("timeCode", "timecode", TimeCode.of(1, 0, 0, 0)))
    second = inspected(
        Attribute.of("timeCode", "timecode", TimeCode.of(1, 0, 0, 1)), dataWindow=Box2i(5, 5, 9, 9), key="b.7.exr"
    )
    assert first.header_hash == second.header_hash
    assert len(first.header_hash) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": 2},
        {"displayWindow": Box2i(0, 0, 63, 32)},
        {"channels": (Channel("G", "HALF"),)},
        {"channels": (Channel("B", "HALF"), Channel("G", "HALF"), Channel("R", "FLOAT"))},
        {"channels": (Channel("B", "HALF", p_linear=True), Channel("G", "HALF"), Channel("R", "HALF"))},
        {"type": "tiledimage", "tiles": TileDescription(16, 16)},
        {"pixelAspectRatio": 2.0},
        {"name": "other"},
        {"view": "left"},
        {"screenWindowWidth": None},
    ],
)
def test_the_header_hash_differs_with_the_structure(changes: dict[str, Any]) -> None:
    assert inspected(**changes).header_hash != inspected().header_hash


def test_a_dpx_file_of_openimageio_is_inspected(tmp_path: Path) -> None:
    path = tmp_path / "a.dpx"
    spec = Oiio.ImageSpec(33, 21, 3, "uint16")
    spec.attribute("oiio:BitsPerSample", 10)
    spec.attribute("dpx:Transfer", "Printing density")
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec)
    assert output.write_image(Oiio.ImageBuf(spec).get_pixels("uint16"))
    output.close()
    data = path.read_bytes()
    inspection = inspect_bytes(data[:4096], source("a.1001.dpx", size=len(data)))
    (part,) = inspection.parts
    assert (inspection.format, part.data_window) == ("dpx", Box2i(0, 0, 32, 20))
    assert [(channel.name, channel.type) for channel in part.channels] == [
        ("R", "UINT10"),
        ("G", "UINT10"),
        ("B", "UINT10"),
    ]
    assert part.color_space is not None
    assert (part.color_space.name, part.color_space.rule) == ("printing density", "dpx:transfer")
    assert {"creator", "element0.transfer"} <= {attribute.name for attribute in part.attributes}


def test_several_parts_are_told_apart_in_lists_of_channels() -> None:
    part: dict[str, Any] = {"type": "scanlineimage", "chunkCount": 2, "channels": (Channel("Z", "FLOAT"),)}
    inspection = inspected_header(Header.build([attributes(name=name, **part) for name in ("a", "b")]))
    assert inspection.channel_names() == ["[a] Z", "[b] Z"]
    assert inspection.summary()["parts"] == 2
