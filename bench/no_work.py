"""A run's work replaced by nothing: what it would have made of its files is there already.

Belongs here: made-up results of files, and what hands them out. Not here: anything that is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.inputs import TINY, Renders
from bench.server import settings_for

if TYPE_CHECKING:
    from exr_pipeline.pictures import RenderedPictures

REJECTED_EVERY: Final = 50
WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)


def is_rejected(index: int) -> bool:
    """Whether the file of this number is one that cannot be read."""
    return index % REJECTED_EVERY == 1


_made: list[Any] = []


@dataclass(frozen=True)
class Sample:
    """A small render and its pictures, which stand for those of every file."""

    data: bytes
    pictures: RenderedPictures

    @classmethod
    def made(cls, folder: Path) -> Sample:
        """Write and render one."""
        return cls.of(Renders(TINY).write("ZIP", folder / "sample.exr"), folder)

    @classmethod
    def of(cls, path: Path, folder: Path) -> Sample:
        """Render one that is there."""
        from exr_pipeline.pictures import PictureSettings
        from exr_pipeline.pictures.render import render_picture

        settings = PictureSettings.from_settings(settings_for(folder))
        return cls(
            path.read_bytes(), render_picture(str(path), path.name, thumbnail=True, proxy=True, settings=settings)
        )


_STORED = {"thumbnail": "thumb.jpg", "proxy": "proxy.mp4"}


def make_products(keys: Sequence[str], sample: Sample, *, first: int = 0) -> None:
    """What the left-out work would have made of these files."""
    from exr_pipeline.inspection import SourceFile, inspect_bytes
    from exr_pipeline.orchestration.partitions import locations_of
    from exr_pipeline.products.checksum import Checksums
    from exr_pipeline.products.file_result import FileResult
    from exr_pipeline.storage.outputs import OutputPlace

    _made.clear()
    inspected: Any = None
    for index, location in enumerate(locations_of(keys), first):
        source = SourceFile(location, len(sample.data), WRITTEN, f"etag-{index}")
        products = FileResult(location, "rejected", "truncated: the file ends before its pixels do", source)
        if not is_rejected(index):
            inspected = inspected or inspect_bytes(sample.data, source)
            inspection = replace(inspected, source=source)
            products = FileResult(location, "ready", None, source, inspection, sample.pictures)
            products.stored = {name: OutputPlace().at(location, ending) for name, ending in _STORED.items()}
            products.read = {"checksum": Checksums("0" * 32, "0" * 64)}
        _made.append(products)


class NoWork:
    """Stands for `ChunkIngest`: every file ends at once, so that the chunk is reported as a whole."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def run(
        self,
        locations: Sequence[Any],
        _wanted: Any,
        *,
        on_written: Callable[[Sequence[Any]], None],
        on_progress: Callable[[Any], None],
        **_more: Any,
    ) -> None:
        """Hand out what was made of these files."""
        from exr_pipeline.ingest.chunk import ChunkProgress

        progress = ChunkProgress(len(locations))
        by_location = {products.location: products for products in _made}
        made = [by_location[location] for location in locations]
        self.finish(made)
        for products in made:
            progress.count(products.state)
        on_written(made)
        on_progress(progress)

    def finish(self, made: Sequence[Any]) -> None:
        """What is done with results before they are reported."""


def leave_out_the_work(stand_in: type[NoWork] = NoWork) -> None:
    """Have every run of this process hand out what `make_products` has made."""
    from exr_pipeline import pictures
    from exr_pipeline.ingest import chunk

    # The step asks for both by name when it runs; everything else of it stays as it is.
    setattr(chunk, "ChunkIngest", stand_in)  # noqa: B010
    setattr(pictures, "PicturePool", nullcontext)  # noqa: B010
