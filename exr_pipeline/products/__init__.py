"""What is made of files and of sequences: one module per product, and the registry that lists them.

Belongs here: what each product needs, makes, writes into tables and stores, and shows. Not here: the order of work
(`ingest`), how pixels are read and pictures made (`pictures`, `footage`, `sequence_movies`), or Dagster.
"""
