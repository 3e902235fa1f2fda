"""Everything that touches what Dagster keeps private: storages, launchers, the page. Lint forbids it elsewhere."""
