"""Files that arrive while things are killed.

Belongs here: their names and bytes. Not here: writing them.
"""

from collections.abc import Iterator

from exr_pipeline_tests.renders import render, truncated, with_bad_pixels


def files(count: int) -> Iterator[tuple[str, bytes, bool]]:
    """Names and bytes of tiny renders, some of which are bad, each in its way; and whether they are good."""
    bad = {7: truncated(), 17: b"not an EXR", 27: with_bad_pixels(), 37: b""}
    for index in range(count):
        data = bad.get(index % 50)
        good = data is None
        yield f"show/beauty.{index:04d}.exr", render(0.1 + index / 1000) if data is None else data, good
