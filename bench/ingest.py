"""Files end to end over an S3 server, headers only and with pictures, beside the predecessor's handler in a loop.

Belongs here: fetch to row, on both sides. Not here: Dagster's share (`orchestration`).
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from bench.inputs import TINY, TWO_K, Renders, show_kinds
from bench.predecessor import RANGE_BYTES, PictureChain, RefusedError, ffmpeg, header_json
from bench.report import Report, Table
from bench.server import fill, running_server, s3_client, settings_for
from bench.sides import Side, Work, started
from bench.size import Size
from exr_pipeline.storage.locations import Location

_CHUNK: Final = 1000
_MORE: Final = 10  # Times as many files, to see whether the cost of one grows.
_GENERATOR: Final = "media_type={}&generator=predecessor&version=1"


class Ours(Work):
    """`ChunkIngest`, with its pool of picture workers already started if pictures are wanted."""

    def __init__(self, folder: Path, pictures: bool) -> None:
        from exr_pipeline.pictures import PicturePool, PictureSettings
        from exr_pipeline.storage.objects import ObjectStorage

        self.folder, self.pictures, self.turns = folder, pictures, 0
        self.settings = settings_for(folder)
        self.storage = ObjectStorage(self.settings)
        self.open = ExitStack()
        self.pool = (
            self.open.enter_context(PicturePool(PictureSettings.from_settings(self.settings))) if pictures else None
        )

    def prepare(self, locations: list[Location]) -> None:
        """Empty tables."""
        from exr_pipeline.tables import open_table_store

        self.turns += 1
        database = self.folder / f"{self.turns}.duckdb"
        self.tables = open_table_store(self.settings.model_copy(update={"database": database}))
        self.tables.create_tables()

    def run(self, locations: list[Location]) -> None:
        """Ingest."""
        from exr_pipeline.ingest.chunk import ChunkIngest, Wanted

        ingest = ChunkIngest(self.settings, self.storage, media=self.storage, rows=self.tables, pool=self.pool)
        wanted = Wanted(thumbnail=self.pictures, proxy=self.pictures)
        for start in range(0, len(locations), _CHUNK):
            ingest.run(locations[start : start + _CHUNK], wanted, on_written=lambda _: None)

    def check(self, locations: list[Location]) -> dict[str, int]:
        """Everything is in the tables."""
        counts = self.tables.counts_by_state()
        if counts != {"ready": len(locations)}:
            raise RuntimeError(f"{len(locations)} files, but {counts}: {self.tables.sql('FROM failed_files')}")
        return counts

    def close(self) -> None:
        """End the workers."""
        self.open.close()


class Predecessor(Work):
    """Event by event: range or whole object into a temporary file, OpenImageIO, one row per transaction."""

    def __init__(self, folder: Path, pictures: bool) -> None:
        self.folder, self.pictures, self.turns = folder, pictures, 0
        self.settings = settings_for(folder)
        self.client = s3_client()
        self.chain = PictureChain.found()

    def prepare(self, locations: list[Location]) -> None:
        """Empty tables."""
        from exr_pipeline.tables import open_table_store

        self.turns += 1
        database = self.folder / f"{self.turns}.duckdb"
        self.tables = open_table_store(self.settings.model_copy(update={"database": database}))
        self.tables.create_tables()

    def run(self, locations: list[Location]) -> None:
        """One after another."""
        for location in locations:
            self._handle(location)

    def _handle(self, location: Location) -> None:
        with tempfile.TemporaryDirectory(prefix="exr_pipeline_bench_") as folder:
            source = Path(folder) / location.name
            limit = {} if self.pictures else {"Range": f"bytes=0-{RANGE_BYTES - 1}"}
            answer = self.client.get_object(Bucket=location.bucket, Key=location.key, **limit)
            source.write_bytes(answer["Body"].read())
            header_json(source)
            if self.pictures:
                self._upload(location, *self.chain.run(source, Path(folder)))
            self._write_row(location, answer)

    def _upload(self, location: Location, thumbnail: Path, proxy: Path) -> None:
        for file, content_type in ((thumbnail, "image/jpeg"), (proxy, "video/mp4")):
            self.client.put_object(
                Bucket=location.bucket,
                Key=f".proxies/{location.key}.{file.name}",
                Body=file.read_bytes(),
                ContentType=content_type,
                Tagging=_GENERATOR.format(file.stem),
            )

    def _write_row(self, location: Location, answer: dict[str, Any]) -> None:
        """One row of `files`: fewer than the predecessor writes, in as many transactions."""
        from exr_pipeline.inspection import FileState, SourceFile, unread_rows

        now = datetime.now(UTC)
        source = SourceFile(location, answer["ContentLength"], answer["LastModified"], answer["ETag"].strip('"'))
        self.tables.write(unread_rows([(source, FileState("ready", None))], inspected_at=now), now=now)

    def check(self, locations: list[Location]) -> dict[str, int]:
        """Everything is in the tables."""
        counts = self.tables.counts_by_state()
        if counts != {"ready": len(locations)}:
            raise RuntimeError(f"{len(locations)} files, but {counts}")
        return counts


def run(size: Size, folder: Path) -> Report:
    """Headers only, then with pictures."""
    ratios = Table(["products", "x faster than the predecessor", "x its peak memory", "x slower per file than fewer"])
    figures = Table(
        [
            "products",
            "files, ours",
            "files, predecessor",
            "ours, files/s",
            "predecessor, files/s",
            "ours, MiB",
            "predecessor, MiB",
        ]
    )
    counts = {
        "headers": (size.count(2000, 8), size.count(200, 4)),
        "headers and pictures": (size.count(12, 2), min(size.count(12, 2), size.count(3, 1))),
    }
    with running_server(folder):
        for products, (many, few) in counts.items():
            pictures = products != "headers"
            few = min(many, few if pictures else 200)
            more = 0 if pictures or size.files else _MORE * many
            if pictures:
                locations = fill(_renders(many, folder, size))
            else:
                locations = fill(_library(max(many, more), folder, size))
            ours = Side("ours", partial(Ours, folder / f"{products}-ours", pictures))
            theirs = Side("predecessor", partial(Predecessor, folder / f"{products}-predecessor", pictures))
            grown = Side("ours, more files", partial(Ours, folder / f"{products}-more", pictures))
            sides = [ours, theirs, grown] if more else [ours, theirs]
            with started(sides):
                for side in () if size.tiny else sides:
                    side.ask(locations[:2])
                for turn in range(size.rounds(3)):
                    ours.take_turn(locations[:many])
                    theirs.take_turn(locations[:few])
                    if more and not turn:
                        grown.take_turn(locations)
            rates = many / ours.median, few / theirs.median
            ratios.add(products, rates[0] / rates[1], ours.peak_mib / theirs.peak_mib, None)
            figures.add(products, many, few, *rates, ours.peak_mib, theirs.peak_mib)
            if more:
                rate = more / grown.median
                ratios.add(
                    f"{products}, {more:,} files", rate / rates[1], grown.peak_mib / theirs.peak_mib, rates[0] / rate
                )
                figures.add(f"{products}, {more:,} files", more, few, rate, rates[1], grown.peak_mib, theirs.peak_mib)
    return Report(
        "ingest",
        "From objects in an embedded S3 server over HTTP to rows (and media) in empty tables. Ours is `ChunkIngest` on "
        "all cores. The predecessor is its handler in a loop: boto3 GET (of 256 KB for headers), temporary file, "
        "OpenImageIO, for pictures three oiiotool processes"
        f"{' and ffmpeg' if ffmpeg() else ''} and two PUTs, then one row in a transaction of its own in the same "
        f"DuckDB store. Headers: files of the sample show; pictures: 2K renders of 24 channels, ZIP. Medians of "
        f"{size.rounds(3)} turns.",
        ratios,
        figures,
        [
            "The predecessor is measured on fewer files, because it is slow and its cost per file does not change.",
            "Peak memory is that of each side's process with all its children; the server is in neither.",
            f"Chunks of {_CHUNK:,} files, as runs of Dagster have them; of the most files one turn, among the others.",
            "Ours writes rows of `files`, `parts`, `channels` and `attributes`, the predecessor here only of `files`.",
        ],
    )


def _library(count: int, folder: Path, size: Size) -> dict[str, bytes]:
    """Files of the sample show that the predecessor can read too, over and over."""
    kinds = islice(show_kinds(), 2 if size.tiny else None)
    readable = [(facts.format, data) for facts, data in kinds if _is_readable(data, folder)]
    return {
        f"headers/file.{index:06d}.{format_}": data
        for index, (format_, data) in enumerate(islice(cycle(readable), count))
    }


def _is_readable(data: bytes, folder: Path) -> bool:
    path = folder / "try.exr"
    path.write_bytes(data[:RANGE_BYTES])
    try:
        header_json(path)
    except RefusedError:
        return False
    return True


def _renders(count: int, folder: Path, size: Size) -> dict[str, bytes]:
    path = Renders(TINY if size.tiny else TWO_K).write("ZIP", folder / "render.exr")
    data = path.read_bytes()
    return {f"pictures/beauty.{1001 + index}.exr": data for index in range(count)}
