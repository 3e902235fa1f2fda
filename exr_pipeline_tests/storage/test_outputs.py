"""Names of outputs: those of each source alone, and those after the stem, which sources may share."""

import pytest

from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.outputs import OutputPlace, is_after_stem, stem_owner


def named(name: str, ending: str, *after: str) -> str:
    return OutputPlace().at(Location("s3", "renders", f"shot/{name}"), ending, *after).name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "own", "stem", "whole"),
    [
        ("a.1001.exr", "a.1001_proxy.mp4", "a.1001_proxy.mp4", "a.1001.exr_proxy.mp4"),
        ("a.1001.dpx", "a.1001.dpx_proxy.mp4", "a.1001_proxy.mp4", "a.1001.dpx_proxy.mp4"),
        ("a.EXR", "a.EXR_proxy.mp4", "a_proxy.mp4", "a.EXR_proxy.mp4"),
        ("a.mov", "a.mov_proxy.mp4", "a-proxy.mp4", "a.mov_proxy.mp4"),
        ("a.wav", "a.wav_proxy.mp4", "a_proxy.mp4", "a.wav_proxy.mp4"),
        # Without its extension it would have the names of another source.
        ("a.dpx.exr", "a.dpx.exr_proxy.mp4", "a.dpx.exr_proxy.mp4", "a.dpx.exr_proxy.mp4"),
    ],
)
def test_outputs_are_named_after_the_source_or_its_stem(name: str, own: str, stem: str, whole: str) -> None:
    assert (named(name, "proxy.mp4"), named(name, "proxy.mp4", "stem"), named(name, "proxy.mp4", "name")) == (
        own,
        stem,
        whole,
    )
    assert is_after_stem(whole, name) is False
    assert is_after_stem(stem, name) is (stem != whole)


def test_only_the_proxy_of_a_movie_has_a_hyphen() -> None:
    assert named("a.mov", "thumb.jpg", "stem") == "a_thumb.jpg"


def test_of_sources_with_one_stem_the_first_by_format_and_name_has_it_unless_another_has_it_already() -> None:
    assert stem_owner(["a.jpg", "a.dpx", "a.EXR", "a.exr"]) == "a.EXR"
    assert stem_owner(["a.exr", "a.jpg", "a.dpx"]) == "a.exr"
    assert stem_owner(["a.exr", "a.jpg", "a.dpx"], ["a.jpg"]) == "a.jpg"
    assert stem_owner(["a.exr", "a.jpg", "a.dpx"], ["a.jpg", "a.dpx"]) == "a.dpx"
