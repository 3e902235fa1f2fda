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
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pydantic import SecretStr

from bench.inputs import TINY, TWO_K, Renders, show_kinds
from bench.predecessor import RANGE_BYTES, PictureChain, RefusedError, ffmpeg, header_json
from bench.report import Report, Table
from bench.server import fill, running_server, s3_client, settings_for
from bench.sides import Side, Work, started
from bench.size import Size
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.vast_emulator.running import running_emulator

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables import TableStore

_CHUNK: Final = 1000
_MORE: Final = 10  # Times as many files, to see whether the cost of one grows.
_GENERATOR: Final = "media_type={}&generator=predecessor&version=1"
_COUNTED: Final = ("files", "parts", "channels", "attributes", "proxy_outputs")


class Tables:
    """Empty tables for each turn: a DuckDB file, or a schema in the VAST DataBase at `vast`."""

    def __init__(self, folder: Path, settings: Settings, vast: str | None) -> None:
        self._folder, self._settings, self._vast, self._turns = folder, settings, vast, 0

    def new(self) -> TableStore:
        """The next ones."""
        from exr_pipeline.tables import open_table_store

        self._turns += 1
        values: dict[str, Any] = {"database": self._folder / f"{self._turns}.duckdb"}
        if self._vast:
            values = {
                "vast_db_endpoint": self._vast,
                "vast_db_access_key": SecretStr("test"),
                "vast_db_secret_key": SecretStr("a secret"),
                "vast_db_bucket": "vastdb",
                "vast_db_schema": f"bench_{uuid4().hex}",
            }
        tables = open_table_store(self._settings.model_copy(update=values))
        tables.create_tables()
        return tables


def _rows_in(tables: TableStore, files: int) -> int:
    """How many rows the files have in all tables; raises if they are not ready."""
    counts = tables.counts_by_state()
    if counts != {"ready": files}:
        raise RuntimeError(f"{files} files, but {counts}: {tables.sql('FROM failed_files')}")
    return sum(tables.sql(f"SELECT count(*) AS n FROM {name}").to_pylist()[0]["n"] for name in _COUNTED)


class Ours(Work):
    """`ChunkIngest`, with its pool of picture workers already started if pictures are wanted."""

    def __init__(self, folder: Path, pictures: bool, vast: str | None = None, *, checksum: bool = True) -> None:
        from exr_pipeline.pictures import PicturePool, PictureSettings
        from exr_pipeline.storage.objects import ObjectStorage

        self.pictures, self.checksum = pictures, checksum
        self.settings = settings_for(folder)
        self.empty = Tables(folder, self.settings, vast)
        self.storage = ObjectStorage(self.settings)
        self.open = ExitStack()
        self.pool = (
            self.open.enter_context(PicturePool(PictureSettings.from_settings(self.settings))) if pictures else None
        )

    def prepare(self, locations: list[Location]) -> None:
        """Empty tables."""
        self.tables = self.empty.new()

    def run(self, locations: list[Location]) -> None:
        """Ingest."""
        from exr_pipeline.ingest.chunk import ChunkIngest
        from exr_pipeline.products.checksum import CHECKSUM
        from exr_pipeline.products.registry import FILE_PRODUCTS, products_named

        ingest = ChunkIngest(self.settings, self.storage, media=self.storage, rows=self.tables, pool=self.pool)
        wanted = FILE_PRODUCTS if self.pictures else products_named(["header"])
        wanted = tuple(product for product in wanted if self.checksum or product is not CHECKSUM)
        for start in range(0, len(locations), _CHUNK):
            ingest.run(locations[start : start + _CHUNK], wanted, on_written=lambda _: None)

    def check(self, locations: list[Location]) -> object:
        """Everything is in the tables; how many rows."""
        return _rows_in(self.tables, len(locations))

    def close(self) -> None:
        """End the workers."""
        self.open.close()


class Predecessor(Work):
    """Event by event: range or whole object into a temporary file, OpenImageIO, one row per transaction."""

    def __init__(self, folder: Path, pictures: bool, vast: str | None = None) -> None:
        self.pictures = pictures
        self.empty = Tables(folder, settings_for(folder), vast)
        self.client = s3_client()
        self.chain = PictureChain.found()

    def prepare(self, locations: list[Location]) -> None:
        """Empty tables."""
        self.tables = self.empty.new()

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

    def check(self, locations: list[Location]) -> int:
        """Everything is in the tables; how many rows."""
        return _rows_in(self.tables, len(locations))


def run(size: Size, folder: Path) -> Report:
    """Headers only into both kinds of tables, and ten times as many; then with pictures."""
    ratios = Table(
        [
            "products",
            "x faster than the predecessor",
            "x its peak memory",
            "x slower per file than fewer",
            "x the speed without checksum",
        ]
    )
    figures = Table(
        [
            "products",
            "files, ours",
            "files, predecessor",
            "ours, files/s",
            "ours, rows/s",
            "predecessor, files/s",
            "ours, MiB",
            "predecessor, MiB",
        ]
    )
    many, emulated = size.count(2000, 8), min(size.count(500, 4), 500)
    pictures = size.count(12, 2)
    with running_server(folder), running_emulator() as emulator:
        more = many if size.files else _MORE * many
        library = fill(_library(max(many, more), folder, size))
        renders = fill(_renders(pictures, folder, size))
        # Name, files, files of the predecessor, whether with pictures, where the tables are.
        cases = [
            ("headers", library[:many], min(many, 4 if size.tiny else 200), False, None),
            ("headers, VAST emulated", library[:emulated], min(emulated, 4 if size.tiny else 50), False, emulator.url),
            ("headers and pictures", renders, min(pictures, 1 if size.tiny else 3), True, None),
        ]
        for name, files, few, with_pictures, vast in cases:
            ours = Side("ours", partial(Ours, folder / f"{name}-ours", with_pictures, vast))
            theirs = Side("predecessor", partial(Predecessor, folder / f"{name}-predecessor", with_pictures, vast))
            grown = Side("ours, more files", partial(Ours, folder / f"{name}-more", with_pictures, vast))
            has_more = name == "headers" and more > many
            bare = Side(
                "ours, no checksum", partial(Ours, folder / f"{name}-bare", with_pictures, vast, checksum=False)
            )
            sides = [ours, theirs, *([grown] if has_more else []), *([bare] if with_pictures else [])]
            with started(sides):
                for side in () if size.tiny else sides:
                    side.ask(files[:2])
                for turn in range(size.rounds(3)):
                    ours.take_turn(files)
                    theirs.take_turn(files[:few])
                    if has_more and not turn:
                        grown.take_turn(library)
                    if with_pictures:
                        bare.take_turn(files)
            theirs_per_second = few / theirs.median
            compared = [(name, ours, len(files)), (f"{name}, {more:,} files", grown, more)]
            for case, side, count in compared[: 2 if has_more else 1]:
                rate = count / side.median
                slower = None if side is ours else len(files) / ours.median / rate
                hashed = bare.median / ours.median if with_pictures else None
                ratios.add(case, rate / theirs_per_second, side.peak_mib / theirs.peak_mib, slower, hashed)
                rows = side.values[-1] / side.median
                figures.add(case, count, few, rate, rows, theirs_per_second, side.peak_mib, theirs.peak_mib)
    return Report(
        "ingest",
        "From objects in an embedded S3 server over HTTP to rows (and media) in empty tables. Ours is `ChunkIngest` on "
        "all cores. The predecessor is its handler in a loop: boto3 GET (of 256 KB for headers), temporary file, "
        "OpenImageIO, for pictures three oiiotool processes"
        f"{' and ffmpeg' if ffmpeg() else ''} and two PUTs, then one row in a transaction of its own in tables "
        "of the same kind: a DuckDB file, or an emulator of VAST DataBase through its SDK, over HTTP. Headers: files "
        f"of the sample show; pictures: 2K renders of 24 channels, ZIP. Medians of {size.rounds(3)} turns.",
        ratios,
        figures,
        [
            "The predecessor is measured on fewer files, because it is slow and its cost per file does not change.",
            "Peak memory is that of each side's process with all its children; the servers are in neither.",
            f"Chunks of {_CHUNK:,} files, as runs of Dagster have them; of the most files one turn, among the others.",
            "With pictures ours takes checksums too; without them is a side of its own, turn by turn with the other.",
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
