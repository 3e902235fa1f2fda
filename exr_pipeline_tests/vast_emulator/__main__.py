"""Entry point of `python -m exr_pipeline_tests.vast_emulator`."""

from exr_pipeline_tests.vast_emulator.server import main

main()
