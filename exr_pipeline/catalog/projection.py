"""What was ingested appears in the catalog: rows of the tables become assets, media objects and their places.

Belongs here: that projection, one way, as far as the tables have changed since the last time. Not here: what people do
to assets (`assets`). Identifiers follow from the bucket and the path, so that the same rows always are the same assets,
and everything can be made again from the tables.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import sqlalchemy as sa

from exr_pipeline.catalog.attributes import move_names, store_attributes, values_in
from exr_pipeline.catalog.event_log import event_row, record
from exr_pipeline.catalog.file_facts import FileFacts, facts_of_files, values_of_sequence
from exr_pipeline.catalog.ids import new_id
from exr_pipeline.catalog.models import (
    Asset,
    AssetMedia,
    AssetTag,
    Event,
    Media,
    MediaLocation,
    Model,
    Project,
    Tag,
    Watermark,
)
from exr_pipeline.catalog.projects import NAME, add_project
from exr_pipeline.catalog.texts import store_texts
from exr_pipeline.catalog.vectors import store_vectors
from exr_pipeline.formats import category_of
from exr_pipeline.sequences import number_in
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.presigned import content_type
from exr_pipeline.storage.shows import shows

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exr_pipeline.catalog.database import CatalogDatabase
    from exr_pipeline.settings import Settings
    from exr_pipeline.tables.store import TableStore

ACTOR: Final = "projection"
SEQUENCE: Final = "sequence"
_NAMESPACE: Final = UUID("a6f0c1de-8a7e-5f0b-9b59-3f4cf3a4d0f7")
_AT_ONCE: Final = 2000
# What media of what was ingested are. Others may be added to it in other roles.
PROJECTED_ROLES: Final = frozenset({"source", "thumbnail", "proxy", "filmstrip", "movie", "contact_sheet"})
# Of the tables' states. A retryable file is one whose turn will come.
_STATUS: Final = {"ready": "ready", "rejected": "failed", "retryable": "pending"}

# What changed at or after a moment, oldest first: rows of one moment may have been written after the last look.
_FILES: Final = """
    SELECT f.*, greatest(f.last_inspected, coalesce(f.deleted_at, '')) AS moment,
        p.output_bucket, p.thumbnail_s3_key, p.thumbnail_size_bytes, p.proxy_s3_key, p.proxy_size_bytes,
        p.filmstrip_s3_key, p.filmstrip_size_bytes, p.nan_pixels, p.inf_pixels, p.is_black, p.source_colorspace,
        p.color_rule, p.layer
    FROM (
        SELECT bucket, file_path, uri, file_id, format, size_bytes, sha256, state, reason, last_inspected, deleted_at,
            frame_number, multipart_count, is_deep, mtime
        FROM files WHERE superseded_at IS NULL
    ) f
    LEFT JOIN proxy_outputs p
        ON p.file_id = f.file_id AND p.s3_bucket IS NOT DISTINCT FROM f.bucket AND p.superseded_at IS NULL
    WHERE greatest(f.last_inspected, coalesce(f.deleted_at, '')) >= $moment
    ORDER BY moment, f.bucket, f.file_path LIMIT $count OFFSET $seen"""
_SEQUENCES: Final = """
    SELECT *, generated_timestamp AS moment FROM sequence_outputs
    WHERE generated_timestamp >= $moment ORDER BY generated_timestamp, bucket, sequence_path
    LIMIT $count OFFSET $seen"""
# By URL, the moment of what was seen lately.
Recent = dict[str, str]
# A write bears the moment at which it began to wait for the tables.
_OVERLAP: Final = timedelta(seconds=60)
_ASSETS, _EVENTS, _MEDIA = (Model.metadata.tables[each.__tablename__] for each in (Asset, Event, Media))
_QUERIES: Final = {"files": _FILES, "sequence_outputs": _SEQUENCES}


@dataclass(frozen=True, slots=True)
class _Part:
    """A media object to be: its role, place and what is known of its bytes."""

    role: str
    url: str
    size: int | None = None
    sha256: str | None = None
    status: str = "ready"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Projected:
    """An asset to be."""

    id: str
    show: str
    kind: str
    folder: str
    name: str
    status: str
    reason: str | None
    file_id: str | None
    is_deleted: bool
    parts: Sequence[_Part]
    facts: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, str | float] = field(default_factory=dict)
    vector: tuple[int, bytes] | None = None


def project_tables(
    database: CatalogDatabase,
    tables: TableStore,
    settings: Settings,
    *,
    again: bool = False,
    recent: Recent | None = None,
    report_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Bring the catalog up to what the tables say, and return how many assets were made or changed.

    `report_progress` is told of rows looked at. With `again`, from the beginning of the tables instead of from where
    the last call ended. `recent` is what the caller keeps between calls, so that rows are not compared again: those of
    the last minute are read again each time, since a write may come after one that is later. Two at once do no harm.
    Raises `RetryableError` if the tables or the catalog are not available; what is done by then stays.
    """
    done = seen = 0
    show_of = shows(settings)
    recent = {} if recent is None else recent
    for source in _QUERIES:
        for rows, mark in _changed(database, tables, source, again=again):
            new = rows if again else [row for row in rows if recent.get(row["uri"]) != row["moment"]]
            if source == "files":
                facts = facts_of_files(tables, new)
                assets = [_of_file(row, show_of, facts.get(row["uri"], FileFacts())) for row in new]
            else:
                assets = [_of_sequence(row, show_of) for row in new]
            with database.transaction() as session:
                done += _store(session, assets)
                session.merge(Watermark(source=source, moment=mark))
            recent |= {row["uri"]: row["moment"] for row in new}
            seen += len(rows)
            report_progress(seen)
            oldest = _before(mark)
            for uri in [uri for uri, moment in recent.items() if moment < oldest]:
                del recent[uri]
    return done


def _changed(
    database: CatalogDatabase, tables: TableStore, source: str, *, again: bool
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """The rows that changed, in bounded numbers, and the mark to keep after each."""
    with database.transaction(read_only=True) as session:
        kept = session.get(Watermark, source)
    mark = "" if kept is None else kept.moment
    moment, seen = (_before(mark) if mark and not again else ""), 0
    # It reads far less than the query does.
    if moment and source == "files" and not tables.folders_changed_since(moment):
        return
    while True:
        rows = tables.sql(_QUERIES[source], {"moment": moment, "count": _AT_ONCE, "seen": seen}).to_pylist()
        if not rows:
            return
        last = rows[-1]["moment"]
        yield rows, max(last, mark)
        if len(rows) < _AT_ONCE:
            return
        # Those of the last moment come again, but for the ones that were seen.
        of_last = sum(row["moment"] == last for row in rows)
        seen = seen + len(rows) if last == moment else of_last
        moment = last


def _before(mark: str) -> str:
    return (datetime.fromisoformat(mark) - _OVERLAP).isoformat()


def _of_file(row: Mapping[str, Any], show_of: Callable[[Location], str], facts: FileFacts) -> _Projected:
    location = Location.from_url(row["uri"])
    status = _STATUS.get(row["state"], "pending")
    parts = [_Part("source", location.url, row["size_bytes"], row["sha256"], status, row["reason"])]
    if row["state"] == "ready":
        parts += _outputs(row, location, ("thumbnail", "proxy", "filmstrip"))
    return _Projected(
        id=_asset_id("file", location),
        show=show_of(location),
        kind=category_of(location.name) or "file",
        folder=_folder(location),
        name=location.name,
        status=status,
        reason=row["reason"],
        file_id=row["file_id"],
        is_deleted=row["deleted_at"] is not None,
        parts=parts,
        facts={"format": row["format"]},
        values=facts.values,
        vector=facts.vector,
    )


def _of_sequence(row: Mapping[str, Any], show_of: Callable[[Location], str]) -> _Projected:
    location = Location.from_url(row["uri"])
    facts = ("first_frame", "last_frame", "frame_count", "missing_frames", "frame_rate", "movie_preset")
    return _Projected(
        id=_asset_id("sequence", location),
        show=show_of(location),
        kind=SEQUENCE,
        folder=_folder(location),
        name=location.name,
        status=_STATUS.get(row["state"], "pending"),
        reason=row["reason"],
        file_id=None,
        is_deleted=False,
        parts=_outputs(row, location, ("movie", "contact_sheet", "filmstrip")),
        facts={name: row[name] for name in facts if row[name] is not None},
        values=values_of_sequence(row),
    )


def _outputs(row: Mapping[str, Any], source: Location, roles: Sequence[str]) -> list[_Part]:
    """What was made, at the store of its source: where an output root is elsewhere, its bucket says so."""
    bucket = source.bucket if row["output_bucket"] is None else row["output_bucket"]
    return [
        _Part(role, Location(source.scheme, bucket, key).url, row[f"{role}_size_bytes"])
        for role in roles
        if (key := row[f"{role}_s3_key"])
    ]


def _store(session: Session, projected: Sequence[_Projected]) -> int:
    """Make, change or delete assets and their media, as far as they differ from what is there."""
    by_id = {each.id: each for each in projected}
    known = _known_assets(session, by_id)
    ids = _project_ids(session, {each.show for each in by_id.values()})
    taken = _taken_names(session, by_id.values(), known.values())
    now = datetime.now(UTC)
    changes = _Changes()
    stored: dict[str, dict[str, Any]] = {}
    moved: list[str] = []
    for each in by_id.values():
        before = known.get(each.id)
        if before is None and each.is_deleted:
            continue
        after = _new_asset(each, ids[each.show], now) if before is None else dict(before)
        if is_moved := after["project_id"] != ids[each.show]:
            _move_tags(session, each.id, ids[each.show])
            after["project_id"] = ids[each.show]
            moved.append(each.id)
        if taken.get((after["project_id"], each.kind, each.folder, after["name"]), each.id) != each.id:
            after["name"] = f"{after['name']} ({each.id})"
        changes.note(each, before, after, now, is_moved=is_moved)
        stored[each.id] = after
    changes.store(session)
    store_texts(session, [(asset["id"], asset["folder"], asset["name"]) for asset in stored.values()])
    store_attributes(session, {asset_id: values_in(asset["details"]) for asset_id, asset in stored.items()}, "details")
    present = [each for each in by_id.values() if not each.is_deleted]
    store_attributes(session, {each.id: each.values for each in present}, "file")
    move_names(session, moved)
    store_vectors(session, {each.id: each.vector for each in present})
    _store_media(session, present, ids, now)
    _miss_media(session, [each.id for each in by_id.values() if each.is_deleted], now)
    _put_frames_into_sequences(session, present)
    return len(changes.events)


def _known_assets(session: Session, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    # Whoever changes one of them waits until it is written again as a whole, or has been waited for.
    query = sa.select(*_ASSETS.c).where(_ASSETS.c.id.in_(ids)).order_by(_ASSETS.c.id).with_for_update()
    rows = session.execute(query).mappings()
    return {row["id"]: dict(row) for row in rows}


def _new_asset(each: _Projected, project_id: str, now: datetime) -> dict[str, Any]:
    return {
        **dict.fromkeys(_ASSETS.c.keys()),
        "id": each.id,
        "project_id": project_id,
        "name": each.name,
        "details": {},
        "version": 0,
        "created_by": ACTOR,
        "created_at": now,
    }


class _Changes:
    """New and changed rows of assets, and the events of them, to be stored at once."""

    def __init__(self) -> None:
        self._new: list[dict[str, Any]] = []
        self._changed: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def note(
        self,
        each: _Projected,
        before: Mapping[str, Any] | None,
        after: dict[str, Any],
        now: datetime,
        *,
        is_moved: bool,
    ) -> None:
        """Bring an asset up to date; it is noted if there is anything to change."""
        # What somebody has taken out of the catalog stays out of it.
        is_out = after["deleted_at"] is not None and after["deleted_by"] != ACTOR
        values = {
            "kind": each.kind,
            "folder": each.folder,
            "status": each.status,
            "reason": each.reason,
            "details": {**after["details"], **each.facts},
            "deleted_at": (after["deleted_at"] or now) if each.is_deleted or is_out else None,
        }
        if before is not None and not is_moved and all(before[name] == value for name, value in values.items()):
            return
        after |= values
        after["deleted_by"] = after["deleted_by"] if is_out else ACTOR if each.is_deleted else None
        after["version"], after["updated_at"] = after["version"] + 1, now
        topic = "asset.deleted" if each.is_deleted else "asset.created" if before is None else "asset.changed"
        names = {"name": each.name, "kind": each.kind}
        self.events.append(event_row(ACTOR, topic, each.id, project_id=after["project_id"], **names))
        (self._new if before is None else self._changed).append(after)

    def store(self, session: Session) -> None:
        """Write them."""
        if self._new:
            session.execute(sa.insert(_ASSETS), self._new)
        _update(session, _ASSETS, self._changed)
        if self.events:
            session.execute(sa.insert(_EVENTS), self.events)


def _update(session: Session, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bring rows up to date by their `id`."""
    if rows:
        columns: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in rows[0] if name != "id"}
        statement = sa.update(table).where(table.c.id == sa.bindparam("of_id")).values(columns)
        values = [{"of_id" if name == "id" else f"new_{name}": value for name, value in row.items()} for row in rows]
        session.connection().execute(statement, values)


def _move_tags(session: Session, asset_id: str, project_id: str) -> None:
    """Give an asset that goes into another project the tags of the same names there."""
    of_asset = sa.select(Tag).join(AssetTag, AssetTag.tag_id == Tag.id).where(AssetTag.asset_id == asset_id)
    for tag in session.scalars(of_asset).all():
        there = session.scalar(sa.select(Tag).where(Tag.project_id == project_id, Tag.name == tag.name))
        if there is None:
            there = Tag(id=new_id(), project_id=project_id, name=tag.name, color=tag.color)
            session.add(there)
            session.flush()
        link = sa.update(AssetTag).where(AssetTag.asset_id == asset_id, AssetTag.tag_id == tag.id)
        session.execute(link.values(tag_id=there.id))


def _taken_names(
    session: Session, projected: Collection[_Projected], known: Collection[Mapping[str, Any]]
) -> dict[tuple[str, str, str, str], str]:
    """Which asset has which name in the folders of these: that of a file may be one that somebody has given."""
    query = sa.select(Asset.project_id, Asset.kind, Asset.folder, Asset.name, Asset.id).where(
        Asset.folder.in_({each.folder for each in projected}),
        Asset.name.in_({each.name for each in projected} | {asset["name"] for asset in known}),
        Asset.deleted_at.is_(None),
    )
    return {(row[0], row[1], row[2], row[3]): row[4] for row in session.execute(query)}


def _put_frames_into_sequences(session: Session, projected: Sequence[_Projected]) -> None:
    """Make the frames of a sequence its children, whichever of the two came first."""
    ids = {each.id for each in projected}
    of_folder: dict[tuple[str, str], list[Asset]] = defaultdict(list)
    is_sequence = sa.and_(Asset.kind == SEQUENCE, Asset.created_by == ACTOR)
    folders = {each.folder for each in projected}
    for sequence in session.scalars(sa.select(Asset).where(is_sequence, Asset.folder.in_(folders))):
        of_folder[sequence.project_id, sequence.folder].append(sequence)
    frames: list[dict[str, Any]] = []
    for (project_id, folder), sequences in of_folder.items():
        files = (
            sa.select(Asset.id, Asset.parent_id, MediaLocation.url)
            .join(AssetMedia, sa.and_(AssetMedia.asset_id == Asset.id, AssetMedia.role == "source"))
            .join(MediaLocation, MediaLocation.media_id == AssetMedia.media_id)
            .where(Asset.project_id == project_id, Asset.folder == folder, Asset.kind != SEQUENCE)
        )
        # All frames of a sequence that is new or longer; else those of this turn.
        if ids.isdisjoint(sequence.id for sequence in sequences):
            files = files.where(Asset.id.in_(ids))
        # A number belongs to the widest padding that it fits.
        sequences.sort(key=lambda sequence: -len(sequence.name))
        for asset_id, parent_id, url in session.execute(files):
            name = Location.from_url(url).name
            found = next((each for each in sequences if _is_frame(name, each)), None)
            if found is not None and parent_id != found.id:
                frames.append({"id": asset_id, "parent_id": found.id})
    _update(session, _ASSETS, frames)


def _is_frame(name: str, sequence: Asset) -> bool:
    number = number_in(sequence.name, name)
    ends = [Decimal(sequence.details[end]) for end in ("first_frame", "last_frame") if end in sequence.details]
    return number is not None and len(ends) == 2 and ends[0] <= number <= ends[1]


def _store_media(session: Session, projected: Sequence[_Projected], ids: Mapping[str, str], now: datetime) -> None:
    """Make and change the media objects of assets, and take away those that are no longer made."""
    wanted = {str(uuid5(_NAMESPACE, part.url)): (each, part) for each in projected for part in each.parts}
    of_assets = AssetMedia.asset_id.in_([each.id for each in projected])
    columns = (AssetMedia.asset_id, AssetMedia.media_id, AssetMedia.role)
    links = {(row[0], row[1]): row[2] for row in session.execute(sa.select(*columns).where(of_assets))}
    outdated = [key for key, role in links.items() if key[1] not in wanted and role in PROJECTED_ROLES]
    _miss([media_id for _, media_id in outdated], session, now)
    for asset_id, media_id in outdated:
        link = sa.and_(AssetMedia.asset_id == asset_id, AssetMedia.media_id == media_id)
        session.execute(sa.delete(AssetMedia).where(link))
    rows = session.execute(sa.select(*_MEDIA.c).where(_MEDIA.c.id.in_(wanted))).mappings()
    known = {row["id"]: row for row in rows}
    new, changed = [], []
    for media_id, (each, part) in wanted.items():
        values = _media_values(each, part)
        before = known.get(media_id)
        if before is None:
            project_id = ids[each.show]
            new.append({"id": media_id, "project_id": project_id, "created_at": now, "updated_at": now, **values})
        elif any(before[name] != value for name, value in values.items()):
            changed.append({"id": media_id, "updated_at": now, **values})
    placed = set(session.scalars(sa.select(MediaLocation.media_id).where(MediaLocation.media_id.in_(wanted))))
    new_links = [
        {"asset_id": each.id, "media_id": media_id, "role": part.role, "ordinal": None}
        for media_id, (each, part) in wanted.items()
        if (each.id, media_id) not in links
    ]
    places = [
        {"media_id": media_id, "url": part.url} for media_id, (_, part) in wanted.items() if media_id not in placed
    ]
    _update(session, _MEDIA, changed)
    for table, added in ((Media, new), (AssetMedia, new_links), (MediaLocation, places)):
        if added:
            session.execute(sa.insert(table), added)


def _media_values(each: _Projected, part: _Part) -> dict[str, Any]:
    return {
        "filename": Location.from_url(part.url).name,
        "content_type": content_type(part.url),
        "size": part.size,
        "sha256": part.sha256,
        "status": part.status,
        "reason": part.reason,
        "file_id": each.file_id,
    }


def _miss_media(session: Session, deleted: Sequence[str], now: datetime) -> None:
    """Say that the media of assets whose file was deleted are away."""
    of_deleted = sa.select(AssetMedia.media_id).where(
        AssetMedia.asset_id.in_(deleted), AssetMedia.role.in_(PROJECTED_ROLES)
    )
    _miss(session.scalars(of_deleted).all(), session, now)


def _miss(media: Collection[str], session: Session, now: datetime) -> None:
    away = sa.update(Media).where(Media.id.in_(media), Media.status != "missing")
    session.execute(away.values(status="missing", updated_at=now))


def _project_ids(session: Session, wanted: set[str]) -> dict[str, str]:
    """The projects of shows, which are made if they are not there."""
    names = {show: project_name(show) for show in wanted}
    found = session.scalars(sa.select(Project).where(Project.name.in_(names.values())))
    by_name = {project.name: project.id for project in found}
    for show, name in sorted(names.items()):
        if name not in by_name:
            created = add_project(session, name, show)
            record(session, ACTOR, "project.created", created.id, project_id=created.id, name=name)
            by_name[name] = created.id
    return {show: by_name[name] for show, name in names.items()}


def project_name(show: str) -> str:
    """A show as the name of a project. What cannot be part of an address is replaced, and a hash keeps it apart."""
    if NAME.fullmatch(show):
        return show
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", show).strip("-._")[:80] or "show"
    return f"{plain}-{hashlib.sha256(show.encode()).hexdigest()[:8]}"


def _asset_id(kind: str, location: Location) -> str:
    return str(uuid5(_NAMESPACE, f"{kind}|{location.url}"))


def _folder(location: Location) -> str:
    """As partition keys have it: `bucket/folder`, `gs:/bucket/folder` for other stores than S3, `/folder` for files."""
    store = location.bucket if location.scheme in {"s3", "file"} else f"{location.scheme}:/{location.bucket}"
    return f"{store}/{location.folder.key}".removesuffix("/") or "/"
