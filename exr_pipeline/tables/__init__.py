"""The tables: their columns, the contract of a store, and the stores in DuckDB and VAST DataBase."""

from exr_pipeline.tables.store import BadQueryError, FileVersion, TableStore, open_table_store

__all__ = ["BadQueryError", "FileVersion", "TableStore", "open_table_store"]
