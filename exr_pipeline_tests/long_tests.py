"""Tests that `make test` leaves out because of their time: `.ci/run` has them all.

Belongs here: the mark, and who has it. Not here: kills and benchmarks, which have numbers of their own to choose.
"""

import os

import pytest

takes_long = pytest.mark.skipif(
    "EXR_PIPELINE_TEST_LONG" not in os.environ, reason="NOT TESTED: takes long; EXR_PIPELINE_TEST_LONG=1 tries it"
)


def is_long(test: pytest.Item) -> bool:
    """Whether a test takes minutes where all are tried: it is marked so, or it kills what works, again and again."""
    reasons = [str(mark.kwargs.get("reason", "")) for mark in test.iter_markers("skipif")]
    return test.path.parent.name == "faults" or any(reason.startswith("NOT TESTED: ") for reason in reasons)
