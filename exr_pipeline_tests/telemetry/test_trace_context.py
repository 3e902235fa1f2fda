"""The text that names a trace: checked, since anybody may send it, and kept for as long as a block lasts."""

from __future__ import annotations

import asyncio

import pytest

from exr_pipeline.telemetry.recording import span, stage
from exr_pipeline.telemetry.trace_context import current_traceparent, ids_of, in_trace, is_traceparent, traceparent_of

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_is_known_by_its_form() -> None:
    assert is_traceparent(GOOD)
    assert ids_of(GOOD) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert traceparent_of(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", None, 5, GOOD + "\n", GOOD.upper(), " " + GOOD, GOOD[:-1], GOOD + "-00", "ff" + GOOD[2:]),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\x1b-01",
    ],
)
def test_what_is_none_is_no_traceparent(text: object) -> None:
    assert not is_traceparent(text)


def test_without_a_tracer_the_trace_of_an_event_is_passed_on_as_it_is() -> None:
    assert current_traceparent() is None
    with span("outer", parent=GOOD) as given:
        assert given == GOOD
        with span("inner") as inner, stage("fetch"):
            assert inner == current_traceparent() == GOOD
    assert current_traceparent() is None


def test_a_text_that_is_no_traceparent_begins_nothing() -> None:
    with span("outer", parent="'; DROP TABLE outbox; --") as given:
        assert given is None


def test_tasks_side_by_side_have_their_own_traces() -> None:
    other = GOOD.replace("0af7", "1bf8")

    async def work(traceparent: str) -> str | None:
        with in_trace(traceparent):
            await asyncio.sleep(0)
            return await asyncio.to_thread(current_traceparent)

    async def both() -> list[str | None]:
        return list(await asyncio.gather(work(GOOD), work(other)))

    assert asyncio.run(both()) == [GOOD, other]
