"""The web application over the catalog: who calls, REST, and what errors are in HTTP. The domain is in `catalog`."""
