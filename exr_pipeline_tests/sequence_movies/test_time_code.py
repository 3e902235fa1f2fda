"""Time codes against a count done one frame at a time."""

from fractions import Fraction

import pytest

from exr_pipeline.sequence_movies.time_code import counted_rate, to_frames, to_text

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(("rate", "dropped"), [(NTSC, 2), (Fraction(60000, 1001), 4)])
def test_drop_frame_skips_the_first_numbers_of_each_minute_but_every_tenth(rate: Fraction, dropped: int) -> None:
    per_second = counted_rate(rate)
    assert per_second is not None
    expected = (
        f"{minute // 60:02}:{minute % 60:02}:{second:02};{frame:02}"
        for minute in range(11)
        for second in range(60)
        for frame in range(per_second)
        if not (second == 0 and frame < dropped and minute % 10)
    )
    for count, text in enumerate(expected):
        assert to_text(count, rate, drop=True) == text
        assert to_frames(text, rate) == count


def test_an_hour_of_drop_frame_is_an_hour_of_frames() -> None:
    assert to_text(round(3600 * NTSC), NTSC, drop=True) == "01:00:00;00"


def test_without_drop_every_number_counts_and_a_day_ends_at_midnight() -> None:
    assert to_text(86400 * 24 - 1, Fraction(24000, 1001), drop=False) == "23:59:59:23"
    assert to_text(86400 * 24, Fraction(24), drop=True) == "00:00:00:00"
    assert to_text(-1, Fraction(25), drop=False) == "23:59:59:24"


@pytest.mark.parametrize("text", ["", "1:2:3:4", "24:00:00:00", "00:60:00:00", "00:00:00:24", "01:00:00:0a"])
def test_what_is_no_time_code_is_none(text: str) -> None:
    assert to_frames(text, Fraction(24)) is None


def test_a_rate_that_time_codes_do_not_know_has_none() -> None:
    assert counted_rate(Fraction(12)) is None
    assert counted_rate(Fraction(23976, 1000)) is None
    assert to_frames("00:00:00:01", Fraction(12)) is None
    with pytest.raises(ValueError, match="no time code"):
        to_text(1, Fraction(12), drop=False)


@pytest.mark.parametrize("text", ["00:01:00;00", "00:01:00;01", "00:59:00;01"])
def test_a_number_that_drop_frame_skips_is_none(text: str) -> None:
    assert to_frames(text, NTSC) is None
    assert to_frames(text.replace("00;0", "00;1"), NTSC) is not None
    assert to_frames(text.replace(";", ":"), NTSC) is not None
