"""What a caller of the catalog did wrong, as kinds of `BadInputError`: to repeat the call as it is cannot help.

Belongs here: those kinds. Not here: what they are in HTTP (`exr_pipeline.service.problems`).
"""

from __future__ import annotations

from exr_pipeline.errors import BadInputError


class NotFoundError(BadInputError):
    """There is no such thing, or the caller may not know of it: the two are told apart for nobody."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, f"there is no {name!r}")
        self._missing = name

    def __reduce__(self) -> tuple[type[NotFoundError], tuple[str, str]]:
        return type(self), (self.name, self._missing)


class UnauthenticatedError(BadInputError):
    """It is not known who calls: no token, or one that is wrong, expired or revoked."""


class ForbiddenError(BadInputError):
    """The caller is known, and may not do this."""


class ConflictError(BadInputError):
    """It contradicts what is there, such as a second thing of one name."""


class StaleError(BadInputError):
    """The thing was changed since the caller read it: read it again, then decide."""


class TooManyAttemptsError(BadInputError):
    """A limit of attempts is reached: wait before the next."""
