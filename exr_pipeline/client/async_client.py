"""The client for an event loop: the methods of `Client`, each in a thread.

Belongs here: that, and that a task which is cancelled pauses its transfer. Not here: what a method does (`client`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

from exr_pipeline.client.answers import Asset, Event, MediaObject, Transfer
from exr_pipeline.client.calls import PATIENCE_SECONDS
from exr_pipeline.client.client import Client


class AsyncClient:
    """As `Client`, which see: the arguments are the same. `report` is called in another thread."""

    def __init__(
        self, servers: Sequence[str], token: str, *, patience: float = PATIENCE_SECONDS, journals: Path | None = None
    ) -> None:
        self._client = Client(servers, token, patience=patience, journals=journals)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.to_thread(self._client.close)

    async def assets(self, words: str = "", **wanted: Any) -> list[Asset]:
        """All assets that `Client.assets` yields."""
        return await asyncio.to_thread(lambda: list(self._client.assets(words, **wanted)))

    async def asset(self, project: str, name: str) -> Asset:
        """The one asset of a name."""
        return await asyncio.to_thread(self._client.asset, project, name)

    async def create_asset(self, project: str, name: str, *, kind: str = "file", folder: str = "") -> Asset:
        """A new asset without media."""
        return await asyncio.to_thread(self._client.create_asset, project, name, kind=kind, folder=folder)

    async def set_tags(self, asset: Asset, tags: Sequence[str]) -> Asset:
        """Give an asset exactly these tags."""
        return await asyncio.to_thread(self._client.set_tags, asset, tags)

    async def media(self, asset: Asset) -> list[MediaObject]:
        """The media objects of an asset."""
        return await asyncio.to_thread(self._client.media, asset)

    async def watch(self, after: int = 0, *, seconds: float = 1.0) -> AsyncIterator[Event]:
        """What is done, as it happens, without an end."""
        while True:
            found = await asyncio.to_thread(self._client.events, after)
            for event in found:
                yield event
                after = event.seq
            if not found:
                await asyncio.sleep(seconds)

    async def transfer(self, transfer_id: str) -> Transfer:
        """How far a transfer is."""
        return await asyncio.to_thread(self._client.transfer, transfer_id)

    async def cancel(self, transfer_id: str) -> Transfer:
        """End a transfer."""
        return await asyncio.to_thread(self._client.cancel, transfer_id)

    async def replicate(self, media: MediaObject, location: str) -> Transfer:
        """Have a media object copied to another location."""
        return await asyncio.to_thread(self._client.replicate, media, location)

    async def put(self, path: Path, *, project: str, name: str, **options: Any) -> MediaObject:
        """Send a file; a task that is cancelled pauses it."""
        with _pausing() as pause:
            return await asyncio.to_thread(self._client.put, path, project=project, name=name, pause=pause, **options)

    async def get(self, media: MediaObject, path: Path, **options: Any) -> None:
        """Fetch a media object into a file; a task that is cancelled pauses it."""
        with _pausing() as pause:
            await asyncio.to_thread(self._client.get, media, path, pause=pause, **options)


class _pausing:  # noqa: N801 - it is used as a statement
    """An event that is set when the block is left by an error, such as that the task was cancelled."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __enter__(self) -> threading.Event:
        return self._event

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._event.set()
