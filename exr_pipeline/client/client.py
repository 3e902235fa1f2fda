"""The client for threads: one method for each thing that programs do with the catalog.

Belongs here: those methods. Not here: retries (`calls`), or how files are sent and fetched (`uploads`, `downloads`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from exr_pipeline.client.answers import Asset, Event, MediaObject, OnProgress, Progress, Transfer
from exr_pipeline.client.calls import PATIENCE_SECONDS, Calls, RefusedError
from exr_pipeline.client.downloads import Download
from exr_pipeline.client.journal import Journal, usual_folder
from exr_pipeline.client.parts import Pause
from exr_pipeline.client.uploads import Upload
from exr_pipeline.errors import BadInputError

PARALLEL = 4
_PAGE = 500


def ignore(_: Progress) -> None:
    """Report nothing."""


class Client:
    """The catalog at one or more servers, which are all the same. Safe to share between threads; a context manager.

    Methods raise `RefusedError` for what the catalog refuses, and `RetryableError` if no server answers for `patience`
    seconds. `journals`: the folder of notes from which an upload goes on in another process.
    """

    def __init__(
        self,
        servers: Sequence[str],
        token: str,
        *,
        patience: float = PATIENCE_SECONDS,
        journals: Path | None = None,
    ) -> None:
        self._calls = Calls(servers, token, patience=patience)
        self._journals = journals or usual_folder()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._calls.close()

    def assets(
        self,
        words: str = "",
        *,
        project: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        tags: Sequence[str] = (),
    ) -> Iterator[Asset]:
        """Assets, latest made first: `words` are part of the folder or the name, and all `tags` are theirs."""
        cursor = None
        while True:
            page = self._calls.get(
                "/v1/assets",
                q=words,
                project=project,
                kind=kind,
                status=status,
                tag=list(tags),
                cursor=cursor,
                limit=_PAGE,
            )
            yield from map(Asset.of, page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def asset(self, project: str, name: str) -> Asset:
        """The one asset of a name. Raises `BadInputError` if there is none, or more than one."""
        found = [asset for asset in self.assets(name, project=project) if asset.name == name]
        if len(found) != 1:
            problem = "there is no such asset" if not found else f"there are {len(found)} of this name"
            raise BadInputError(f"{project}/{name}", problem)
        return found[0]

    def create_asset(self, project: str, name: str, *, kind: str = "file", folder: str = "") -> Asset:
        """A new asset without media."""
        body = {"project": project, "name": name, "kind": kind, "folder": folder}
        return Asset.of(self._calls.post("/v1/assets", body))

    def set_tags(self, asset: Asset, tags: Sequence[str]) -> Asset:
        """Give an asset exactly these tags, if it still is as it was read."""
        path, headers = f"/v1/assets/{asset.id}/tags", {"If-Match": f'"{asset.version}"'}
        return Asset.of(self._calls.ask("PUT", path, json={"tags": list(tags)}, headers=headers).json())

    def media(self, asset: Asset) -> list[MediaObject]:
        """The media objects of an asset."""
        return [MediaObject.of(each) for each in self._calls.get(f"/v1/assets/{asset.id}/media")]

    def events(self, after: int = 0, *, limit: int = 100) -> list[Event]:
        """What was done after an event, by its number, oldest first."""
        return [Event.of(each) for each in self._calls.get("/v1/events", after=after, limit=limit)]

    def watch(self, after: int = 0, *, seconds: float = 1.0) -> Iterator[Event]:
        """What is done, as it happens, without an end: the catalog is asked every `seconds`."""
        while True:
            found = self.events(after, limit=_PAGE)
            yield from found
            after = found[-1].seq if found else after
            if not found:
                time.sleep(seconds)

    def transfer(self, transfer_id: str) -> Transfer:
        """How far a transfer is."""
        return Transfer.of(self._calls.get(f"/v1/transfers/{quote(transfer_id, safe='')}"))

    def cancel(self, transfer_id: str) -> Transfer:
        """End a transfer. What has arrived is removed."""
        return Transfer.of(self._calls.ask("DELETE", f"/v1/transfers/{quote(transfer_id, safe='')}").json())

    def replicate(self, media: MediaObject, location: str) -> Transfer:
        """Have a media object copied to another location. `transfer` says how far that is."""
        return Transfer.of(self._calls.post(f"/v1/media/{media.id}/replicate", {"location": location}))

    def put(
        self,
        path: Path,
        *,
        project: str,
        name: str,
        kind: str = "file",
        role: str = "source",
        location: str | None = None,
        part_size: int | None = None,
        parallel: int = PARALLEL,
        direct: bool = False,
        pause: threading.Event | None = None,
        report: OnProgress = ignore,
    ) -> MediaObject:
        """Send a file as a media object of an asset, which is made if there is none, and return it when it is verified.

        With `direct`, parts go straight to the store where it can be reached, else through a server. Once `pause` is
        set, it raises `PausedError`. The same call goes on with what was paused or broken off, in this process or in
        another. Raises `BadInputError` for a file that is changed meanwhile or not stored.
        """
        asset = self._asset_for(project, name, kind)
        wanted = {
            "asset_id": asset.id,
            "filename": path.name,
            "role": role,
            "location": location,
            "part_size": part_size,
        }
        journal = Journal.of_upload(self._journals, str(path.resolve()), asset.id, role, location or "")
        upload = Upload(self._calls, path, wanted, journal, Pause(pause), report, parallel, direct)
        done = upload.run()
        return next(media for media in self.media(asset) if media.id == done.media_id)

    def get(
        self,
        media: MediaObject,
        path: Path,
        *,
        parallel: int = PARALLEL,
        direct: bool = False,
        pause: threading.Event | None = None,
        report: OnProgress = ignore,
    ) -> None:
        """Fetch a media object into a file, which is there once its SHA-256 is verified.

        `direct`, `pause` and going on are as for `put`.
        """
        Download(self._calls, media, path, Pause(pause), report, parallel, direct).run()

    def _asset_for(self, project: str, name: str, kind: str) -> Asset:
        try:
            return self.create_asset(project, name, kind=kind)
        except RefusedError as error:
            if error.status != 409:
                raise
        found = [
            asset for asset in self.assets(name, project=project, kind=kind) if (asset.name, asset.folder) == (name, "")
        ]
        return found[0]


def source_of(media: Sequence[MediaObject], role: str = "source") -> MediaObject:
    """The media object of a role that is ready, the latest if there are several."""
    found = [each for each in media if each.role == role and each.status == "ready"]
    if not found:
        raise BadInputError(role, "the asset has no such media object that is ready")
    return max(found, key=lambda each: each.id)
