"""Movies, sounds and stills that are no renders: what they say of themselves, and the pictures made of them."""

from exr_pipeline.footage.model import MediaProbe, MediaStream

__all__ = ["MediaProbe", "MediaStream"]
