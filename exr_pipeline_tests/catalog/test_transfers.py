"""Transfers: at any node, again, cancelled, expired, wrong, the same bytes twice; nothing is ready unless verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from exr_pipeline.catalog import assets, event_log, places, transfers
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, ForbiddenError, NotFoundError
from exr_pipeline.catalog.models import Event, MediaLocation, Transfer
from exr_pipeline.catalog.places import database_now
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.transfer_steps import TransferSteps
from exr_pipeline.catalog.transfer_work import TransferWork
from exr_pipeline.catalog.transfers import NewTransfer, TransferView
from exr_pipeline.errors import BadInputError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import SMALLEST_PART, PartWriter
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.catalog.conftest import MakeCaller

DATA = os.urandom(SMALLEST_PART + 1000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Node:
    """One of several that serve a catalog: it takes parts, and works by itself when it is told."""

    def __init__(self, database: CatalogDatabase, storage: ObjectStorage, name: str, hours: float = 1) -> None:
        self.database, self.storage = database, storage
        self.writer = PartWriter(storage)
        self.steps = TransferSteps(database, self.writer, hours)
        self.work = TransferWork(database, storage, self.writer, name, hours)
        self._loop = asyncio.new_event_loop()

    def put(self, caller: Principal, view: TransferView, number: int, data: bytes = DATA) -> None:
        start, size = view.place_of(number)
        self.put_block(caller, view, number, data[start : start + size])

    def put_block(
        self,
        caller: Principal,
        view: TransferView,
        number: int,
        block: bytes,
        halfway: Callable[[], None] | None = None,
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield block[: len(block) // 2]
            if halfway is not None:
                halfway()
            yield block[len(block) // 2 :]

        put = self.steps.put_part(caller, view.transfer.id, number, len(block), body())
        self._loop.run_until_complete(put)

    def work_off(self) -> None:
        while self.work.work_once():
            pass
        self.work.sweep()

    def close(self) -> None:
        self._loop.run_until_complete(self.writer.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def nodes(database: CatalogDatabase, storage: ObjectStorage) -> Iterator[tuple[Node, Node]]:
    found = (Node(database, storage, "one"), Node(database, storage, "two"))
    yield found
    for node in found:
        node.close()


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Node:
    return nodes[0]


@pytest.fixture
def editor(make_caller: MakeCaller) -> Principal:
    return make_caller("editor", "editor", "show-a")


@pytest.fixture
def roots(database: CatalogDatabase, admin: Principal, bucket: Location, tmp_path: Path) -> dict[str, Location]:
    """A location in S3, which is the usual one, and one in a folder."""
    found = {"bucket": bucket.child("assets/"), "folder": Location("file", "", f"{str(tmp_path)[1:]}/assets/")}
    with database.transaction() as session:
        places.create_region(session, admin, "here")
        for priority, (name, root) in enumerate(found.items()):
            places.create_location(session, admin, name, root.url, region="here", priority=priority)
    return found


Begin = Callable[..., TransferView]


@pytest.fixture
def begin(database: CatalogDatabase, editor: Principal, roots: dict[str, Location]) -> Begin:
    """Begins to send DATA, or something else, as a media object of a new asset."""
    made: list[str] = []

    def open_one(caller: Principal = editor, project: str = "show-a", **values: object) -> TransferView:
        made.append("x")
        with database.transaction() as session:
            asset = assets.create_asset(session, caller, project, f"hero {len(made)}", kind="image").asset
        given: dict[str, object] = {"size": len(DATA), "sha256": SHA256, "part_size": SMALLEST_PART} | values
        wanted = NewTransfer(asset_id=asset.id, filename="a file.exr", **given)  # type: ignore[arg-type]
        with database.transaction() as session:
            return transfers.open_transfer(session, caller, wanted, hours=1)

    return open_one


def now(node: Node, view: TransferView) -> Transfer:
    with node.database.transaction(read_only=True) as session:
        return session.get_one(Transfer, view.transfer.id)


def media(node: Node, caller: Principal, view: TransferView) -> tuple[str, str | None, list[str]]:
    with node.database.transaction(read_only=True) as session:
        found, urls = assets.media(session, caller, view.transfer.media_id)
        return found.status, found.reason, list(urls)


def objects(node: Node, root: Location) -> list[str]:
    if root.scheme == "file":
        folder = Path(root.path)
        return [str(path) for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return [info.location.url for info in node.storage.iter_objects(root)]


@pytest.mark.parametrize("location", ["bucket", "folder"])
def test_parts_sent_to_either_node_are_a_media_object_once_they_are_verified(
    nodes: tuple[Node, Node], editor: Principal, begin: Begin, location: str
) -> None:
    one, two = nodes
    view = begin(location=location)
    assert (view.count, view.transfer.state) == (2, "open")
    two.put(editor, view, 2)
    with pytest.raises(ConflictError, match="1 parts are missing: 1"):
        one.steps.complete(editor, view.transfer.id, None)
    one.put(editor, view, 1)
    assert [part.number for part in two.steps.look(editor, view.transfer.id).parts] == [1, 2]
    assert two.steps.complete(editor, view.transfer.id, None).transfer.state == "verifying"
    assert media(one, editor, view) == ("verifying", None, [])
    assert one.steps.complete(editor, view.transfer.id, None).transfer.state == "verifying"
    one.work_off()
    status, reason, (url,) = media(one, editor, view)
    assert (status, reason) == ("ready", None)
    assert url.endswith(f"/show-a/{view.transfer.media_id}/a%20file.exr")
    assert one.storage.read(Location.from_url(url))[1] == DATA
    assert two.steps.complete(editor, view.transfer.id, SHA256).transfer.state == "done"
    with one.database.transaction(read_only=True) as session:
        events = event_log.events_after(session, editor, subject_id=view.transfer.media_id)
        assert [event.topic for event in events] == ["media.expected", "media.stored"]
        (asset_id,) = events[1].payload["asset_ids"]
        assert assets.asset(session, editor, asset_id).asset.status == "ready"


@pytest.mark.parametrize("location", ["bucket", "folder"])
def test_other_bytes_than_were_announced_are_never_ready_and_are_removed(
    node: Node, editor: Principal, begin: Begin, roots: dict[str, Location], location: str
) -> None:
    view = begin(location=location)
    for number in (1, 2):
        node.put(editor, view, number, DATA[:-1] + b"x")
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    status, reason, urls = media(node, editor, view)
    assert (status, urls, now(node, view).state) == ("failed", [], "failed")
    assert reason is not None
    assert "its SHA-256 is" in reason
    assert objects(node, roots[location]) == []
    assert node.steps.complete(editor, view.transfer.id, None).transfer.state == "failed"


def test_parts_that_were_sent_again_are_completed_as_the_last_of_each(
    node: Node, editor: Principal, begin: Begin
) -> None:
    view = begin()
    node.put(editor, view, 1, bytes(len(DATA)))
    for number in (1, 2, 2, 1):
        node.put(editor, view, number)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    assert media(node, editor, view)[0] == "ready"


def test_parts_by_links_count_beside_those_through_a_node(node: Node, editor: Principal, begin: Begin) -> None:
    view = begin(sha256=None)
    node.put(editor, view, 2)
    ((_, link),) = node.steps.links(editor, view.transfer.id, [1])
    etags = {}
    for block in (bytes(SMALLEST_PART), DATA[:SMALLEST_PART]):
        answer = httpx.put(link, content=block, timeout=60)
        etags[1] = answer.headers["etag"].strip('"')
    assert [part.number for part in node.steps.look(editor, view.transfer.id).parts] == [1, 2]
    with pytest.raises(BadInputError, match="it was not said when the transfer began"):
        node.steps.complete(editor, view.transfer.id, None)
    node.steps.complete(editor, view.transfer.id, SHA256, etags)
    node.work_off()
    assert media(node, editor, view)[0] == "ready"


def test_a_transfer_that_was_cancelled_takes_and_leaves_nothing_even_of_a_part_under_way(
    node: Node, editor: Principal, begin: Begin, roots: dict[str, Location]
) -> None:
    view = begin()
    node.put(editor, view, 1)

    def cancel() -> None:
        with node.database.transaction() as session:
            transfers.cancel_transfer(session, editor, view.transfer.id)
        node.work_off()

    start, size = view.place_of(2)
    with pytest.raises(ConflictError, match="it is cancelled"):
        node.put_block(editor, view, 2, DATA[start : start + size], halfway=cancel)
    with pytest.raises(ConflictError, match="it is cancelled"):
        node.put(editor, view, 1)
    with pytest.raises(ConflictError, match="it is cancelled"):
        node.steps.complete(editor, view.transfer.id, None)
    assert media(node, editor, view)[:2] == ("failed", "cancelled by editor")
    client = node.storage.s3_client(roots["bucket"])
    assert client.list_multipart_uploads(Bucket=roots["bucket"].bucket).get("Uploads", []) == []
    assert not now(node, view).leftovers


@pytest.mark.parametrize("is_last", [False, True])
def test_where_the_store_has_thrown_the_parts_away_they_are_sent_again(
    node: Node, editor: Principal, begin: Begin, is_last: bool
) -> None:
    view = begin()
    node.put(editor, view, 1)
    if is_last:
        node.put(editor, view, 2)
    node.writer.abort(view.target, now(node, view).upload_id or "")

    def next_step() -> None:
        if is_last:
            node.steps.complete(editor, view.transfer.id, None)
        else:
            node.put(editor, view, 2)

    with pytest.raises(ConflictError, match="send all its parts again"):
        next_step()
    assert node.steps.look(editor, view.transfer.id).parts == []
    for number in (1, 2):
        node.put(editor, view, number)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    assert media(node, editor, view)[0] == "ready"


def test_a_transfer_without_a_part_for_long_expires_and_one_with_parts_does_not(
    node: Node, editor: Principal, begin: Begin, roots: dict[str, Location]
) -> None:
    late, alive = begin(), begin()
    for view in (late, alive):
        node.put(editor, view, 1)
        with node.database.transaction() as session:
            past = database_now(session) - timedelta(seconds=1)
            session.get_one(Transfer, view.transfer.id).expires_at = past
    node.put(editor, alive, 2)
    node.work_off()
    assert (now(node, late).state, now(node, alive).state) == ("expired", "open")
    assert media(node, editor, late)[:2] == ("failed", "no part came for 1 hours")
    (upload,) = node.storage.s3_client(roots["bucket"]).list_multipart_uploads(Bucket=roots["bucket"].bucket)["Uploads"]
    assert upload["UploadId"] == now(node, alive).upload_id


def test_the_same_bytes_are_kept_once_in_a_project_and_nothing_is_told_of_other_projects(
    node: Node, editor: Principal, begin: Begin, make_caller: MakeCaller, roots: dict[str, Location]
) -> None:
    other = make_caller("other", "editor", "show-b")

    def send(caller: Principal, view: TransferView) -> None:
        for number in (1, 2):
            node.put(caller, view, number)
        node.steps.complete(caller, view.transfer.id, SHA256)
        node.work_off()

    first = begin(sha256=None)
    at_once = begin(sha256=None)
    send(editor, first)
    # Known by its sum before it is sent.
    known = begin()
    assert known.transfer.state == "done"
    # Found out after it was sent.
    send(editor, at_once)
    # Of others, it has to be sent, and is another object.
    strange = begin(other, "show-b")
    assert strange.transfer.state == "open"
    send(other, strange)
    urls = [media(node, editor, view)[2] for view in (first, at_once, known)]
    assert urls[0] == urls[1] == urls[2]
    assert media(node, other, strange)[2] != urls[0]
    assert len(objects(node, roots["bucket"])) == 2
    # Who may write and not read in a project does not learn by a sum what is in it.
    blind = Principal("0", "blind", {first.transfer.project_id: "editor"}, frozenset({"assets:write"}))
    with node.database.transaction(read_only=True) as session:
        (asset_id,) = session.scalars(
            sa.select(Event.payload).where(Event.topic == "media.stored", Event.subject_id == first.transfer.media_id)
        ).one()["asset_ids"]
    with node.database.transaction() as session:
        wanted = NewTransfer(asset_id, "x.exr", len(DATA), SHA256)
        assert transfers.open_transfer(session, blind, wanted, hours=1).transfer.state == "open"


def test_a_transfer_of_another_project_is_not_there(
    node: Node, editor: Principal, begin: Begin, make_caller: MakeCaller
) -> None:
    view = begin()
    stranger, viewer = make_caller("stranger", "editor", "show-b"), make_caller("viewer", "viewer", "show-a")
    seen_by_both = {**viewer.grants, "0": "editor"}
    for caller, kind in ((stranger, NotFoundError), (viewer, ForbiddenError)):
        for step in (
            lambda caller=caller: node.put(caller, view, 1),
            lambda caller=caller: node.steps.look(caller, view.transfer.id),
            lambda caller=caller: node.steps.links(caller, view.transfer.id, [1]),
            lambda caller=caller: node.steps.complete(caller, view.transfer.id, SHA256),
        ):
            with pytest.raises(kind):
                step()
    with pytest.raises(ForbiddenError, match="in the project"):
        node.steps.look(Principal("0", "both", seen_by_both), view.transfer.id)
    with pytest.raises(NotFoundError, match="asset"):
        _open_in(node, stranger, view)


def _open_in(node: Node, caller: Principal, view: TransferView) -> None:
    with node.database.transaction() as session:
        query = sa.select(Event.payload).where(Event.subject_id == view.transfer.media_id)
        asset_id = session.scalars(query).one()["asset_id"]
        transfers.open_transfer(session, caller, NewTransfer(asset_id, "x.exr", 1), hours=1)


@pytest.mark.parametrize(
    "values",
    [
        {"size": -1},
        {"size": transfers.LARGEST + 1},
        {"part_size": SMALLEST_PART - 1},
        {"size": 10_001 * SMALLEST_PART, "part_size": SMALLEST_PART},
        {"sha256": "x"},
        {"role": "No Word"},
    ],
)
def test_what_no_store_could_take_is_refused_at_once(begin: Begin, values: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        begin(**values)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc/passwd", ".hidden", "a\nb", "a\x00b", "x" * 201])
def test_a_name_that_could_lead_elsewhere_is_refused(
    database: CatalogDatabase, editor: Principal, roots: dict[str, Location], name: str
) -> None:
    with database.transaction() as session:
        asset = assets.create_asset(session, editor, "show-a", "hero", kind="image").asset
        with pytest.raises(BadInputError, match="filename"):
            transfers.open_transfer(session, editor, NewTransfer(asset.id, name, 1), hours=1)


def test_a_part_has_the_size_that_its_transfer_says(node: Node, editor: Principal, begin: Begin) -> None:
    view = begin()
    for number, block in ((1, DATA), (2, DATA[:999]), (3, b"")):
        with pytest.raises(BadInputError):
            node.put_block(editor, view, number, block)
    assert node.steps.look(editor, view.transfer.id).parts == []


@pytest.mark.parametrize("location", ["bucket", "folder"])
def test_an_empty_file_is_stored_without_a_part(node: Node, editor: Principal, begin: Begin, location: str) -> None:
    view = begin(size=0, sha256=hashlib.sha256(b"").hexdigest(), location=location)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    status, _, (url,) = media(node, editor, view)
    assert (status, node.storage.head(Location.from_url(url)).size) == ("ready", 0)


@pytest.mark.parametrize(("source", "goal"), [("bucket", "folder"), ("folder", "bucket")])
def test_a_media_object_is_copied_to_another_location_part_by_part_and_verified_there(
    nodes: tuple[Node, Node], editor: Principal, begin: Begin, roots: dict[str, Location], source: str, goal: str
) -> None:
    one, two = nodes
    view = begin(location=source)
    with one.database.transaction() as session, pytest.raises(ConflictError, match="not ready"):
        transfers.replicate(session, editor, view.transfer.media_id, goal, hours=1)
    for number in (1, 2):
        one.put(editor, view, number)
    one.steps.complete(editor, view.transfer.id, None)
    one.work_off()
    with one.database.transaction() as session:
        copy = transfers.replicate(session, editor, view.transfer.media_id, goal, hours=1)
        assert transfers.replicate(session, editor, view.transfer.media_id, goal, hours=1).transfer is copy.transfer
    with pytest.raises(ConflictError, match="a copy that this service makes"):
        one.put(editor, copy, 1)
    two.work_off()
    done = two.steps.look(editor, copy.transfer.id)
    assert (done.transfer.state, done.transfer.bytes_checked) == ("done", len(DATA))
    assert sum(part.size for part in done.parts) == len(DATA)
    _, _, urls = media(one, editor, view)
    assert len(urls) == 2
    assert {one.storage.read(Location.from_url(url))[1] for url in urls} == {DATA}
    with one.database.transaction() as session, pytest.raises(ConflictError, match="already"):
        transfers.replicate(session, editor, view.transfer.media_id, goal, hours=1)


def test_a_copy_whose_source_was_changed_is_not_kept_and_harms_nothing(
    node: Node, editor: Principal, begin: Begin, roots: dict[str, Location]
) -> None:
    view = begin()
    for number in (1, 2):
        node.put(editor, view, number)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    (url,) = media(node, editor, view)[2]
    node.storage.write(Location.from_url(url), bytes(len(DATA)), content_type="image/x-exr", tags={})
    with node.database.transaction() as session:
        copy = transfers.replicate(session, editor, view.transfer.media_id, "folder", hours=1)
    node.work_off()
    assert now(node, copy).state == "failed"
    assert media(node, editor, view) == ("ready", None, [url])
    assert objects(node, roots["folder"]) == []


def test_while_one_node_verifies_another_does_not_and_goes_on_when_the_lease_is_over(
    nodes: tuple[Node, Node], editor: Principal, begin: Begin
) -> None:
    one, two = nodes
    view = begin()
    for number in (1, 2):
        one.put(editor, view, number)
    one.steps.complete(editor, view.transfer.id, None)
    assert one.work._lease_next() is not None
    assert not two.work.work_once()
    with one.database.transaction() as session:
        past = database_now(session) - timedelta(seconds=1)
        session.get_one(Transfer, view.transfer.id).leased_until = past
    stale = one.work
    assert two.work.work_once()
    assert media(two, editor, view)[0] == "ready"
    assert not stale.work_once()


def test_a_node_that_ends_lets_others_go_on_at_once(nodes: tuple[Node, Node], editor: Principal, begin: Begin) -> None:
    one, two = nodes
    view = begin()
    for number in (1, 2):
        one.put(editor, view, number)
    one.steps.complete(editor, view.transfer.id, None)
    one.work.stop.set()
    one.work.work_once()
    assert media(one, editor, view)[0] == "verifying"
    assert two.work.work_once()
    assert media(one, editor, view)[0] == "ready"


def test_what_is_used_is_not_removed_whatever_is_left_over(node: Node, editor: Principal, begin: Begin) -> None:
    view = begin()
    for number in (1, 2):
        node.put(editor, view, number)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    with node.database.transaction() as session:
        session.get_one(Transfer, view.transfer.id).leftovers = True
    node.work_off()
    (url,) = media(node, editor, view)[2]
    assert node.storage.head(Location.from_url(url)).size == len(DATA)


def test_what_was_ingested_is_not_replaced_by_what_is_sent(
    database: CatalogDatabase, editor: Principal, roots: dict[str, Location]
) -> None:
    with database.transaction() as session:
        asset = assets.create_asset(session, editor, "show-a", "hero", kind="image").asset
        asset.created_by = "projection"
        with pytest.raises(ConflictError, match="is what was ingested"):
            transfers.open_transfer(session, editor, NewTransfer(asset.id, "a.exr", 1), hours=1)
        view = transfers.open_transfer(session, editor, NewTransfer(asset.id, "a.exr", 1, role="notes"), hours=1)
        assert view.transfer.state == "open"


def test_a_place_says_when_it_was_verified(node: Node, editor: Principal, begin: Begin) -> None:
    view = begin()
    for number in (1, 2):
        node.put(editor, view, number)
    node.steps.complete(editor, view.transfer.id, None)
    node.work_off()
    with node.database.transaction(read_only=True) as session:
        found = session.scalars(sa.select(MediaLocation)).one()
        assert found.verified_at is not None


def test_parts_grow_with_the_file_so_that_a_store_takes_all_of_them() -> None:
    assert transfers.usual_part_size(0) == transfers.usual_part_size(8 << 30) == 8 << 20
    terabyte = 1 << 40
    assert transfers.usual_part_size(terabyte) == 117 << 20
    assert terabyte / transfers.usual_part_size(terabyte) <= 9000
