"""REST: nobody gets past without a token, errors are problem details, and repeating a request is safe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.projection import project_tables
from exr_pipeline.service.app import LONGEST_BODY, build_app
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables.stores.duckdb import DuckDBStore
from exr_pipeline_tests.service.conftest import served
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile, rows_of

SIGN_ON = {"/v1/auth/methods", "/v1/auth/oidc/login", "/v1/auth/oidc/callback"}
OPEN = {"/healthz", "/readyz", "/openapi.json", "/v1/auth/login", *SIGN_ON}


def paths_of(routes: list[Any]) -> Iterator[str]:
    """The path of each route within its router."""
    for route in routes:
        router = getattr(route, "original_router", None)
        yield from [route.path] if router is None else paths_of(router.routes)


def new_asset(client: httpx.Client, name: str = "hero", **headers: str) -> dict[str, Any]:
    body = {"project": "show-a", "name": name, "kind": "image"}
    answer = client.post("/v1/assets", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_every_route_but_those_that_are_meant_to_be_open_asks_for_a_token(app: Any, anybody: httpx.Client) -> None:
    weak = {"Authorization": "Bearer exr_nobody-has-this-one"}
    routes = [(path, verb) for path, each in app.openapi()["paths"].items() for verb in each]
    assert len(routes) > 25
    for path, verb in routes:
        if path in OPEN:
            continue
        filled = path.replace("{name}", "x").replace("{tag}", "x").replace("{asset_id}", str(uuid4()))
        for name in ("{collection_id}", "{other_id}", "{transfer_id}"):
            filled = filled.replace(name, str(uuid4()))
        filled = (
            filled.replace("{kind}", "derived_from")
            .replace("{token_id}", str(uuid4()))
            .replace("{media_id}", str(uuid4()))
            .replace("{number}", "1")
        )
        for headers in ({}, weak):
            answer = anybody.request(verb, filled, headers=headers)
            assert answer.status_code == 401, (verb, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
    # The walk knows every route that there is.
    described = {path.removeprefix("/v1") for path, _ in routes} | {"/openapi.json"}
    assert described == set(paths_of(app.routes))


def test_health_needs_no_token_and_answers_have_headers_that_bind_browsers(anybody: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        answer = anybody.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_service_whose_database_is_gone_is_alive_and_not_ready(storage: ObjectStorage) -> None:
    gone = CatalogDatabase("postgresql://nobody@127.0.0.1:1/catalog")
    with served(build_app(gone, storage)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    gone.close()


def test_a_password_gives_a_token_that_works_and_a_wrong_one_does_not(
    client: httpx.Client, anybody: httpx.Client
) -> None:
    password = "a long enough password"
    assert client.post("/v1/accounts", json={"name": "ann", "password": password}).status_code == 201
    role = client.put("/v1/accounts/ann/role", json={"role": "viewer", "project": "show-a"})
    assert role.status_code == 204, role.text
    refused = anybody.post("/v1/auth/login", json={"name": "ann", "password": "wrong"})
    assert (refused.status_code, refused.json()["detail"]) == (401, "login: the name or the password is wrong")
    secret = anybody.post("/v1/auth/login", json={"name": "ann", "password": password}).json()["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert anybody.get("/v1/auth/me", headers=headers).json()["name"] == "ann"
    assert anybody.get("/v1/auth/check", headers=headers).status_code == 204
    forbidden = anybody.post("/v1/assets", headers=headers, json={"project": "show-a", "name": "x", "kind": "image"})
    assert (forbidden.status_code, forbidden.json()["title"]) == (403, "Forbidden")
    assert anybody.get("/v1/accounts", headers=headers).status_code == 403
    for _ in range(5):
        anybody.post("/v1/auth/login", json={"name": "ann", "password": "wrong"})
    limited = anybody.post("/v1/auth/login", json={"name": "ann", "password": password})
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "300")


def test_a_secret_is_in_the_first_answer_only(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = client.post("/v1/tokens", json={"label": "ci"}, headers=key)
    again = client.post("/v1/tokens", json={"label": "ci"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["secret"].startswith("exr_")
    assert again.json().get("secret") is None
    listed = client.get("/v1/tokens")
    assert first.json()["secret"] not in listed.text
    assert client.delete(f"/v1/tokens/{first.json()['id']}").status_code == 204
    headers = {"Authorization": f"Bearer {first.json()['secret']}"}
    assert client.get("/v1/auth/me", headers=headers).status_code == 401


def test_the_same_request_with_the_same_key_makes_one_asset(client: httpx.Client) -> None:
    first = new_asset(client, **{"Idempotency-Key": "k"})
    assert new_asset(client, **{"Idempotency-Key": "k"}) == first
    body = {"project": "show-a", "name": "other", "kind": "image"}
    answer = client.post("/v1/assets", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    assert len(client.get("/v1/assets").json()["items"]) == 1


def test_a_change_bears_the_etag_of_what_was_read(client: httpx.Client) -> None:
    place = f"/v1/assets/{new_asset(client)['id']}"
    read = client.get(place)
    assert read.headers["etag"] == '"1"'
    assert client.patch(place, json={"name": "x"}).status_code == 428
    assert client.patch(place, json={"name": "x"}, headers={"If-Match": "nonsense"}).status_code == 422
    changed = client.patch(place, json={"name": "x"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"], changed.json()["name"]) == (200, '"2"', "x")
    assert client.put(f"{place}/tags", json={"tags": ["a"]}, headers={"If-Match": '"1"'}).status_code == 412
    tagged = client.put(f"{place}/tags", json={"tags": ["final"]}, headers={"If-Match": '"2"'})
    assert tagged.json()["tags"] == ["final"]
    assert client.get("/v1/projects/show-a/tags").json() == [{"name": "final", "color": None, "assets": 1}]
    assert [each["topic"] for each in client.get(f"{place}/events").json()] == [
        "asset.created",
        "asset.changed",
        "asset.tagged",
    ]
    assert client.delete(place, headers={"If-Match": '"3"'}).status_code == 204
    assert client.get(place).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"project": "show-a", "name": "x", "kind": "image", "more": 1}',
        b'{"project": "show-a", "name": "x\\u0000", "kind": "image"}',
        b'{"project": "show-a", "name": "\\ud800", "kind": "image"}',
        b'{"project": "show-a", "name": "x", "kind": "image", "details": {"a": ["\\ud800"]}}',
        b'{"project": "show-a", "name": "x", "kind": "image", "details": {"\\u0000": 1}}',
        b'{"project": "show-a", "name": "x", "kind": "image", "details": {"a": NaN}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated_back(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/assets", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "show-a" not in answer.text


def test_a_request_that_is_too_long_is_cut_off(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b" " * LONGEST_BODY, b" "]

    for content in (b" " * (LONGEST_BODY + 1), chunks()):
        answer = client.post("/v1/assets", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["title"]) == (413, "Too large")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_follow_their_cursors(client: httpx.Client) -> None:
    made = [new_asset(client, f"a{number}")["id"] for number in range(5)]
    first = client.get("/v1/assets", params={"limit": 3, "project": "show-a"}).json()
    second = client.get("/v1/assets", params={"limit": 3, "cursor": first["next"]}).json()
    assert [each["id"] for each in [*first["items"], *second["items"]]] == made[::-1]
    assert second["next"] is None
    assert client.get("/v1/assets", params={"cursor": "x"}).status_code == 422
    assert client.get("/v1/assets", params={"limit": 501}).status_code == 422


def test_the_bytes_of_media_come_from_object_storage_by_a_link_and_from_here_by_ranges(
    client: httpx.Client, database: CatalogDatabase, storage: ObjectStorage, bucket: Location, tmp_path: Path
) -> None:
    stored = bucket.child("show/a.exr")
    storage.write(stored, b"bytes in a bucket", content_type="image/x-exr", tags={})
    local = tmp_path / "local.exr"
    local.write_bytes(b"bytes in a folder")
    tables = DuckDBStore(tmp_path / "t.duckdb")
    tables.write(
        rows_of(SampleFile(key=stored.key, bucket=bucket.bucket), SampleFile(key=str(local)[1:], bucket="")), now=NOON
    )
    project_tables(database, tables, Settings(_env_file=None))
    by_name = {each["name"]: each for each in client.get("/v1/assets").json()["items"]}

    def content(name: str) -> str:
        parts = client.get(f"/v1/assets/{by_name[name]['id']}/media").json()
        (place,) = [part["content"] for part in parts if part["role"] == "source"]
        return str(place)

    linked = client.get(content("a.exr"))
    assert linked.status_code == 302
    assert httpx.get(linked.headers["location"]).content == b"bytes in a bucket"
    part = client.get(content("local.exr"), headers={"Range": "bytes=6-7"})
    assert (part.status_code, part.content) == (206, b"in")
    assert part.headers["content-disposition"].endswith("local.exr")
    local.unlink()
    assert client.get(content("local.exr")).status_code == 404


def test_assets_are_searched_counted_collected_and_related(client: httpx.Client) -> None:
    ids = []
    for number in range(3):
        body = {
            "project": "show-a",
            "name": f"a{number}",
            "kind": "image",
            "details": {"take": number, "format": "exr"},
        }
        ids.append(client.post("/v1/assets", json=body).json()["id"])
    found = client.get("/v1/assets", params={"where": "take > 0 and name like 'a%'", "q": "A"}).json()["items"]
    assert [each["name"] for each in found] == ["a2", "a1"]
    wrong = client.get("/v1/assets", params={"where": "takes > 0"})
    assert (wrong.status_code, "there are take" in wrong.json()["detail"]) == (422, True)
    counted = client.get("/v1/facets", params={"where": "take > 0"}).json()
    assert (counted["counted"], counted["values"]["format"]) == (2, [{"value": "exr", "count": 2}])
    assert {"name": "take", "type": "number"} in client.get("/v1/attributes").json()
    assert client.get(f"/v1/assets/{ids[0]}/similar").json() == []

    made = client.post("/v1/projects/show-a/collections", json={"name": "dailies"}).json()
    place = f"/v1/collections/{made['id']}"
    assert client.post(f"{place}/assets", json={"assets": [ids[2], ids[0]]}).json()["version"] == 2
    assert [each["name"] for each in client.get(f"{place}/assets").json()["items"]] == ["a2", "a0"]
    assert client.delete(f"{place}/assets/{ids[2]}").status_code == 204
    assert client.patch(place, json={"name": "x"}, headers={"If-Match": '"1"'}).status_code == 412
    lineup = {"name": "takes", "query": {"where": "take = 1"}}
    listed = client.post("/v1/projects/show-a/collections", json=lineup).json()
    assert [each["id"] for each in client.get(f"/v1/collections/{listed['id']}/assets").json()["items"]] == [ids[1]]
    assert [each["name"] for each in client.get("/v1/projects/show-a/collections").json()] == ["dailies", "takes"]
    assert client.delete(place, headers={"If-Match": client.get(place).headers["etag"]}).status_code == 204

    relation = f"/v1/assets/{ids[0]}/relations/derived_from/{ids[1]}"
    assert client.put(relation).status_code == 204
    assert client.put(f"/v1/assets/{ids[1]}/relations/made_of/{ids[0]}").status_code == 409
    (seen,) = client.get(f"/v1/assets/{ids[1]}/relations").json()
    assert (seen["kind"], seen["is_from"], seen["other"]["id"]) == ("derived_from", False, ids[0])
    assert client.delete(relation).status_code == 204

    schema = {"document": {"properties": {"take": {"type": "integer"}}}}
    place = "/v1/projects/show-a/schemas/image"
    assert client.put(place, json=schema, headers={"If-Match": '"0"'}).headers["etag"] == '"1"'
    assert client.get("/v1/projects/show-a/schemas").json()[0]["document"] == schema["document"]
    body = {"project": "show-a", "name": "x", "kind": "image", "details": {"take": "one"}}
    refused = client.post("/v1/assets", json=body)
    assert (refused.status_code, "schema of 'image'" in refused.json()["detail"]) == (422, True)
    assert client.delete(place, headers={"If-Match": '"1"'}).status_code == 204
