"""Which files and sequences have other pictures than the settings would make now: found from the tables alone.

Belongs here: reading the rows of many files, and the comparison of movies and sounds. Not here: how the record of a
picture is judged (`pictures.expectation`), or which files are ingested (`choose`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.formats import format_of_name, plays
from exr_pipeline.ingest.output_names import by_stem, output_names, owner_among
from exr_pipeline.ingest.store_results import output_objects
from exr_pipeline.products.registry import FILE_PRODUCTS, products_named
from exr_pipeline.storage.outputs import OutputPlace
from exr_pipeline.tables.specs import READY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from exr_pipeline.exr import Header
    from exr_pipeline.pictures.expectation import PictureFacts, PictureRecord
    from exr_pipeline.pictures.still import Size
    from exr_pipeline.sequences.model import Sequence as FrameSequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.locations import Location
    from exr_pipeline.storage.outputs import NamedAfter
    from exr_pipeline.tables.specs import TableName
    from exr_pipeline.tables.store import TableStore

Row = dict[str, Any]
FileKey = tuple[str, str]

_OUTPUT_COLUMNS: Final = (
    *("s3_bucket", "s3_key", "output_bucket", "thumbnail_s3_key", "proxy_s3_key", "thumb_resolution"),
    *("proxy_resolution", "layer", "source_colorspace", "color_rule", "still_view", "proxy_view"),
    *("ocio_config", "ocio_config_hash"),
    *("proxy_still_s3_key", "metadata_s3_key"),
)
_PART_COLUMNS: Final = (
    *("part_index", "part_name", "view_name", "is_deep", "display_width", "display_height", "pixel_aspect_ratio"),
    "multi_view",
)
_STREAM_COLUMNS: Final = (*("stream_index", "stream_type", "width", "height", "sample_aspect_ratio", "rotation"),)
_SEQUENCE_COLUMNS: Final = (
    *("state", "movie_preset", "movie_view", "still_view", "source_colorspace", "color_rule"),
    *("ocio_config", "ocio_config_hash"),
)
_ENDINGS: Final = {thing.name: thing.ending for product in FILE_PRODUCTS for thing in product.objects}
# The shape of the waveform of a sound.
_WAVEFORM: Final = (16 * 4096, 9 * 4096)


def outdated_pictures(
    tables: TableStore, locations: Sequence[Location], only: Collection[str], settings: Settings
) -> dict[Location, str]:
    """The ready files whose products, of those named by `only` (empty: all), are not what would be made now; and why.

    Compared are: whether each product was made, where thumbnail and proxy lie, their sizes and views, the OCIO config,
    the layer that is shown, and the rule that decided the source space. Raises `MisconfiguredError` as rendering does.
    """
    products = [product for product in products_named(only) if product.evidence]
    kinds = [product.name for product in products if product.table == "proxy_outputs"]
    others = [product for product in products if product.table == "files"]
    if not products:
        return {}
    columns = ("bucket", "file_path", "file_id", "state", "format", "header_hash", *(one.evidence for one in others))
    rows = tables.read("files", columns=columns, locations=locations).to_pylist()
    files = {(row["bucket"], row["file_path"]): row for row in rows if row["state"] == READY}
    ready = [location for location in locations if (location.bucket, location.path) in files]
    if not ready:
        return {}
    outputs = {key: row for key, (row,) in _rows(tables, "proxy_outputs", _OUTPUT_COLUMNS, ready).items()}
    judge = _Judge(tables, ready, files, outputs, settings) if kinds else None
    found: dict[Location, str] = {}
    for location in ready:
        key = (location.bucket, location.path)
        reasons = [f"no {product.name}" for product in others if not files[key][product.evidence]]
        if judge is not None:
            reasons += judge.reasons(location, outputs.get(key, {}), kinds)
        if reasons:
            found[location] = "; ".join(reasons)
    return found


def outdated_sequences(
    tables: TableStore, sequences: Sequence[FrameSequence], settings: Settings
) -> list[FrameSequence]:
    """Those of the ready sequences whose media would not be the same if made now, by the record in the tables.

    Compared are the preset of the movie, the views, the OCIO config, and the rule that decided the source space of the
    first frame. Raises `MisconfiguredError` as rendering does.
    """
    from exr_pipeline.pictures import PictureSettings
    from exr_pipeline.pictures.expectation import Expectation, PictureFacts

    if not sequences:
        return []
    locations = [sequence.location for sequence in sequences]
    stored = _rows(tables, "sequence_outputs", _SEQUENCE_COLUMNS, locations)
    expectation = Expectation(PictureSettings.from_settings(settings))

    def is_outdated(sequence: FrameSequence) -> bool:
        (row,) = stored.get((sequence.location.bucket, sequence.location.key), [{"state": None}])
        if row["state"] != READY:
            return False
        if row["movie_preset"] not in {None, settings.movie_preset}:
            return True
        first = sequence.frames[0].location
        format_ = format_of_name(first.name)
        facts = PictureFacts(first.url, format_ is not None and format_.name == "exr")
        return any(expectation.differences(_record(row | {"proxy_view": row["movie_view"]}), facts))

    return [sequence for sequence in sequences if is_outdated(sequence)]


class _Judge:
    """What the tables know of these files, beyond their outputs, and what the settings would make of them."""

    def __init__(
        self,
        tables: TableStore,
        ready: Sequence[Location],
        files: Mapping[FileKey, Row],
        outputs: Mapping[FileKey, Row],
        settings: Settings,
    ) -> None:
        from exr_pipeline.pictures import PictureSettings
        from exr_pipeline.pictures.expectation import Expectation

        self._settings, self._files = settings, files
        self._outputs = OutputPlace.from_settings(settings)
        self._names = _names(ready, outputs) if settings.compatibility else {}
        self._expectation = Expectation(PictureSettings.from_settings(settings))
        pictures = [location for location in ready if not plays(location.name)]
        media = [location for location in ready if plays(location.name)]
        self._parts = _rows(tables, "parts", _PART_COLUMNS, pictures)
        self._streams = _rows(tables, "media_streams", _STREAM_COLUMNS, media)
        self._headers = _headers(tables, pictures, files, self._parts)

    def reasons(self, location: Location, row: Row, kinds: Sequence[str]) -> Iterator[str]:
        """Why the pictures of a file are not what they would be; `row` is that of its outputs, empty without any."""
        for kind in kinds:
            target = self._outputs.at(location, _ENDINGS[kind], self._names.get(location, "own"))
            if not row.get(f"{kind}_s3_key"):
                yield f"no {kind}"
            elif (row["output_bucket"], row[f"{kind}_s3_key"]) != (target.bucket, target.path):
                yield f"place of the {kind}: {row[f'{kind}_s3_key']}, would be {target.path}"
        for thing in output_objects(location, self._settings.compatibility) if "proxy" in kinds else ():
            if thing.only_for and not row.get(f"{thing.name}_s3_key"):
                yield f"no {thing.name}"
        record = _record({name: value for name, value in row.items() if _is_about(name, kinds)})
        if plays(location.name):
            yield from self._of_media(location, record)
        elif any(row.get(f"{kind}_s3_key") for kind in kinds):
            yield from self._expectation.differences(record, self._facts(location))

    def _facts(self, location: Location) -> PictureFacts:
        from exr_pipeline.pictures.expectation import PictureFacts
        from exr_pipeline.pictures.still import Size

        key = (location.bucket, location.path)
        windows = [
            (Size(part["display_width"], part["display_height"]), part["pixel_aspect_ratio"])
            for part in self._parts.get(key, ())
            if part["display_width"] and part["display_height"]
        ]
        file = self._files[key]
        return PictureFacts(location.url, file["format"] == "exr", windows, self._headers.get(file["header_hash"], ()))

    def _of_media(self, location: Location, record: PictureRecord) -> Iterator[str]:
        from exr_pipeline.footage.model import MediaStream
        from exr_pipeline.footage.picture_graph import shown_size
        from exr_pipeline.pictures.expectation import size_difference
        from exr_pipeline.pictures.still import Size, fitted

        settings = self._settings
        streams = self._streams.get((location.bucket, location.path), ())
        box = Size(settings.thumbnail_size, settings.thumbnail_size)
        facts = min((row for row in streams if row["stream_type"] == "video"), key=_index, default=None)
        if facts is None:
            expected = fitted(*_WAVEFORM, 1.0, box)
        else:
            shape = {name: facts[name] for name in ("width", "height", "sample_aspect_ratio", "rotation")}
            video = MediaStream(facts["stream_index"], "video", **shape)
            expected = shown_size(video, box, even_sides=False)
            if record.proxy_size is not None:
                proxy = shown_size(video, Size(settings.proxy_width, settings.proxy_height), even_sides=True)
                yield from size_difference("proxy", record.proxy_size, [proxy])
        if record.thumbnail_size is not None:
            yield from size_difference("thumbnail", record.thumbnail_size, [expected])


def _names(ready: Sequence[Location], outputs: Mapping[FileKey, Row]) -> dict[Location, NamedAfter]:
    """What outputs are named after where names may be shared, as far as these files and their outputs tell."""
    found: dict[Location, NamedAfter] = {}
    for sources in by_stem(ready).values():
        made = {one.name: output_names(outputs.get((one.bucket, one.path), {})) for one in sources}
        owner = owner_among(sources, made)
        found |= {one: "stem" if one.name == owner else "name" for one in sources}
    return found


def _index(row: Row) -> int:
    return int(row["stream_index"])


def _is_about(column: str, kinds: Sequence[str]) -> bool:
    """Whether a column of `proxy_outputs` is about one of these kinds, or about all."""
    of = {
        "thumb_resolution": "thumbnail",
        "still_view": "thumbnail",
        "proxy_resolution": "proxy",
        "proxy_view": "proxy",
    }
    return of.get(column, kinds[0]) in kinds


def _record(row: Row) -> PictureRecord:
    from exr_pipeline.pictures.expectation import PictureRecord
    from exr_pipeline.pictures.provenance import Provenance

    return PictureRecord(
        provenance=Provenance.from_columns(row),
        still_view=row.get("still_view"),
        proxy_view=row.get("proxy_view"),
        thumbnail_size=_size(row.get("thumb_resolution")),
        proxy_size=_size(row.get("proxy_resolution")),
    )


def _size(text: str | None) -> Size | None:
    from exr_pipeline.pictures.still import Size

    return Size(*map(int, text.split("x"))) if text else None


def _rows(
    tables: TableStore, table: TableName, columns: Sequence[str], locations: Collection[Location]
) -> dict[FileKey, list[Row]]:
    """The rows of these files by bucket and key."""
    from exr_pipeline.tables.specs import TABLES

    if not locations:
        return {}
    bucket, path = TABLES[table].file
    found: dict[FileKey, list[Row]] = defaultdict(list)
    names = list(dict.fromkeys([bucket, path, *columns]))
    for row in tables.read(table, columns=names, locations=locations).to_pylist():
        found[row[bucket], row[path]].append(row)
    return found


def _headers(
    tables: TableStore,
    locations: Sequence[Location],
    files: Mapping[FileKey, Row],
    parts: Mapping[FileKey, Sequence[Row]],
) -> dict[str, tuple[Header, ...]]:
    """What the headers of OpenEXR files say of their layers, by the hash of their structure, which many files share."""
    one_of: dict[str, Location] = {}
    for location in locations:
        file = files[location.bucket, location.path]
        if file["format"] == "exr" and file["header_hash"]:
            one_of.setdefault(file["header_hash"], location)
    chosen = list(one_of.values())
    columns = ("part_index", "channel_index", "channel_name", "channel_type")
    channels = _rows(tables, "channels", columns, chosen)
    views = _multi_views(tables, [each for each in chosen if _is_multi_view(parts, each)])
    return {
        header_hash: _headers_of(parts.get(key, ()), channels.get(key, ()), views.get(key, {}))
        for header_hash, location in one_of.items()
        for key in [(location.bucket, location.path)]
    }


def _is_multi_view(parts: Mapping[FileKey, Sequence[Row]], location: Location) -> bool:
    return any(part["multi_view"] for part in parts.get((location.bucket, location.path), ()))


def _multi_views(tables: TableStore, locations: Collection[Location]) -> dict[FileKey, dict[int, tuple[str, ...]]]:
    """The views that parts list, by the part's index."""
    found: dict[FileKey, dict[int, tuple[str, ...]]] = defaultdict(dict)
    for key, rows in _rows(tables, "attributes", ("part_index", "attr_name", "value_json"), locations).items():
        for row in rows:
            if row["attr_name"] == "multiView":
                found[key][row["part_index"]] = tuple(json.loads(row["value_json"]))
    return found


def _headers_of(
    parts: Sequence[Row], channels: Sequence[Row], views: Mapping[int, tuple[str, ...]]
) -> tuple[Header, ...]:
    """The header as far as layers depend on it.

    Of a file of one part the tables do not tell whether it is stored as one of several; then both.
    """
    from exr_pipeline.exr import Attribute, Channel, Header, Part

    def part_of(row: Row, implied_type: str | None) -> Part:
        own = sorted((c for c in channels if c["part_index"] == row["part_index"]), key=lambda c: c["channel_index"])
        listed = tuple(Channel(c["channel_name"], c["channel_type"]) for c in own)
        type_ = "deepscanline" if row["is_deep"] else "scanlineimage"
        attributes = [Attribute("channels", "chlist", listed, b""), Attribute("type", "string", type_, b"")]
        texts = {"name": row["part_name"], "view": row["view_name"]}
        attributes += [Attribute(name, "string", text, b"") for name, text in texts.items() if text]
        if own_views := views.get(row["part_index"]):
            attributes.append(Attribute("multiView", "stringvector", own_views, b""))
        return Part(tuple(attributes), implied_type and type_)

    ordered = sorted(parts, key=lambda row: row["part_index"])
    implied: list[str | None] = ["by its flags", None] if len(ordered) == 1 else [None]
    return tuple(Header(2, 0, tuple(part_of(row, each) for row in ordered)) for each in implied if ordered)
