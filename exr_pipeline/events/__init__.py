"""Events: those of object storage that name files, and those that tell others what was made.

Belongs here: reading and writing them, without Dagster. Not here: what is done about a file (`ingest`), or the sensors.
Events only save time: what an event names is looked up, and a sweep finds what no event named.
"""
