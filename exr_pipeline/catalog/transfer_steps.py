"""The steps of a transfer that touch both its rows and a store: taking a part, giving links, completing.

Belongs here: their order, so that any node may take any step, and a step that is repeated does no harm. Not here: what
a caller may do (`transfers`, which each step asks first), or what happens by itself (`transfer_work`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exr_pipeline.catalog import transfers
from exr_pipeline.catalog.errors import ConflictError
from exr_pipeline.catalog.transfers import TransferView, require_open
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.multipart import GoneUploadError, Part, PartWriter
from exr_pipeline.storage.presigned import content_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.catalog.principals import Principal

MOST_LINKS = 1000


@dataclass(frozen=True, slots=True)
class TransferSteps:
    """The steps over a catalog and its stores. `hours`: after how many without a part a transfer expires."""

    database: CatalogDatabase
    writer: PartWriter
    hours: float

    def look(self, principal: Principal, transfer_id: str) -> TransferView:
        """A transfer with all parts that the store has."""
        with self.database.transaction(read_only=True) as session:
            view = transfers.transfer(session, principal, transfer_id)
        known = {part.number for part in view.parts}
        more = [part for part in self._listed(view) if part.number not in known]
        return replace(view, parts=sorted([*view.parts, *more], key=lambda part: part.number))

    async def put_part(
        self, principal: Principal, transfer_id: str, number: int, size: int | None, body: AsyncIterator[bytes]
    ) -> Part:
        """Take a part as it comes, through this node to the store. Sent again, it replaces the one before.

        Raises `BadInputError` unless it is announced with its size, `ConflictError` if the transfer takes no more
        parts, and `RetryableError` if the store did not get it whole.
        """
        view = await asyncio.to_thread(self._begun, principal, transfer_id)
        start, wanted = view.place_of(number)
        if size != wanted:
            raise BadInputError("Content-Length", f"part {number} has {wanted} bytes")
        upload_id = view.transfer.upload_id or ""
        try:
            etag = await self.writer.put(view.target, upload_id, (number, start, wanted), body)
        except GoneUploadError as error:
            raise await asyncio.to_thread(self._begin_again, principal, view, error) from None
        part = Part(number, wanted, etag)
        await asyncio.to_thread(self._note, principal, view, part)
        return part

    def links(self, principal: Principal, transfer_id: str, numbers: Sequence[int]) -> list[tuple[int, str]]:
        """URLs with which anyone may PUT these parts straight to the store, for an hour."""
        if len(numbers) > MOST_LINKS:
            raise BadInputError("parts", f"there are more than {MOST_LINKS} at once")
        view = self._begun(principal, transfer_id)
        if view.root.scheme != "s3":
            raise ConflictError("transfer", "its location takes parts through this service only")
        for number in numbers:
            view.place_of(number)
        if not view.transfer.has_links:
            with self.database.transaction() as session:
                transfers.note_links(session, principal, transfer_id)
        upload_id = view.transfer.upload_id or ""
        return [(number, self.writer.sign_part(view.target, upload_id, number)) for number in numbers]

    def complete(
        self, principal: Principal, transfer_id: str, sha256: str | None, etags: Mapping[int, str] | None = None
    ) -> TransferView:
        """Have the store put the parts together, and the result verified. Repeated, it says how far that is.

        `etags`: what the store answered for parts that were sent by links, where one was sent more than once.
        """
        with self.database.transaction(read_only=True) as session:
            view = transfers.transfer(session, principal, transfer_id)
        if view.transfer.state == "open" and not view.transfer.size:
            view = self._with_empty_part(principal, view)
        listed = self._listed(view, etags)
        with self.database.transaction() as session:
            view = transfers.begin_completion(session, principal, transfer_id, listed, sha256)
        if view.transfer.state != "completing":
            return view
        try:
            self.writer.complete(view.target, view.transfer.upload_id or "", view.parts)
        except GoneUploadError as error:
            raise self._begin_again(principal, view, error) from None
        with self.database.transaction() as session:
            return transfers.end_completion(session, principal, transfer_id)

    def _with_empty_part(self, principal: Principal, view: TransferView) -> TransferView:
        """A store wants one part even of nothing, and a client has none to send."""
        view = self._begun(principal, view.transfer.id)
        etag = self.writer.put_block(view.target, view.transfer.upload_id or "", 1, 0, b"")
        self._note(principal, view, Part(1, 0, etag))
        return view

    def _listed(self, view: TransferView, etags: Mapping[int, str] | None = None) -> list[Part]:
        """The parts that came without this service, one of each number."""
        found = view.transfer
        if not (found.has_links and found.upload_id) or found.state != "open":
            return []
        try:
            listed = self.writer.parts(view.target, found.upload_id)
        except GoneUploadError:
            return []
        counted: dict[int, Part] = {}
        for each in listed:
            is_of_it = each.number <= view.count and each.size == view.place_of(each.number)[1]
            before, wanted = counted.get(each.number), (etags or {}).get(each.number)
            if is_of_it and (before is None or before.etag != wanted):
                counted[each.number] = each
        return list(counted.values())

    def _begun(self, principal: Principal, transfer_id: str) -> TransferView:
        """An open transfer that the store knows; its parts are not looked up."""
        with self.database.transaction(read_only=True) as session:
            view = transfers.transfer(session, principal, transfer_id, with_parts=False)
        require_open(view.transfer)
        if view.transfer.source_url is not None:
            raise ConflictError("transfer", "it is a copy that this service makes by itself")
        if view.transfer.upload_id is None:
            mine = self.writer.begin(view.target, content_type(view.target.location.name))
            with self.database.transaction() as session:
                counts = transfers.note_upload(session, principal, transfer_id, mine)
            if counts != mine:
                self.writer.abort(view.target, mine)
            view.transfer.upload_id = counts
        return view

    def _begin_again(self, principal: Principal, view: TransferView, error: GoneUploadError) -> ConflictError:
        with self.database.transaction() as session:
            transfers.begin_again(session, principal, view.transfer.id, view.transfer.upload_id or "")
            state = transfers.transfer(session, principal, view.transfer.id, with_parts=False).transfer.state
        if state == "open":
            return ConflictError("transfer", f"send all its parts again: {error.reason}")
        return ConflictError("transfer", f"it takes no more parts: it is {state}")

    def _note(self, principal: Principal, view: TransferView, part: Part) -> None:
        try:
            with self.database.transaction() as session:
                transfers.note_part(session, principal, view.transfer.id, part, hours=self.hours)
        except ConflictError:
            # It came to the store after the others had been thrown away, perhaps.
            with self.database.transaction(read_only=True) as session:
                now = transfers.transfer(session, principal, view.transfer.id, with_parts=False)
            if now.transfer.state in {"cancelled", "expired"}:
                self.writer.abort(view.target, view.transfer.upload_id or "")
            raise
