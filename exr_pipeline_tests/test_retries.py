"""The policy of failing and trying again, as plain decisions, and the loop that follows it."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from exr_pipeline.retries import POLICY, OutageError, RetryPolicy, try_each

NOON = datetime(2026, 4, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HASTY = replace(POLICY, first_pause_seconds=0)


class Flaky:
    """Things that succeed at the attempt of this number; `told` has the pauses as they were announced."""

    def __init__(self, succeeds_at: dict[str, int]) -> None:
        self.succeeds_at = succeeds_at
        self.asked: list[str] = []
        self.told: list[tuple[int, float, str]] = []

    def attempt(self, item: str) -> tuple[str, bool]:
        self.asked.append(item)
        return item, Counter(self.asked)[item] >= self.succeeds_at[item]

    def run(self, policy: RetryPolicy) -> list[tuple[str, bool]]:
        def trouble(result: tuple[str, bool]) -> str | None:
            return None if result[1] else f"{result[0]} is away"

        def paused(left: int, seconds: float, reason: str) -> None:
            self.told.append((left, seconds, reason))

        made = try_each(
            list(self.succeeds_at), self.attempt, trouble, policy, what="thing could be made", on_pause=paused
        )
        return list(made)


def test_what_is_in_trouble_is_tried_again_after_all_others_and_ends_after_the_last_attempt() -> None:
    things = Flaky({"a": 3, "b": 1, "c": 99})

    assert things.run(HASTY) == [("b", True), ("a", True), ("c", False)]
    assert "".join(things.asked) == "abc" + "ac" + "ac" + "c"
    assert things.told == [(2, 0, "c is away"), (2, 0, "c is away"), (1, 0, "c is away")]


def test_pauses_grow() -> None:
    assert POLICY.pauses == (1, 4, 16)
    assert POLICY.attempts_and_pauses == (1, 4, 16, None)
    assert replace(POLICY, attempts=1).attempts_and_pauses == (None,)


def test_an_outage_ends_it_before_all_have_had_their_attempts() -> None:
    things = Flaky({f"{number}": 99 for number in range(50)})

    with pytest.raises(OutageError, match=r"^no thing could be made for 0 s, 20 failures in a row: 19 is away$"):
        things.run(replace(HASTY, patience_seconds=0))

    assert len(things.asked) == 20


def test_one_success_among_failures_is_no_outage() -> None:
    things = Flaky({f"{number}": 1 if number % 10 == 0 else 99 for number in range(50)})

    made = things.run(replace(HASTY, patience_seconds=0, attempts=1))

    assert sum(is_made for _, is_made in made) == 5
    assert len(made) == 50


def test_what_stays_in_trouble_waits_twice_as_long_each_time_within_bounds() -> None:
    since = tried = NOON
    waits = []
    for _ in range(6):
        wait = next(
            minutes
            for minutes in range(1000)
            if POLICY.is_due(
                now=tried + minutes * MINUTE, last_tried=tried, failing_since=since, retry_after=5 * MINUTE
            )
        )
        waits.append(wait)
        tried += wait * MINUTE

    assert waits == [5, 5, 10, 20, 40, 60]


def test_a_step_is_run_as_often_as_the_policy_says() -> None:
    assert [POLICY.may_repeat_step(repeated) for repeated in range(4)] == [True, True, False, False]
