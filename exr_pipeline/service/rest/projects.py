"""Projects and their tags.

Belongs here: those routes. Not here: what they do (`catalog.projects`, `catalog.assets`).
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from exr_pipeline.catalog import assets, projects
from exr_pipeline.service.calls import Caller, Reading, RequiredVersion, Writes
from exr_pipeline.service.rest import shapes

router = APIRouter(prefix="/projects", tags=["projects"])


@router.get("")
def list_projects(session: Reading, principal: Caller) -> list[shapes.ProjectShape]:
    """List the projects that you may look into."""
    return [shapes.of_project(project) for project in projects.projects(session, principal)]


@router.post("", status_code=201, response_model=shapes.ProjectShape)
def create_project(body: shapes.NewProject, call: Writes) -> JSONResponse:
    """Make a project."""
    return call.answer(
        lambda session: shapes.of_project(
            projects.create_project(session, call.principal, body.name, body.title)
        ).model_dump(mode="json"),
        body=body,
    )


@router.get("/{name}")
def get_project(name: shapes.Name, session: Reading, principal: Caller, response: Response) -> shapes.ProjectShape:
    """Get one project. Its ETag is its version."""
    found = projects.project(session, principal, name)
    response.headers["ETag"] = f'"{found.version}"'
    return shapes.of_project(found)


@router.patch("/{name}", response_model=shapes.ProjectShape)
def change_project(
    name: shapes.Name, body: shapes.ProjectChange, version: RequiredVersion, call: Writes
) -> JSONResponse:
    """Change a project, if it still is as you have read it."""
    return call.answer(
        lambda session: shapes.of_project(
            projects.rename_project(session, call.principal, name, body.title, version=version)
        ).model_dump(mode="json"),
        body=body,
        status=200,
    )


@router.get("/{name}/tags")
def list_tags(name: shapes.Name, session: Reading, principal: Caller) -> list[shapes.TagShape]:
    """List the tags of a project, and how many assets have each."""
    return [
        shapes.TagShape(name=tag.name, color=tag.color, assets=count)
        for tag, count in assets.tags(session, principal, name)
    ]


@router.put("/{name}/tags/{tag}", status_code=204)
def color_tag(name: shapes.Name, tag: shapes.Name, body: shapes.TagColor, call: Writes) -> Response:
    """Give a tag a color. The tag is made if there is none of that name."""
    with call.database.transaction() as session:
        assets.color_tag(session, call.principal, name, tag, body.color)
    return Response(status_code=204)
