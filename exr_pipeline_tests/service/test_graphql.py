"""GraphQL: nobody gets past without a token, it is what REST is, errors have codes, and no query takes all there is."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from graphql import (
    GraphQLObjectType,
    build_client_schema,
    build_schema,
    get_introspection_query,
    get_named_type,
    is_list_type,
    is_object_type,
    is_required_argument,
)

from exr_pipeline.catalog import assets
from exr_pipeline.catalog.accounts import authenticate
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.models import Asset, AssetMedia, Media, MediaLocation
from exr_pipeline.service.graphql.limits import MOST_ALIASES, MOST_DEPTH, MOST_TOKENS
from exr_pipeline.service.graphql.schema import SCHEMA
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.service.conftest import ADMIN

# What needs no permission, since it tells of the caller only.
OPEN = {"me"}
CREATE = 'mutation { createAsset(project: "show-a", name: "hero", kind: "image") { id version } }'
# Routes of bytes and of logging in.
NOT_IN_GRAPHQL = {"log_in", "log_out", "methods", "begin", "finish", "check", "get_content"}
NOT_IN_GRAPHQL |= {"open_transfer", "get_transfer", "put_part", "sign_parts", "complete_transfer", "cancel_transfer"}
NOT_IN_GRAPHQL |= {"replicate"}
# What REST alone offers so far.
NOT_IN_GRAPHQL |= {"list_regions", "create_region", "list_servers"}
NOT_IN_GRAPHQL |= {"list_locations", "create_location", "change_location"}
NOT_IN_GRAPHQL |= {"count_assets", "list_attributes", "list_similar", "list_relations", "relate", "unrelate"}
NOT_IN_GRAPHQL |= {"list_schemas", "set_schema", "delete_schema"}
NOT_IN_GRAPHQL |= {"list_collections", "get_collection", "create_collection", "change_collection", "delete_collection"}
NOT_IN_GRAPHQL |= {"list_assets_of_collection", "add_assets_to_collection", "remove_asset_from_collection"}
# Fields with other names: a field has what several routes have.
NAMES_IN_GRAPHQL = {
    "list_assets": "assets",
    "get_asset": "asset",
    "change_asset": "updateAsset",
    "list_media": "asset",
    "list_events_of_asset": "asset",
    "list_events": "events",
    "list_projects": "projects",
    "get_project": "project",
    "change_project": "updateProject",
    "list_tags": "tags",
    "own_tokens": "tokens",
    "list_accounts": "accounts",
}
# A query, its variables, the code of its error, and how the message begins.
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("{ nothing }", {}, "BAD_INPUT", "Cannot query field 'nothing' on type 'Query'."),
    ('{ assets(limit: "hunter2") { next } }', {}, "BAD_INPUT", "a value does not fit its type, see locations"),
    ("query($l: Int!) { assets(limit: $l) { next } }", {"l": "hunter2"}, "BAD_INPUT", "a variable does not fit"),
    ("query($l: Int!) { assets(limit: $l) { next } }", {}, "BAD_INPUT", "Variable '$l' of required type 'Int!'"),
    ("{ assets(limit: 501) { next } }", {}, "BAD_INPUT", "The request does not fit its description: see errors."),
    ('{ assets(cursor: "hunter2") { next } }', {}, "BAD_INPUT", "cursor: it is not the cursor of a page"),
    ('{ assets(q: "\\u0000") { next } }', {}, "BAD_INPUT", "a value does not fit its type, see locations"),
    ('mutation { setRole(account: "x", role: "hunter2") }', {}, "BAD_INPUT", "The request does not fit"),
    ('{ "hunter2 }', {}, "BAD_INPUT", "the query is not GraphQL: Unterminated string."),
    ('"hunter2" "more"', {}, "BAD_INPUT", "the query is not GraphQL: Unexpected String …."),
    ("fragment f on Query { me { name } }", {}, "BAD_INPUT", "Can't get GraphQL operation type"),
    ('{ asset(id: "gone") { id } }', {}, "NOT_FOUND", "asset: there is no 'gone'"),
]


def ask(client: httpx.Client, query: str, **variables: object) -> dict[str, Any]:
    answer = client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def data(client: httpx.Client, query: str, **variables: object) -> dict[str, Any]:
    found = ask(client, query, **variables)
    assert "errors" not in found, found
    return found["data"]


def codes(answer: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


def fields() -> list[tuple[str, str, str]]:
    """Every field of the schema that callers begin with: its operation, its name, and how it is asked for."""
    schema = build_schema(SCHEMA.as_str())
    found = []
    for operation, kind in (("query", schema.query_type), ("mutation", schema.mutation_type)):
        for name, field in kind.fields.items():
            needed = [
                f"{argument}: {_sample(each.type)}"
                for argument, each in field.args.items()
                if is_required_argument(each)
            ]
            arguments = f"({', '.join(needed)})" if needed else ""
            below = " { __typename }" if is_object_type(get_named_type(field.type)) else ""
            found.append((operation, name, f"{operation} {{ {name}{arguments}{below} }}"))
    return found


def _sample(kind: Any) -> str:
    of = kind.of_type
    return "[]" if is_list_type(of) else {"Int": "1", "Long": "1"}.get(of.name, '"x"')


@pytest.fixture
def weak(client: httpx.Client) -> httpx.Client:
    """The administrator with a token that may nothing."""
    secret = client.post("/v1/tokens", json={"label": "weak", "scopes": []}).json()["secret"]
    return httpx.Client(base_url=client.base_url, headers={"Authorization": f"Bearer {secret}"}, timeout=60)


def test_every_field_asks_for_a_token_and_for_one_that_may(
    anybody: httpx.Client, client: httpx.Client, weak: httpx.Client, database: CatalogDatabase
) -> None:
    assert len(fields()) > 20
    before = client.get("/v1/events").json()
    for _, name, query in [*fields(), ("query", "__schema", "{ __schema { types { name } } }")]:
        for headers in ({}, {"Authorization": "Bearer exr_nobody-has-this-one"}):
            answer = anybody.post("/graphql", json={"query": query}, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), name
            assert answer.headers["content-type"] == "application/problem+json"
    with weak:
        for _, name, query in fields():
            found = ask(weak, query)
            if name in OPEN:
                assert "errors" not in found
                continue
            assert (found["data"], codes(found)) == ({name: None}, ["FORBIDDEN"]), name
            assert found["errors"][0]["extensions"]["status"] == 403
    assert client.get("/v1/events").json() == before


def test_what_rest_offers_is_offered_by_graphql_too(app: Any) -> None:
    there = {name for _, name, _ in fields()}
    paths = {path: each for path, each in app.openapi()["paths"].items() if path.startswith("/v1")}
    # The summary is the name of the route.
    routes = {route["summary"].lower().replace(" ", "_") for each in paths.values() for route in each.values()}
    assert len(routes) > 20

    def field_of(name: str) -> str:
        first, *others = name.split("_")
        return NAMES_IN_GRAPHQL.get(name, "".join([first, *(word.title() for word in others)]))

    assert {name for name in routes if field_of(name) not in there} == NOT_IN_GRAPHQL


def test_an_asset_is_the_one_that_rest_gives(client: httpx.Client) -> None:
    created = data(
        client,
        """mutation($details: JSON) {
            createAsset(project: "show-a", name: "hero", kind: "image", folder: "shot", details: $details) { id }
        }""",
        details={"frames": [1, 2]},
    )["createAsset"]
    kind = build_schema(SCHEMA.as_str()).type_map["Asset"]
    assert isinstance(kind, GraphQLObjectType)
    plain = [name for name in kind.fields if name not in {"parent", "media", "children", "events"}]
    asked = f"query($id: ID!) {{ asset(id: $id) {{ {' '.join(plain)} media {{ id }} events {{ topic }} }} }}"
    found = data(client, asked, id=created["id"])["asset"]
    assert found.pop("media") == []
    assert found.pop("events") == [{"topic": "asset.created"}]
    rest = client.get(f"/v1/assets/{created['id']}").json()
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in found.items()}
    for moment in ("created_at", "updated_at"):
        assert snake.pop(moment).removesuffix("+00:00") == rest.pop(moment).removesuffix("Z")
    assert snake == rest


def test_assets_are_found_by_status_and_words_and_pages_follow_their_cursors(client: httpx.Client) -> None:
    for number in range(3):
        client.post("/v1/assets", json={"project": "show-a", "name": f"a{number}", "kind": "image"})
    query = """query($cursor: String) {
        assets(status: "pending", q: "A", limit: 2, cursor: $cursor) { items { name } next }
    }"""
    first = data(client, query)["assets"]
    second = data(client, query, cursor=first["next"])["assets"]
    assert [each["name"] for each in [*first["items"], *second["items"]]] == ["a2", "a1", "a0"]
    assert second["next"] is None
    assert data(client, '{ assets(status: "ready") { items { id } } }')["assets"]["items"] == []


def test_a_change_bears_the_version_that_was_read(client: httpx.Client) -> None:
    asset_id = data(client, CREATE)["createAsset"]["id"]
    update = (
        'mutation($id: ID!, $version: Int!) { updateAsset(id: $id, version: $version, name: "x") { name version } }'
    )
    assert data(client, update, id=asset_id, version=1)["updateAsset"] == {"name": "x", "version": 2}
    stale = ask(client, update, id=asset_id, version=1)
    assert (stale["data"], codes(stale)) == ({"updateAsset": None}, ["CHANGED_MEANWHILE"])
    assert stale["errors"][0]["path"] == ["updateAsset"]
    tag = 'mutation($id: ID!) { setTags(id: $id, version: 2, tags: ["final"]) { tags version } }'
    assert data(client, tag, id=asset_id)["setTags"] == {"tags": ["final"], "version": 3}
    delete = "mutation($id: ID!, $version: Int!) { deleteAsset(id: $id, version: $version) }"
    assert codes(ask(client, delete, id=asset_id, version=2)) == ["CHANGED_MEANWHILE"]
    assert data(client, delete, id=asset_id, version=3) == {"deleteAsset": True}
    assert client.get(f"/v1/assets/{asset_id}").status_code == 404


def test_the_examples_of_the_document_work_as_written(client: httpx.Client) -> None:
    text = (REPOSITORY / "docs/catalog.md").read_text(encoding="utf-8")
    page, approve = re.findall(r"^```graphql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    made = data(client, CREATE)["createAsset"]
    (item,) = data(client, page, status="pending")["assets"]["items"]
    assert item == {**made, "name": "hero", "tags": [], "media": [], "parent": None}
    assert data(client, approve, **made)["setTags"] == {"version": 2, "tags": ["approved"]}
    (sent,) = re.findall(r"-d '(.*)' http://[\d.:]+/graphql", text)
    answer = client.post("/graphql", content=sent, headers={"Content-Type": "application/json"})
    assert answer.json() == {"data": {"assets": {"items": [], "next": None}}}


def test_of_two_changes_in_one_request_the_second_fails_alone(client: httpx.Client) -> None:
    create = 'createAsset(project: "show-a", name: "hero", kind: "image") { name }'
    answer = ask(client, f"mutation {{ {create} again: {create} }}")
    assert (answer["data"], codes(answer)) == ({"createAsset": {"name": "hero"}, "again": None}, ["CONFLICT"])


def test_what_a_change_gives_is_as_the_changes_before_it_have_left_it(
    client: httpx.Client, database: CatalogDatabase
) -> None:
    parent, child = (
        client.post("/v1/assets", json={"project": "show-a", "name": name, "kind": "image"}).json()["id"]
        for name in ("parent", "child")
    )
    with database.transaction() as session:
        session.get_one(Asset, child).parent_id = parent
    found = data(
        client,
        """mutation($parent: ID!, $child: ID!) {
            before: updateAsset(id: $child, version: 1, name: "x") { parent { name } }
            updateAsset(id: $parent, version: 1, name: "other") { name }
            after: updateAsset(id: $child, version: 2, name: "y") { parent { name } }
        }""",
        parent=parent,
        child=child,
    )
    assert [found[name]["parent"]["name"] for name in ("before", "after")] == ["parent", "other"]


def test_the_same_field_with_the_same_key_makes_one_thing_and_shows_a_secret_once(client: httpx.Client) -> None:
    create = """mutation($name: String!) {
        createAsset(project: "show-a", name: $name, kind: "image", idempotencyKey: "k") { id createdAt }
    }"""
    first = data(client, create, name="hero")
    assert data(client, create, name="hero") == first
    assert codes(ask(client, create, name="other")) == ["CONFLICT"]
    assert len(client.get("/v1/assets").json()["items"]) == 1
    token = 'mutation { createToken(label: "ci", idempotencyKey: "t") { id secret } }'
    shown, again = data(client, token)["createToken"], data(client, token)["createToken"]
    assert shown["secret"].startswith("exr_")
    assert again == {"id": shown["id"], "secret": None}
    assert data(client, "{ tokens { label } }")["tokens"][-1] == {"label": "ci"}


def test_an_account_is_made_gets_a_role_and_a_token_and_is_disabled(client: httpx.Client) -> None:
    made = data(
        client,
        """mutation {
            createAccount(name: "render", isService: true) { hasPassword roles { role } }
            setRole(account: "render", role: "editor")
            createTokenFor(account: "render", label: "farm", scopes: ["assets:read"]) { secret scopes }
        }""",
    )
    assert made["createAccount"] == {"hasPassword": False, "roles": []}
    headers = {"Authorization": f"Bearer {made['createTokenFor']['secret']}"}
    with httpx.Client(base_url=client.base_url, headers=headers) as service:
        me = data(service, "{ me { name roles { project role } scopes } }")["me"]
        assert me == {"name": "render", "roles": [{"project": "*", "role": "editor"}], "scopes": ["assets:read"]}
        assert codes(ask(service, CREATE)) == ["FORBIDDEN"]
        data(client, 'mutation { disableAccount(name: "render") }')
        assert service.post("/graphql", json={"query": "{ me { name } }"}).status_code == 401


def test_what_is_wrong_has_a_code_and_a_message_without_what_was_sent(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for query, variables, code, message in WRONG:
        with caplog.at_level(logging.DEBUG):
            answer = ask(client, query, **variables)
        (error,) = answer["errors"]
        assert (error["extensions"]["code"], error["message"][: len(message)]) == (code, message)
        assert error["extensions"]["type"] == "about:blank"
        assert "hunter2" not in str(answer)
        assert "hunter2" not in caplog.text


def test_an_error_of_the_program_is_in_the_log_and_not_in_the_answer(
    client: httpx.Client, database: CatalogDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    asset_id = data(client, CREATE)["createAsset"]["id"]
    with database.transaction() as session:
        # No asset is so, and no answer can be.
        session.execute(sa.update(Asset).values(details=["x"]))
    answer = ask(client, "query($id: ID!) { asset(id: $id) { name } me { name } }", id=asset_id)
    assert (answer["data"], codes(answer)) == ({"asset": None, "me": {"name": "admin"}}, ["ERROR_OF_THE_PROGRAM"])
    assert answer["errors"][0]["message"] == "It is in the service's log."
    assert "ValidationError" in caplog.text


def test_a_query_that_is_too_deep_too_wide_or_too_long_is_refused(client: httpx.Client) -> None:
    below = "parent { " * MOST_DEPTH + "id" + " }" * MOST_DEPTH
    for query, message in (
        (f'{{ asset(id: "x") {{ {below} }} }}', f"The query is deeper than {MOST_DEPTH} fields."),
        (
            f'{{ ...f }} fragment f on Query {{ asset(id: "x") {{ {below} }} }}',
            f"The query is deeper than {MOST_DEPTH} fields.",
        ),
        (
            "{ " + " ".join(f"a{n}: me {{ name }}" for n in range(MOST_ALIASES + 1)) + " }",
            f"The query has more than {MOST_ALIASES} aliases.",
        ),
        ("{ " + "me " * MOST_TOKENS + "}", "the query is not GraphQL: Document contains more than"),
        ("{ " + "me { " * 900 + " }" * 900 + " }", "the query is not GraphQL: Document is nested too deeply"),
        ("{ __schema { types " + "{ fields { type " * 4 + "{ name }" + " } }" * 4 + " } }", "The query is deeper than"),
    ):
        answer = ask(client, query)
        assert answer["data"] is None
        assert set(codes(answer)) == {"BAD_INPUT"}
        assert answer["errors"][0]["message"].startswith(message), answer


def test_fragments_that_use_each_other_twice_cost_no_more_than_their_length(client: httpx.Client) -> None:
    # Walked at each use, these are 2**60 fields.
    fragments = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(60)]
    last = "fragment f60 on Query { a: me { name } }"
    answer = ask(client, " ".join(["{ ...f0 }", *fragments, last]))
    assert answer["errors"][0]["message"] == f"The query has more than {MOST_ALIASES} aliases."
    assert data(client, " ".join(["{ ...f0 }", *fragments, last.replace("a:", "")])) == {"me": {"name": "admin"}}
    assert codes(ask(client, "{ ...f } fragment f on Query { ...f }")) == ["BAD_INPUT"]


def test_fragments_in_fragments_as_long_as_they_may_be_are_answered(client: httpx.Client) -> None:
    count = MOST_TOKENS // 15
    inner = [f"fragment f{n} on Query {{ ... {{ ... {{ ...f{n + 1} }} }} }}" for n in range(count - 1)]
    answer = ask(client, " ".join(["{ ...f0 }", *inner, f"fragment f{count - 1} on Query {{ me {{ name }} }}"]))
    assert "errors" not in answer or codes(answer) == ["BAD_INPUT"], answer


def test_lists_within_lists_have_a_limit_together(client: httpx.Client) -> None:
    for number in range(11):
        client.post("/v1/assets", json={"project": "show-a", "name": f"a{number}", "kind": "image"})
    query = "query($limit: Int!) { assets { items { children(limit: $limit) { items { id } } } } }"
    assert len(data(client, query, limit=400)["assets"]["items"]) == 11
    answer = ask(client, query, limit=500)
    assert answer["data"] == {"assets": None}
    assert "ask for smaller pages" in answer["errors"][0]["message"]


def test_the_schema_can_be_asked_for_and_says_what_each_field_is(client: httpx.Client) -> None:
    schema = build_client_schema(data(client, get_introspection_query()))  # type: ignore[arg-type]
    assert set(schema.query_type.fields) | set(schema.mutation_type.fields) == {name for _, name, _ in fields()}
    for kind in (schema.query_type, schema.mutation_type):
        assert [name for name, field in kind.fields.items() if not field.description] == []
    own = [kind for name, kind in schema.type_map.items() if isinstance(kind, GraphQLObjectType) and name[0] != "_"]
    assert [kind.name for kind in own if not kind.description] == []


def test_a_page_with_media_and_tags_and_parents_takes_as_many_statements_whatever_its_length(
    client: httpx.Client, database: CatalogDatabase
) -> None:
    with database.transaction() as session:
        admin = authenticate(session, ADMIN)
        sequence = assets.create_asset(session, admin, "show-a", "shot", kind="sequence").asset
        for number in range(60):
            view = assets.create_asset(session, admin, "show-a", f"shot.{number:04}.exr", kind="image")
            assets.set_tags(session, admin, view.asset.id, [f"tag-{number}"], version=1)
            view.asset.parent_id = sequence.id
            now, media_id = view.asset.created_at, f"m-{number}"
            media = Media(id=media_id, project_id=view.asset.project_id, created_at=now, updated_at=now)
            media.filename, media.content_type, media.status = "a.exr", "image/x-exr", "ready"
            session.add(media)
            session.flush()
            session.add(AssetMedia(asset_id=view.asset.id, media_id=media_id, role="source"))
            session.add(MediaLocation(media_id=media_id, url=f"s3://bucket/{number}.exr"))
    client.get("/v1/auth/me")  # Notes that the token is used.
    query = """query($parent: ID!, $limit: Int!) { assets(parent: $parent, limit: $limit) {
        items { name tags media { urls } parent { name tags media { id } } }
    } }"""
    statements: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *sent: statements.append(sent[2]))
    counts = []
    for limit in (2, 60):
        statements.clear()
        items = data(client, query, parent=sequence.id, limit=limit)["assets"]["items"]
        counts.append(len([each for each in statements if each.startswith("SELECT")]))
        assert len(items) == limit
        number = int(items[-1]["name"][5:9])
        assert items[-1]["tags"] == [f"tag-{number}"]
        assert items[-1]["media"] == [{"urls": [f"s3://bucket/{number}.exr"]}]
        assert items[-1]["parent"] == {"name": "shot", "tags": [], "media": []}
    assert counts[0] == counts[1] <= 14, statements


def test_what_is_no_request_is_a_problem_as_in_rest(client: httpx.Client) -> None:
    for body in (
        b"{",
        b"[]",
        b'{"query": ""}',
        b'{"query": "{ me { name } }", "variables": {"a": "\\u0000"}}',
        b"[" * 100_000,
    ):
        answer = client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_same_is_answered_at_the_address_of_dagsters_page(client: httpx.Client) -> None:
    asked = {"query": "{ me { name } }"}
    assert client.post("/v1/graphql", json=asked).json() == client.post("/graphql", json=asked).json()
    assert client.post("/v1/graphql", json=asked).json()["data"]["me"]["name"]


def test_a_form_of_another_site_is_no_request(client: httpx.Client) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post(
            "/graphql", content=b'{"query": "{ me { name } }"}', headers={"Content-Type": content_type}
        )
        assert answer.status_code == 422, answer.text
    assert client.get("/graphql", params={"query": "{ me { name } }"}).status_code == 405
