"""Where an object is: URLs, partition keys and the keys of what is made from it. Pure functions of text.

Belongs here: naming. Not here: reading or writing objects (`storage.objects`).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, Self, cast
from urllib.parse import quote, unquote

from exr_pipeline.errors import MisconfiguredError

Scheme = Literal["s3", "gs", "az", "file"]
SCHEMES: Final[tuple[Scheme, ...]] = ("s3", "gs", "az", "file")

OUTPUT_FOLDER: Final = ".proxies"

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_ESCAPE: Final = re.compile(r"~~([0-9A-F]{2})|~")


def encode_partition_key(address: str) -> str:
    """Text made of URL-unreserved characters only, readable and reversible by `decode_partition_key`.

    `/` becomes `~`; any other byte outside `A-Z a-z 0-9 - _ .` becomes `~~` and two hex digits, as does a slash or a
    dot that follows one of its kind (Dagster's partition dialog reads `...` as a range).
    """
    parts: list[str] = []
    previous = 0
    for byte in address.encode("utf-8", "surrogateescape"):
        if byte == 0x2F and previous != 0x2F:
            parts.append("~")
        elif byte in _PLAIN and not (byte == 0x2E and previous == 0x2E):
            parts.append(chr(byte))
        else:
            parts.append(f"~~{byte:02X}")
        previous = byte
    return "".join(parts)


def decode_partition_key(partition_key: str) -> str:
    """The text that `encode_partition_key` was given."""
    raw = bytearray()
    position = 0
    for match in _ESCAPE.finditer(partition_key):
        raw += partition_key[position : match.start()].encode("ascii")
        raw += bytes([int(match[1], 16)]) if match[1] else b"/"
        position = match.end()
    raw += partition_key[position:].encode("ascii")
    return raw.decode("utf-8", "surrogateescape")


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
                raise MisconfiguredError(setting, f"{url!r} names a host", "write file:///absolute/path")
            return cls("file", "", unquote(key))
        if not bucket:
            raise MisconfiguredError(setting, f"{url!r} has no bucket", f"write {scheme}://bucket/prefix")
        return cls(cast("Scheme", scheme), bucket, unquote(key))

    @property
    def url(self) -> str:
        """The URL of this location, with `%XX` for what would not survive in one."""
        return f"{self.scheme}://{self.bucket}/{quote(self.key, safe='/!$&()*+,;=:@~', errors='surrogateescape')}"

    @property
    def partition_key(self) -> str:
        """The Dagster partition key of this object: `bucket~folder~name` (`gs~~3A~bucket~…` for other than S3)."""
        scheme = "" if self.scheme in {"s3", "file"} else f"{self.scheme}:/"
        return encode_partition_key(f"{scheme}{self.bucket}/{self.key}")

    @classmethod
    def from_partition_key(cls, partition_key: str) -> Self:
        """The location that a partition key names."""
        bucket, _, key = decode_partition_key(partition_key).partition("/")
        if bucket in {"gs:", "az:"}:
            scheme = bucket[:-1]
            bucket, _, key = key.partition("/")
            return cls(cast("Scheme", scheme), bucket, key)
        return cls("s3" if bucket else "file", bucket, key)

    @property
    def name(self) -> str:
        """The last component of the key."""
        return self.key.rpartition("/")[2]

    def child(self, relative_key: str) -> Self:
        """The location below this one, which is taken as a folder."""
        prefix = self.key if not self.key or self.key.endswith("/") else f"{self.key}/"
        return type(self)(self.scheme, self.bucket, prefix + relative_key)
