"""The fuzz target: `python -m fuzz.target CORPUS_FOLDER [libFuzzer options]`, with Atheris beside the project.

Belongs here: joining the fuzzer and the oracle. Not here: what is judged (`oracle`).
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["exr_pipeline"]):
    from fuzz.oracle import examine_within_bounds


def main() -> None:
    """Run until something is found or the options say so."""
    atheris.Setup(sys.argv, examine_within_bounds)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
