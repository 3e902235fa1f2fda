"""Search: words, conditions on attributes and counts mean the same in both databases, whatever is written."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exr_pipeline.catalog import assets, attributes, projects
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.models import AssetText
from exr_pipeline.catalog.principals import Principal
from exr_pipeline.catalog.search import FEW, MOST_COUNTED, AssetFilter, Facets, facets
from exr_pipeline.catalog.where import DEEPEST, LONGEST, MOST_COMPARISONS, MOST_IN_LIST
from exr_pipeline.errors import BadInputError
from exr_pipeline_tests.catalog.conftest import MakeCaller
from exr_pipeline_tests.docs.test_documents import blocks

FRAMES: Mapping[str, Mapping[str, Any]] = {
    "a": {"compression": "dwaa", "nan_pixels": 3, "is_deep": False, "camera": {"lens": "50mm"}, "note": "100%_x"},
    "b": {"compression": "dwab", "nan_pixels": 0, "is_deep": True, "renderer/option": "Größe", "note": "100xyx"},
    "c": {"compression": "zip", "nan_pixels": 12.5, "take": "7", "note": None},
    "d": {"take": 7, "note": "it's [x]*?"},
}

FOUND = (
    ("compression = 'dwaa' and nan_pixels > 0", "a"),
    ("compression != 'dwaa'", "bc"),
    ("not compression = 'dwaa'", "bcd"),
    ("compression in ('dwaa', 'zip') or is_deep = true", "abc"),
    ("compression like 'dwa_'", "ab"),
    ("compression like 'DWA%'", ""),
    ("compression not like 'dwa%'", "cd"),
    ("nan_pixels >= 3 and (nan_pixels < 12.5 or nan_pixels = 12.5)", "ac"),
    ("nan_pixels between 0 and 3", "ab"),
    ("nan_pixels > -1.5e0", "abc"),
    ("compression > 'dwaa'", "bc"),
    ("nan_pixels is null", "d"),
    ("nan_pixels is not null and is_deep = false", "a"),
    ("camera.lens = '50mm'", "a"),
    ("\"renderer/option\" = 'Größe'", "b"),
    ("\"renderer/option\" like '%ße'", "b"),
    ("note like '100\\%%'", ""),
    ("note like '100%x'", "ab"),
    ("note = 'it''s [x]*?'", "d"),
    ("note like '%[x]*?'", "d"),
    ("take = '7'", "c"),
    ("take = 7", "d"),
    ("take is not null", "cd"),
    ("name > 'b' and kind = 'image'", "cd"),
    ("created_at > '2020-01-01' and version = 1 and reason is null", "abcd"),
    ("created_at < '2020-01-01T00:00:00Z'", ""),
    ("not not (name = 'a')", "a"),
    (" or ".join(["name = 'a'"] * MOST_COMPARISONS), "a"),
    ("name = 'x'' or 1=1 --' or name = 'a' -- and name = 'b'", "a"),
)
REFUSED = (
    ("compresion = 'zip'", "no asset has an attribute 'compresion'; there are compression"),
    ("nan_pixels = '3'", "'nan_pixels' is a number: write the value without quotes"),
    ("compression > 3", "'compression' is a text: write the value in quotes"),
    ("version = 'x'", "'version' is a number"),
    ("name = 3", "'name' is a text"),
    ("created_at > 'yesterday'", "'created_at' is a moment"),
    ("created_at like '2026%'", "'created_at' is a moment"),
    ("nan_pixels like 3", "write a text in quotes after like"),
    ("take in ('7', 7)", "texts and numbers at once"),
    ("compression", "no comparison"),
    ("1 = 1", "no name of an attribute"),
    ("* = 1", "no name of an attribute"),
    ("compression = nan_pixels", "no value"),
    ("compression = (select 1)", "no value"),
    ("compression in (select name from assets)", "no comparison"),
    ("compression = 'x'; drop table assets", "cannot be understood"),
    ("name = 'x' union select 1", "no comparison"),
    ("lower(name) = 'a'", "no name of an attribute"),
    ("name = 'a", "cannot be understood"),
    ("name = 'a\x00'", "no value"),
    ("-- nothing", "is empty"),
    ("case when name = 'a' then 1 end", "no comparison"),
    ("name = 'x'" + " " * LONGEST, "longer than"),
    ("(" * (DEEPEST + 1) + "name = 'x'" + ")" * (DEEPEST + 1), "brackets"),
    ("not " * 300 + "name = 'x'", "nested deeper"),
    ("- " * 600 + "name = 'x'", "nested deeper"),
    (" or ".join(["name = 'a'"] * (MOST_COMPARISONS + 1)), "more than 50 comparisons"),
    (f"name in ({', '.join(['1'] * (MOST_IN_LIST + 1))})", "more than 200 values"),
)


@pytest.fixture
def show(database: CatalogDatabase, admin: Principal) -> str:
    """Four assets with attributes."""
    with database.transaction() as session:
        projects.create_project(session, admin, "show")
        for name, details in FRAMES.items():
            assets.create_asset(session, admin, "show", name, kind="image", folder="shot", details=details)
    return "show"


def names(database: CatalogDatabase, caller: Principal, few: int = FEW, **wanted: Any) -> list[str]:
    with database.transaction(read_only=True) as session:
        page = assets.assets(session, caller, AssetFilter(**wanted), few=few)
        return sorted(view.asset.name for view in page.items)


@pytest.mark.parametrize("few", [5000, 0])
def test_conditions_on_attributes_find_the_same_in_both_databases(
    database: CatalogDatabase,
    admin: Principal,
    show: str,
    few: int,
) -> None:
    # Whether it is asked of the index or of each asset in turn.
    for where, expected in FOUND:
        assert "".join(names(database, admin, where=where, few=few)) == expected, where


def test_what_is_no_condition_is_refused_with_what_to_write(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    for where, problem in REFUSED:
        with pytest.raises(BadInputError, match=r"^where: ") as refused:
            names(database, admin, where=where)
        assert problem in str(refused.value), where
    assert len(names(database, admin)) == len(FRAMES)


@given(text=st.text(st.sampled_from("ab '\"();,=<>-*/%_\\.\x00[]{}:@#1e+ née") | st.characters(), max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_written_is_an_error_of_the_program(
    database: CatalogDatabase, admin: Principal, show: str, text: str
) -> None:
    words = text.replace("\x00", "").encode(errors="replace").decode()
    assert len(names(database, admin, words=words)) <= len(FRAMES)
    with suppress(BadInputError):
        names(database, admin, where=text)


def test_words_are_parts_of_folders_and_names_whatever_their_case_and_their_signs(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    with database.transaction() as session:
        for name in ('Größe "4K" v001.exr', "Cafe\u0301_%_*.exr", "x' OR 1=1.exr"):
            assets.create_asset(session, admin, show, name, kind="image", folder="Shot_010/Ümlaut")
    for words, expected in {
        "GRÖSSE": 1,  # ß is folded
        "größe V001": 1,
        '"4k"': 1,
        "CAFÉ": 1,
        "ümlaut": 3,
        "ÜML v0": 1,
        "_%_*": 1,
        "ot_010/üm": 3,
        "%": 1,
        "é_": 1,
        "' or": 1,
        "' or 2=1": 0,
        "hot 0": 3,
        "ab AND cd": 0,
        "NEAR(": 0,
        "text:größe": 0,
    }.items():
        assert len(names(database, admin, words=words)) == expected, words


def test_a_new_name_is_found_and_the_old_one_no_longer(database: CatalogDatabase, admin: Principal, show: str) -> None:
    with database.transaction() as session:
        made = assets.create_asset(session, admin, show, "first", kind="image", details={"take": 1, "x": 5}).asset
    with database.transaction() as session:
        assets.change_asset(session, admin, made.id, version=1, name="second", details={"take": 2})
        assert session.scalar(sa.select(sa.func.count(AssetText.number))) == len(FRAMES) + 1
    assert (names(database, admin, words="first"), names(database, admin, words="second")) == ([], ["second"])
    assert (names(database, admin, where="take = 1"), names(database, admin, where="take = 2")) == ([], ["second"])
    assert names(database, admin, where="x is not null") == []


def test_attributes_of_projects_that_are_not_seen_are_unknown(
    database: CatalogDatabase, admin: Principal, show: str, make_caller: MakeCaller
) -> None:
    other = make_caller("other", "editor", "other")
    with database.transaction() as session:
        assets.create_asset(session, other, "other", "x", kind="image", details={"mine": 1})
    with database.transaction(read_only=True) as session:
        assert [each.name for each in attributes.attributes(session, other)] == ["mine"]
        take = [each.type for each in attributes.attributes(session, admin, show) if each.name == "take"]
    assert take == ["text", "number"]
    with pytest.raises(BadInputError) as refused:
        names(database, other, where="takes = 1")
    assert " take," not in f"{refused.value},"
    # What files have is known, whether or not one is there.
    assert names(database, other, where="nan_pixels > 0") == []


def test_what_is_found_is_counted_by_kind_status_project_tag_and_format(
    database: CatalogDatabase, admin: Principal, show: str
) -> None:
    with database.transaction() as session:
        made = assets.create_asset(session, admin, show, "m", kind="movie", details={"format": "mov"}).asset
        assets.set_tags(session, admin, made.id, ["final", "hero"], version=1)
        image = assets.assets(session, admin, AssetFilter(where="name = 'a'")).items[0].asset
        assets.set_tags(session, admin, image.id, ["final"], version=1)

    def counted(most: int = MOST_COUNTED, **wanted: Any) -> Facets:
        with database.transaction(read_only=True) as session:
            return facets(session, admin, AssetFilter(**wanted), most=most)

    found = counted()
    assert (found.counted, found.is_all) == (5, True)
    assert found.values == {
        "kind": [("image", 4), ("movie", 1)],
        "status": [("pending", 5)],
        "project": [("show", 5)],
        "tag": [("final", 2), ("hero", 1)],
        "format": [("mov", 1)],
    }
    assert counted(words="shot", tags=["final"]).values["tag"] == [("final", 1)]
    found = counted(most=2)
    assert (found.counted, found.is_all) == (2, False)


def test_the_conditions_of_the_document_are_understood(database: CatalogDatabase, admin: Principal, show: str) -> None:
    with database.transaction() as session:
        details = {"renderer/option1": "on", "camera": {"lens": "35mm"}, "compression": "zip"}
        assets.create_asset(session, admin, show, "of the document", kind="image", details=details)
    examples = blocks("docs/catalog.md", "sql")[0].splitlines()
    assert len(examples) > 5
    found = {where: names(database, admin, where=where) for where in examples}
    assert found[examples[0]] == ["a"]
    assert found[examples[4]] == ["a", "of the document"]
