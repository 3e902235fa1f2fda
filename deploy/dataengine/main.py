"""What VAST DataEngine starts: `vastde functions build NAME -t deploy/dataengine -H main.py`."""

from exr_pipeline.functions.dataengine import handler, init

__all__ = ["handler", "init"]
