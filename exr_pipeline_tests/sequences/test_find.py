"""Which files are a sequence, in which order, and which one somebody means."""

import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.sequences import Sequence, find_sequences, number_in, resolve_sequence
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage

SHOT = Location("s3", "renders", "show/shot/")


def found(*names: str, **options: object) -> list[Sequence]:
    return find_sequences([SHOT.child(name) for name in names], **options)  # type: ignore[arg-type]


def patterns(*names: str, **options: object) -> list[tuple[str, str]]:
    return [(sequence.pattern, sequence.frame_range) for sequence in found(*names, **options)]


def test_frames_are_grouped_by_what_is_around_their_number() -> None:
    names = ["a.1001.exr", "a.1003.exr", "a.1002.exr", "b_1001.exr", "b_1002.exr", "a.1001.dpx", "a.1002.dpx", "x.exr"]
    assert patterns(*names) == [("a.####.dpx", "1001-1002"), ("a.####.exr", "1001-1003"), ("b_####.exr", "1001-1002")]


def test_one_frame_is_a_sequence_only_when_asked() -> None:
    assert patterns("a.1001.exr") == []
    assert patterns("a.1001.exr", singles=True) == [("a.####.exr", "1001")]


def test_frames_are_sorted_by_number_not_by_text() -> None:
    (sequence,) = found("a.10.exr", "a.9.exr", "a.100.exr", "a.8.exr")
    assert [int(frame.number) for frame in sequence.frames] == [8, 9, 10, 100]
    assert (sequence.pattern, sequence.padding) == ("a.#.exr", 1)


def test_frames_of_another_padding_are_another_sequence() -> None:
    assert patterns("a.1.exr", "a.2.exr", "a.0001.exr", "a.0002.exr", "a.10000.exr") == [
        ("a.####.exr", "1-2,10000"),
        ("a.#.exr", "1-2"),
    ]


@pytest.mark.parametrize("first", ["a.-0001.exr", "a.-001.exr"])
def test_negative_frames_come_first_in_the_same_sequence_whichever_way_they_are_padded(first: str) -> None:
    (sequence,) = found("a.0000.exr", "a.0001.exr", first)
    assert [int(frame.number) for frame in sequence.frames] == [-1, 0, 1]
    assert sequence.pattern == "a.####.exr"
    assert sequence.missing_count == 0


def test_sub_frames_are_exact_and_leave_no_gap() -> None:
    (sequence,) = found("a.1001.exr", "a.1002.exr", "a.1001.5.exr", "a.1001.25.exr", "a.1004.exr")
    assert [frame.number for frame in sequence.frames] == [
        Decimal(n) / 100 for n in (100100, 100125, 100150, 100200, 100400)
    ]
    assert sequence.has_sub_frames
    assert list(sequence.missing()) == []
    assert sequence.name_of(Decimal("1001.5")) == "a.1001.5.exr"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a.1001.exr", "1001"),
        ("a.10010.exr", "10010"),
        ("a.-001.exr", "-1"),
        ("a.-0001.exr", "-1"),
        ("a.1001.5.exr", "1001.5"),
        ("a.0001.exr", "1"),
        ("a.00001.exr", None),
        ("a.001.exr", None),
        ("b.1001.exr", None),
        ("a.1001.dpx", None),
        ("a.exr", None),
        ("a.\u0661\u0660\u0660\u0661.exr", None),
    ],
)
def test_a_name_has_a_number_in_a_sequence_or_is_none_of_its_frames(name: str, number: str | None) -> None:
    assert number_in("a.####.exr", name) == (None if number is None else Decimal(number))


def test_a_version_before_the_number_is_no_part_of_it() -> None:
    assert patterns("a_v002.1001.exr", "a_v002.1002.exr") == [("a_v002.####.exr", "1001-1002")]
    assert patterns("sc_010.0050.exr", "sc_010.0051.exr") == [("sc_010.####.exr", "50-51")]


@pytest.mark.parametrize(
    "name", ["img{:04}.exr", "IMG{:04}.png", "beauty-{:04}.exr", "frame{}.exr", "mov{:04}.exr", "a (1) {:03}.tif"]
)
def test_a_number_without_a_separator_is_a_frames_if_three_files_say_so(name: str) -> None:
    names = [name.format(number) for number in (8, 9, 10)]
    (sequence,) = found(*names)
    assert sequence.frame_range == "8-10"
    assert [sequence.name_of(number) for number in (8, 9, 10)] == names
    assert found(*names[:2]) == [], "two are no evidence"
    assert found(*names[:2], singles=True) == []


@pytest.mark.parametrize(
    "names",
    [
        ["img1.exr", "img02.exr", "img003.exr"],
        ["img0001.exr", "img0002.exr", "pic0003.exr"],
        ["comp_v001.exr", "comp_v002.exr", "comp_v003.exr"],
        ["compv001.exr", "compv002.exr", "compv003.exr"],
        ["compV0001.exr", "compV0002.exr", "compV0003.exr"],
        ["x_take1.exr", "x_take2.exr", "x_take3.exr"],
        ["version-1.exr", "version-2.exr", "version-3.exr"],
        ["rev0001.png", "rev0002.png", "rev0003.png"],
        ["a12345678901.exr", "a12345678902.exr", "a12345678903.exr"],
        ["clip1.mov", "clip2.mov", "clip3.mov"],
    ],
)
def test_numbers_of_several_paddings_names_versions_and_movies_are_no_frames(names: list[str]) -> None:
    assert found(*names) == []


def test_a_number_without_a_separator_is_of_the_padding_that_most_files_have() -> None:
    names = [f"img{number:04}.exr" for number in (1, 2, 3)]
    assert patterns(*names, "img7.exr", "img.0001.exr", "img.0002.exr") == [
        ("img####.exr", "1-3"),
        ("img.####.exr", "1-2"),
    ]


@pytest.mark.parametrize("name", ["wood_udim.{}.exr", "textures/wood.{}.exr", "tex/wood_{}.exr"])
def test_tiles_of_a_texture_are_no_frames(name: str) -> None:
    tiles = [name.format(tile) for tile in (1001, 1002, 1011)]
    assert patterns(*tiles) == []
    assert len(found(*tiles, udim="")) == 1
    assert len(found(*tiles, name.format(2001))) == 1, "2001 is no tile"
    assert len(found("beauty.1001.exr", "beauty.1002.exr")) == 1
    assert patterns("beauty.1001.exr", "beauty.1002.exr", udim="beauty") == []


def test_a_wrong_expression_for_tiles_names_its_setting() -> None:
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_UDIM_HINT"):
        found("a.1.exr", udim="(")


def test_views_are_sequences_of_their_own() -> None:
    names = ["a_left.1001.exr", "a_left.1002.exr", "a.r.1001.exr", "a.r.1002.exr", "R/a.1001.exr", "R/a.1002.exr"]
    assert {(s.pattern, s.view) for s in found(*names)} == {
        ("a_left.####.exr", "left"),
        ("a.r.####.exr", "right"),
        ("a.####.exr", "right"),
    }


def test_what_is_missing_is_counted_without_listing_it() -> None:
    (sequence,) = found("a.1001.exr", "a.1004.exr", "a.1006.exr")
    assert list(sequence.missing()) == [1002, 1003, 1005]
    (sequence,) = found("a.1.exr", "a.2000000000.exr")
    assert sequence.missing_count == 1_999_999_998


def test_the_key_stays_when_frames_come_and_leads_back_to_the_pattern() -> None:
    (before,) = found("a b.1001.exr", "a b.1002.exr")
    (after,) = found("a b.1001.exr", "a b.1002.exr", "a b.1003.exr")
    assert before.key == after.key
    assert set(before.key) <= set("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_.~")
    assert Location.from_partition_key(before.key) == SHOT.child("a b.####.exr")
    assert before.url == "s3://renders/show/shot/a%20b.####.exr"


@pytest.fixture
def local(tmp_path: Path) -> ObjectStorage:
    for name in ("a.1001.exr", "a.1002.exr", "a.1004.exr", "b.0998.exr", "b.0999.exr", "one.exr", ".a.1003.exr"):
        (tmp_path / "shot").mkdir(exist_ok=True)
        (tmp_path / "shot" / name).write_bytes(b"x")
    for view in ("left", "right"):
        (tmp_path / "stereo" / view).mkdir(parents=True)
        for frame in (1, 2):
            (tmp_path / "stereo" / view / f"c{frame:03}.exr").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return ObjectStorage(Settings(_env_file=None))


def resolved(storage: ObjectStorage, folder: Path, argument: str) -> Sequence:
    return resolve_sequence(Location("file", "", f"{folder}/{argument}".lstrip("/")), storage)


@pytest.mark.parametrize(
    ("argument", "frames"),
    [
        ("shot/a.####.exr", "1001-1002,1004"),
        ("shot/a.@@@@.exr", "1001-1002,1004"),
        ("shot/a.%04d.exr", "1001-1002,1004"),
        ("shot/a.$F4.exr", "1001-1002,1004"),
        ("shot/a.#.exr", "1001-1002,1004"),
        ("shot/a.1002-1010####.exr", "1002,1004"),
        ("shot/a.", "1001-1002,1004"),
        ("shot/a.1001.exr", "1001"),
        ("shot/one.exr", "1"),
        ("stereo/left", "1-2"),
        ("stereo/left/c###.exr", "1-2"),
    ],
)
def test_a_sequence_is_named_by_pattern_folder_beginning_or_file(
    local: ObjectStorage, tmp_path: Path, argument: str, frames: str
) -> None:
    if argument == "stereo/left":
        for path in (tmp_path / argument).iterdir():
            path.rename(path.with_name(path.name.replace("c", "c.")))
    sequence = resolved(local, tmp_path, argument)
    assert sequence.frame_range == frames
    assert all(frame.etag for frame in sequence.frames)


def test_a_number_that_is_too_short_for_the_pattern_is_not_of_it(local: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no frames of a sequence found"):
        resolved(local, tmp_path, "shot/a.#####.exr")


@pytest.mark.parametrize("argument", ["shot/", "stereo/%V/c###.exr"])
def test_several_sequences_are_listed(local: ObjectStorage, tmp_path: Path, argument: str) -> None:
    with pytest.raises(BadInputError, match="2 sequences found, give one") as error:
        resolved(local, tmp_path, argument)
    for name in ("a.####.exr (1001", "b.####.exr (998") if argument == "shot/" else ("left/c", "right/c"):
        assert name in str(error.value)


@pytest.mark.parametrize("argument", ["empty/", "nowhere/", "nowhere/a.####.exr", "shot/z.####.exr"])
def test_no_sequence_is_bad_input_that_names_the_place(local: ObjectStorage, tmp_path: Path, argument: str) -> None:
    with pytest.raises(BadInputError, match="no frames of a sequence") as error:
        resolved(local, tmp_path, argument)
    assert argument in str(error.value)


def test_a_sequence_in_a_bucket_is_found_by_each_way_of_naming_it(storage: ObjectStorage, bucket: Location) -> None:
    for frame in (1001, 1002):
        storage.write(bucket.child(f"x/a.{frame}.exr"), b"x", content_type="image/x-exr", tags={})
    for key in ("x/a.####.exr", "x/", "x", "x/a", "x/a.%04d.exr"):
        sequence = resolve_sequence(bucket.child(key), storage)
        assert sequence.frame_range == "1001-1002"
        assert resolve_sequence(Location.from_partition_key(sequence.key), storage) == sequence
        numbers = [number_in(sequence.pattern, frame.location.name) for frame in sequence.frames]
        assert numbers == [frame.number for frame in sequence.frames]


# What other patterns, URLs, shells and regular expressions give a meaning to, and what they don't.
PATTERN_LIKE = "# ## @ @@ %d %04d %V %v $F $F4 <UDIM> %(UDIM)d %23 %2F % - -- 1- -1 1-2 1,2 9x 9: ( [ {0} \\"
SPECIAL = "* + ? ^ $ | ~ ~~23 ' ; & é e\u0301 名 \U0001f3ac . .. _ v2 v002. r. a B"
ODD = st.sampled_from([*PATTERN_LIKE.split(), *SPECIAL.split(), " ", "\t", "\n"])
PREFIXES = st.lists(ODD, min_size=1, max_size=5).map("".join)
ENDS = st.sampled_from(["", ".", "_"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefixes=st.lists(PREFIXES, min_size=1, max_size=3, unique=True), data=st.data())
def test_every_name_that_is_listed_resolves(prefixes: list[str], data: st.DataObject, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    padding = data.draw(st.integers(1, 5))
    ends = data.draw(ENDS)
    for prefix in prefixes:
        for number in data.draw(st.lists(st.integers(0, 1200), min_size=2, max_size=4, unique=True)):
            (folder / f"{prefix}{ends}{number:0{padding}}.exr").write_bytes(b"x")
    storage = ObjectStorage(Settings(_env_file=None))
    objects = storage.iter_objects(Location.from_url(folder.as_uri()).as_folder())

    # Files whose name begins with a dot are hidden: no command lists them.
    listed = find_sequences((info for info in objects if not info.location.name.startswith(".")), udim="")

    for sequence in listed:
        assert resolve_sequence(sequence.location, storage) == sequence
        assert resolve_sequence(Location.from_url(sequence.url), storage) == sequence
        assert resolve_sequence(Location.from_partition_key(sequence.key), storage) == sequence


@pytest.mark.parametrize(
    "prefix", ["take#2.", "a@b.", "100%d.", "x%04d_", "v2-", "shot-1-2.", "%V.", "$F4.", "<UDIM>."]
)
def test_a_pattern_of_another_spelling_means_the_number_behind_what_looks_like_one(tmp_path: Path, prefix: str) -> None:
    for number in (1, 2):
        (tmp_path / f"{prefix}{number:04}.exr").write_bytes(b"x")
    storage = ObjectStorage(Settings(_env_file=None))

    for token in ("@@@@", "%04d", "$F4", "#"):
        if prefix != "%V.":  # Typed by hand, that is any view.
            assert resolved(storage, tmp_path, f"{prefix}{token}.exr").frame_range == "1-2"


def test_digits_before_the_pattern_are_a_range_only_if_no_file_is_called_so(tmp_path: Path) -> None:
    for name in ("a_v2.1001.exr", "a_v2.1002.exr", "a_v2.1003.exr", "b.1-2.0007.exr", "b.1-2.0008.exr"):
        (tmp_path / name).write_bytes(b"x")
    storage = ObjectStorage(Settings(_env_file=None))

    assert resolved(storage, tmp_path, "a_v2.1002-1003####.exr").frame_range == "1002-1003"
    assert resolved(storage, tmp_path, "b.1-2.####.exr").frame_range == "7-8"


@pytest.mark.parametrize("pattern", ["a.1-2-3####.exr", "v2-####.exr", "a.9x####.exr"])
def test_a_pattern_that_nothing_fits_says_so_without_a_librarys_words(
    local: ObjectStorage, tmp_path: Path, pattern: str
) -> None:
    with pytest.raises(BadInputError, match=r"no frames of a sequence found$"):
        resolved(local, tmp_path, f"shot/{pattern}")


def test_a_file_whose_name_looks_like_a_pattern_is_one_frame(storage: ObjectStorage, bucket: Location) -> None:
    storage.write(bucket.child("x/take#2.exr"), b"x", content_type="image/x-exr", tags={})
    assert resolve_sequence(bucket.child("x/take#2.exr"), storage).frame_range == "1"
