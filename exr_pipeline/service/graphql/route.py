"""`POST /graphql`: a query in, what it asked for out.

Belongs here: that route. Not here: what can be asked for (`schema`). Source: GraphQL over HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from graphql import GraphQLError
from pydantic import BaseModel, ConfigDict, Field
from strawberry.schema.exceptions import CannotGetOperationTypeError

from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.service.calls import Caller, database_of
from exr_pipeline.service.graphql.context import Context
from exr_pipeline.service.graphql.schema import SCHEMA, as_problem
from exr_pipeline.service.rest.shapes import JsonObject

router = APIRouter(tags=["graphql"])


class Request(BaseModel):
    """A query or mutations, the values of its variables, and which operation is meant if there are several."""

    model_config = ConfigDict(allow_inf_nan=False)

    query: Annotated[str, Field(min_length=1)]
    variables: JsonObject | None = None
    operation_name: Annotated[str | None, Field(alias="operationName")] = None


class Answer(BaseModel):
    """What was asked for, and the errors of fields that are null. `extensions` of an error have its `code`."""

    data: dict[str, Any] | None
    errors: list[dict[str, Any]] = Field(default_factory=list)


@router.post("/graphql", response_model_exclude_defaults=True)
def ask(body: Request, principal: Caller, database: Annotated[CatalogDatabase, Depends(database_of)]) -> Answer:
    """Ask for several things at once, by GraphQL. The schema can be asked for too."""
    # The services wait for the database: this thread may, and the one that serves all requests may not.
    return asyncio.run(_answer(body, Context(database, principal)))


async def _answer(body: Request, context: Context) -> Answer:
    try:
        result = await SCHEMA.execute(
            body.query,
            variable_values=body.variables,
            context_value=context,
            operation_name=body.operation_name,
        )
    except CannotGetOperationTypeError as error:
        return Answer(data=None, errors=[as_problem(GraphQLError(error.as_http_error_reason()))])
    return Answer(data=result.data, errors=[as_problem(each) for each in result.errors or ()])
