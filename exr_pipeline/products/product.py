"""The form of an entry in the registry.

Belongs here: what every product states, as plain frozen objects. Not here: any one product, or the list (`registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from exr_pipeline.formats import category_of

if TYPE_CHECKING:
    from pathlib import Path

    from exr_pipeline.formats import Category
    from exr_pipeline.pictures.shown import Picture
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.products.sequence_result import SequenceResult, SequenceWork, StoredMedium
    from exr_pipeline.tables.specs import TableName

# What a product needs of a file, from the least to the most: the bytes of its header, all its bytes, its picture.
Need = Literal["header", "file", "picture"]
NEEDS: Final[tuple[Need, ...]] = ("header", "file", "picture")


@dataclass(frozen=True, slots=True)
class ServedPicture:
    """A fact that is a picture which the pipeline stored: that of an asset, or a part of it such as `filmstrip`."""

    asset: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class ServedLink:
    """A fact that is a link to what was stored."""

    asset: str


@dataclass(frozen=True, slots=True)
class InlinePicture:
    """A fact that is a small picture: the bytes of a file of this kind (`jpeg`, `webp`)."""

    kind: str
    data: bytes


# What people look at: texts, numbers and the above, by their label.
Facts = Mapping[str, Any]


class ByteReader(Protocol):
    """Something that sees all bytes of a file once, in order."""

    def update(self, data: Any, /) -> None:
        """Take the next bytes, in any object with the buffer protocol."""

    def result(self) -> Any:
        """What was made of them."""


@dataclass(frozen=True, slots=True)
class OutputObject:
    """An object that a product stores.

    `name` is its tag and that of its columns (`<name>_s3_key`, `<name>_size_bytes`), `ending` ends its key.
    `content` gives the bytes, or a local file, and the media type; None if there is nothing to store. `part` is what a
    link names after the asset's partition, empty for the main object. `only_of` limits it to these categories of
    sources, `only_for` to one value of `EXR_PIPELINE_COMPATIBILITY`.
    """

    name: str
    ending: str
    content: Callable[[FileResult], tuple[bytes | Path, str] | None]
    part: str = ""
    only_of: tuple[Category, ...] = ()
    only_for: str = ""

    def is_made(self, source: str, compatibility: str) -> bool:
        """Whether it may be made of a source of this name under this setting."""
        return self.only_for in {"", compatibility} and (not self.only_of or category_of(source) in self.only_of)


def no_columns(_: FileResult) -> Mapping[str, Any]:
    """The row of a product that fills no column of its own."""
    return {}


@dataclass(frozen=True, slots=True)
class FileProduct:
    """What is made of each file.

    `asset` shows it, in `group`, coming from the assets `comes_from`. `needs` says what is read of the file; then
    `reader` makes the object that sees all its bytes, and `of_picture`, a function of a module, is called in a worker
    process with the decoded picture; what it returns must be picklable.
    `row` fills columns of `table`, of which the page shows `columns` (empty: all), and `evidence` names one that is
    never null once the product was made. `facts` are shown with the asset; None means that it could not be made.

    A product that is `made_with` others is not chosen by itself: it is made whenever all of those are.
    """

    name: str
    asset: str
    needs: Need
    description: str
    group: str
    kinds: frozenset[str]
    comes_from: tuple[str, ...]
    table: TableName
    facts: Callable[[FileResult], Facts | None]
    columns: tuple[str, ...] = ()
    more_tables: tuple[TableName, ...] = ()
    made_with: tuple[str, ...] = ()
    reader: Callable[[], ByteReader] | None = None
    of_picture: Callable[[Picture], Any] | None = None
    objects: tuple[OutputObject, ...] = ()
    row: Callable[[FileResult], Mapping[str, Any]] = no_columns
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class SequenceProduct:
    """What is made of each sequence of frames, as one object in storage.

    `make` makes and stores it. `row` gives its columns in `sequence_outputs`, all of them null if it is None, `facts`
    what is shown with the asset. The object's key ends with one of `endings`.
    """

    name: str
    asset: str
    kind: str
    description: str
    endings: tuple[str, ...]
    make: Callable[[SequenceWork], StoredMedium]
    row: Callable[[StoredMedium | None], Mapping[str, Any]]
    facts: Callable[[StoredMedium, SequenceResult], Facts]
