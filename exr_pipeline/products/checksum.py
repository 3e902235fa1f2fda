"""The product `checksum`: hashes of the file's bytes, taken while they are fetched.

Belongs here: which hashes, and their columns. Not here: fetching (`ingest.chunk`), or whether bytes arrived whole
(`storage.verify`).

xxh3-128 finds equal files quickly; SHA-256 (FIPS 180-4) is what manifests and archives ask for. Both are those of
`xxhsum -H2` and `sha256sum`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.products.product import Facts, FileProduct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.products.file_result import FileResult


@dataclass(frozen=True, slots=True)
class Checksums:
    """Hashes of all bytes of a file, in lower-case hexadecimal."""

    xxh3_128: str
    sha256: str


class ChecksumReader:
    """Hashes bytes as they come."""

    def __init__(self) -> None:
        import xxhash

        self._xxh3 = xxhash.xxh3_128()
        self._sha = hashlib.sha256()

    def update(self, data: Any, /) -> None:
        """Take the next bytes."""
        self._xxh3.update(data)
        self._sha.update(data)

    def result(self) -> Checksums:
        """The hashes of all that came."""
        return Checksums(self._xxh3.hexdigest(), self._sha.hexdigest())


def _row(result: FileResult) -> Mapping[str, Any]:
    made: Checksums | None = result.read.get(CHECKSUM.name)
    return {} if made is None else {"xxh3_128": made.xxh3_128, "sha256": made.sha256}


def _facts(result: FileResult) -> Facts | None:
    made: Checksums | None = result.read.get(CHECKSUM.name)
    # Of what is no file of its kind every asset shows why; its row has the hashes all the same.
    if made is None or (result.inspection is None and result.media is None):
        return None
    return {"xxh3-128": made.xxh3_128, "SHA-256": made.sha256}


CHECKSUM: Final = FileProduct(
    name="checksum",
    asset="checksum",
    needs="file",
    description="xxh3-128 and SHA-256 of the file's bytes, computed while the file is fetched, in the table `files`.",
    group="metadata",
    kinds=frozenset({"table"}),
    comes_from=("source_file",),
    table="files",
    columns=("file_id", "file_path", "size_bytes", "xxh3_128", "sha256"),
    evidence="sha256",
    reader=ChecksumReader,
    row=_row,
    facts=_facts,
)
