"""The schema: its types and limits put together, and what an error is in an answer.

Belongs here: that. Not here: the request that brings a query (`route`).
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

import strawberry
from fastapi.exceptions import RequestValidationError
from graphql import GraphQLError, GraphQLSyntaxError, ValueNode, VariableNode
from strawberry.extensions import AddValidationRules, MaxTokensLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.types import get_object_definition, has_object_definition

from exr_pipeline.errors import ExrPipelineError
from exr_pipeline.service import problems
from exr_pipeline.service.graphql import types
from exr_pipeline.service.graphql.limits import MOST_TOKENS, Limits
from exr_pipeline.service.graphql.mutations import Mutation
from exr_pipeline.service.graphql.queries import Query

if TYPE_CHECKING:
    from strawberry.types import ExecutionContext

_DESCRIBED: Final = (ExrPipelineError, RequestValidationError)
# Up to the last quotation mark: what is quoted may have some in it.
_QUOTED: Final = re.compile(r"""["'].*["']""", re.DOTALL)


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log nothing: `as_problem` does where it is ours, and values of callers may be secrets."""


def as_problem(error: GraphQLError) -> dict[str, Any]:
    """An error as an answer has it: the members of the problem that REST would answer are its extensions."""
    described = _describe(error)
    found: dict[str, Any] = {
        "message": described.get("detail", described["title"]),
        "extensions": {"code": described["title"].upper().replace(" ", "_"), **described},
    }
    if error.locations:
        found["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        found["path"] = error.path
    return found


def _describe(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    if isinstance(cause, _DESCRIBED):
        return problems.describe(cause)
    is_of_query = error.path is None and bool(error.nodes)
    if cause is None or isinstance(cause, GraphQLError) or is_of_query:
        return problems.members(422, problems.BAD_INPUT, _detail(error))
    return problems.describe(cause)


def _detail(error: GraphQLError) -> str:
    """What is wrong with a query, without the values in it: they may be secrets."""
    if isinstance(error, GraphQLSyntaxError):
        return "the query is not GraphQL: " + _QUOTED.sub("…", error.message.removeprefix("Syntax Error: "))
    nodes = error.nodes or ()
    if isinstance(error.original_error, GraphQLError):
        return "a variable does not fit its type, see locations"
    if any(isinstance(node, ValueNode) and not isinstance(node, VariableNode) for node in nodes):
        return "a value does not fit its type, see locations"
    return error.message


def _document(kind: type) -> None:
    """Give a type and its fields their docstrings as descriptions."""
    definition = get_object_definition(kind, strict=True)
    definition.description = inspect.getdoc(kind)
    for field in definition.fields:
        if field.base_resolver is not None:
            field.description = inspect.getdoc(field.base_resolver.wrapped_func)


def _build() -> strawberry.Schema:
    for kind in (*vars(types).values(), Query, Mutation):
        if isinstance(kind, type) and has_object_definition(kind):
            _document(kind)
    long = strawberry.scalar(
        name="Long", description="A whole number of up to 64 bits.", serialize=int, parse_value=_long
    )
    return _Schema(
        query=Query,
        mutation=Mutation,
        extensions=[lambda: MaxTokensLimiter(MOST_TOKENS), lambda: AddValidationRules([Limits])],
        config=StrawberryConfig(scalar_map={types.Long: long}),
    )


def _long(value: object) -> int:
    if type(value) is not int:
        raise ValueError("it is not a whole number")
    return value


SCHEMA: Final = _build()
