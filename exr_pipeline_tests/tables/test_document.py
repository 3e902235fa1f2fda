from exr_pipeline.tables.stores.vast_schemas import schemas
from exr_pipeline_tests.tables.document import DOCUMENT, updated


def test_the_document_lists_tables_columns_and_views_as_the_code_has_them() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert updated(text) == text, "run python -m exr_pipeline_tests.tables.document"


def test_the_document_names_the_tables_that_only_vast_has() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for table, columns in schemas().items():
        assert f"`{table}`" in text or f"### {table}\n" in text
        assert all(f"`{column}`" in text for column in columns.names)
