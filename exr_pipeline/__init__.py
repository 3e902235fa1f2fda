"""Ingestion of rendered images: OpenEXR, DPX and other files become metadata, pictures and tables.

Domain packages (`exr`, `inspection`, `pictures`, `storage`, `tables`, `ingest`, `sample`) are plain Python;
only `orchestration` and `definitions` know Dagster.
"""

__version__ = "0.1.0"
