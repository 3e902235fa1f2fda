"""What callers give, checked by the rules that REST has for it.

Belongs here: that check, and shapes that REST has as parameters of routes. Not here: other shapes (`rest.shapes`).
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from exr_pipeline.catalog.pages import LONGEST, USUAL_LIMIT
from exr_pipeline.service.rest.shapes import Word

M = TypeVar("M", bound=BaseModel)


class Slice(BaseModel):
    """How much of a list is wanted: entries, and the number or cursor that they come after."""

    limit: Annotated[int, Field(ge=1, le=LONGEST)] = USUAL_LIMIT
    after: Annotated[int, Field(ge=0, le=2**62)] = 0
    cursor: Word | None = None


class Search(Slice):
    """Which assets are wanted."""

    project: Word | None
    kind: Word | None
    status: Word | None
    tag: Annotated[list[Word], Field(max_length=20)]
    q: Word
    parent: Word | None


def checked(shape: type[M], /, **values: object) -> M:
    """Arguments as a shape. Raises `RequestValidationError`, as REST does for a body."""
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
