"""A client of the catalog for programs: assets, their media, and files that are sent and fetched in parts.

`Client` for threads, `AsyncClient` for an event loop. Both go on at another server where one does not answer.
"""

from exr_pipeline.client.answers import Asset, Event, MediaObject, Progress, Transfer
from exr_pipeline.client.async_client import AsyncClient
from exr_pipeline.client.calls import RefusedError
from exr_pipeline.client.client import Client
from exr_pipeline.client.parts import PausedError

__all__ = [
    "Asset",
    "AsyncClient",
    "Client",
    "Event",
    "MediaObject",
    "PausedError",
    "Progress",
    "RefusedError",
    "Transfer",
]
