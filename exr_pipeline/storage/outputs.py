"""Where what is made of files and sequences goes, and what its objects say of themselves.

Belongs here: the place, decided once from the settings. Not here: writing objects (`storage.objects`), or what is made
(`products`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import quote

from exr_pipeline import __version__
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.formats import FORMATS, category_of, format_of_name
from exr_pipeline.storage.locations import OUTPUT_FOLDER, Location

if TYPE_CHECKING:
    from collections.abc import Collection

    from exr_pipeline.settings import Settings

# What the names of outputs begin with: `name` is that of the source, `stem` the same without its extension. `own` is
# the stem of OpenEXR files and the name of all others, so that no two sources have the same.
NamedAfter = Literal["own", "stem", "name"]

GENERATOR: Final = "exr_pipeline"
_SETTING: Final = "EXR_PIPELINE_OUTPUT_ROOT"


def media_tags(media_type: str) -> dict[str, str]:
    """The S3 tags of an object that we made."""
    return {"media_type": media_type, "generator": GENERATOR, "version": __version__}


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """Where the objects made of any source go: next to it, or below a root.

    Without a root they go next to the source: `shot/beauty.0001.exr` gives `shot/.proxies/beauty.0001_thumb.jpg`. With
    one, the folder is the source's relative to the longest of `sources` (URLs of folders) that contains it, below the
    root; `{source}` in the root stands for that folder's `bucket/prefix`. No two sources share a location.
    """

    root: str | None = None
    sources: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The place that the settings name."""
        return cls(settings.output_root, tuple(settings.sources))

    def at(self, source: Location, ending: str, after: NamedAfter = "own") -> Location:
        """Where the object of this ending goes, such as `thumb.jpg`, if outputs are named `after` this.

        Raises `MisconfiguredError`, naming the setting, where a root could not keep the files of several sources apart,
        or for a file below none of them.
        """
        # The folder keeps its last slash: `a/x.exr` and `a//x.exr` are two objects.
        if self.root is None:
            folder = f"{source.folder.key}{OUTPUT_FOLDER}/"
            target = Location(source.scheme, source.bucket, "")
        else:
            target, relative = self._root_and_relative_key(source, self.root)
            folder = relative.removesuffix(source.name)
        return target.child(f"{folder}{_named(source.name, ending, after)}")

    def named(self, source: Location, bucket: str, path: str) -> Location:
        """The object that a row of this source names by its bucket and path, which say nothing of the kind of store."""
        store = source if self.root is None else Location.from_url(self.root, setting=_SETTING)
        return Location(store.scheme, bucket, "").at(path)

    def root_of(self, folder: Location) -> Location | None:
        """The root that receives what is made of a source's folder, None without a root."""
        if self.root is None:
            return None
        inserted = quote(f"{folder.bucket}/{folder.key}".strip("/"), safe="/", errors="surrogateescape")
        return Location.from_url(self.root.replace("{source}", inserted, 1), setting=_SETTING)

    def _root_and_relative_key(self, source: Location, root: str) -> tuple[Location, str]:
        folders = _checked_folders(root, self.sources)
        containing = [folder for folder in folders if folder.holds(source)]
        if not containing:
            raise MisconfiguredError(
                _SETTING,
                f"{source.url} is not below a configured source, so it has no place below the root",
                "add its folder to EXR_PIPELINE_SOURCES, or unset the root",
            )
        folder = max(containing, key=lambda candidate: len(candidate.key))
        target = self.root_of(folder)
        assert target is not None
        return target, source.key[len(folder.key) :]


def _named(name: str, ending: str, after: NamedAfter) -> str:
    if after == "stem":
        # Who looks for the proxy of a movie by the stem looks for it with a hyphen.
        joint = "-" if ending == "proxy.mp4" and category_of(name) == "movie" else "_"
        return f"{stem_of(name)}{joint}{ending}"
    return f"{name if after == 'name' else _own(name)}_{ending}"


def _own(name: str) -> str:
    """The name that outputs begin with: the stem where no other source can have the same one, else all of it."""
    return stem_of(name) if name.endswith(".exr") else name


def stem_of(name: str) -> str:
    """The name of a source without its extension, or with it if what is left could be the name of another source."""
    stem = name.rpartition(".")[0]
    return name if not stem or format_of_name(stem) is not None else stem


def stem_owner(names: Collection[str], holding: Collection[str] = ()) -> str:
    """Which of the sources of one folder that share a stem has outputs with that name; the others use their own names.

    Of those that are `holding` it already, as the tables say, or else of all: the first by format, then by name. So the
    order in which they are ingested does not matter, and nobody loses a name that a row points to.
    """
    return min(holding or names, key=_rank)


def is_after_stem(output: str, source: str) -> bool:
    """Whether an output's name begins with the stem of its source's name, not with all of that name."""
    return not output.startswith((f"{source}_", f"{source}-"))


def _rank(name: str) -> tuple[int, str]:
    found = format_of_name(name)
    return (len(FORMATS) if found is None else FORMATS.index(found), name)


@cache
def _checked_folders(root: str, sources: tuple[str, ...]) -> frozenset[Location]:
    """The folders of sources that may share a root. Asked for each object: looked at once."""
    folders = frozenset(Location.from_url(url, setting="EXR_PIPELINE_SOURCES").as_folder() for url in sources)
    _check_root(root, folders)
    return folders


def _check_root(root: str, folders: frozenset[Location]) -> None:
    """Raise `MisconfiguredError` unless files of different sources are sure to keep different keys below the root."""
    if len(folders) < 2:
        return
    before, placeholder, after = root.partition("{source}")
    nested = any(one != other and one.holds(other) for one in folders for other in folders)
    if not placeholder:
        problem = "several sources share one root"
    elif "{source}" in after or (before and not before.endswith("/")) or (after and not after.startswith("/")):
        problem = "{source} is not a whole component of it"
    elif len({folder.scheme for folder in folders}) > 1:
        problem = "sources of several kinds of storage share one root"
    elif nested and after.strip("/"):
        problem = "one source is inside another and {source} is not at the end"
    else:
        return
    raise MisconfiguredError(
        _SETTING,
        f"{root!r}: {problem}, so files could overwrite each other's media",
        "end it with /{source}, which stands for the source's bucket/prefix, or run one installation per source",
    )
