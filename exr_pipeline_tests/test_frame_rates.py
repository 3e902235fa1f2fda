"""Which rate a stated one stands for, and at which rate frames are shown: one rule for all that states a rate."""

from fractions import Fraction

import pytest

from exr_pipeline.frame_rates import DEFAULT_RATE, MEASURED, shown_rate


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ("2997/125", "24000/1001"),
        ("23976/1000", "24000/1001"),
        ("2398/100", "24000/1001"),
        ("2997/100", "30000/1001"),
        ("5994/100", "60000/1001"),
        ("11988/100", "120000/1001"),
        ("47952/1000", "48000/1001"),
        ("24000000/1000001", "24"),
        ("1234567891/98765432", "25/2"),
    ],
)
def test_a_rounded_fraction_becomes_the_rate_that_it_stands_for_and_is_said(stated: str, shown: str) -> None:
    rate, warning = shown_rate(Fraction(stated), text=stated)
    assert rate == Fraction(shown)
    assert stated in warning
    assert warning.endswith(f": {shown} is used")


@pytest.mark.parametrize(
    "stated", ["1/60", "1/24", "1", "12", "25/2", "15000/1001", "24000/1001", "24", "100/3", "2399/100", "120"]
)
def test_an_exact_rate_within_bounds_is_kept_without_a_word(stated: str) -> None:
    assert shown_rate(Fraction(stated), text=stated) == (Fraction(stated), "")


@pytest.mark.parametrize("stated", ["24000000/1", "121", "240", "1/61", "24/9502721", "0", "-24", None])
def test_a_rate_out_of_bounds_becomes_24_and_is_said(stated: str | None) -> None:
    rate, warning = shown_rate(None if stated is None else Fraction(stated), text=stated or "24/0")
    assert rate == DEFAULT_RATE == 24
    assert "between 1/60 and 120: 24 is used" in warning
    assert (stated or "24/0") in warning


def test_a_rate_found_from_times_is_rounded_less_than_one_that_people_write() -> None:
    assert shown_rate(Fraction("23.98"), within=MEASURED).rate == Fraction("23.98")
    assert shown_rate(Fraction("23.976"), within=MEASURED).rate == Fraction(24000, 1001)
