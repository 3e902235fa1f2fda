"""Names: they are reversible, survive in a URL and never collide."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.formats import KINDS, format_of_name
from exr_pipeline.storage.locations import (
    Location,
    SourceRule,
    is_partition_key,
    is_source,
)
from exr_pipeline.storage.outputs import OutputPlace

# Every name that a store or a file system can hold: UTF-8 text, and bytes that are none as surrogates.
awkward = st.text(alphabet="/.~%# +é2FfE\n\udcff", max_size=12)
any_key = (
    st.binary(max_size=24).map(os.fsdecode)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=24)
    | awkward
)

name_pieces = st.lists(
    st.sampled_from(["x", ".exr", ".EXR", ".dpx", ".Dpx", "_thumb", "_proxy", ".jpg", ".mp4", ".", "é"]), max_size=5
).map("".join)
folders = st.sampled_from(["", "a/", "a//", "a/b/", "/", "b/", "A/", "a/.proxies/", "b/a/"])
source_keys = st.builds(
    lambda folder, name, ext: folder + name + ext,
    folders,
    name_pieces,
    st.sampled_from([".exr", ".dpx", ".EXR", ".mov", ".jpg"]),
)


ENDINGS = ("thumb.jpg", "proxy.mp4", "filmstrip.jpg")


def s3(key: str) -> Location:
    return Location("s3", "show", key)


@given(st.sampled_from(["s3", "gs", "az", "file"]), any_key)
def test_a_location_survives_its_url_and_its_partition_key(scheme: str, key: str) -> None:
    location = Location(scheme, "" if scheme == "file" else "show", key)  # type: ignore[arg-type]
    assert Location.from_url(location.url) == location
    assert Location.from_partition_key(location.partition_key) == location
    assert location.url.isascii()
    assert location.url.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (Location("s3", "renders", "show/shot_010/beauty_left.1001.exr").partition_key, True),
        (Location("file", "", "show/x.####.exr").partition_key, True),
        (Location("s3", "renders", "show/notes.txt").partition_key, False),
        ("another_label~~in~renders~show~shot_010~beauty_left.1001.exr", False),
        ("beauty.exr", False),
        ("2026-01-01", False),
        ("", False),
    ],
)
def test_a_partition_key_of_a_file_or_a_sequence_is_told_from_other_words(text: str, *, expected: bool) -> None:
    assert is_partition_key(text) == expected


@pytest.mark.parametrize("url", ["renders/a.exr", "ftp://show/a.exr", "s3:///a.exr", "file://server/a.exr"])
def test_what_is_not_an_object_url_is_refused_with_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        Location.from_url(url, setting="EXR_PIPELINE_SOURCES")
    assert caught.value.setting == "EXR_PIPELINE_SOURCES"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("renders/beauty.0001.exr", True),
        ("renders/beauty.0001.DPX", True),
        ("x.eXr", True),
        ("renders/.proxies/beauty.0001.exr", False),
        ("renders/.hidden.exr", False),
        (".cache/x.exr", False),
        (".exr", False),
        ("renders/exr", False),
        ("renders/x.exr/", False),
        ("renders/x.exr.tmp", False),
        ("renders/x.jpg", True),
        ("plates/a.0001.TIF", True),
        ("cut.MOV", True),
        ("mix.wav", True),
        ("notes.mov.txt", False),
        ("a.mov/notes", False),
        ("", False),
    ],
)
def test_sources_are_pictures_movies_and_sounds_that_are_not_hidden(key: str, expected: bool) -> None:
    assert is_source(key) is expected


def test_a_hidden_folder_that_was_asked_for_by_name_is_looked_into() -> None:
    assert is_source("home/.show/x.exr", below="home/.show/")
    assert not is_source("home/.show/.proxies/x.exr", below="home/.show/")


def test_media_go_into_a_folder_beside_their_source() -> None:
    beauty = s3("renders/shot_010/beauty.0001.exr")
    assert OutputPlace().at(beauty, "thumb.jpg") == s3("renders/shot_010/.proxies/beauty.0001_thumb.jpg")
    assert OutputPlace().at(beauty, "proxy.mp4") == s3("renders/shot_010/.proxies/beauty.0001_proxy.mp4")
    assert OutputPlace().at(s3("x.exr"), "thumb.jpg") == s3(".proxies/x_thumb.jpg")


@pytest.mark.parametrize(
    ("name", "thumbnail"),
    [
        ("beauty.0001.dpx", "beauty.0001.dpx_thumb.jpg"),
        ("beauty.0001.EXR", "beauty.0001.EXR_thumb.jpg"),
        ("beauty.dpx.exr", "beauty.dpx.exr_thumb.jpg"),
        ("x_thumb.jpg.exr", "x_thumb.jpg.exr_thumb.jpg"),
        ("cut.mov", "cut.mov_thumb.jpg"),
        ("cut.exr", "cut_thumb.jpg"),
    ],
)
def test_a_name_that_another_source_could_have_the_stem_of_is_kept_whole(name: str, thumbnail: str) -> None:
    assert OutputPlace().at(s3(name), "thumb.jpg").name == thumbnail


@given(st.lists(source_keys, min_size=2, max_size=30, unique=True))
def test_no_two_sources_share_an_output(keys: list[str]) -> None:
    for root in (None, "s3://media/out"):
        place = OutputPlace(root, ("s3://show",))
        outputs = {place.at(s3(key), ending) for key in keys for ending in ENDINGS}
        assert len(outputs) == 3 * len(keys)
        assert not outputs & {s3(key) for key in keys}
        rule = SourceRule.of(KINDS, place)
        assert not any(rule.accepts(location) for location in outputs if location.bucket == "show")


@pytest.mark.parametrize(
    ("root", "sources"),
    [
        ("s3://show/media", ["s3://show"]),
        ("s3://show/renders/.media/{source}", ["s3://show/renders", "s3://show/plates"]),
        ("s3://show/out/{source}", ["s3://show", "s3://show/renders"]),
        ("file:///media", ["file:///"]),
    ],
)
def test_what_was_made_below_a_root_inside_a_source_is_no_source(root: str, sources: list[str]) -> None:
    place = OutputPlace(root, tuple(sources))
    rule = SourceRule.of(KINDS, place)
    for url in sources:
        for name in ("a/shot.mov", "shot.png", "media.exr", "mediathek/x.wav"):
            source = Location.from_url(url).child(name)
            assert rule.accepts(source, below=Location.from_url(url).key)
            for made in (place.at(source, ending) for ending in ENDINGS):
                assert is_source(made.name), "by its name it would be one"
                assert not rule.accepts(made, below=Location.from_url(url).key)


@pytest.mark.parametrize("root", ["s3://show/renders", "s3://show", "s3://{source}"])
def test_a_root_that_mixes_media_with_sources_is_refused_unless_they_can_be_told_apart(root: str) -> None:
    place = OutputPlace(root, ("s3://show/renders",))
    with pytest.raises(MisconfiguredError) as caught:
        SourceRule.of(["exr", "movie"], place)
    assert caught.value.setting == "EXR_PIPELINE_OUTPUT_ROOT"
    rule = SourceRule.of(["exr", "dpx"], place)
    assert rule.accepts(s3("renders/x.exr"))
    assert not rule.accepts(place.at(s3("renders/x.exr"), "proxy.mp4"))


def test_only_the_kinds_asked_for_are_sources() -> None:
    keys = {"x.exr": "exr", "x.DPX": "dpx", "x.tiff": "image", "x.mxf": "movie", "x.aif": "audio", "x.txt": None}
    found = {key: format_of_name(f"a.b/{key}") for key in keys}
    assert {key: one.kind if one else None for key, one in found.items()} == keys
    assert [key for key in keys if is_source(key, kinds=["dpx", "audio"])] == ["x.DPX", "x.aif"]


@given(
    st.lists(st.sampled_from(["a", "a/b", "b", "b/a", "a/b/c", "c"]), min_size=1, max_size=4, unique=True),
    st.sampled_from(["s3://media/{source}", "s3://media/{source}/", "s3://media/{source}/a/b", "s3://media/out"]),
    st.lists(
        st.builds(
            lambda folder, name: f"{folder}/{name}",
            st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6).map("/".join),
            st.sampled_from(["x.exr", "x.dpx"]),
        ),
        min_size=2,
        max_size=30,
        unique=True,
    ),
)
def test_a_root_for_several_sources_keeps_their_files_apart_or_is_refused(
    prefixes: list[str], root: str, keys: list[str]
) -> None:
    sources = [f"s3://show/{prefix}" for prefix in prefixes]
    inside = [key for key in keys if any(key.startswith(f"{prefix}/") for prefix in prefixes)]
    try:
        thumbnails = {OutputPlace(root, tuple(sources)).at(s3(key), "thumb.jpg") for key in inside}
    except MisconfiguredError:
        thumbnails = None
    if thumbnails is None:
        assert len(sources) > 1
    else:
        assert len(thumbnails) == len(inside)


def test_a_root_receives_the_path_below_the_longest_source_that_contains_the_file() -> None:
    place = OutputPlace("gs://media/out/{source}", ("s3://show/renders", "s3://show/renders/shot 1/"))
    assert place.at(s3("renders/shot 1/v1/x.exr"), "thumb.jpg") == Location(
        "gs", "media", "out/show/renders/shot 1/v1/x_thumb.jpg"
    )
    place = OutputPlace("file:///media", ("s3://show/renders",))
    assert place.at(s3("renders/v1/x.exr"), "proxy.mp4") == Location("file", "", "media/v1/x_proxy.mp4")


@pytest.mark.parametrize(
    ("root", "sources", "key"),
    [
        ("s3://media/out", ["s3://show/a", "s3://show/b"], "a/x.exr"),
        ("s3://media/{source}/m", ["s3://show/a", "s3://show/a/b"], "a/x.exr"),
        ("s3://media/x{source}", ["s3://show/a", "s3://show/b"], "a/x.exr"),
        ("s3://media/{source}", ["s3://show/a", "file:///show/a"], "a/x.exr"),
        ("s3://media/out", ["s3://show/shot_01"], "shot_010/x.exr"),
        ("s3://media/out", [], "a/x.exr"),
        ("media/out", ["s3://show"], "a/x.exr"),
    ],
)
def test_a_root_that_could_mix_files_up_is_refused_with_its_name(root: str, sources: list[str], key: str) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        OutputPlace(root, tuple(sources)).at(s3(key), "thumb.jpg")
    assert caught.value.setting == "EXR_PIPELINE_OUTPUT_ROOT"
