"""Dagster's database goes away while a run has rows in the tables whose events are not yet stored."""

from typing import Any

import pytest
import sqlalchemy as db
from dagster_postgres.utils import DagsterPostgresException, retry_pg_connection_fn

from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.orchestration.instance import step_events
from exr_pipeline.orchestration.instance.event_storage import is_outage
from exr_pipeline.tables.specs import State
from exr_pipeline_tests.orchestration.conftest import Workshop
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.services.processes import free_port


@pytest.fixture
def nobody_there() -> db.Engine:
    """A PostgreSQL that does not answer."""
    return db.create_engine(f"postgresql+psycopg2://tester@127.0.0.1:{free_port()}/none")


def test_a_run_stores_the_events_of_its_rows_once_the_database_is_back(
    workshop: Workshop, no_pauses: None, monkeypatch: pytest.MonkeyPatch, nobody_there: db.Engine
) -> None:
    keys = workshop.put({"shot/a.0001.exr": render(), "shot/a.0002.exr": render(0.5)})
    in_tables: list[dict[State, int]] = []

    def away_once(*arguments: Any) -> None:
        if not in_tables:
            in_tables.append(workshop.pipeline.tables.counts_by_state())
            nobody_there.connect()
        step_events.log_asset_events(*arguments)

    monkeypatch.setattr("exr_pipeline.orchestration.steps.files.log_asset_events", away_once)
    result = workshop.run_range(keys)

    assert in_tables[0]["ready"] >= 1
    assert result.success
    for asset in FILE_ASSETS:
        shown = workshop.statuses(asset.path[-1])
        assert shown == {"materialized": set(keys), "failed": set(), "in progress": set()}


def test_files_that_are_in_the_tables_and_shown_as_failed_are_tried_again_through_another_outage(
    workshop: Workshop, no_pauses: None, monkeypatch: pytest.MonkeyPatch, nobody_there: db.Engine
) -> None:
    keys = workshop.put({"shot/a.0001.exr": render(), "shot/a.0002.exr": render(0.5), "shot/b.0001.exr": render()})
    failed, made = keys[:2], keys[2]
    assert workshop.select(partitions=[made]).success
    troubles = [lambda: 1 / 0, nobody_there.connect]

    def in_trouble(*arguments: Any) -> None:
        if troubles:
            troubles.pop(0)()
        step_events.log_asset_events(*arguments)

    monkeypatch.setattr("exr_pipeline.orchestration.steps.files.log_asset_events", in_trouble)
    assert not workshop.run_range(failed).success
    assert workshop.pipeline.tables.counts_by_state() == {"ready": 3}
    assert workshop.statuses("thumbnail")["failed"] == set(failed)

    result = workshop.run("retry_failed_files")

    assert result.success
    assert not troubles, "the second one hit the retry"
    for asset in FILE_ASSETS:
        shown = workshop.statuses(asset.path[-1])
        assert shown == {"materialized": set(keys), "failed": set(), "in progress": set()}
    assert len(workshop.materializations("thumbnail")[made]) == 1


def test_an_outage_is_known_by_what_both_libraries_say_of_it_and_a_mistake_is_none(nobody_there: db.Engine) -> None:
    with pytest.raises(db.exc.OperationalError) as first:
        nobody_there.connect()
    with pytest.raises(DagsterPostgresException) as later:
        retry_pg_connection_fn(nobody_there.connect, retry_limit=0)
    with db.create_engine("sqlite://").connect() as connection:
        connection.execute(db.text("CREATE TABLE one (name TEXT NOT NULL)"))
        with pytest.raises(db.exc.IntegrityError) as mistake:
            connection.execute(db.text("INSERT INTO one VALUES (NULL)"))

    assert is_outage(first.value)
    assert is_outage(later.value)
    assert not is_outage(mistake.value)
