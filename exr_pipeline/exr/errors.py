"""What is wrong with the bytes of an EXR header.

Belongs here: the parser's two errors. Not here: findings about a header that could be parsed (`validate`).
"""

from collections.abc import Callable

from exr_pipeline.errors import BadInputError


class HeaderError(BadInputError):
    """The bytes are not an EXR header: `problem` is what, `offset` where (a byte offset from the file's start)."""

    def __init__(self, name: str, problem: str, offset: int) -> None:
        super().__init__(name, f"{problem} (at byte {offset})")
        self.problem = problem
        self.offset = offset

    def __reduce__(self) -> tuple[Callable[..., "HeaderError"], tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.name, self.problem, self.offset)


class NeedMoreBytes(HeaderError):  # noqa: N818 - as long as there is more to read it is a request, not an error
    """The data end inside the header: `needed` is the least number of bytes, from the file's start, to try again with.

    It is the true end of the value the data end in (plus the header's last byte) where that is known, and one byte
    more than was given inside a name. A reader that has the whole file lets this error go: the file is truncated.
    """

    def __init__(self, name: str, offset: int, needed: int) -> None:
        super().__init__(name, f"the data ends inside the header, which takes at least {needed} bytes", offset)
        self.needed = needed

    def __reduce__(self) -> tuple[Callable[..., "HeaderError"], tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.name, self.offset, self.needed)
