from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import OpenImageIO as Oiio
import pytest

from exr_pipeline.errors import BadInputError
from exr_pipeline.footage.stills import inspect_still
from exr_pipeline.inspection import FileState, Inspection, SourceFile, inspection_json, rows
from exr_pipeline.storage.locations import Location

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)


def source(path: Path) -> SourceFile:
    return SourceFile(Location("s3", "show", path.name), path.stat().st_size, NOON, "etag")


def written(path: Path, kind: str = "uint8", channels: int = 3, **attributes: object) -> Path:
    spec = Oiio.ImageSpec(64, 36, channels, kind)
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec), output.geterror()
    output.write_image(np.full((36, 64, channels), 0.5, np.float32))
    output.close()
    return path


def inspected(path: Path) -> Inspection:
    """The inspection of a file under a name without extension, as a run spools it."""
    spooled = path.with_name("spooled")
    spooled.write_bytes(path.read_bytes())
    return inspect_still(str(spooled), source(path))


@pytest.mark.parametrize(
    ("name", "kind", "format_", "compression"),
    [("a.0001.tif", "uint16", "tiff", "zip"), ("a.png", "uint8", "png", "deflate"), ("a.jpg", "uint8", "jpeg", "jpeg")],
)
def test_a_still_has_the_rows_of_one_part(tmp_path: Path, name: str, kind: str, format_: str, compression: str) -> None:
    found = inspected(written(tmp_path / name, kind, Software="made up", PixelAspectRatio=1.0))
    (part,) = found.parts
    assert (found.format, part.compression.partition(":")[0], part.data_window.width) == (format_, compression, 64)
    assert [(channel.name, channel.type) for channel in part.channels] == [(c, kind.upper()) for c in "RGB"]
    assert part.render_software == "made up"
    made = rows([found], inspected_at=NOON, states=[FileState("ready")])
    assert [made[table].num_rows for table in ("files", "parts", "channels")] == [1, 1, 3]
    assert made["files"].column("frame_number").to_pylist() == [1 if "0001" in name else None]
    stored = {row["attr_name"]: row["value_text"] for row in made["attributes"].to_pylist()}
    assert stored["Software"] == "made up"
    assert inspection_json(found)["channels"][0]["name"] == "R"


def test_pages_of_a_tiff_are_parts_and_profiles_are_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    specs = [Oiio.ImageSpec(8, 4, 3, "uint8"), Oiio.ImageSpec(6, 2, 1, "half")]
    profile = np.arange(200, dtype=np.uint8)
    specs[0].attribute("ICCProfile", Oiio.TypeDesc("uint8[200]"), profile.tobytes())
    output = Oiio.ImageOutput.create(str(path))
    assert output.open(str(path), specs)
    output.write_image(np.zeros((4, 8, 3), np.uint8))
    assert output.open(str(path), specs[1], "AppendSubimage")
    output.write_image(np.zeros((2, 6, 1), np.float16))
    output.close()
    found = inspected(path)
    assert [(part.index, part.data_window.width, len(part.channels)) for part in found.parts] == [(0, 8, 3), (1, 6, 1)]
    made = rows([found], inspected_at=NOON)
    assert made["parts"].num_rows == 2


def test_the_extension_does_not_decide(tmp_path: Path) -> None:
    png = written(tmp_path / "a.png")
    assert inspected(png.rename(tmp_path / "a.jpg")).format == "png"


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff\xe0\0"])
def test_what_is_no_still_is_bad_input_with_its_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        inspected(path)
    assert caught.value.name == "s3://show/a.png"
    assert "\n" not in caught.value.reason
    assert "spooled" not in caught.value.reason
