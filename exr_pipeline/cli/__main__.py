"""`python -m exr_pipeline.cli`: the command line without its installed script."""

from exr_pipeline.cli import main

main()
