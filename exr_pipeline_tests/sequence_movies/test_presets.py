"""Presets: those of the program, those of a user, and what is wrong with a bad one."""

from pathlib import Path

import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.pictures.still import Size
from exr_pipeline.sequence_movies.presets import find_preset, load_presets

GOOD = "{codec: libx264, container: mkv, pixel_format: yuv444p, size: 640x360, quality: {crf: 30}}"


def test_the_program_brings_a_preset_for_each_codec() -> None:
    presets = load_presets()
    assert {preset.codec for preset in presets.values()} == {
        *("libx264", "libx265", "prores_ks", "dnxhd", "libvpx-vp9", "libsvtav1")
    }
    assert [name for name, preset in presets.items() if preset.has_alpha] == ["prores-4444", "vp9-alpha"]
    assert presets["review"].size == Size(1920, 1080)
    assert presets["prores"].size is None


def test_a_user_adds_and_replaces_presets_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"tiny: {GOOD}\nreview: {GOOD}\n")
    presets = load_presets(path)
    assert presets["tiny"].encoder_options == {"crf": "30"}
    assert presets["tiny"].content_type == "video/x-matroska"
    assert presets["review"].pixel_format == "yuv444p"
    assert "prores" in presets
    assert find_preset("tiny", presets) is presets["tiny"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tiny: [", "is not valid YAML"),
        ("- tiny", "not a mapping of names"),
        ("tiny: 3", "not a mapping of names"),
        (f"tiny: {GOOD.replace('640x360', 'big')}", "'tiny', field 'size'.*WIDTHxHEIGHT"),
        (f"tiny: {GOOD.replace('mkv', 'avi')}", "field 'container'"),
        (f"tiny: {GOOD.replace('libx264', 'lib264')}", "no encoder 'lib264'"),
        (f"tiny: {GOOD.replace('yuv444p', 'rgb48')}", "does not support the pixel format 'rgb48'"),
        (f"tiny: {GOOD.replace('quality', 'qualities')}", "field 'quality'"),
        (f"tiny: {GOOD.replace('{codec', '{color: 1, codec')}", "field 'color'"),
    ],
)
def test_a_bad_preset_names_the_setting_the_preset_and_the_field(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(MisconfiguredError, match=problem) as error:
        load_presets(path)
    assert error.value.setting == "EXR_PIPELINE_MOVIE_PRESETS"
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_and_an_unknown_preset_are_said(tmp_path: Path) -> None:
    with pytest.raises(MisconfiguredError, match="No such file"):
        load_presets(tmp_path / "none.yaml")
    with pytest.raises(MisconfiguredError, match=r"unknown preset 'foo'.*review, h265"):
        find_preset("foo", load_presets())
