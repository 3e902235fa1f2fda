"""What functions-framework starts: `functions-framework --target handler --signature-type cloudevent`."""

from exr_pipeline.functions.cloud_run import handler

__all__ = ["handler"]
