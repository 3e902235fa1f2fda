"""The sample show: a small, realistic set of renders with honest trouble in it, drawn by code.

Belongs here: scenes, shots and their writers. Not here: where the files go (the caller's `put`) or ingesting them.
"""

from exr_pipeline.sample.facts import ExpectedPart, ShowFile, ShowSequence, ShowSummary, Trouble
from exr_pipeline.sample.show import write_show

__all__ = ["ExpectedPart", "ShowFile", "ShowSequence", "ShowSummary", "Trouble", "write_show"]
