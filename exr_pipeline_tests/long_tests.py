"""Tests that `make test` leaves out because of their time: `.ci/run` has them all.

Belongs here: the mark. Not here: kills and benchmarks, which have numbers of their own to choose.
"""

import os

import pytest

takes_long = pytest.mark.skipif(
    "EXR_PIPELINE_TEST_LONG" not in os.environ, reason="NOT TESTED: takes long; EXR_PIPELINE_TEST_LONG=1 tries it"
)
