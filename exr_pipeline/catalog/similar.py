"""Which assets are like a given one: those of identical content, then those whose metadata embeddings are nearest.

Belongs here: the question, and the index of vectors in memory that it asks. Not here: keeping vectors (`vectors`), or
how they are made (docs/embeddings.md).

The index only proposes: distances are computed from the vectors in the database, and so is what the caller may see. It
knows vectors by their numbers, which are never used again: of those that are outdated, nothing is found there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from exr_pipeline.catalog.assets import AssetView, find_asset, views_of
from exr_pipeline.catalog.models import Asset, AssetMedia, AssetVector, Media, Project
from exr_pipeline.catalog.principals import Principal, needs
from exr_pipeline.storage.private_files import make_private_folder
from exr_pipeline.tables.specs import METADATA_EMBEDDING_DIMENSIONS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from usearch.index import Index

MOST: Final = 200
_COMPARED: Final = 5000
_PROPOSED: Final = (300, 5000)
_AT_ONCE: Final = 500
# Numbers are given out before they are committed: a lower one may appear after a higher one.
_OVERLAP: Final = 5000


@dataclass(frozen=True, slots=True)
class Similar:
    """An asset that is like another: `distance` from 0 (alike) to 1, and whether the bytes are the same."""

    view: AssetView
    distance: float
    is_identical: bool


class SimilarIndex:
    """Vectors by number, one index for each version of their rules. Thread-safe.

    With a folder, it is kept there between processes, for the catalog it was made from. `most` bounds how many vectors
    it holds, about 1 KB of memory each; of more, the latest are left out. It is not asked where the caller may see no
    more than `compared` vectors: then each of them is compared. `at_once` are read from the database together.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        most: int = 5_000_000,
        compared: int = _COMPARED,
        at_once: int = _AT_ONCE,
    ) -> None:
        self.compared = compared
        self._folder, self._most, self._at_once = folder, most, at_once
        self._lock = threading.Lock()
        self._indexes: dict[int, Index] = {}
        self._last = 0
        self._saved = 0
        self._catalog: str | None = None

    def catch_up(self, session: Session, *, most: int | None = None) -> int:
        """Take in vectors that were added since, at most so many, and return their number."""
        self._load(session)
        done = 0
        start = max(self._last - _OVERLAP, 0)
        while (most is None or done < most) and self._size() < self._most:
            query = sa.select(AssetVector.number, AssetVector.embedding_version).where(AssetVector.number > start)
            numbers = session.execute(query.order_by(AssetVector.number).limit(self._at_once)).all()
            if not numbers:
                break
            start = numbers[-1].number
            with self._lock:
                new = [row.number for row in numbers if row.number not in self._index(row.embedding_version)]
            done += self._add(session, new) if new else 0
            self._last = max(self._last, start)
        return done

    def propose(self, version: int, vector: bytes, count: int) -> list[int]:
        """The numbers of vectors that are probably nearest."""
        import numpy as np

        with self._lock:
            index = self._index(version)
            if not len(index):
                return []
            matches = index.search(np.frombuffer(vector, "<f4"), min(count, len(index)))
            return [int(key) for key in np.atleast_1d(matches.keys)]

    def save(self) -> None:
        """Keep it in its folder, if it has one and holds more than is there."""
        if self._folder is None or self._catalog is None or self._size() == self._saved:
            return
        make_private_folder(self._folder)
        with self._lock:
            for version, index in self._indexes.items():
                path = self._path(version)
                index.save(str(path.with_suffix(".part")))
                path.with_suffix(".part").replace(path)
        self._saved = self._size()

    def _add(self, session: Session, numbers: Sequence[int]) -> int:
        import numpy as np

        columns = (AssetVector.number, AssetVector.embedding_version, AssetVector.vector)
        by_version: dict[int, list[tuple[int, bytes]]] = {}
        for number, version, vector in session.execute(sa.select(*columns).where(AssetVector.number.in_(numbers))):
            by_version.setdefault(version, []).append((number, vector))
        for version, rows in by_version.items():
            keys = np.array([number for number, _ in rows], np.uint64)
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(len(rows), -1)
            with self._lock:
                index = self._index(version)
                is_new = np.array([key not in index for key in keys])
                index.add(keys[is_new], vectors[is_new])
        return len(numbers)

    def _index(self, version: int) -> Index:
        from usearch.index import Index

        if version not in self._indexes:
            self._indexes[version] = Index(ndim=METADATA_EMBEDDING_DIMENSIONS, metric="cos", dtype="f16")
        return self._indexes[version]

    def _load(self, session: Session) -> None:
        from usearch.index import Index

        if self._catalog is not None:
            return
        # A catalog that is made again has other projects, and numbers that mean something else.
        first = session.scalar(sa.select(sa.func.min(Project.id)))
        if first is None:
            return
        with self._lock:
            self._catalog = first
            if self._folder is None:
                return
            for path in sorted(self._folder.glob(f"similar-{first}-*.usearch")):
                version = path.stem.rpartition("-")[2]
                try:
                    index = Index.restore(str(path))
                except (ValueError, RuntimeError):
                    # Damaged, or of another version of the library: it is made again.
                    continue
                if version.isdigit() and index is not None:
                    self._indexes[int(version)] = index
                    self._last = max(self._last, int(max(index.keys, default=0)))
        self._saved = self._size()

    def _size(self) -> int:
        return sum(map(len, self._indexes.values()))

    def _path(self, version: int) -> Path:
        assert self._folder is not None
        return self._folder / f"similar-{self._catalog}-{version}.usearch"


@needs("assets:read")
def similar(
    session: Session, principal: Principal, asset_id: str, index: SimilarIndex, *, limit: int = 20
) -> Sequence[Similar]:
    """The assets that the caller may see which are most like one: identical ones first, then nearest first."""
    found = find_asset(session, principal, asset_id, "assets:read")
    limit = min(limit, MOST)
    sees = sa.and_(principal.sees(Asset.project_id, "assets:read"), Asset.deleted_at.is_(None), Asset.id != found.id)
    identical = _identical(session, found, sees, limit)
    distances: dict[str, float] = dict.fromkeys((asset.id for asset in identical), 0.0)
    given = session.execute(sa.select(AssetVector).where(AssetVector.asset_id == found.id)).scalar()
    nearest: list[Asset] = []
    if given is not None and len(identical) < limit:
        ranked = _nearest(session, given, sees, index, limit + len(identical))
        ranked = {each: distance for each, distance in ranked.items() if each not in distances}
        wanted = list(ranked)[: limit - len(identical)]
        by_id = {asset.id: asset for asset in session.scalars(sa.select(Asset).where(Asset.id.in_(wanted)))}
        nearest = [by_id[each] for each in wanted]
        distances |= ranked
    views = views_of(session, [*identical, *nearest])
    return [Similar(view, distances[view.asset.id], place < len(identical)) for place, view in enumerate(views)]


def _identical(session: Session, found: Asset, sees: sa.ColumnElement[bool], limit: int) -> Sequence[Asset]:
    own = (
        sa.select(Media.sha256)
        .join(AssetMedia, AssetMedia.media_id == Media.id)
        .where(AssetMedia.asset_id == found.id, AssetMedia.role == "source", Media.sha256.is_not(None))
    )
    same = (
        sa.select(AssetMedia.asset_id)
        .join(Media, Media.id == AssetMedia.media_id)
        .where(Media.sha256.in_(own), AssetMedia.role == "source")
    )
    query = sa.select(Asset).where(Asset.id.in_(same), sees).order_by(Asset.created_at, Asset.id).limit(limit)
    return session.scalars(query).all()


def _nearest(
    session: Session, given: AssetVector, sees: sa.ColumnElement[bool], index: SimilarIndex, limit: int
) -> Mapping[str, float]:
    """Assets by their distance, nearest first."""
    query = (
        sa.select(AssetVector.asset_id, AssetVector.vector)
        .join(Asset, Asset.id == AssetVector.asset_id)
        .where(sees, AssetVector.embedding_version == given.embedding_version)
    )
    rows: Sequence[Any] = (
        session.execute(query.limit(index.compared + 1)).all() if _are_few(session, query, index.compared) else []
    )
    if not rows:
        index.catch_up(session, most=_COMPARED)
        for count in _PROPOSED:
            numbers = index.propose(given.embedding_version, given.vector, count)
            rows = session.execute(query.where(AssetVector.number.in_(numbers))).all()
            if len(rows) >= limit:
                break
    return _ranked(given.vector, rows, limit)


def _are_few(session: Session, query: sa.Select[*tuple[Any, ...]], few: int) -> bool:
    numbers = query.with_only_columns(AssetVector.number).limit(few + 1).subquery()
    return (session.scalar(sa.select(sa.func.count()).select_from(numbers)) or 0) <= few


def _ranked(given: bytes, rows: Sequence[Any], limit: int) -> dict[str, float]:
    import numpy as np

    if not rows:
        return {}
    vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(len(rows), -1).astype(np.float64)
    # Of vectors of unit length; neighbors in a sequence differ by less than the last bit of a cosine.
    distances = np.square(vectors - np.frombuffer(given, "<f4")).sum(axis=1) / 2
    order = sorted(range(len(rows)), key=lambda place: (distances[place], rows[place].asset_id))[:limit]
    return {rows[place].asset_id: float(distances[place]) for place in order}
