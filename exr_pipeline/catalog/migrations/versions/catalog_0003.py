"""Search and what belongs together: texts, attributes, vectors, collections, relations, schemas of details.

Belongs here: what they were when they were released. Not here: what they are now (`exr_pipeline.catalog.models`).
"""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"

_WHOLE = sa.text("parent_id IS NULL AND deleted_at IS NULL")
_AT_ONCE = 5000


def upgrade() -> None:
    """Make the tables and the indexes of search, and fill in the texts of the assets that are there."""
    _add_indexes_of_assets()
    _add_texts()
    _add_attributes()
    _add_what_belongs_together()


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _plain() -> sa.String:
    return sa.String().with_variant(sa.String(collation="C"), "postgresql")


def _of_asset(table: str, column: str = "asset_id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["assets.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def _of_project(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=f"fk_{table}_project_id")


def _add_indexes_of_assets() -> None:
    op.create_index("ix_assets_parent_id_created_at_id", "assets", ["parent_id", "created_at", "id"])
    op.drop_index("ix_assets_parent_id", "assets")
    for columns in ((), ("project_id",), ("kind",), ("status",)):
        op.create_index(
            "_".join(["ix_assets_whole", *columns]),
            "assets",
            [*columns, "created_at", "id"],
            sqlite_where=_WHOLE,
            postgresql_where=_WHOLE,
        )


def _add_texts() -> None:
    op.create_table(
        "asset_texts",
        sa.Column("number", _number(), autoincrement=True, nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("text", _plain(), nullable=False),
        _of_asset("asset_texts"),
        sa.PrimaryKeyConstraint("number", name="pk_asset_texts"),
        sa.UniqueConstraint("asset_id", name="uq_asset_texts_asset_id"),
    )
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        _index_texts_in_sqlite()
    else:
        _index_texts_in_postgresql(connection)
    last = ""
    assets = sa.table("assets", sa.column("id"), sa.column("folder"), sa.column("name"))
    texts = sa.table("asset_texts", sa.column("asset_id"), sa.column("text"))
    while rows := connection.execute(
        sa.select(assets).where(assets.c.id > last).order_by(assets.c.id).limit(_AT_ONCE)
    ).all():
        last = rows[-1].id
        values = [
            {"asset_id": row.id, "text": unicodedata.normalize("NFC", f"{row.folder}/{row.name}".casefold())}
            for row in rows
        ]
        connection.execute(sa.insert(texts), values)


def _index_texts_in_sqlite() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE asset_text_index USING fts5(text, content='asset_texts', content_rowid='number', "
        "tokenize='trigram case_sensitive 1', detail=none)"
    )
    remove = "INSERT INTO asset_text_index (asset_text_index, rowid, text) VALUES ('delete', old.number, old.text);"
    add = "INSERT INTO asset_text_index (rowid, text) VALUES (new.number, new.text);"
    for event, statements in (("INSERT", add), ("DELETE", remove), ("UPDATE", f"{remove} {add}")):
        op.execute(
            f"CREATE TRIGGER asset_texts_after_{event.lower()} AFTER {event} ON asset_texts BEGIN {statements} END"
        )


def _index_texts_in_postgresql(connection: sa.Connection) -> None:
    """By trigrams, if the extension is there or this account may add it. Without, the same answers take longer."""
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return
    op.create_index(
        "asset_text_index", "asset_texts", ["text"], postgresql_using="gin", postgresql_ops={"text": "gin_trgm_ops"}
    )


def _add_attributes() -> None:
    op.create_table(
        "asset_attributes",
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("text", _plain(), nullable=True),
        sa.Column("number", sa.Double(), nullable=True),
        _of_asset("asset_attributes"),
        sa.PrimaryKeyConstraint("asset_id", "name", "origin", name="pk_asset_attributes"),
        sqlite_with_rowid=False,
    )
    for column in ("text", "number"):
        is_there = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_asset_attributes_{column}",
            "asset_attributes",
            ["name", column, "asset_id"],
            sqlite_where=is_there,
            postgresql_where=is_there,
        )
    op.create_table(
        "attribute_names",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_number", sa.Boolean(), nullable=False),
        _of_project("attribute_names"),
        sa.PrimaryKeyConstraint("project_id", "name", "is_number", name="pk_attribute_names"),
    )
    op.create_table(
        "asset_vectors",
        sa.Column("number", _number(), autoincrement=True, nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("embedding_version", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        _of_asset("asset_vectors"),
        sa.PrimaryKeyConstraint("number", name="pk_asset_vectors"),
        sa.UniqueConstraint("asset_id", name="uq_asset_vectors_asset_id"),
        sqlite_autoincrement=True,
    )


def _add_what_belongs_together() -> None:
    op.create_table(
        "collections",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        _of_project("collections"),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("project_id", "name", name="uq_collections_project_id_name"),
    )
    op.create_table(
        "collection_assets",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_collection_assets_collection_id", ondelete="CASCADE"
        ),
        _of_asset("collection_assets"),
        sa.PrimaryKeyConstraint("collection_id", "asset_id", name="pk_collection_assets"),
    )
    op.create_index("ix_collection_assets_asset_id", "collection_assets", ["asset_id"])
    op.create_index("ix_collection_assets_collection_id_ordinal", "collection_assets", ["collection_id", "ordinal"])
    op.create_table(
        "asset_relations",
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("other_id", sa.String(), nullable=False),
        _of_asset("asset_relations"),
        _of_asset("asset_relations", "other_id"),
        sa.PrimaryKeyConstraint("asset_id", "kind", "other_id", name="pk_asset_relations"),
    )
    op.create_index("ix_asset_relations_other_id", "asset_relations", ["other_id"])
    op.create_table(
        "details_schemas",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("schema", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        _of_project("details_schemas"),
        sa.PrimaryKeyConstraint("project_id", "kind", name="pk_details_schemas"),
    )
