"""What goes in and comes out as JSON, and how rows become that.

Belongs here: those shapes. Not here: routes, or rules of the domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from exr_pipeline.catalog.assets import AssetView, MediaOfAsset
from exr_pipeline.catalog.models import (
    Account,
    Collection,
    DetailsSchema,
    Event,
    Grant,
    Project,
    StorageLocation,
    Token,
)
from exr_pipeline.catalog.principals import Permission, Role
from exr_pipeline.catalog.search import Facets
from exr_pipeline.catalog.transfers import TransferView
from exr_pipeline.catalog.where import LONGEST as LONGEST_WHERE

T = TypeVar("T")
# PostgreSQL keeps no null characters.
_PLAIN = r"^[^\x00]*$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_PLAIN)]
# Something that is looked for: there need not be one.
Word = Annotated[str, StringConstraints(max_length=255, pattern=_PLAIN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PartNumber = Annotated[int, Field(ge=1, le=10_000)]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=_PLAIN)]


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)


def _storable(found: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for text in _texts(found):
        # What is no Unicode cannot be encoded, and its message would repeat it.
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("a text has a null character, or is not Unicode")
    return found


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_storable)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PageShape(BaseModel, Generic[T]):
    """A page of a list. `next`: the cursor of the page after it; null after the last."""

    items: Sequence[T]
    next: str | None


class Credentials(_Input):
    """A name and a password."""

    name: Name
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Login(Credentials):
    """The same. `session`: whether the token is for a browser, in a cookie, instead of in the answer."""

    session: bool = False


class Methods(BaseModel):
    """How somebody can log in. `single_sign_on`: the path where it begins; null if there is none."""

    password: bool = True
    single_sign_on: str | None


class NewToken(_Input):
    """A token to be. `scopes`: the permissions it is limited to; null for all of its account."""

    label: Name
    scopes: list[Permission] | None = None
    expires_at: datetime | None = None


class TokenShape(BaseModel):
    """A token without its secret."""

    id: str
    label: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedToken(TokenShape):
    """A new token. `secret` is in the first answer only."""

    secret: str | None = None


class Me(BaseModel):
    """The caller: roles by the identifier of a project, `*` for all, and the permissions of its token, if limited."""

    name: str
    roles: dict[str, str]
    scopes: list[str] | None


class NewAccount(_Input):
    """An account to be."""

    name: Name
    password: Annotated[str, StringConstraints(min_length=12, max_length=256)] | None = None
    is_service: bool = False


class NewRole(_Input):
    """A role in a project, by its name, or in all (`*`); null takes it away."""

    role: Role | None
    project: Name = "*"


class AccountShape(BaseModel):
    """An account and its roles by the identifier of a project, `*` for all."""

    name: str
    kind: str
    has_password: bool
    disabled_at: datetime | None
    roles: dict[str, str]


class NewProject(_Input):
    """A project to be."""

    name: Name
    title: Text = ""


class ProjectChange(_Input):
    """Another title."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_PLAIN)]


class ProjectShape(BaseModel):
    """A project."""

    id: str
    name: str
    title: str
    version: int
    created_at: datetime


class NewAsset(_Input):
    """An asset to be."""

    project: Name
    name: Name
    kind: Name
    folder: Text = ""
    details: JsonObject = Field(default_factory=dict)


class AssetChange(_Input):
    """What is to be changed of an asset; what is left out stays."""

    name: Name | None = None
    details: JsonObject | None = None


class AssetTags(_Input):
    """The tags that an asset is to have."""

    tags: list[Name] = Field(max_length=100)


class AssetShape(BaseModel):
    """An asset. `version` is its ETag."""

    id: str
    parent_id: str | None
    project: str
    kind: str
    folder: str
    name: str
    status: str
    reason: str | None
    details: dict[str, Any]
    tags: Sequence[str]
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime


class AttributeShape(BaseModel):
    """An attribute that `where` compares."""

    name: str
    type: Literal["number", "text"]


class FacetShape(BaseModel):
    """A value, and how many of the counted assets have it."""

    value: str
    count: int


class FacetsShape(BaseModel):
    """How many assets have which values. `counted` are the latest that were found; `is_all`: there are no more."""

    counted: int
    is_all: bool
    values: dict[str, list[FacetShape]]


class SimilarShape(BaseModel):
    """An asset that is like another: 0 is alike, 1 has nothing in common."""

    asset: AssetShape
    distance: float
    is_identical: bool


class RelationShape(BaseModel):
    """A relation: the asset is `kind` the other one, or with `is_from` false the other one is so of it."""

    kind: str
    is_from: bool
    other: AssetShape


class Search(_Input):
    """What a lineup looks for, as `GET /v1/assets` does."""

    words: Annotated[str, StringConstraints(max_length=255, pattern=_PLAIN)] = ""
    kind: Name | None = None
    status: Name | None = None
    tags: list[Name] = Field(default_factory=list, max_length=20)
    where: Annotated[str, StringConstraints(max_length=LONGEST_WHERE, pattern=_PLAIN)] = ""
    parts: bool = False


class NewCollection(_Input):
    """A collection to be; with a `query`, a lineup."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)]
    query: Search | None = None


class CollectionChange(_Input):
    """What is to be changed of a collection; what is left out stays."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)] | None = None
    query: Search | None = None


class CollectionShape(BaseModel):
    """A collection, or with a `query` a lineup. `version` is its ETag."""

    id: str
    name: str
    query: dict[str, Any] | None
    version: int
    created_by: str
    created_at: datetime
    updated_at: datetime


class AddedAssets(_Input):
    """Assets to put into a collection."""

    assets: list[UUID] = Field(max_length=1000)


class NewSchema(_Input):
    """A JSON Schema (draft 2020-12)."""

    document: dict[str, Any]


class SchemaShape(BaseModel):
    """The JSON Schema that the details of a kind fit. `version` is its ETag."""

    kind: str
    document: dict[str, Any]
    version: int
    updated_at: datetime


class MediaShape(BaseModel):
    """A media object of an asset. `content`: the address of its bytes in this service."""

    id: str
    role: str
    ordinal: int | None
    filename: str
    content_type: str
    size: int | None
    sha256: str | None
    status: str
    reason: str | None
    file_id: str | None
    urls: Sequence[str]
    content: str


class TagShape(BaseModel):
    """A tag of a project, and how many assets have it."""

    name: str
    color: str | None
    assets: int


class TagColor(_Input):
    """A color, #rrggbb, or none."""

    color: Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")] | None


class EventShape(BaseModel):
    """An event. `seq` is its place in the order of all."""

    seq: int
    id: str
    topic: str
    subject_id: str
    actor: str
    payload: dict[str, Any]
    at: datetime


class RegionShape(BaseModel):
    """A region."""

    name: str
    title: str


class NewRegion(_Input):
    """A region to be."""

    name: Name
    title: Text = ""


class ServerShape(BaseModel):
    """A node that is alive. `url`: where others reach it, if that was set."""

    name: str
    region: str
    url: str | None
    version: str
    started_at: datetime
    heartbeat_at: datetime


class LocationShape(BaseModel):
    """A location. `kind`: that of its store."""

    name: str
    kind: str
    url_root: str
    region: str
    writable: bool
    priority: int


class NewLocation(_Input):
    """A location to be: s3://bucket/prefix, or file:///folder of all nodes."""

    name: Name
    url_root: Text
    region: Name
    writable: bool = True
    priority: int = Field(default=100, ge=0, le=1_000_000)


class LocationChange(_Input):
    """What is to be changed of a location; what is left out stays."""

    writable: bool | None = None
    priority: int | None = Field(default=None, ge=0, le=1_000_000)


class NewTransferShape(_Input):
    """A file to be sent as a media object of an asset. `sha256` may be said with `complete` as well."""

    asset_id: UUID
    filename: Name
    size: int = Field(ge=0, le=2**53)
    sha256: Sha256 | None = None
    role: Name = "source"
    ordinal: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1)
    part_size: int | None = Field(default=None, ge=1, le=2**40)
    location: Name | None = None


class Completion(_Input):
    """The SHA-256 of the whole file, unless it was said before.

    `etags`: by number, what the store answered for parts that were sent by links, where one was sent more than once.
    """

    sha256: Sha256 | None = None
    etags: dict[PartNumber, Name] = Field(default_factory=dict, max_length=10_000)


class PartRange(_Input):
    """Parts by their numbers, both included."""

    first: int = Field(ge=1, le=10_000)
    last: int = Field(ge=1, le=10_000)


class PartLink(BaseModel):
    """A URL that takes one part by PUT, for an hour, without a token."""

    number: int
    url: str


class PartShape(BaseModel):
    """A part that the store has. `etag`: the MD5 sum of its bytes."""

    number: int
    size: int
    etag: str


class TransferShape(BaseModel):
    """A transfer. `received`: numbers of the parts that the store has; `direct`: whether it gives links to the store.

    `bytes_received` and `bytes_checked`: how far it is, of `size`.
    """

    id: str
    media_id: str
    direction: Literal["upload", "replicate"]
    state: str
    reason: str | None
    size: int
    sha256: str | None
    part_size: int
    parts: int
    received: Sequence[int]
    bytes_received: int
    bytes_checked: int
    direct: bool
    content: str
    created_by: str
    created_at: datetime
    expires_at: datetime


class Replication(_Input):
    """Where a copy is to be."""

    location: Name


class Health(BaseModel):
    """That the service answers."""

    status: Literal["ok"] = "ok"


def of_project(project: Project) -> ProjectShape:
    """A row as a shape."""
    return ProjectShape.model_validate(project, from_attributes=True)


def of_asset(view: AssetView) -> AssetShape:
    """A row as a shape."""
    columns = ("id", "parent_id", "kind", "folder", "name", "status", "reason", "details", "version", "created_by")
    values = {name: getattr(view.asset, name) for name in (*columns, "created_at", "updated_at")}
    return AssetShape(project=view.project, tags=view.tags, **values)


def of_facets(facets: Facets) -> FacetsShape:
    """Counts as a shape."""
    values = {
        name: [FacetShape(value=value, count=count) for value, count in each] for name, each in facets.values.items()
    }
    return FacetsShape(counted=facets.counted, is_all=facets.is_all, values=values)


def of_collection(found: Collection) -> CollectionShape:
    """A row as a shape."""
    return CollectionShape.model_validate(found, from_attributes=True)


def of_schema(found: DetailsSchema) -> SchemaShape:
    """A row as a shape."""
    values = {"kind": found.kind, "version": found.version, "updated_at": found.updated_at}
    return SchemaShape(document=found.schema, **values)


def of_media(part: MediaOfAsset) -> MediaShape:
    """A row as a shape."""
    columns = ("id", "filename", "content_type", "size", "sha256", "status", "reason", "file_id")
    values = {name: getattr(part.media, name) for name in columns}
    content = f"/v1/media/{part.media.id}/content"
    return MediaShape(role=part.role, ordinal=part.ordinal, urls=part.urls, content=content, **values)


def of_token(token: Token) -> TokenShape:
    """A row as a shape."""
    return TokenShape.model_validate(token, from_attributes=True)


def of_account(account: Account, grants: Sequence[Grant]) -> AccountShape:
    """Rows as a shape."""
    return AccountShape(
        name=account.name,
        kind=account.kind,
        has_password=account.password_hash is not None,
        disabled_at=account.disabled_at,
        roles={grant.project_id: grant.role for grant in grants},
    )


def of_event(event: Event) -> EventShape:
    """A row as a shape."""
    return EventShape.model_validate(event, from_attributes=True)


def of_location(location: StorageLocation) -> LocationShape:
    """A row as a shape."""
    columns = ("name", "url_root", "region", "writable", "priority")
    values = {name: getattr(location, name) for name in columns}
    return LocationShape(kind=location.url_root.partition("://")[0], **values)


def of_transfer(view: TransferView) -> TransferShape:
    """A row and its parts as a shape."""
    columns = ("id", "media_id", "state", "reason", "size", "sha256", "part_size", "bytes_checked", "created_by")
    values = {name: getattr(view.transfer, name) for name in (*columns, "created_at", "expires_at")}
    return TransferShape(
        direction="upload" if view.transfer.source_url is None else "replicate",
        parts=view.count,
        received=[part.number for part in view.parts],
        bytes_received=sum(part.size for part in view.parts),
        direct=view.root.scheme == "s3" and view.transfer.source_url is None,
        content=f"/v1/media/{view.transfer.media_id}/content",
        **values,
    )
