"""Hostile headers: what must hold for any bytes, files to start from, and a coverage-guided fuzz target.

Belongs here: what tests and the fuzzer share about bad bytes. Not here: assertions about good files.
"""
