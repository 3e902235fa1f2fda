"""SQL that tries to do more than read the tables: one list, run against both stores by every way in.

Belongs here: the attacks and the traps that notice one. Not here: what is expected (`test_sql_attacks`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import duckdb
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

MARKER: Final = "MARKER-4711"

# What may stand after FROM. `{here}` is a folder with the trap's files, `{web}` the URL of a listening server.
SOURCES: Final = (
    "read_text('{here}/.env')",
    "READ_TEXT('{here}/.env')",
    "main.read_text('{here}/.env')",
    "system.main.read_text('{here}/.env')",
    "\"read_text\"('{here}/.env')",
    "read_text/* */(/* '*/'{here}/.env')",
    "read_text(concat('{here}', '/.env'))",
    "read_text(['{here}/.env', '{here}/rows.csv'])",
    "read_text('{here}/*')",
    "read_blob('{here}/.env')",
    "read_csv('{here}/.env', header = true, delim = '|')",
    "read_csv('{here}/rows.csv', columns = {{'a': 'INTEGER'}})",
    "read_csv_auto('{here}/rows.csv')",
    "read_json('{here}/rows.json')",
    "read_json_auto('{here}/rows.json')",
    "read_json_objects('{here}/rows.json')",
    "read_ndjson('{here}/rows.json')",
    "read_ndjson_objects('/proc/self/environ')",
    "read_parquet('{here}/rows.parquet')",
    "parquet_scan('{here}/rows.parquet')",
    "parquet_metadata('{here}/rows.parquet')",
    "parquet_schema('{here}/rows.parquet')",
    "parquet_kv_metadata('{here}/rows.parquet')",
    "parquet_file_metadata('{here}/rows.parquet')",
    "parquet_bloom_probe('{here}/rows.parquet', 'a', 1)",
    "read_duckdb('{here}/other.duckdb')",
    "read_single_csv_file('{here}/rows.csv')",
    "sniff_csv('{here}/rows.csv')",
    "glob('{here}/*')",
    "'{here}/rows.csv'",
    "'{here}/rows.parquet'",
    "'{here}/rows.json'",
    "'{here}/other.duckdb'",
    '"{here}/rows.csv"',
    "rows.csv",
    '"rows.csv"',
    "nowhere.rows.csv",
    "'{web}/rows.csv'",
    "'{web}/rows.parquet'",
    "'s3://bucket/rows.parquet'",
    "'hf://datasets/rows.csv'",
    "read_csv('{web}/rows.csv')",
    "read_text('{web}/rows.csv')",
    "read_parquet('s3://bucket/rows.parquet')",
    "read_csv('/dev/stdin')",
    "query('SELECT * FROM read_text(''{here}/.env'')')",
    "query('FROM files')",
    "query_table('{here}/rows.csv')",
    "query_table(['files', '{here}/rows.csv'])",
    "json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{here}/.env'')'))",
    "(SELECT * FROM (WITH x AS (FROM read_text('{here}/.env')) FROM x))",
    "(SELECT 1 UNION ALL FROM read_csv('{here}/rows.csv'))",
    "(WITH RECURSIVE x AS (SELECT 1 UNION ALL FROM read_csv('{here}/rows.csv')) FROM x)",
    "(DESCRIBE '{here}/rows.csv')",
    "(SUMMARIZE '{here}/rows.csv')",
    "(VALUES ('{here}/.env')) t(p), LATERAL (FROM read_text(t.p))",
    "files WHERE file_path IN (SELECT content FROM read_text('{here}/.env'))",
    "files ORDER BY (SELECT content FROM read_text('{here}/.env'))",
    "files LIMIT (SELECT size FROM read_blob('{here}/.env'))",
    "files JOIN read_text('{here}/.env') ON true",
    "(SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{here}/.env'))))",
    "(SELECT nope FROM read_csv('{here}/.env', delim = '|', header = true))",
    # Extensions, which DuckDB would fetch for the name of a function or of a kind of file
    "read_xlsx('{here}/rows.csv')",
    "st_read('{here}/rows.csv')",
    "iceberg_scan('{here}')",
    "delta_scan('{here}')",
    "postgres_scan('host=127.0.0.1', 'public', 'x')",
    "sqlite_scan('{here}/other.duckdb', 'x')",
    "mysql_query('x', 'SELECT 1')",
    "(SELECT st_point(1, 2))",
    "'{here}/rows.xlsx'",
    # Python's variables and functions
    "in_this_frame",
    "in_this_module",
    "pandas_scan(1)",
    "arrow_scan(1, 2, 3)",
    "python_arrow_scan(1)",
    "python_map_function()",
    # The state and the configuration of the process
    "(SELECT getenv('HOME'))",
    "duckdb_secrets()",
    "which_secret('s3://bucket/rows.parquet', 's3')",
    "duckdb_settings()",
    "duckdb_databases()",
    "duckdb_extensions()",
    "duckdb_logs()",
    "duckdb_temporary_files()",
    "enable_logging('FileSystem')",
    "enable_profiling()",
    "checkpoint()",
    "force_checkpoint()",
    "create_external_resource('x')",
    "pragma_storage_info('files')",
    "seq_scan('files')",
    # The files of the database itself, to which DuckDB grants access always
    "read_blob('{database}')",
    "read_text('{database}.wal')",
    "read_duckdb('{database}')",
    "'{database}'",
    "read_text('{database}.tmp/x')",
)

# Whole queries. Changing and writing pass for a SELECT in DuckDB if a CTE does it.
STATEMENTS: Final = (
    "WITH x AS (COPY files TO '{here}/out.csv') FROM x",
    "WITH x AS (COPY (SELECT 'junk') TO '{database}.wal' (FORMAT csv)) FROM x",
    "SELECT * FROM (WITH x AS (COPY files TO '{here}/out.csv') FROM x)",
    "WITH x AS (DELETE FROM files RETURNING *) FROM x",
    "WITH x AS (INSERT INTO files (file_id) VALUES ('x') RETURNING *) FROM x",
    "WITH x AS (UPDATE files SET state = 'ready' RETURNING *) FROM x",
    "SELECT * FROM files; DROP TABLE files",
    "SELECT 1;\nSELECT * FROM read_text('{here}/.env')",
    "SELECT 1 -- ;\n; COPY files TO '{here}/out.csv'",
    "COPY files TO '{here}/out.csv'",
    "COPY files FROM '{here}/rows.csv'",
    "EXPORT DATABASE '{here}/out'",
    "IMPORT DATABASE '{here}'",
    "ATTACH '{here}/other.duckdb'",
    "ATTACH '{web}/other.duckdb'",
    "DETACH memory",
    "INSTALL httpfs",
    "INSTALL x FROM '{web}'",
    "LOAD httpfs",
    "LOAD '{here}/other.duckdb'",
    "CREATE SECRET (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "CREATE PERSISTENT SECRET x (TYPE http, BEARER_TOKEN 'y')",
    "CREATE TABLE x AS FROM '{here}/rows.csv'",
    "CREATE TEMP TABLE x AS FROM '{here}/rows.csv'",
    "CREATE VIEW x AS FROM '{here}/rows.csv'",
    "CREATE MACRO x() AS TABLE FROM read_text('{here}/.env')",
    "CREATE FUNCTION x(a) AS (SELECT content FROM read_text(a))",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET allowed_directories = ['{here}']",
    "SET python_enable_replacements = true",
    "SET lock_configuration = false",
    "SET custom_extension_repository = '{web}'",
    "SET VARIABLE x = (SELECT content FROM read_text('{here}/.env'))",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "EXPLAIN SELECT * FROM read_text('{here}/.env')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{here}/.env')",
    "USE memory",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "INSERT INTO files FROM '{here}/rows.csv'",
    "PIVOT '{here}/rows.csv' ON a",
    "SELECT '{marker}' || $x",
)

# Conditions that leave the place where they are put.
CONDITIONS: Final = (
    "true) UNION ALL SELECT content FROM read_text('{here}/.env') --",
    "true) UNION ALL (SELECT content FROM read_text('{here}/.env')",
    "true); DROP TABLE files; --",
    "true) /*",
    "true OR content = (SELECT content FROM read_text('{here}/.env'))",
    "uri = (SELECT getenv('HOME'))",
)


@dataclass
class Traps:
    """A folder and a server that nothing may look at, and what looked at them all the same."""

    folder: Path
    url: str = ""
    database: Path = Path("tables.duckdb")
    noticed: list[str] = field(default_factory=list)

    def statements(self) -> list[str]:
        """The attacks by way of a whole query."""
        return [self._filled(text) for text in (*(f"SELECT * FROM {source}" for source in SOURCES), *STATEMENTS)]

    def conditions(self) -> list[str]:
        """The attacks by way of a condition."""
        return [
            self._filled(text) for text in (*(f"EXISTS (SELECT * FROM {source})" for source in SOURCES), *CONDITIONS)
        ]

    def _filled(self, text: str) -> str:
        return text.format(here=self.folder, web=self.url, database=self.database, marker=MARKER)


@contextmanager
def traps(folder: Path) -> Iterator[Traps]:
    """Files with a marker in a folder that is watched, and a server that counts."""
    for name in (".env", "rows.csv", "rows.xlsx"):
        (folder / name).write_text(f"{MARKER},b\n{MARKER},2\n")
    (folder / "rows.json").write_text(f'{{"a": "{MARKER}"}}\n')
    with duckdb.connect(folder / "other.duckdb") as connection:
        connection.execute(f"CREATE TABLE x AS SELECT '{MARKER}' AS a")
        connection.execute(f"COPY x TO '{folder}/rows.parquet'")
    made = Traps(folder)

    class Watcher(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            made.noticed.append(f"{event.event_type} {event.src_path!r}")

    class Server(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            made.noticed.append(f"a connection: {self.rfile.readline()!r}")
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    observer = Observer()
    observer.schedule(Watcher(), str(folder), recursive=True)
    observer.start()
    thread.start()
    try:
        yield made
    finally:
        observer.stop()
        observer.join()
        server.shutdown()
        thread.join()
        server.server_close()
