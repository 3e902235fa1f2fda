"""The catalog's database: SQLite in the state folder, or the PostgreSQL that the settings name.

Belongs here: the engine, transactions, and what a database's errors mean. Not here: tables (`models`, `migrate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from exr_pipeline.catalog.errors import ConflictError
from exr_pipeline.errors import MisconfiguredError, RetryableError, StateUnknownError
from exr_pipeline.storage.private_files import make_private_folder

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

SETTING: Final = "EXR_PIPELINE_CATALOG_DATABASE"
_FILE: Final = "catalog.db"
_BUSY_SECONDS: Final = 30
_CACHE_KIB: Final = 64 << 10
# Of this module's own: whether a transaction only reads.
_READS: Final = "exr_pipeline_reads"


class CatalogDatabase:
    """An open database. Thread-safe; each `transaction` is one of its own."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        reading = self.engine.execution_options(**{_READS: True, "postgresql_readonly": True})
        self._reading_sessions = sessionmaker(reading, expire_on_commit=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> CatalogDatabase:
        """The database that the settings name. Raises `MisconfiguredError` for a URL of anything else."""
        if settings.catalog_database is not None:
            return cls(settings.catalog_database.get_secret_value())
        make_private_folder(settings.state_dir)
        return cls(f"sqlite:///{(settings.state_dir / _FILE).absolute()}")

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back. Those that only read wait for no writer.

        Raises `ConflictError` for what a constraint forbids, `RetryableError` if the database is not available or
        cannot do it now and nothing was changed, and `StateUnknownError` if the answer to the commit was lost.
        """
        sessions = self._reading_sessions if read_only else self._sessions
        is_committing = False
        try:
            with sessions() as session:
                yield session
                session.flush()
                is_committing = not read_only
                session.commit()
        except IntegrityError as error:
            raise ConflictError("catalog", "it contradicts what is there: read it again") from error
        except (OperationalError, InterfaceError) as error:
            problem = f"the catalog's database is not available: {type(error.orig).__name__}"
            if is_committing and error.connection_invalidated:
                raise StateUnknownError(problem) from error
            raise RetryableError(problem) from error
        except PoolTimeoutError as error:
            raise RetryableError("all connections to the catalog's database are in use") from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> sa.Engine:
    try:
        parts = sa.make_url(url)
        if parts.get_backend_name() == "sqlite":
            return _sqlite_engine(parts)
        if parts.get_backend_name() == "postgresql":
            parts = parts.set(drivername="postgresql+psycopg2")
            return sa.create_engine(
                parts,
                pool_pre_ping=True,
                pool_size=10,
                connect_args={"connect_timeout": 5},
                # Many changes in one round trip.
                executemany_mode="values_plus_batch",
            )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        pass
    raise MisconfiguredError(
        SETTING, "it is not the URL of a PostgreSQL database", "write postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # The driver would begin a transaction at the first write only: two that read first would not see each other.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # KiB, for the indexes that a write and a search of a large catalog go through; 2 MiB would be usual.
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get(_READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
