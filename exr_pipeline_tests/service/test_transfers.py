"""Transfers over HTTP: limits of what is sent, ranges of what is fetched, a node that dies while it takes a part."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from exr_pipeline.catalog import places
from exr_pipeline.catalog.accounts import authenticate
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.service.app import build_app
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import SMALLEST_PART
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.cli.conftest import bare_environment, make_home
from exr_pipeline_tests.service.conftest import ADMIN
from exr_pipeline_tests.service.test_rest import new_asset
from exr_pipeline_tests.services.processes import Service, answers, free_port, wait_until

MIB = 1 << 20


@pytest.fixture
def app(database: CatalogDatabase, storage: ObjectStorage, bucket: Location) -> Any:
    with database.transaction() as session:
        admin = authenticate(session, ADMIN)
        places.create_region(session, admin, "here")
        places.create_location(session, admin, "bucket", bucket.child("assets").url, region="here")
    return build_app(database, storage, parts_in_flight=1)


def begin(client: httpx.Client, size: int = SMALLEST_PART + 10, **more: Any) -> dict[str, Any]:
    body = {"asset_id": new_asset(client)["id"], "filename": "a.exr", "size": size, "part_size": SMALLEST_PART}
    answer = client.post("/v1/transfers", json=body | more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_part_is_taken_with_the_size_that_was_said_and_in_no_other(client: httpx.Client) -> None:
    transfer = begin(client)
    parts = f"/v1/transfers/{transfer['id']}/parts"
    answer = client.put(f"{parts}/2", content=b"0123456789")
    assert (answer.status_code, answer.json()["etag"]) == (200, hashlib.md5(b"0123456789").hexdigest())
    for number, content in ((2, b"x"), (3, b"x"), (1, iter([b"x"])), (2, b"x" * SMALLEST_PART)):
        assert client.put(f"{parts}/{number}", content=content).status_code == 422, number
    found = client.get(f"/v1/transfers/{transfer['id']}").json()
    assert (found["received"], found["bytes_received"], found["parts"]) == ([2], 10, 2)
    missing = client.post(f"/v1/transfers/{transfer['id']}/complete", json={"sha256": "0" * 64})
    assert (missing.status_code, "1 parts are missing: 1" in missing.json()["detail"]) == (409, True)
    assert client.delete(f"/v1/transfers/{transfer['id']}").json()["state"] == "cancelled"
    assert client.put(f"{parts}/2", content=b"0123456789").status_code == 409


def test_more_parts_at_once_than_a_node_takes_are_to_come_again(client: httpx.Client) -> None:
    transfer = begin(client)
    place = f"/v1/transfers/{transfer['id']}/parts/2"
    flows, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"01234"
        flows.set()
        go_on.wait()
        yield b"56789"

    statuses = []
    length = {"Content-Length": "10"}
    first = threading.Thread(
        target=lambda: statuses.append(client.put(place, content=slow(), headers=length).status_code)
    )
    first.start()
    flows.wait()
    # The first is counted once the node has its head.
    wait_until(lambda: client.put(place, content=b"0123456789").status_code == 503, "the node is busy")
    refused = client.put(place, content=b"0123456789")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    go_on.set()
    first.join()
    assert statuses == [200]
    assert client.put(place, content=b"0123456789").status_code == 200


def test_links_are_for_parts_of_the_transfer_only(client: httpx.Client) -> None:
    transfer = begin(client)
    urls = f"/v1/transfers/{transfer['id']}/parts/urls"
    links = client.post(urls, json={"first": 1, "last": 2}).json()
    assert [link["number"] for link in links] == [1, 2]
    assert ADMIN not in str(links)
    assert httpx.put(links[1]["url"], content=b"0123456789").status_code == 200
    assert client.get(f"/v1/transfers/{transfer['id']}").json()["received"] == [2]
    assert client.post(urls, json={"first": 2, "last": 3}).status_code == 422
    assert client.post(urls, json={"first": 1, "last": 5000}).status_code == 422


def test_the_same_request_opens_one_transfer(client: httpx.Client) -> None:
    body = {"asset_id": new_asset(client)["id"], "filename": "a.exr", "size": 1}
    first, second = (
        client.post("/v1/transfers", json=body, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2)
    )
    assert first == second
    for wrong in ({"filename": "../x"}, {"size": -1}, {"url": "http://169.254.169.254/"}, {"sha256": "x"}):
        assert client.post("/v1/transfers", json=body | wrong).status_code == 422, wrong


def test_places_are_listed_for_all_and_named_by_the_administrator(client: httpx.Client, bucket: Location) -> None:
    assert client.get("/v1/regions").json() == [{"name": "here", "title": "here"}]
    (location,) = client.get("/v1/locations").json()
    assert (location["kind"], location["url_root"]) == ("s3", bucket.child("assets/").url)
    assert client.get("/v1/servers").json() == []
    assert client.post("/v1/regions", json={"name": "there"}).status_code == 201
    body = {"name": "far", "url_root": "s3://far/away", "region": "there"}
    assert client.post("/v1/locations", json=body).status_code == 201
    assert client.patch("/v1/locations/far", json={"writable": False}).json()["writable"] is False
    assert client.post("/v1/locations", json=body | {"name": "x", "url_root": "http://x/"}).status_code == 422
    assert client.post("/v1/media/00000000-0000-0000-0000-000000000000/replicate", json={"location": "far"}).is_error


def test_bytes_through_a_node_come_by_ranges_of_one_version(
    client: httpx.Client, database: CatalogDatabase, storage: ObjectStorage, bucket: Location
) -> None:
    from exr_pipeline.catalog.models import Media, MediaLocation

    stored = bucket.child("a.exr")
    storage.write(stored, b"0123456789", content_type="image/x-exr", tags={})
    media_id = begin(client)["media_id"]
    with database.transaction() as session:
        session.get_one(Media, media_id).status = "ready"
        session.add(MediaLocation(media_id=media_id, url=bucket.child("gone.exr").url))
        session.add(MediaLocation(media_id=media_id, url=stored.url))
    place = f"/v1/media/{media_id}/content?through=node"
    whole = client.get(place)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    etag = whole.headers["etag"]
    for wanted, content, described in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ):
        part = client.get(place, headers={"Range": wanted, "If-Range": etag})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, content, described)
    assert client.get(place, headers={"Range": "bytes=2-4", "If-Range": '"other"'}).content == b"0123456789"
    for wanted in ("bytes=4-2", "lines=1-2", "bytes=0-1,3-4", "bytes=-"):
        assert client.get(place, headers={"Range": wanted}).content == b"0123456789"
    behind = client.get(place, headers={"Range": "bytes=10-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */10")
    linked = client.get(f"/v1/media/{media_id}/content")
    assert httpx.get(linked.headers["location"]).content == b"0123456789"


def test_a_node_that_is_killed_in_the_middle_of_a_part_loses_only_that_part_and_holds_little_memory(
    tmp_path: Path, s3_settings: Any, bucket: Location
) -> None:
    home = make_home(tmp_path)
    names = ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_REGION", "NO_PROXY", "no_proxy")
    environment = bare_environment() | {name: os.environ[name] for name in names}
    environment |= {"EXR_PIPELINE_SOURCES": bucket.url, "EXR_PIPELINE_ADMIN_TOKEN": ADMIN}
    ports = (free_port(), free_port())
    data = os.urandom(12 * 8 * MIB)
    with ExitStack() as stack:
        nodes = []
        for port in ports:
            command: list[str | Path] = [sys.executable, "-m", "exr_pipeline.cli", "serve", "--port", str(port)]
            node = Service(str(port), command, tmp_path / f"{port}.log", environment=environment, folder=home)
            nodes.append(stack.enter_context(node))
        for node, port in zip(nodes, ports, strict=True):
            wait_until(lambda: answers(port) or not node.is_running, "a node answers", seconds=120)  # noqa: B023
            assert node.is_running, node.log_tail()
        headers = {"Authorization": f"Bearer {ADMIN}"}
        one, two = (
            stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60))
            for port in ports
        )
        wait_until(lambda: len(two.get("/v1/servers").json()) == 2, "both nodes are heard of")
        wait_until(lambda: two.get("/v1/locations").json(), "there is a location")
        one.post("/v1/projects", json={"name": "show-a"})
        transfer = begin(one, len(data), sha256=hashlib.sha256(data).hexdigest(), part_size=8 * MIB)
        parts = f"/v1/transfers/{transfer['id']}/parts"
        held = memory(nodes[1].pid)
        for number in range(1, 7):
            assert one.put(f"{parts}/{number}", content=part(data, number)).status_code == 200

        def torn() -> Iterator[bytes]:
            yield part(data, 7)[: 4 * MIB]
            nodes[0].kill()
            yield part(data, 7)[4 * MIB :]

        with pytest.raises(httpx.TransportError):
            one.put(f"{parts}/7", content=torn(), headers={"Content-Length": str(8 * MIB)})
        assert two.get(f"/v1/transfers/{transfer['id']}").json()["received"] == [1, 2, 3, 4, 5, 6]
        for number in range(7, 13):
            assert two.put(f"{parts}/{number}", content=part(data, number)).status_code == 200
        for _ in range(2):
            assert two.post(f"/v1/transfers/{transfer['id']}/complete", json={}).status_code == 202
        wait_until(lambda: two.get(f"/v1/transfers/{transfer['id']}").json()["state"] == "done", "it is verified")
        # What it loads for its first transfer is most of it.
        assert memory(nodes[1].pid) - held < len(data) * 3 // 4
        link = two.get(transfer["content"]).headers["location"]
        assert hashlib.sha256(httpx.get(link, timeout=60).content).digest() == hashlib.sha256(data).digest()


def part(data: bytes, number: int) -> bytes:
    return data[(number - 1) * 8 * MIB : number * 8 * MIB]


def memory(pid: int) -> int:
    """The most that a process has held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
