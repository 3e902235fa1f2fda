"""Transfers: files that are sent in parts, through this node or straight to their store.

Belongs here: those routes, and how many parts a node takes at once. Not here: what they do (`catalog.transfers`,
`catalog.transfer_steps`). No transaction is open while a body flows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import transfers
from exr_pipeline.catalog.transfer_steps import TransferSteps
from exr_pipeline.catalog.transfers import NewTransfer
from exr_pipeline.errors import BadInputError, RetryableError
from exr_pipeline.service.calls import Caller, Writes
from exr_pipeline.service.rest import shapes
from exr_pipeline.storage.multipart import LARGEST_PART

router = APIRouter(tags=["transfers"])
_STALL_SECONDS = 60.0


class PartsInFlight:
    """Counts the parts that a node takes at once. For one event loop."""

    def __init__(self, most: int) -> None:
        self._free = most

    def __enter__(self) -> None:
        if self._free == 0:
            raise RetryableError("this node takes as many parts as it may: send it again, or to another node")
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


def steps_of(request: Request) -> TransferSteps:
    """The steps of transfers over this application's catalog and stores."""
    found: TransferSteps = request.app.state.transfer_steps
    return found


Steps = Annotated[TransferSteps, Depends(steps_of)]


@router.post("/transfers", status_code=201, response_model=shapes.TransferShape)
def open_transfer(body: shapes.NewTransferShape, call: Writes, steps: Steps) -> JSONResponse:
    """Begin to send a file. The answer says in which parts; `done` if the project has these bytes already."""
    wanted = NewTransfer(**body.model_dump() | {"asset_id": str(body.asset_id)})

    def act(session: Any) -> dict[str, Any]:
        view = transfers.open_transfer(session, call.principal, wanted, hours=steps.hours)
        return shapes.of_transfer(view).model_dump(mode="json")

    return call.answer(act, body=body)


@router.get("/transfers/{transfer_id}")
def get_transfer(transfer_id: UUID, principal: Caller, steps: Steps) -> shapes.TransferShape:
    """Get a transfer: how far it is, and which parts the store has, whichever node they came through."""
    return shapes.of_transfer(steps.look(principal, str(transfer_id)))


@router.put(
    "/transfers/{transfer_id}/parts/{number}",
    max_body_size=LARGEST_PART,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_part(
    transfer_id: UUID, number: Annotated[int, Path(ge=1, le=10_000)], request: Request, principal: Caller, steps: Steps
) -> shapes.PartShape:
    """Send a part. Its size is that of all parts, or what is left for the last. Sent again, it replaces the first."""
    length = request.headers.get("content-length", "")
    in_flight: PartsInFlight = request.app.state.parts_in_flight
    with in_flight:
        part = await steps.put_part(
            principal, str(transfer_id), number, int(length) if length.isdigit() else None, _blocks(request)
        )
    return shapes.PartShape(number=part.number, size=part.size, etag=part.etag)


@router.post("/transfers/{transfer_id}/parts/urls")
def sign_parts(transfer_id: UUID, body: shapes.PartRange, principal: Caller, steps: Steps) -> list[shapes.PartLink]:
    """Get URLs that take parts straight to the store, for an hour, at most 1000 at once."""
    links = steps.links(principal, str(transfer_id), range(body.first, body.last + 1))
    return [shapes.PartLink(number=number, url=url) for number, url in links]


@router.post("/transfers/{transfer_id}/complete", status_code=202)
def complete_transfer(
    transfer_id: UUID, body: shapes.Completion, principal: Caller, steps: Steps
) -> shapes.TransferShape:
    """Have the parts put together and verified. Repeat it to see how far that is, or look at the transfer."""
    return shapes.of_transfer(steps.complete(principal, str(transfer_id), body.sha256, body.etags))


@router.delete("/transfers/{transfer_id}")
def cancel_transfer(transfer_id: UUID, principal: Caller, steps: Steps) -> shapes.TransferShape:
    """Cancel a transfer. What has arrived is removed."""
    with steps.database.transaction() as session:
        return shapes.of_transfer(transfers.cancel_transfer(session, principal, str(transfer_id)))


@router.post("/media/{media_id}/replicate", tags=["media"], status_code=202, response_model=shapes.TransferShape)
def replicate(media_id: UUID, body: shapes.Replication, call: Writes, steps: Steps) -> JSONResponse:
    """Have a media object copied to another location. The answer is a transfer, which says how far that is."""

    def act(session: Any) -> dict[str, Any]:
        view = transfers.replicate(session, call.principal, str(media_id), body.location, hours=steps.hours)
        return shapes.of_transfer(view).model_dump(mode="json")

    return call.answer(act, body=body, status=202)


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. A caller who sends nothing for a minute is not waited for."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                block = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadInputError("body", f"nothing came for {_STALL_SECONDS:g} seconds") from None
        if block:
            yield block
