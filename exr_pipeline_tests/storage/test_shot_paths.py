"""Keys of shots by the pattern of SpaceHarbor."""

import pytest

from exr_pipeline.storage.shot_paths import ShotPath, shot_path


def test_a_key_of_a_render_names_project_sequence_shot_and_version() -> None:
    found = shot_path("projects/NOVA/SQ010/SH0100/render/v003/beauty.1001.exr")
    assert found == ShotPath("NOVA", None, "SQ010", "SH0100", "v003", "beauty.1001.exr")


def test_a_series_has_episodes() -> None:
    found = shot_path("projects/NOVA/EP102/SQ010/SH0100/render/v0012_fix/beauty.1001.exr")
    assert found == ShotPath("NOVA", "EP102", "SQ010", "SH0100", "v0012_fix", "beauty.1001.exr")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "beauty.1001.exr",
        "projects/NOVA/SH0100/render/v003/beauty.1001.exr",
        "projects/NOVA/102/SQ010/SH0100/render/v003/beauty.1001.exr",
        "projects/NOVA/SQ010/SH0100/plate/v003/beauty.1001.exr",
        "projects/NOVA/SQ010/SH0100/render/v03/beauty.1001.exr",
        "projects/NOVA/SQ010/SH0100/render/v003/",
        "projects/NOVA/SQ010/SH0100/render/v003/more/beauty.1001.exr",
        "projects//SQ010/SH0100/render/v003/beauty.1001.exr",
        "old/projects/NOVA/SQ010/SH0100/render/v003/beauty.1001.exr",
    ],
)
def test_other_keys_name_none(key: str) -> None:
    assert shot_path(key) is None
