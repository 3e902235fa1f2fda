"""Words and parts of words: which assets have them in their folder or name, whatever their case.

Belongs here: what is indexed, and the condition that asks the index. Not here: other conditions (`search`).
Both databases answer alike, since texts and words are folded here. Their indexes are of trigrams: words of one or two
characters are compared with every text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from exr_pipeline.catalog.models import AssetText

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_SHORTEST_INDEXED = 3


def store_texts(session: Session, assets: Iterable[tuple[str, str, str]]) -> None:
    """Index assets by their identifier, folder and name, in place of what was indexed of them."""
    rows = {asset_id: fold(f"{folder}/{name}") for asset_id, folder, name in assets}
    known = sa.select(AssetText.asset_id, AssetText.text).where(AssetText.asset_id.in_(rows))
    stored = dict(session.execute(known).all())
    outdated = [asset_id for asset_id, text in stored.items() if text != rows[asset_id]]
    session.execute(sa.delete(AssetText).where(AssetText.asset_id.in_(outdated)))
    new = [{"asset_id": asset_id, "text": text} for asset_id, text in rows.items() if stored.get(asset_id) != text]
    if new:
        session.execute(sa.insert(AssetText), new)


def fold(text: str) -> str:
    """A text as it is indexed and looked for: case does not count, nor how accents are encoded."""
    return unicodedata.normalize("NFC", text.casefold())


def with_words(session: Session, words: str) -> sa.Select[Any] | None:
    """The texts that have all these words in them, as a query of `AssetText`; None if there are no words."""
    wanted = sorted(set(fold(words).split()))
    if not wanted:
        return None
    query = sa.select(AssetText.asset_id)
    if session.get_bind().dialect.name != "sqlite":
        return query.where(*(AssetText.text.contains(word, autoescape=True) for word in wanted))
    # LIKE of SQLite folds letters of ASCII, and so would find less than what was folded before.
    query = query.where(*(sa.func.instr(AssetText.text, word) > 0 for word in wanted))
    if trigrams := sorted({word[at : at + 3] for word in wanted for at in range(len(word) - _SHORTEST_INDEXED + 1)}):
        quoted = " AND ".join('"' + each.replace('"', '""') + '"' for each in trigrams)
        index = sa.table("asset_text_index", sa.column("rowid"))
        matches = sa.literal_column("asset_text_index").op("MATCH")(sa.bindparam(None, quoted, sa.String()))
        query = query.where(AssetText.number.in_(sa.select(index.c.rowid).where(matches)))
    return query
