"""REST, `/v1`: one module per kind of thing. Routes are thin: a service of the catalog, and its result as JSON."""
