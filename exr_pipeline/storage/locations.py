"""Where an object is: URLs and partition keys, and which are sources. Pure functions of text.

Belongs here: naming. Not here: reading or writing objects (`storage.objects`), how a partition key is spelled
(`storage.partition_keys`), where what is made of a file goes (`storage.outputs`), which extensions there are
(`exr_pipeline.formats`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, cast
from urllib.parse import quote, unquote

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.formats import KINDS, RENDER_KINDS, format_of_name
from exr_pipeline.storage.partition_keys import address_of, key_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from exr_pipeline.storage.outputs import OutputPlace

_LOG = logging.getLogger(__name__)

Scheme = Literal["s3", "gs", "az", "file"]
SCHEMES: Final[tuple[Scheme, ...]] = ("s3", "gs", "az", "file")

OUTPUT_FOLDER: Final = ".proxies"


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """One object, or a prefix of objects: scheme, bucket and key.

    Local files have an empty bucket and their absolute path without its first slash as key.
    """

    scheme: Scheme
    bucket: str
    key: str

    @classmethod
    def from_url(cls, url: str, *, setting: str = "URL") -> Self:
        """The location that a URL names. In the path, only `%XX` is special: `#` and `?` belong to the key.

        Raises `MisconfiguredError`, naming `setting`, for an unknown scheme or a missing bucket.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise MisconfiguredError(
                setting, f"{url!r} is not an object storage URL", f"use one of {', '.join(SCHEMES)}://"
            )
        bucket, _, key = rest.partition("/")
        if scheme == "file":
            if bucket not in {"", "localhost"}:
                raise MisconfiguredError(
                    setting, f"{url!r} has a host, which file URLs cannot have", "write file:///absolute/path"
                )
            return cls("file", "", unquote(key, errors="surrogateescape"))
        if not bucket:
            raise MisconfiguredError(setting, f"{url!r} has no bucket", f"write {scheme}://bucket/prefix")
        return cls(cast("Scheme", scheme), bucket, unquote(key, errors="surrogateescape"))

    @property
    def url(self) -> str:
        """The URL of this location, with `%XX` for what would not survive in one."""
        return f"{self.scheme}://{self.bucket}/{quote(self.key, safe='/!$&()*+,;=:@~', errors='surrogateescape')}"

    @property
    def partition_key(self) -> str:
        """The Dagster partition key of this object, see `storage.partition_keys`.

        Its address there is `bucket/folder/name`, `gs:/bucket/…` for other stores than S3, `/folder/name` for files.
        """
        scheme = "" if self.scheme in {"s3", "file"} else f"{self.scheme}:/"
        return key_of(f"{scheme}{self.bucket}/{self.key}")

    @classmethod
    def from_partition_key(cls, partition_key: str) -> Self:
        """The location that a partition key names, also one of an earlier version."""
        bucket, _, key = address_of(partition_key).partition("/")
        if bucket in {"gs:", "az:"}:
            scheme = bucket[:-1]
            bucket, _, key = key.partition("/")
            return cls(cast("Scheme", scheme), bucket, key)
        return cls("s3" if bucket else "file", bucket, key)

    @property
    def path(self) -> str:
        """The key as the tables and people write it: that of a local file is its absolute path."""
        return f"/{self.key}" if self.scheme == "file" else self.key

    def at(self, path: str) -> Self:
        """Another object of the same store, by its `path`."""
        return type(self)(self.scheme, self.bucket, path.removeprefix("/") if self.scheme == "file" else path)

    @property
    def name(self) -> str:
        """The last component of the key."""
        return self.key.rpartition("/")[2]

    @property
    def folder(self) -> Self:
        """The folder that this object lies in, with its last slash; the whole bucket if it lies in none."""
        return type(self)(self.scheme, self.bucket, self.key.removesuffix(self.name))

    def as_folder(self) -> Self:
        """This prefix with one slash at its end; nothing stays nothing, which is the whole bucket."""
        key = self.key.rstrip("/")
        return type(self)(self.scheme, self.bucket, f"{key}/" if key else "")

    def holds(self, other: Location) -> bool:
        """Whether another key begins with this one; a folder, with its last slash, holds what lies in it."""
        return (self.scheme, self.bucket) == (other.scheme, other.bucket) and other.key.startswith(self.key)

    def child(self, relative_key: str) -> Self:
        """The location below this one, which is taken as a folder."""
        prefix = self.key if not self.key or self.key.endswith("/") else f"{self.key}/"
        return type(self)(self.scheme, self.bucket, prefix + relative_key)


def is_partition_key(text: str) -> bool:
    """Whether this is how the key of some file's partition is written, or of a sequence's, and not some other word."""
    location = Location.from_partition_key(text)
    return "~" in text and location.partition_key == text and format_of_name(location.name) is not None


def is_source(key: str, *, below: str = "", kinds: Collection[str] = KINDS) -> bool:
    """Whether a key names a file that is ingested: of one of these kinds by its extension, and not hidden.

    Files and folders whose name begins with a dot are hidden, `.proxies/` among them. The folders of `below`, a prefix
    that somebody asked for by name, may be hidden all the same.
    """
    if below and key.startswith(below):
        key = key[len(below) :]
    found = format_of_name(key)
    return found is not None and found.kind in kinds and not (key.startswith(".") or "/." in key)


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Which files of the sources are ingested: those of some kinds, and nothing that was itself made from a source."""

    kinds: frozenset[str]
    made: tuple[Location, ...]

    @classmethod
    def of(cls, kinds: Collection[str], outputs: OutputPlace | None = None) -> Self:
        """The rule for these kinds where media go to a place, whose root, if it has one, may lie inside a source.

        Raises `MisconfiguredError` if media would lie among files of which they could not be told.
        """
        if outputs is None or outputs.root is None:
            return cls(frozenset(kinds), ())
        folders = {Location.from_url(url, setting="EXR_PIPELINE_SOURCES").as_folder() for url in outputs.sources}
        roots = {root.as_folder() for folder in folders if (root := outputs.root_of(folder)) is not None}
        among = sorted(folder.url for folder in folders if any(root.holds(folder) for root in roots))
        if among and not frozenset(kinds) <= frozenset(RENDER_KINDS):
            raise MisconfiguredError(
                "EXR_PIPELINE_OUTPUT_ROOT",
                f"{outputs.root!r} contains the source {among[0]}, so outputs would be ingested as sources",
                "use a folder inside the source or next to it, or set "
                f"EXR_PIPELINE_SOURCE_KINDS={','.join(RENDER_KINDS)}",
            )
        inside = {root for root in roots if any(folder.holds(root) for folder in folders)}
        return cls(frozenset(kinds), () if among else tuple(sorted(inside)))

    def accepts(self, location: Location, *, below: str = "") -> bool:
        """Whether this file is ingested; `below` as for `is_source`.

        One whose key is not UTF-8 is passed over with a warning: no table could hold its name.
        """
        if not is_source(location.key, below=below, kinds=self.kinds):
            return False
        if any(folder.holds(location) for folder in self.made):
            return False
        if not _is_utf8(location.key):
            _LOG.warning("%s is skipped: its name is not UTF-8", location.url)
            return False
        return True


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
