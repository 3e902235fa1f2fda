"""What belongs together: collections and lineups, relations without circles, and details that fit their schema."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from exr_pipeline.catalog import assets, collections, event_log, relations, schemas
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, ForbiddenError, NotFoundError, StaleError
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.projects import create_project
from exr_pipeline.errors import BadInputError
from exr_pipeline_tests.catalog.conftest import MakeCaller


@pytest.fixture
def ids(database: CatalogDatabase, admin: Principal) -> dict[str, str]:
    """The assets a to e of a show, by name."""
    with database.transaction() as session:
        create_project(session, admin, "show")
        made = [assets.create_asset(session, admin, "show", name, kind="image").asset for name in "abcde"]
        return {asset.name: asset.id for asset in made}


def pages(database: CatalogDatabase, caller: Principal, collection_id: str) -> list[list[str]]:
    found, cursor = [], None
    while True:
        with database.transaction(read_only=True) as session:
            page = collections.assets_of(session, caller, collection_id, cursor=cursor, limit=2)
        found.append([view.asset.name for view in page.items])
        if (cursor := page.next) is None:
            return found


def test_a_collection_keeps_its_order_and_an_asset_is_in_many(
    database: CatalogDatabase, admin: Principal, ids: dict[str, str]
) -> None:
    with database.transaction() as session:
        first = collections.create_collection(session, admin, "show", "dailies").id
        other = collections.create_collection(session, admin, "show", "finals").id
        collections.add_assets(session, admin, first, [ids[name] for name in "cacb"])
        collections.add_assets(session, admin, first, [ids[name] for name in "bed"])
        collections.add_assets(session, admin, other, [ids["c"]])
        with pytest.raises(ConflictError, match="'dailies'"):
            collections.create_collection(session, admin, "show", "dailies")
    assert pages(database, admin, first) == [["c", "a"], ["b", "e"], ["d"]]
    with database.transaction() as session:
        collections.remove_asset(session, admin, first, ids["a"])
        with pytest.raises(NotFoundError):
            collections.remove_asset(session, admin, first, ids["a"])
        assets.delete_asset(session, admin, ids["e"], version=1)
        assert collections.change_collection(session, admin, first, version=4, name="dailies 2").version == 5
        with pytest.raises(StaleError):
            collections.change_collection(session, admin, first, version=4, name="x")
        with pytest.raises(BadInputError, match="put together by hand"):
            collections.change_collection(session, admin, first, version=5, query={"kind": "image"})
    assert (pages(database, admin, first), pages(database, admin, other)) == ([["c", "b"], ["d"]], [["c"]])
    with database.transaction() as session:
        collections.delete_collection(session, admin, other, version=2)
    with database.transaction(read_only=True) as session:
        assert [each.name for each in collections.collections(session, admin, "show")] == ["dailies 2"]
        assert assets.asset(session, admin, ids["c"]).asset.name == "c"
        topics = [each.topic for each in event_log.events_after(session, admin, subject_id=first)]
    assert [topic.removeprefix("collection.") for topic in topics] == [
        *("created", "filled", "filled", "emptied", "changed"),
    ]


def test_a_lineup_finds_what_is_there_now_within_its_project(
    database: CatalogDatabase, admin: Principal, ids: dict[str, str], make_caller: MakeCaller
) -> None:
    viewer, stranger = make_caller("viewer", "viewer", "show"), make_caller("stranger", "editor", "elsewhere")
    with database.transaction() as session:
        query: dict[str, Any] = {"tags": ["final"], "where": "name > 'a' and kind = 'image'"}
        lineup = collections.create_collection(session, admin, "show", "finals", query).id
        assets.create_asset(session, stranger, "elsewhere", "z", kind="image")
        for wrong in ({"where": "name >"}, {"project": "elsewhere"}, {"colour": "red"}):
            with pytest.raises(BadInputError):
                collections.create_collection(session, admin, "show", "wrong", wrong)
        with pytest.raises(BadInputError, match="lineup"):
            collections.add_assets(session, admin, lineup, [ids["a"]])
    assert pages(database, viewer, lineup) == [[]]
    with database.transaction() as session:
        for name in "abcd":
            assets.set_tags(session, admin, ids[name], ["final"], version=1)
    assert pages(database, viewer, lineup) == [["d", "c"], ["b"]]
    with database.transaction() as session:
        collections.change_collection(session, admin, lineup, version=1, query={"words": "a"})
    assert pages(database, viewer, lineup) == [["a"]]
    with database.transaction(read_only=True) as session:
        for look in (collections.collection, collections.assets_of):
            with pytest.raises(NotFoundError):
                look(session, stranger, lineup)
    with database.transaction() as session, pytest.raises(ForbiddenError):
        collections.delete_collection(session, viewer, lineup, version=2)


def test_assets_of_another_project_are_in_no_collection(
    database: CatalogDatabase, admin: Principal, ids: dict[str, str]
) -> None:
    with database.transaction() as session:
        create_project(session, admin, "other")
        elsewhere = assets.create_asset(session, admin, "other", "x", kind="image").asset.id
        found = collections.create_collection(session, admin, "show", "dailies").id
        with pytest.raises(NotFoundError):
            collections.add_assets(session, admin, found, [ids["a"], elsewhere])
        with pytest.raises(BadInputError, match="more than 1000"):
            collections.add_assets(session, admin, found, [str(number) for number in range(1001)])
    assert pages(database, admin, found) == [[]]


def test_relations_are_seen_from_both_sides_and_lead_in_no_circle(
    database: CatalogDatabase, admin: Principal, ids: dict[str, str], make_caller: MakeCaller
) -> None:
    with database.transaction() as session:
        create_project(session, admin, "secret")
        hidden = assets.create_asset(session, admin, "secret", "hidden", kind="image").asset.id
        for one, kind, other in (("a", "derived_from", "b"), ("b", "made_of", "c"), ("d", "version_of", "a")):
            relations.relate(session, admin, ids[one], kind, ids[other])
            relations.relate(session, admin, ids[one], kind, ids[other])
        relations.relate(session, admin, ids["a"], "made_of", hidden)
        for one, kind, other in (("c", "derived_from", "a"), ("a", "made_of", "a"), ("c", "version_of", "d")):
            with pytest.raises(ConflictError, match="cannot come from itself"):
                relations.relate(session, admin, ids[one], kind, ids[other])
        with pytest.raises(BadInputError, match="derived_from, made_of, version_of"):
            relations.relate(session, admin, ids["a"], "like", ids["b"])

    def seen(caller: Principal, name: str) -> list[tuple[str, bool, str]]:
        with database.transaction(read_only=True) as session:
            found = relations.relations(session, caller, ids[name])
            return [(each.kind, each.is_from, each.other.asset.name) for each in found]

    expected = [("derived_from", True, "b"), ("made_of", True, "hidden"), ("version_of", False, "d")]
    assert seen(admin, "a") == expected
    viewer = make_caller("viewer", "viewer", "show")
    assert seen(viewer, "a") == [expected[0], expected[2]]
    with database.transaction() as session:
        relations.unrelate(session, admin, ids["a"], "derived_from", ids["b"])
        with pytest.raises(NotFoundError):
            relations.unrelate(session, admin, ids["a"], "derived_from", ids["b"])
        relations.relate(session, admin, ids["c"], "derived_from", ids["a"])
    assert seen(admin, "b") == [("made_of", True, "c")]


def test_two_relations_at_once_make_no_circle_together(
    database: CatalogDatabase, admin: Principal, ids: dict[str, str]
) -> None:
    together = threading.Barrier(2)
    outcomes: list[str] = []

    def relate(one: str, other: str) -> None:
        try:
            together.wait()
            with database.transaction() as session:
                relations.relate(session, admin, ids[one], "derived_from", ids[other])
            outcomes.append("related")
        except ConflictError:
            outcomes.append("refused")

    other = threading.Thread(target=relate, args=("a", "b"))
    other.start()
    relate("b", "a")
    other.join()
    assert sorted(outcomes) == ["refused", "related"]


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"take": {"type": "integer", "minimum": 1}, "shot": {"$ref": "#/$defs/shot"}},
    "required": ["take"],
    "$defs": {"shot": {"type": "string", "pattern": "^[0-9]{3}$"}},
}


def test_details_fit_the_schema_of_their_kind_and_project(database: CatalogDatabase, admin: Principal) -> None:
    with database.transaction() as session:
        create_project(session, admin, "show")
        create_project(session, admin, "other")
        schemas.set_schema(session, admin, "show", "image", SCHEMA, version=0)
        with pytest.raises(BadInputError, match=r"take.*shot"):
            assets.create_asset(session, admin, "show", "x", kind="image", details={"take": 0, "shot": "x"})
        with pytest.raises(BadInputError, match='"take" is a required property'):
            assets.create_asset(session, admin, "show", "x", kind="image")
        made = assets.create_asset(session, admin, "show", "x", kind="image", details={"take": 1, "shot": "010"}).asset
        assets.create_asset(session, admin, "show", "x", kind="movie")
        assets.create_asset(session, admin, "other", "x", kind="image")
    with database.transaction() as session:
        with pytest.raises(BadInputError, match="take"):
            assets.change_asset(session, admin, made.id, version=1, details={"take": "x"})
        assets.change_asset(session, admin, made.id, version=1, name="y")
        with pytest.raises(StaleError):
            schemas.set_schema(session, admin, "show", "image", {}, version=0)
        schemas.set_schema(session, admin, "show", "image", {}, version=1)
        assets.change_asset(session, admin, made.id, version=2, details={"take": "x"})
        assert [each.kind for each in schemas.schemas(session, admin, "show")] == ["image"]
        schemas.delete_schema(session, admin, "show", "image", version=2)
        with pytest.raises(NotFoundError):
            schemas.delete_schema(session, admin, "show", "image", version=2)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nothing"}, "not a JSON Schema"),
        ({"pattern": "("}, "not a JSON Schema"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "another document"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "another document"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "another document"),
        ({"$ref": "#/$defs/missing"}, "not a JSON Schema"),
        ({"allOf": [{"$ref": "#"}] * 21}, "more than 20 references"),
        ({"title": "x" * schemas.LONGEST}, "longer than"),
    ],
)
def test_what_is_no_schema_is_refused_and_no_reference_is_followed(
    database: CatalogDatabase, admin: Principal, schema: dict[str, Any], problem: str
) -> None:
    with database.transaction() as session:
        create_project(session, admin, "show")
        with pytest.raises(BadInputError, match=problem):
            schemas.set_schema(session, admin, "show", "image", schema, version=0)


def test_a_pattern_takes_no_longer_than_its_text_and_a_schema_of_itself_ends(
    database: CatalogDatabase, admin: Principal
) -> None:
    slow = {"properties": {"a": {"pattern": "^(a+)+$"}, "b": {"$ref": "#"}}}
    with database.transaction() as session:
        create_project(session, admin, "show")
        schemas.set_schema(session, admin, "show", "image", slow, version=0)
        with pytest.raises(BadInputError, match="do not fit"):
            assets.create_asset(session, admin, "show", "x", kind="image", details={"a": "a" * 5000 + "!"})
        deep: dict[str, Any] = {}
        for _ in range(500):
            deep = {"b": deep}
        assets.create_asset(session, admin, "show", "x", kind="image", details=deep)
