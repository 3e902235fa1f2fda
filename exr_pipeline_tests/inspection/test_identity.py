"""Identifiers: those of existing installations, so that rows join."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from exr_pipeline.inspection.identity import asset_id, file_id, frame_number, normalized_path, split_frame


def test_identifiers_are_those_of_existing_installations() -> None:
    mtime = datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)
    # sha256("a/b.1001.exr" "2026-04-02T10:11:12+00:00" md5("a/b.1001.exr")), computed with coreutils.
    assert file_id("a/b.1001.exr", mtime) == "adf034efaff0982b"
    assert asset_id("a/b.1001.exr") == "193f685438dd9317"


def test_a_time_in_another_zone_is_the_same_version() -> None:
    here = datetime(2026, 4, 2, 12, 11, 12, 345, tzinfo=timezone(timedelta(hours=2)))
    assert file_id("a", here) == file_id("a", here.astimezone(UTC))
    with pytest.raises(ValueError, match="time zone"):
        file_id("a", datetime(2026, 4, 2))


def test_keys_of_any_bytes_have_identifiers() -> None:
    key = b"caf\xe9/\xff.exr".decode("utf-8", "surrogateescape")
    assert len(asset_id(key)) == 16
    assert asset_id(key) != asset_id("caf/.exr")


@pytest.mark.parametrize(
    ("key", "frame"),
    [
        ("a/name.1001.exr", 1001),
        ("a/name_1001.exr", 1001),
        ("a/name.0007.exr", 7),
        ("a/name.-0012.exr", -12),
        ("a/1001.exr", 1001),
        ("name.v002.1001.exr", 1001),
        ("a/name.1001.25.exr", 1001),
        ("a/name_010.0001.exr", 1),
        ("a.1001/name.exr", None),
        ("a/name.exr", None),
        ("a/name_v002.exr", None),
        ("a/name1001.exr", None),
        ("a/name.1001", None),
        ("a/name.99999999999.exr", None),
        ("a/name.2147483647.exr", 2147483647),
        ("a/name.１００１.exr", None),
        ("", None),
    ],
)
def test_the_frame_number_is_the_digits_before_the_extension(key: str, frame: int | None) -> None:
    assert frame_number(key) == frame


def test_the_frames_of_a_sequence_share_their_stem() -> None:
    assert split_frame("a/b.1001.exr") == ("a/b.", 1001)
    assert split_frame("a/b.1002.exr")[0] == "a/b."
    assert split_frame("a/b.exr") == ("a/b", None)


def test_paths_are_normalized_to_lower_case_and_slashes() -> None:
    assert normalized_path("Shot\\A/Beauty.EXR") == "shot/a/beauty.exr"
