"""Sequences of frames: which files belong together, in which order, and which of them are missing."""

from exr_pipeline.sequences.find import find_sequences, number_in, resolve_sequence
from exr_pipeline.sequences.model import Frame, Sequence

__all__ = ["Frame", "Sequence", "find_sequences", "number_in", "resolve_sequence"]
