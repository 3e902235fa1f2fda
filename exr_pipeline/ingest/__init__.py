"""Files from object storage to metadata, pictures and rows, a chunk at a time, without an orchestrator.

`ingest.discovery.needs_work` decides which files need work, `chunk` does the work, `products` turns what was done
into rows and objects.
"""
