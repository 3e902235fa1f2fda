"""The rows of the catalog, as SQLAlchemy maps them.

Belongs here: tables, their columns and constraints. Not here: what is done with them (`assets`, `accounts` and others),
or how a database gets them (`migrations`). Times are UTC, identifiers are those of `ids`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcTime(sa.TypeDecorator[datetime]):
    """A moment. SQLite keeps no time zone, so that UTC goes in and is put back on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """In UTC. A moment without a time zone is an error of the program."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """With UTC as its time zone."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Model(DeclarativeBase):
    """Base of all rows."""

    type_annotation_map = {datetime: UtcTime(), dict[str, Any]: sa.JSON()}  # noqa: RUF012 - SQLAlchemy reads it there
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Project(Model):
    """A show. `version` counts its changes."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]


class Account(Model):
    """Somebody who may log in, or a service that has tokens only. `password_hash` is argon2's."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    password_hash: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Grant(Model):
    """The role of an account in one project, or in all for the project `*`."""

    __tablename__ = "grants"

    account_id: Mapped[str] = mapped_column(sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]


class Token(Model):
    """A token, of which only a hash is kept. `scopes`: the permissions that it is limited to, if it is."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    label: Mapped[str]
    secret_sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class FailedLogin(Model):
    """A login that failed, for as long as it counts against the next. In the database, since any node may be asked."""

    __tablename__ = "failed_logins"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime]


class Identity(Model):
    """Whose account somebody has whom a provider of identities vouches for: its `sub` is the same forever."""

    __tablename__ = "identities"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.ForeignKey("accounts.id", ondelete="CASCADE"), index=True)


class SignIn(Model):
    """A login at a provider that is under way in one browser. In the database, since any node may see it end."""

    __tablename__ = "sign_ins"

    state_sha256: Mapped[str] = mapped_column(primary_key=True)
    browser_sha256: Mapped[str]
    nonce: Mapped[str]
    code_verifier: Mapped[str]
    redirect_uri: Mapped[str]
    destination: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


def _index_of_wholes(*columns: str) -> sa.Index:
    """In the order of lists, of assets that are parts of no other."""
    is_whole = sa.text("parent_id IS NULL AND deleted_at IS NULL")
    name = "_".join(["ix_assets_whole", *columns])
    return sa.Index(name, *columns, "created_at", "id", sqlite_where=is_whole, postgresql_where=is_whole)


class Asset(Model):
    """Something that people call by a name: a render, a sequence, a movie. `version` counts its changes.

    `parent_id`: the asset that it is a part of, such as the sequence of a frame.
    """

    __tablename__ = "assets"
    __table_args__ = (
        sa.Index(
            "uq_assets_name",
            *("project_id", "kind", "folder", "name"),
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
        sa.Index("ix_assets_project_id_created_at_id", "project_id", "created_at", "id"),
        sa.Index("ix_assets_created_at_id", "created_at", "id"),
        sa.Index("ix_assets_parent_id_created_at_id", "parent_id", "created_at", "id"),
        # Lists without parts: frames are many times more than their sequences.
        *(_index_of_wholes(*columns) for columns in ((), ("project_id",), ("kind",), ("status",))),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"))
    parent_id: Mapped[str | None] = mapped_column(sa.ForeignKey("assets.id"))
    kind: Mapped[str]
    folder: Mapped[str]
    name: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    details: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(default=1)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None]


class Media(Model):
    """A file of an asset, wherever its bytes are. `file_id`: the version in the tables that it is, or is made of."""

    __tablename__ = "media_objects"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"), index=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(index=True)
    status: Mapped[str]
    reason: Mapped[str | None]
    file_id: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class AssetMedia(Model):
    """That a media object belongs to an asset: as what (`role`), and at which place (`ordinal`, such as a frame)."""

    __tablename__ = "asset_media"

    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    media_id: Mapped[str] = mapped_column(
        sa.ForeignKey("media_objects.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[str]
    ordinal: Mapped[int | None]


class MediaLocation(Model):
    """Where the bytes of a media object are: a URL of object storage or of a file.

    `verified_at`: when their SHA-256 was found to be that of the media object, if it was.
    """

    __tablename__ = "media_locations"

    media_id: Mapped[str] = mapped_column(sa.ForeignKey("media_objects.id", ondelete="CASCADE"), primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True, index=True)
    verified_at: Mapped[datetime | None]


class Tag(Model):
    """A word with a color that assets of a project are marked with. `color` is #rrggbb."""

    __tablename__ = "tags"
    __table_args__ = (sa.UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"))
    name: Mapped[str]
    color: Mapped[str | None]


class AssetTag(Model):
    """That an asset has a tag."""

    __tablename__ = "asset_tags"

    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[str] = mapped_column(sa.ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True, index=True)


class Event(Model):
    """What was done, by whom: written in the transaction of the change. The outbox and the audit log in one."""

    __tablename__ = "events"

    seq: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(unique=True)
    topic: Mapped[str]
    project_id: Mapped[str | None] = mapped_column(index=True)
    subject_id: Mapped[str] = mapped_column(index=True)
    actor: Mapped[str]
    payload: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class IdempotencyKey(Model):
    """The answer to a request that bore a key, so that the same request again has the same answer and no effect."""

    __tablename__ = "idempotency_keys"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    status: Mapped[int]
    answer: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Watermark(Model):
    """How far the projection of the tables has come: the latest moment of what it has seen."""

    __tablename__ = "watermarks"

    source: Mapped[str] = mapped_column(primary_key=True)
    moment: Mapped[str]


# Numbers that a database gives out, in the order in which rows are added.
_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# The order of the bytes, whatever the database's language: the same answers everywhere.
_PLAIN: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")


class AssetText(Model):
    """What words are looked for in: folder and name, folded so that case does not count.

    SQLite keeps an index of it in `asset_text_index`, PostgreSQL in one of trigrams; see the revision 0003.
    """

    __tablename__ = "asset_texts"

    number: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=True)
    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), unique=True)
    text: Mapped[str] = mapped_column(_PLAIN)


class AssetAttribute(Model):
    """A value that `where` compares: of the file or of `details` (`origin`); either a text or a number."""

    __tablename__ = "asset_attributes"
    __table_args__ = (
        sa.Index(
            "ix_asset_attributes_text",
            *("name", "text", "asset_id"),
            sqlite_where=sa.text("text IS NOT NULL"),
            postgresql_where=sa.text("text IS NOT NULL"),
        ),
        sa.Index(
            "ix_asset_attributes_number",
            *("name", "number", "asset_id"),
            sqlite_where=sa.text("number IS NOT NULL"),
            postgresql_where=sa.text("number IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(_PLAIN)
    number: Mapped[float | None] = mapped_column(sa.Double())


class AttributeName(Model):
    """That assets of a project have an attribute, as a number or as a text."""

    __tablename__ = "attribute_names"

    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    is_number: Mapped[bool] = mapped_column(primary_key=True)


class AssetVector(Model):
    """The metadata embedding of an asset: 32-bit floats, least byte first. A changed one has a number of its own."""

    __tablename__ = "asset_vectors"
    # A number is never used again, so that an index by numbers holds nothing of another asset.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy reads it there

    number: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=True)
    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), unique=True)
    embedding_version: Mapped[int]
    vector: Mapped[bytes]


class Collection(Model):
    """Assets of a project put together by hand, or those that a saved search finds (`query`): a lineup."""

    __tablename__ = "collections"
    __table_args__ = (sa.UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"))
    name: Mapped[str]
    query: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    version: Mapped[int] = mapped_column(default=1)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class CollectionAsset(Model):
    """That an asset is in a collection, and at which place."""

    __tablename__ = "collection_assets"
    __table_args__ = (sa.Index(None, "collection_id", "ordinal"),)

    collection_id: Mapped[str] = mapped_column(sa.ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True, index=True)
    ordinal: Mapped[int]


class AssetRelation(Model):
    """That an asset is `kind` (such as derived_from) another one."""

    __tablename__ = "asset_relations"

    asset_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    other_id: Mapped[str] = mapped_column(sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True, index=True)


class DetailsSchema(Model):
    """The JSON Schema that the details of a kind of asset fit in a project."""

    __tablename__ = "details_schemas"

    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    schema: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime]


class Region(Model):
    """A place where servers and locations are near to one another."""

    __tablename__ = "regions"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]


class Server(Model):
    """A node that serves the catalog. It lives as long as its `heartbeat_at` is of late."""

    __tablename__ = "servers"

    name: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(sa.ForeignKey("regions.name"))
    url: Mapped[str | None]
    version: Mapped[str]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class StorageLocation(Model):
    """A root that media are stored below: `url_root` is s3://bucket/prefix or file:///folder. Low `priority` first."""

    __tablename__ = "locations"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    url_root: Mapped[str] = mapped_column(unique=True)
    region: Mapped[str] = mapped_column(sa.ForeignKey("regions.name"))
    writable: Mapped[bool]
    priority: Mapped[int]
    created_at: Mapped[datetime]


class Transfer(Model):
    """The bytes of a media object on their way to a location. `path` is below its root, `upload_id` the store's.

    `source_url`: what is copied, where they do not come from a caller. `has_links`: parts may have come to the store
    without this service. `bytes_checked`: how far verification is. `leftovers`: the store may have something to remove.
    """

    __tablename__ = "transfers"
    __table_args__ = (sa.Index("ix_transfers_state_expires_at", "state", "expires_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(sa.ForeignKey("projects.id"), index=True)
    media_id: Mapped[str] = mapped_column(sa.ForeignKey("media_objects.id", ondelete="CASCADE"), index=True)
    location_id: Mapped[str] = mapped_column(sa.ForeignKey("locations.id"))
    path: Mapped[str]
    source_url: Mapped[str | None]
    upload_id: Mapped[str | None]
    size: Mapped[int] = mapped_column(sa.BigInteger)
    part_size: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    has_links: Mapped[bool]
    leftovers: Mapped[bool] = mapped_column(index=True)
    bytes_checked: Mapped[int] = mapped_column(sa.BigInteger)
    leased_by: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class TransferPart(Model):
    """A part that the store has confirmed: `etag` is what it is completed with."""

    __tablename__ = "transfer_parts"

    transfer_id: Mapped[str] = mapped_column(sa.ForeignKey("transfers.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    etag: Mapped[str]
