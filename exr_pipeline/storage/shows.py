"""Which show a file belongs to, by the settings: runs are tagged with it, and the catalog has a project for each.

Belongs here: that rule. Not here: what a key says of a shot (`shot_paths`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exr_pipeline.storage.locations import Location

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings


def shows(settings: Settings) -> Callable[[Location], str]:
    """What tells a file's show, as a tag: the last component of its source, or a folder below it (`show_folders`)."""
    sources = [Location.from_url(url) for url in settings.sources]

    def show_of(location: Location) -> str:
        holding = [source for source in sources if source.holds(location)]
        source = max(holding, key=lambda each: len(each.key), default=Location(location.scheme, location.bucket, ""))
        above = [part for part in source.key.split("/") if part]
        folders = [part for part in location.key[len(source.key) :].split("/")[:-1] if part]
        parts = folders[: settings.show_folders]
        return "/".join(parts) or (above[-1] if above else location.bucket) or "files"

    return show_of
