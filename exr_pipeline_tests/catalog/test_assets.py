"""Assets: found by what is asked for, changed only as the caller has read them, and everything is in the log."""

from __future__ import annotations

import threading
import time

import pytest

from exr_pipeline.catalog import assets, event_log, projects
from exr_pipeline.catalog.assets import AssetView
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.errors import ConflictError, NotFoundError, StaleError
from exr_pipeline.catalog.idempotency import once
from exr_pipeline.catalog.pages import to_cursor
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.search import AssetFilter
from exr_pipeline.errors import BadInputError


@pytest.fixture
def show(database: CatalogDatabase, admin: Principal) -> str:
    with database.transaction() as session:
        return projects.create_project(session, admin, "show-a", "Show A").name


def make(database: CatalogDatabase, admin: Principal, name: str, **options: str) -> AssetView:
    with database.transaction() as session:
        return assets.create_asset(session, admin, "show-a", name, **{"kind": "image", **options})  # type: ignore[arg-type]


def names(database: CatalogDatabase, caller: Principal, **wanted: object) -> list[str]:
    with database.transaction(read_only=True) as session:
        page = assets.assets(session, caller, AssetFilter(**wanted))  # type: ignore[arg-type]
        return sorted(each.asset.name for each in page.items)


def test_a_name_is_taken_once_per_kind_and_folder_until_it_is_deleted(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    first = make(database, admin, "hero", folder="/shot/")
    assert (first.asset.folder, first.asset.version, first.project) == ("shot", 1, "show-a")
    make(database, admin, "hero", folder="shot", kind="movie")
    make(database, admin, "hero", folder="other")
    with pytest.raises(ConflictError, match="named 'hero'"):
        make(database, admin, "hero", folder="shot")
    with database.transaction() as session:
        assets.delete_asset(session, admin, first.asset.id, version=1)
    make(database, admin, "hero", folder="shot")
    with database.transaction() as session, pytest.raises(NotFoundError):
        assets.asset(session, admin, first.asset.id)


@pytest.mark.parametrize(
    "wrong", [{"name": "a/b"}, {"name": " "}, {"name": "a\x00"}, {"kind": "No kind"}, {"project": "show-b"}]
)
def test_what_cannot_be_an_asset_is_refused(
    database: CatalogDatabase, admin: Principal, show: str, wrong: dict[str, str]
) -> None:
    values = {"project": show, "name": "x", "kind": "image"} | wrong
    with database.transaction() as session, pytest.raises(BadInputError):
        assets.create_asset(session, admin, **values)  # type: ignore[arg-type]


def test_words_tags_kinds_and_states_narrow_together(database: CatalogDatabase, admin: Principal, show: str) -> None:
    hero = make(database, admin, "Hero_100%.exr", folder="Shot/010")
    make(database, admin, "heroX100Y.exr", folder="shot/020")
    make(database, admin, "tree.mov", folder="shot/010", kind="movie")
    with database.transaction() as session:
        assets.set_tags(session, admin, hero.asset.id, ["final", "hero", "final"], version=1)
    assert names(database, admin, words="HERO") == ["Hero_100%.exr", "heroX100Y.exr"]
    assert names(database, admin, words="010 hero") == ["Hero_100%.exr"]
    # Neither is a wildcard.
    assert names(database, admin, words="_100%") == ["Hero_100%.exr"]
    assert names(database, admin, kind="movie", words="shot") == ["tree.mov"]
    assert names(database, admin, tags=["final", "hero"]) == ["Hero_100%.exr"]
    assert names(database, admin, tags=["final", "other"]) == []
    assert names(database, admin, project="show-b") == []
    assert names(database, admin, status="ready") == []


def test_pages_hold_every_asset_once_whatever_is_made_meanwhile(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    for number in range(7):
        make(database, admin, f"a{number}")
    seen: list[str] = []
    cursor = None
    while True:
        with database.transaction(read_only=True) as session:
            page = assets.assets(session, admin, AssetFilter(), cursor=cursor, limit=3)
        seen += [each.asset.name for each in page.items]
        make(database, admin, f"later{len(seen)}")
        if (cursor := page.next) is None:
            break
    assert seen == [f"a{number}" for number in reversed(range(7))]
    for wrong in ("x", "###", to_cursor("no moment|1"), to_cursor("2026-01-01T00:00:00|1"), to_cursor("\x00")):
        with database.transaction(read_only=True) as session, pytest.raises(BadInputError, match="cursor"):
            assets.assets(session, admin, AssetFilter(), cursor=wrong)


def test_a_change_needs_the_version_that_was_read(database: CatalogDatabase, admin: Principal, show: str) -> None:
    view = make(database, admin, "hero")
    make(database, admin, "other")
    with database.transaction() as session:
        changed = assets.change_asset(session, admin, view.asset.id, version=1, name="hero2", details={"take": 3})
        assert (changed.asset.version, changed.asset.name, changed.asset.details) == (2, "hero2", {"take": 3})
    for attempt in (
        lambda session: assets.change_asset(session, admin, view.asset.id, version=1, name="x"),
        lambda session: assets.set_tags(session, admin, view.asset.id, ["x"], version=1),
        lambda session: assets.delete_asset(session, admin, view.asset.id, version=1),
    ):
        with database.transaction() as session, pytest.raises(StaleError, match="version 2, not 1"):
            attempt(session)
    with database.transaction() as session, pytest.raises(ConflictError):
        assets.change_asset(session, admin, view.asset.id, version=2, name="other")


def test_of_two_changes_of_one_version_at_once_the_second_is_refused(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    view = make(database, admin, "hero")
    has_begun = threading.Event()
    answers: list[str] = []

    def change(name: str) -> None:
        try:
            with database.transaction() as session:
                assets.change_asset(session, admin, view.asset.id, version=1, name=name)
                has_begun.set()
                time.sleep(0.5)
            answers.append("changed")
        except StaleError:
            answers.append("stale")

    first = threading.Thread(target=change, args=("first",))
    first.start()
    has_begun.wait()
    change("second")
    first.join()
    assert sorted(answers) == ["changed", "stale"]
    assert names(database, admin) == ["first"]


def test_tags_of_a_project_are_counted_and_colored(database: CatalogDatabase, admin: Principal, show: str) -> None:
    first, second = make(database, admin, "a"), make(database, admin, "b")
    with database.transaction() as session:
        assets.set_tags(session, admin, first.asset.id, ["hold", "final"], version=1)
        assets.set_tags(session, admin, second.asset.id, ["final"], version=1)
        assets.color_tag(session, admin, show, "final", "#00FF7f")
        assets.color_tag(session, admin, show, "unused", None)
        with pytest.raises(BadInputError, match="#rrggbb"):
            assets.color_tag(session, admin, show, "final", "red")
        with pytest.raises(BadInputError, match="more than 100"):
            assets.set_tags(session, admin, first.asset.id, [str(each) for each in range(101)], version=2)
    with database.transaction() as session:
        assets.delete_asset(session, admin, second.asset.id, version=2)
    with database.transaction(read_only=True) as session:
        found = [(tag.name, tag.color, count) for tag, count in assets.tags(session, admin, show)]
    assert found == [("final", "#00ff7f", 1), ("hold", None, 1), ("unused", None, 0)]


def test_what_was_done_is_in_the_log_in_its_order_and_what_failed_is_not(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    view = make(database, admin, "hero")
    with pytest.raises(ConflictError):
        make(database, admin, "hero")
    with database.transaction() as session:
        assets.set_tags(session, admin, view.asset.id, ["final"], version=1)
    with database.transaction(read_only=True) as session:
        events = event_log.events_after(session, admin)
        of_asset = event_log.events_after(session, admin, subject_id=view.asset.id)
        later = event_log.events_after(session, admin, events[0].seq)
    assert [each.topic for each in events] == ["project.created", "asset.created", "asset.tagged"]
    assert [(each.topic, each.actor) for each in of_asset] == [("asset.created", "admin"), ("asset.tagged", "admin")]
    assert [each.seq for each in later] == [each.seq for each in events[1:]]


def test_a_request_with_a_key_is_done_once_and_a_failed_one_again(database: CatalogDatabase, admin: Principal) -> None:
    done: list[int] = []

    def act() -> tuple[int, dict[str, int]]:
        done.append(1)
        return 201, {"number": len(done)}

    def fail() -> tuple[int, dict[str, int]]:
        raise ConflictError("asset", "no")

    with pytest.raises(ConflictError), database.transaction() as session:
        once(session, admin, "key", b"request", fail)
    for _ in range(3):
        with database.transaction() as session:
            assert once(session, admin, "key", b"request", act) == (201, {"number": 1})
    with database.transaction() as session, pytest.raises(ConflictError, match="another request"):
        once(session, admin, "key", b"other request", act)
    other = Principal("other", "other", {})
    with database.transaction() as session:
        assert once(session, other, "key", b"request", act) == (201, {"number": 2})
    with database.transaction() as session, pytest.raises(BadInputError):
        once(session, admin, "k" * 201, b"", act)
