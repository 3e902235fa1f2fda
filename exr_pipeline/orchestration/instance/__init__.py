"""Everything that touches what Dagster keeps private: storages, launchers, the page. A lint rule forbids it elsewhere."""
