"""Revisions of the catalog's tables, in `versions`, one file each."""
