"""A job that prints, for the test of where the output of runs goes."""

import sys

import dagster as dg


@dg.op
def says_something() -> None:
    sys.stdout.write("frame 1001 is done\n")


@dg.job
def talkative() -> None:
    says_something()
