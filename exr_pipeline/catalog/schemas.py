"""What the details of assets must look like: a JSON Schema for each project and kind.

Belongs here: keeping schemas, and holding details against them. Not here: storing details (`assets`).
The projection's own facts are not held against a schema: what was ingested is in the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.errors import NotFoundError
from exr_pipeline.catalog.event_log import record
from exr_pipeline.catalog.models import DetailsSchema
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.catalog.projects import find_project, require_version
from exr_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator
    from sqlalchemy.orm import Session

LONGEST: Final = 64 << 10
MOST_REFERENCES: Final = 20
_MOST_PROBLEMS: Final = 5
_LONGEST_PROBLEM: Final = 200


@needs("projects:read")
def schemas(session: Session, principal: Principal, project: str) -> Sequence[DetailsSchema]:
    """The schemas of a project, by kind."""
    of_project = find_project(session, principal, project, "projects:read")
    query = sa.select(DetailsSchema).where(DetailsSchema.project_id == of_project.id).order_by(DetailsSchema.kind)
    return session.scalars(query).all()


@needs("projects:write")
def set_schema(
    session: Session, principal: Principal, project: str, kind: str, schema: Mapping[str, Any], *, version: int
) -> DetailsSchema:
    """Set the schema of a kind of asset; `version` is the one that was read, 0 where there is none.

    Details that are there already stay as they are, until they are changed.
    """
    of_project = find_project(session, principal, project, "projects:read")
    principal.require("projects:write", of_project.id)
    _check_schema(schema)
    found = session.get(DetailsSchema, (of_project.id, kind), with_for_update=True, populate_existing=True)
    require_version("schema", 0 if found is None else found.version, version)
    if found is None:
        found = DetailsSchema(project_id=of_project.id, kind=kind, version=0)
        session.add(found)
    found.schema, found.version, found.updated_at = dict(schema), found.version + 1, datetime.now(UTC)
    session.flush()
    payload = {"kind": kind, "version": found.version}
    record(session, principal.name, "schema.changed", of_project.id, project_id=of_project.id, **payload)
    return found


@needs("projects:write")
def delete_schema(session: Session, principal: Principal, project: str, kind: str, *, version: int) -> None:
    """Take a schema away, as the caller has read it: details of the kind may be anything."""
    of_project = find_project(session, principal, project, "projects:read")
    principal.require("projects:write", of_project.id)
    found = session.get(DetailsSchema, (of_project.id, kind), with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFoundError("schema", kind)
    require_version("schema", found.version, version)
    session.delete(found)
    record(session, principal.name, "schema.deleted", of_project.id, project_id=of_project.id, kind=kind)


def check_details(session: Session, project_id: str, kind: str, details: Mapping[str, Any]) -> None:
    """Raise `BadInputError` with what is wrong, unless details fit the schema of their kind, if there is one."""
    found = session.get(DetailsSchema, (project_id, kind))
    if found is None:
        return
    try:
        errors = list(islice(_validator(json.dumps(found.schema)).iter_errors(dict(details)), _MOST_PROBLEMS))
    except ValueError as error:
        raise BadInputError("details", f"they cannot be held against the schema of {kind!r}: {error}") from None
    if errors:
        problems = "; ".join(
            f"{'/'.join(map(str, each.instance_path)) or 'details'}: {each.message[:_LONGEST_PROBLEM]}"
            for each in errors
        )
        raise BadInputError("details", f"they do not fit the schema of {kind!r}: {problems}")


def _check_schema(schema: Mapping[str, Any]) -> None:
    text = json.dumps(schema)
    if len(text) > LONGEST:
        raise BadInputError("schema", f"it is longer than {LONGEST} characters")
    references = _references(schema)
    if len(references) > MOST_REFERENCES:
        raise BadInputError("schema", f"it has more than {MOST_REFERENCES} references")
    if any(not isinstance(each, str) or not each.startswith("#") for each in references):
        raise BadInputError("schema", "it refers to another document: write what is meant below $defs")
    try:
        _validator(text)
    except ValueError as error:
        problem = str(error).partition("\n")[0][:_LONGEST_PROBLEM]
        raise BadInputError("schema", f"it is not a JSON Schema (draft 2020-12): {problem}") from None


def _references(node: object) -> list[object]:
    if isinstance(node, list):
        return [each for item in node for each in _references(item)]
    if not isinstance(node, Mapping):
        return []
    own = [value for key, value in node.items() if key in {"$ref", "$dynamicRef", "$schema"} and _is_followed(value)]
    return own + [each for value in node.values() for each in _references(value)]


def _is_followed(value: object) -> bool:
    return value != "https://json-schema.org/draft/2020-12/schema"


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    import jsonschema_rs

    # Patterns whose time grows with the text only. Nothing is fetched.
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.Draft202012Validator(json.loads(schema), pattern_options=options, offline=True)
