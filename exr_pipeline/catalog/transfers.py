"""Transfers: the bytes of a media object on their way to a location, part by part, until they are verified.

Belongs here: what callers may ask about them, and their rows. Not here: the bytes (`transfer_steps`), or what happens
by itself (`transfer_work`). No transaction of these is open while bytes flow.

A transfer is `open` while parts come, `completing` while the store puts them together, `verifying` while they are read
back, and then `done` or `failed`; or it was `cancelled`, or `expired` after a long time without a part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import ConflictError, NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import (
    Asset,
    AssetMedia,
    Media,
    MediaLocation,
    Project,
    StorageLocation,
    Transfer,
    TransferPart,
)
from exr_pipeline.catalog.places import database_now, writable_location
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.catalog.projection import ACTOR, PROJECTED_ROLES
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import LARGEST_PART, MOST_PARTS, SMALLEST_PART, Part, Target
from exr_pipeline.storage.presigned import content_type

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

USUAL_PART: Final = 8 << 20
# Not quite all that a store takes, so that parts of whole MiB always suffice.
_USUAL_MOST_PARTS: Final = 9000
_MIB: Final = 1 << 20
LARGEST: Final = MOST_PARTS * LARGEST_PART
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ROLE: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_LONGEST_NAME: Final = 200
UNFINISHED: Final = ("open", "completing", "verifying")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class NewTransfer:
    """A file to be sent. `sha256` may be said at the end as well. `location`: by its name; None for the usual one."""

    asset_id: str
    filename: str
    size: int
    sha256: str | None = None
    role: str = "source"
    ordinal: int | None = None
    part_size: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer, the parts that the store has confirmed, and where its bytes go."""

    transfer: Transfer
    parts: Sequence[Part]
    root: Location

    @property
    def target(self) -> Target:
        """The object to be."""
        return Target(self.root, self.transfer.path)

    @property
    def count(self) -> int:
        """How many parts it has. Nothing is one part too."""
        return max(1, math.ceil(self.transfer.size / self.transfer.part_size))

    def place_of(self, number: int) -> tuple[int, int]:
        """Where a part begins, and its size. Raises `BadInputError` for a number that it does not have."""
        if not 1 <= number <= self.count:
            raise BadInputError("part", f"the parts of this transfer are 1 to {self.count}")
        start = (number - 1) * self.transfer.part_size
        return start, min(self.transfer.part_size, self.transfer.size - start)


@needs("assets:write")
def open_transfer(session: Session, principal: Principal, wanted: NewTransfer, *, hours: float) -> TransferView:
    """Begin to send a file as a media object of an asset. It expires `hours` after its last part.

    Where the project has these bytes already, and the caller may read them, the asset is given them at once: the
    transfer is done.
    """
    asset = _asset(session, principal, wanted.asset_id)
    _check(wanted)
    if asset.created_by == ACTOR and wanted.role in PROJECTED_ROLES:
        raise ConflictError("role", f"{wanted.role!r} of this asset is what was ingested: use another word")
    place = writable_location(session, wanted.location)
    media = Media(
        id=new_id(),
        project_id=asset.project_id,
        filename=wanted.filename,
        content_type=content_type(wanted.filename),
        size=wanted.size,
        sha256=wanted.sha256,
        status="pending",
    )
    media.created_at = media.updated_at = datetime.now(UTC)
    session.add(media)
    session.flush()
    session.add(AssetMedia(asset_id=asset.id, media_id=media.id, role=wanted.role, ordinal=wanted.ordinal))
    project = session.get_one(Project, asset.project_id)
    transfer = _new_transfer(session, principal, media, place, hours=hours)
    transfer.path = f"{project.name}/{media.id}/{wanted.filename}"
    transfer.part_size = wanted.part_size or usual_part_size(wanted.size)
    session.add(transfer)
    session.flush()
    record(
        session,
        principal.name,
        "media.expected",
        media.id,
        project_id=asset.project_id,
        asset_id=asset.id,
        transfer_id=transfer.id,
        filename=wanted.filename,
        size=wanted.size,
    )
    if principal.may("assets:read", asset.project_id):
        same = same_bytes(session, media, place)
        if same is not None:
            transfer.state, transfer.bytes_checked = "done", transfer.size
            make_ready(session, transfer, media, same.url, principal.name)
    return view_of(session, transfer)


@needs("assets:write")
def transfer(session: Session, principal: Principal, transfer_id: str, *, with_parts: bool = True) -> TransferView:
    """One transfer of a project that the caller may write in. Its parts may be thousands."""
    return view_of(session, _find(session, principal, transfer_id), with_parts=with_parts)


@needs("assets:write")
def cancel_transfer(session: Session, principal: Principal, transfer_id: str) -> TransferView:
    """End a transfer. What the store has of it is removed soon after. One that has ended stays as it is."""
    found = _find(session, principal, transfer_id, locked=True)
    if found.state in UNFINISHED:
        end_transfer(session, found, "cancelled", f"cancelled by {principal.name}", principal.name)
    return view_of(session, found)


@needs("assets:write")
def replicate(session: Session, principal: Principal, media_id: str, location: str, *, hours: float) -> TransferView:
    """Have a media object copied to another location, by whichever node comes to it, and verified there."""
    media = session.get(Media, media_id)
    if media is None or not principal.may("assets:read", media.project_id):
        raise NotFoundError("media object", media_id)
    principal.require("assets:write", media.project_id)
    place = writable_location(session, location)
    root = Location.from_url(place.url_root)
    urls = session.scalars(sa.select(MediaLocation.url).where(MediaLocation.media_id == media.id)).all()
    if any(root.holds(Location.from_url(url)) for url in urls):
        raise ConflictError("media object", f"it is at the location {location!r} already")
    if media.status != "ready" or media.sha256 is None or media.size is None or not urls:
        raise ConflictError("media object", "it is not ready, or its SHA-256 is not known: there is nothing to verify")
    running = sa.select(Transfer).where(
        Transfer.media_id == media.id, Transfer.location_id == place.id, Transfer.state.in_(UNFINISHED)
    )
    created = session.scalar(running)
    if created is None:
        project = session.get_one(Project, media.project_id)
        created = _new_transfer(session, principal, media, place, hours=hours)
        # Names of what was ingested may be any.
        created.path = f"{project.name}/{media.id}/{safe_name(media.filename)}"
        created.part_size, created.source_url = usual_part_size(media.size), urls[0]
        session.add(created)
        session.flush()
    return view_of(session, created)


@needs("assets:write")
def note_upload(session: Session, principal: Principal, transfer_id: str, upload_id: str) -> str:
    """Keep the store's identifier of a transfer, unless another node was first; returns the one that counts."""
    found = _find(session, principal, transfer_id, locked=True)
    require_open(found)
    if found.upload_id is None:
        found.upload_id = upload_id
    return found.upload_id


@needs("assets:write")
def note_links(session: Session, principal: Principal, transfer_id: str) -> None:
    """Keep that parts may come to the store without this service."""
    found = _find(session, principal, transfer_id, locked=True)
    require_open(found)
    found.has_links = True


@needs("assets:write")
def note_part(session: Session, principal: Principal, transfer_id: str, part: Part, *, hours: float) -> None:
    """Keep that the store has a part. Raises `ConflictError` if the transfer has ended meanwhile."""
    found = _find(session, principal, transfer_id, locked=True)
    require_open(found)
    add_part(session, found, part, hours=hours)


@needs("assets:write")
def begin_completion(
    session: Session, principal: Principal, transfer_id: str, listed: Sequence[Part], sha256: str | None
) -> TransferView:
    """Close a transfer for further parts. `listed`: parts that the store has and nobody noted.

    Raises `ConflictError` where parts are missing. A transfer that is closed already is returned as it is.
    """
    found = _find(session, principal, transfer_id, locked=True)
    if found.state not in {"open", "completing"}:
        if found.state in {"cancelled", "expired"}:
            require_open(found)
        return view_of(session, found)
    if sha256 is not None and found.sha256 not in {None, sha256}:
        raise ConflictError("sha256", "it is not what was said when the transfer began")
    found.sha256 = sha256 or found.sha256
    if found.sha256 is None:
        raise BadInputError("sha256", "it was not said when the transfer began: send it now")
    if not _SHA256.fullmatch(found.sha256):
        raise BadInputError("sha256", "it is not 64 lower-case hexadecimal digits")
    view = view_of(session, found)
    known = {part.number for part in view.parts}
    for part in listed:
        if part.number not in known:
            session.add(TransferPart(transfer_id=found.id, number=part.number, size=part.size, etag=part.etag))
            known.add(part.number)
    missing = [number for number in range(1, view.count + 1) if number not in known]
    if missing:
        raise ConflictError("transfer", f"{len(missing)} parts are missing: {', '.join(map(str, missing[:_SHOWN]))} …")
    found.state = "completing"
    session.flush()
    return view_of(session, found)


@needs("assets:write")
def end_completion(session: Session, principal: Principal, transfer_id: str) -> TransferView:
    """The store has put the object together: it is to be verified."""
    found = _find(session, principal, transfer_id, locked=True)
    close_for_verification(session, found)
    # It was put together after what there was of it had been removed.
    found.leftovers = found.leftovers or found.state in {"cancelled", "expired"}
    return view_of(session, found)


@needs("assets:write")
def begin_again(session: Session, principal: Principal, transfer_id: str, upload_id: str) -> None:
    """The store does not know an upload any more: all parts have to be sent again, unless the transfer has ended."""
    found = _find(session, principal, transfer_id, locked=True)
    if found.state in {"open", "completing"} and found.upload_id == upload_id:
        session.execute(sa.delete(TransferPart).where(TransferPart.transfer_id == found.id))
        found.state, found.upload_id, found.has_links = "open", None, False


def usual_part_size(size: int) -> int:
    """Of an object of this size, such that a store takes all its parts."""
    return max(USUAL_PART, math.ceil(size / _USUAL_MOST_PARTS / _MIB) * _MIB)


def safe_name(filename: str) -> str:
    """A file name as the last component of a key at any store."""
    plain = "".join(character if character.isprintable() and character != "/" else "_" for character in filename)
    return plain.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".") or "file"


def require_open(found: Transfer) -> None:
    """Raise `ConflictError` for a transfer that takes no more parts."""
    if found.state != "open":
        raise ConflictError("transfer", f"it takes no more parts: it is {found.state}")


def add_part(session: Session, found: Transfer, part: Part, *, hours: float) -> None:
    """Note a part, in place of one of the same number, and that the transfer goes on."""
    session.merge(TransferPart(transfer_id=found.id, number=part.number, size=part.size, etag=part.etag))
    found.expires_at = database_now(session) + timedelta(hours=hours)


def close_for_verification(session: Session, found: Transfer) -> None:
    """Have a transfer that is completing be verified."""
    if found.state == "completing":
        found.state = "verifying"
        if found.source_url is None:
            media = session.get_one(Media, found.media_id)
            media.status, media.sha256, media.updated_at = "verifying", found.sha256, datetime.now(UTC)


def same_bytes(session: Session, media: Media, place: StorageLocation) -> MediaLocation | None:
    """Where the same project has the same verified bytes at a location. Others' bytes are nobody's business."""
    if media.sha256 is None:
        return None
    query = (
        sa.select(MediaLocation)
        .join(Media, Media.id == MediaLocation.media_id)
        .where(
            Media.project_id == media.project_id,
            Media.id != media.id,
            Media.status == "ready",
            Media.sha256 == media.sha256,
            Media.size == media.size,
            MediaLocation.verified_at.is_not(None),
        )
        .order_by(Media.created_at, Media.id)
    )
    root = Location.from_url(place.url_root)
    return next((each for each in session.scalars(query) if root.holds(Location.from_url(each.url))), None)


def make_ready(session: Session, found: Transfer, media: Media, url: str, actor: str) -> None:
    """The bytes of a transfer are what they should be, and at this URL."""
    now = datetime.now(UTC)
    session.merge(MediaLocation(media_id=media.id, url=url, verified_at=now))
    media.status, media.reason, media.updated_at = "ready", None, now
    of_media = sa.select(Asset).join(AssetMedia, AssetMedia.asset_id == Asset.id).where(AssetMedia.media_id == media.id)
    assets = session.scalars(of_media).all()
    for asset in assets:
        if asset.created_by != ACTOR and asset.status != "ready":
            asset.status, asset.reason, asset.updated_at, asset.version = "ready", None, now, asset.version + 1
    record(
        session,
        actor,
        "media.stored" if found.source_url is None else "media.replicated",
        media.id,
        project_id=media.project_id,
        asset_ids=[asset.id for asset in assets],
        transfer_id=found.id,
        sha256=media.sha256,
        size=media.size,
    )


def end_transfer(session: Session, found: Transfer, state: str, reason: str, actor: str) -> None:
    """End a transfer that did not succeed, and say why. What the store has of it is left to be removed."""
    found.state, found.reason, found.leftovers = state, reason, True
    found.leased_by = found.leased_until = None
    media = session.get_one(Media, found.media_id)
    # A copy that failed is no harm to what was copied.
    if found.source_url is None:
        media.status, media.reason, media.updated_at = "failed", reason, datetime.now(UTC)
    topic = "media.failed" if found.source_url is None else "media.replication_failed"
    record(session, actor, topic, media.id, project_id=found.project_id, transfer_id=found.id, reason=reason)


def view_of(session: Session, found: Transfer, *, with_parts: bool = True) -> TransferView:
    """A transfer with its parts, or without them."""
    place = session.get_one(StorageLocation, found.location_id)
    query = sa.select(TransferPart).where(TransferPart.transfer_id == found.id).order_by(TransferPart.number)
    rows = session.scalars(query).all() if with_parts else ()
    parts = [Part(each.number, each.size, each.etag) for each in rows]
    return TransferView(found, parts, Location.from_url(place.url_root))


def _new_transfer(
    session: Session, principal: Principal, media: Media, place: StorageLocation, *, hours: float
) -> Transfer:
    now = database_now(session)
    return Transfer(
        id=new_id(),
        project_id=media.project_id,
        media_id=media.id,
        location_id=place.id,
        size=media.size,
        sha256=media.sha256,
        state="open",
        has_links=False,
        leftovers=False,
        bytes_checked=0,
        created_by=principal.name,
        created_at=now,
        expires_at=now + timedelta(hours=hours),
    )


def _check(wanted: NewTransfer) -> None:
    name = wanted.filename
    if safe_name(name) != name or len(name.encode()) > _LONGEST_NAME:
        raise BadInputError(
            "filename",
            f"it is empty, begins with a dot, has a slash or control characters, or more than {_LONGEST_NAME} bytes",
        )
    if not 0 <= wanted.size <= LARGEST:
        raise BadInputError("size", f"it is not 0 to {LARGEST} bytes")
    if wanted.sha256 is not None and not _SHA256.fullmatch(wanted.sha256):
        raise BadInputError("sha256", "it is not 64 lower-case hexadecimal digits")
    if not _ROLE.fullmatch(wanted.role):
        raise BadInputError("role", "it is not a word of lower-case letters, digits, dashes and underscores")
    part = wanted.part_size
    if part is not None and not (SMALLEST_PART <= part <= LARGEST_PART and wanted.size <= part * MOST_PARTS):
        raise BadInputError(
            "part_size", f"it is not {SMALLEST_PART} to {LARGEST_PART} bytes, or gives more than {MOST_PARTS} parts"
        )


def _asset(session: Session, principal: Principal, asset_id: str) -> Asset:
    found = session.get(Asset, asset_id)
    is_known = found is not None and found.deleted_at is None
    if found is None or not is_known or not _knows(principal, found.project_id):
        raise NotFoundError("asset", asset_id)
    principal.require("assets:write", found.project_id)
    return found


def _find(session: Session, principal: Principal, transfer_id: str, *, locked: bool = False) -> Transfer:
    found = session.get(Transfer, transfer_id, with_for_update=locked or None, populate_existing=locked)
    if found is None or not _knows(principal, found.project_id):
        raise NotFoundError("transfer", transfer_id)
    principal.require("assets:write", found.project_id)
    return found


def _knows(principal: Principal, project_id: str) -> bool:
    return principal.may("assets:read", project_id) or principal.may("assets:write", project_id)
