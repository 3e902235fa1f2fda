"""Benchmarks: `python -m bench NAME… [--files N] [--json OUT]`; results and what they mean: docs/benchmarks.md.

Belongs here: what is compared, on inputs made on the spot. Not here: assertions about speed; machines differ.
"""
