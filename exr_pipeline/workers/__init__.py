"""Processes that decode what comes from outside, with limits of memory and time."""
