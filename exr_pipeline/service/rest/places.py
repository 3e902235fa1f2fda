"""Regions, servers and locations.

Belongs here: those routes. Not here: what they do (`catalog.places`).
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import places
from exr_pipeline.service.calls import Caller, Reading, Writes
from exr_pipeline.service.rest import shapes

router = APIRouter(tags=["places"])


@router.get("/regions")
def list_regions(session: Reading, principal: Caller) -> list[shapes.RegionShape]:
    """List the regions."""
    found = places.regions(session, principal)
    return [shapes.RegionShape.model_validate(region, from_attributes=True) for region in found]


@router.post("/regions", status_code=201, response_model=shapes.RegionShape)
def create_region(body: shapes.NewRegion, call: Writes) -> JSONResponse:
    """Make a region."""
    return call.answer(
        lambda session: shapes.RegionShape.model_validate(
            places.create_region(session, call.principal, body.name, body.title), from_attributes=True
        ).model_dump(mode="json"),
        body=body,
    )


@router.get("/servers")
def list_servers(session: Reading, principal: Caller) -> list[shapes.ServerShape]:
    """List the nodes that are alive."""
    found = places.servers(session, principal)
    return [shapes.ServerShape.model_validate(server, from_attributes=True) for server in found]


@router.get("/locations")
def list_locations(session: Reading, principal: Caller) -> list[shapes.LocationShape]:
    """List the locations, in the order in which they are chosen."""
    return [shapes.of_location(location) for location in places.locations(session, principal)]


@router.post("/locations", status_code=201, response_model=shapes.LocationShape)
def create_location(body: shapes.NewLocation, call: Writes) -> JSONResponse:
    """Make a location: a bucket or a folder, with a prefix or none."""
    return call.answer(
        lambda session: shapes.of_location(
            places.create_location(
                session,
                call.principal,
                body.name,
                body.url_root,
                region=body.region,
                writable=body.writable,
                priority=body.priority,
            )
        ).model_dump(mode="json"),
        body=body,
    )


@router.patch("/locations/{name}", response_model=shapes.LocationShape)
def change_location(name: shapes.Name, body: shapes.LocationChange, call: Writes) -> JSONResponse:
    """Change whether a location is written to, and before which others."""
    return call.answer(
        lambda session: shapes.of_location(
            places.change_location(session, call.principal, name, writable=body.writable, priority=body.priority)
        ).model_dump(mode="json"),
        body=body,
        status=200,
    )
