"""A small VAST DataBase for tests: its REST protocol, as the unmodified `vastdb` SDK speaks it, over Arrow arrays."""
