"""Error answers of the server, and the one that is no answer at all.

Belongs here: what a command may raise. Not here: how it is sent (`server`).
"""


class ApiError(Exception):
    """An error answer: HTTP status, S3-style code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class DropConnectionError(Exception):
    """Close the connection without (the rest of) an answer."""


def bad(message: str, code: str = "InvalidArgument") -> ApiError:
    return ApiError(400, code, message)


def missing(what: str, code: str = "NoSuchKey") -> ApiError:
    return ApiError(404, code, f"{what} does not exist")


def conflict(message: str) -> ApiError:
    return ApiError(409, "TabularConflict", message)


def not_implemented(what: str) -> ApiError:
    return ApiError(501, "NotImplemented", f"the emulator does not implement {what}")
