"""What every edge is handed to work with: settings, the policy of trying again, and the clients built from them.

Belongs here: making clients, late and once per process. Not here: what is done with them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from exr_pipeline.retries import POLICY, RetryPolicy
from exr_pipeline.settings import Settings

if TYPE_CHECKING:
    from exr_pipeline.storage.objects import ObjectStorage
    from exr_pipeline.tables.store import TableStore


class Pipeline:
    """Settings and clients of one process. Clients are made when first used: loading definitions stays quick."""

    def __init__(self, settings: Settings | None = None, *, retries: RetryPolicy | None = None) -> None:
        self._settings = settings
        self._retries = retries

    @cached_property
    def settings(self) -> Settings:
        """The settings of this process, from the environment unless given."""
        return self._settings or Settings()

    @property
    def retries(self) -> RetryPolicy:
        """How often and when files, sequences and steps are tried again: `POLICY` unless given."""
        return self._retries or POLICY

    @cached_property
    def storage(self) -> ObjectStorage:
        """The object storage client."""
        from exr_pipeline.storage.objects import ObjectStorage

        return ObjectStorage(self.settings)

    @cached_property
    def tables(self) -> TableStore:
        """The table store. The first write makes its tables."""
        from exr_pipeline.tables import open_table_store

        return open_table_store(self.settings)
