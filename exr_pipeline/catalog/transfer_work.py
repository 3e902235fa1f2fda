"""What happens to transfers by itself, at whichever node comes to it: verifying, copying, expiring, removing leftovers.

Belongs here: that work, under a lease of the database's clock, so that another node goes on where one has ended. Not
here: what callers do (`transfers`, `transfer_steps`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.models import Media, MediaLocation, StorageLocation, Transfer
from exr_pipeline.catalog.places import database_now
from exr_pipeline.catalog.transfers import (
    add_part,
    close_for_verification,
    end_transfer,
    make_ready,
    same_bytes,
    view_of,
)
from exr_pipeline.errors import BadInputError, ExrPipelineError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import GoneUploadError, Part, PartWriter
from exr_pipeline.storage.presigned import content_type

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.transfers import TransferView
    from exr_pipeline.storage.objects import ObjectStorage

ACTOR: Final = "transfers"
LEASE_SECONDS: Final = 60
_BYTES_BETWEEN_NOTES: Final = 64 << 20
_SECONDS_AFTER_TROUBLE: Final = 15
_SWEPT_AT_ONCE: Final = 20
_LOG = logging.getLogger(__name__)


class _NotOursError(Exception):
    """The lease is another node's by now, the transfer has ended, or this node is to end."""


@dataclass(frozen=True, slots=True)
class TransferWork:
    """The work of one node, by its name. `hours`: after how many without a part a transfer expires."""

    database: CatalogDatabase
    storage: ObjectStorage
    writer: PartWriter
    node: str
    hours: float
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Verify or copy all transfers that wait."""
        while self.work_once():
            pass

    def work_once(self) -> bool:
        """Verify or copy one transfer, if any waits; returns whether there was one."""
        view = self._lease_next()
        if view is None:
            return False
        try:
            if view.transfer.state == "verifying":
                self._verify(view)
            else:
                self._copy(view)
        except _NotOursError:
            self._let_go(view, 0)
        except (RetryableError, MisconfiguredError) as error:
            _LOG.warning("Transfer %s waits: %s", view.transfer.id, error)
            self._let_go(view, _SECONDS_AFTER_TROUBLE)
        except BadInputError as error:
            with suppress(_NotOursError):
                self._fail(view, error.reason)
        return not self.stop.is_set()

    def sweep(self) -> None:
        """End transfers without a part for long, and remove what stores have of those that did not succeed."""
        with self.database.transaction() as session:
            late = sa.select(Transfer).where(
                Transfer.state.in_(["open", "completing"]), Transfer.expires_at < database_now(session)
            )
            for found in session.scalars(late.limit(_SWEPT_AT_ONCE).with_for_update(skip_locked=True)).all():
                end_transfer(session, found, "expired", f"no part came for {self.hours:g} hours", ACTOR)
        with self.database.transaction(read_only=True) as session:
            left = sa.select(Transfer).where(Transfer.leftovers).order_by(Transfer.id).limit(_SWEPT_AT_ONCE)
            views = [view_of(session, found, with_parts=False) for found in session.scalars(left)]
        for view in views:
            try:
                self._remove_leftovers(view)
            except ExrPipelineError as error:
                _LOG.warning("What is left of transfer %s is not removed now: %s", view.transfer.id, error)

    def _remove_leftovers(self, view: TransferView) -> None:
        if view.transfer.upload_id is not None:
            self.writer.abort(view.target, view.transfer.upload_id)
        url = view.target.location.url
        with self.database.transaction(read_only=True) as session:
            is_used = session.scalar(sa.select(MediaLocation.media_id).where(MediaLocation.url == url).limit(1))
        if is_used is None:
            self.storage.delete(view.target.location)
        with self.database.transaction() as session:
            session.get_one(Transfer, view.transfer.id).leftovers = False

    def _lease_next(self) -> TransferView | None:
        with self.database.transaction(read_only=True) as session:
            if session.scalar(sa.select(Transfer.id).where(self._waits(database_now(session))).limit(1)) is None:
                return None
        with self.database.transaction() as session:
            now = database_now(session)
            waiting = sa.select(Transfer).where(self._waits(now)).order_by(Transfer.created_at, Transfer.id)
            found = session.scalar(waiting.limit(1).with_for_update(skip_locked=True))
            if found is None:
                return None
            found.leased_by, found.leased_until = self.node, now + timedelta(seconds=LEASE_SECONDS)
            return view_of(session, found)

    @staticmethod
    def _waits(now: datetime) -> sa.ColumnElement[bool]:
        is_copy = sa.and_(Transfer.state == "open", Transfer.source_url.is_not(None))
        is_free = sa.or_(Transfer.leased_until.is_(None), Transfer.leased_until < now)
        return sa.and_(sa.or_(Transfer.state == "verifying", is_copy), is_free)

    def _ours(self, session: Session, view: TransferView) -> Transfer:
        """The transfer, if it still is this node's to work on; the lease is renewed."""
        found = session.get_one(Transfer, view.transfer.id, with_for_update=True)
        if self.stop.is_set() or found.leased_by != self.node or found.state != view.transfer.state:
            raise _NotOursError
        found.leased_until = database_now(session) + timedelta(seconds=LEASE_SECONDS)
        return found

    def _verify(self, view: TransferView) -> None:
        digest, checked, noted = hashlib.sha256(), 0, 0

        def add(block: Any) -> None:
            nonlocal checked, noted
            digest.update(block)
            checked += len(block)
            if checked - noted >= _BYTES_BETWEEN_NOTES:
                noted = checked
                with self.database.transaction() as session:
                    self._ours(session, view).bytes_checked = checked

        self.storage.read_through(view.target.location, on_block=add)
        sha256 = digest.hexdigest()
        if sha256 != view.transfer.sha256:
            self._fail(view, f"its SHA-256 is {sha256} where {view.transfer.sha256} was announced")
            return
        with self.database.transaction() as session:
            found = self._ours(session, view)
            found.state, found.bytes_checked = "done", checked
            found.leased_by = found.leased_until = None
            media = session.get_one(Media, found.media_id)
            same = None
            if found.source_url is None:
                same = same_bytes(session, media, session.get_one(StorageLocation, found.location_id))
            found.leftovers = same is not None
            make_ready(session, found, media, view.target.location.url if same is None else same.url, ACTOR)

    def _copy(self, view: TransferView) -> None:
        """Copy what is missing, part by part, so that another node can go on."""
        found = view.transfer
        source = Location.from_url(found.source_url or "")
        if found.upload_id is None:
            found.upload_id = self.writer.begin(view.target, content_type(view.target.location.name))
            with self.database.transaction() as session:
                self._ours(session, view).upload_id = found.upload_id
        known = {part.number: part for part in view.parts}
        for number in range(1, view.count + 1):
            if number in known:
                continue
            start, size = view.place_of(number)
            block = self.storage.read_range(source, start, size)[1] if size else b""
            if len(block) != size:
                raise BadInputError(source.url, "it is shorter than the catalog says")
            etag = self.writer.put_block(view.target, found.upload_id, number, start, block)
            known[number] = Part(number, size, etag)
            with self.database.transaction() as session:
                add_part(session, self._ours(session, view), known[number], hours=self.hours)
        try:
            self.writer.complete(view.target, found.upload_id, [known[number] for number in sorted(known)])
        except GoneUploadError as error:
            self._fail(view, error.reason)
            return
        with self.database.transaction() as session:
            ours = self._ours(session, view)
            ours.state = "completing"
            close_for_verification(session, ours)
            ours.leased_by = ours.leased_until = None

    def _let_go(self, view: TransferView, seconds: int) -> None:
        """Let any node go on, after some seconds."""
        with self.database.transaction() as session:
            found = session.get_one(Transfer, view.transfer.id, with_for_update=True)
            if found.leased_by == self.node:
                found.leased_until = database_now(session) + timedelta(seconds=seconds)

    def _fail(self, view: TransferView, reason: str) -> None:
        with self.database.transaction() as session:
            end_transfer(session, self._ours(session, view), "failed", reason, ACTOR)
