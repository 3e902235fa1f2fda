"""Rows between the tables and the data frames of users' own assets."""

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from exr_pipeline.orchestration.io_managers import frame_of, rows_of
from exr_pipeline.tables.conform import conform
from exr_pipeline_tests.tables.sample_rows import SampleFile
from exr_pipeline_tests.tables.sample_rows import rows_of as sample_rows


@pytest.mark.parametrize("kind", [pa.Table, pd.DataFrame, pl.DataFrame, pl.LazyFrame])
def test_every_column_of_every_table_survives_a_data_frame(kind: Any) -> None:
    for table, rows in sample_rows(SampleFile(frame_number=3), SampleFile("b.exr", header=False)).items():
        frame = frame_of(rows, kind)
        assert isinstance(frame, kind)
        assert conform(table, rows_of(frame)).to_pylist() == rows.to_pylist(), table


def test_a_pandas_frame_may_have_any_index_and_few_columns() -> None:
    frame = pd.DataFrame({"file_id": ["x"], "file_path": ["a.exr"]}, index=["odd"])
    assert conform("files", rows_of(frame)).column("file_path").to_pylist() == ["a.exr"]
