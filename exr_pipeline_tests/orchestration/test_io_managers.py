"""Rows between the tables and the data frames of users' own assets."""

from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from exr_pipeline.orchestration.io_managers import TableIOManager, frame_of, rows_of
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.tables.conform import conform
from exr_pipeline_tests.tables.conftest import StoreUnderTest
from exr_pipeline_tests.tables.conftest import duckdb_file as duckdb_file
from exr_pipeline_tests.tables.conftest import emulator as emulator
from exr_pipeline_tests.tables.conftest import tables as tables
from exr_pipeline_tests.tables.conftest import vast as vast
from exr_pipeline_tests.tables.sample_rows import NOON, SampleFile
from exr_pipeline_tests.tables.sample_rows import rows_of as sample_rows
from exr_pipeline_tests.vast_emulator.running import RunningEmulator


@pytest.mark.parametrize("kind", [pa.Table, pd.DataFrame, pl.DataFrame, pl.LazyFrame])
def test_every_column_of_every_table_survives_a_data_frame(kind: Any) -> None:
    for table, rows in sample_rows(SampleFile(frame_number=3), SampleFile("b.exr", header=False)).items():
        frame = frame_of(rows, kind)
        assert isinstance(frame, kind)
        assert conform(table, rows_of(frame)).to_pylist() == rows.to_pylist(), table


def test_a_pandas_frame_may_have_any_index_and_few_columns() -> None:
    frame = pd.DataFrame({"file_id": ["x"], "file_path": ["a.exr"]}, index=["odd"])
    assert conform("files", rows_of(frame)).column("file_path").to_pylist() == ["a.exr"]


def load(opened: StoreUnderTest, file: SampleFile, table: str, **more: Any) -> pa.Table:
    """What an asset gets of a table for the partition of a file."""
    pipeline = Pipeline(Settings(_env_file=None, **opened.settings))
    key = file.location.partition_key
    context = dg.build_input_context(
        definition_metadata={"table": table, **more},
        dagster_type=dg.PythonObjectDagsterType(pa.Table),
        asset_key="exr_header",
        partition_key=key,
        asset_partition_key_range=dg.PartitionKeyRange(key, key),
        asset_partitions_def=dg.StaticPartitionsDefinition([key]),
    )
    loaded: pa.Table = TableIOManager(pipeline).load_input(context)
    return loaded


def test_an_input_has_the_rows_of_its_partition_and_the_columns_that_it_names(tables: StoreUnderTest) -> None:
    files = [SampleFile(f"shot/a.{frame}.exr") for frame in (1, 2)]
    tables.store.write(sample_rows(*files), now=NOON)
    for table, columns in (("files", ["uri", "state"]), ("channels", ["layer_name"])):
        found = load(tables, files[1], table, columns=columns)
        assert found.column_names == columns
        assert found.num_rows == {"files": 1, "channels": 4}[table]
    assert load(tables, files[1], "files").column("file_path").to_pylist() == ["shot/a.2.exr"]
    with pytest.raises(dg.DagsterInvariantViolationError, match=r"files has no column hue; its columns are file_id"):
        load(tables, files[1], "files", columns=["hue"])


def test_vast_sends_for_an_input_only_its_partition_and_columns(
    vast: StoreUnderTest, emulator: RunningEmulator
) -> None:
    def sent(**more: Any) -> int:
        emulator.admin("log/reset", {})
        load(vast, SampleFile("shot/a.0.exr"), "channels", **more)
        return int(emulator.admin("log")["sent_bytes"]["query"])

    vast.store.write(sample_rows(SampleFile("shot/a.0.exr")), now=NOON)
    whole, narrow = sent(), sent(columns=["layer_name"])
    vast.store.write(sample_rows(*(SampleFile(f"shot/a.{frame}.exr") for frame in range(1, 60))), now=NOON)
    # A cell more or less of each request's own.
    assert sent() < 1.2 * whole
    assert sent(columns=["layer_name"]) < 1.2 * narrow
    assert narrow < 0.7 * whole
