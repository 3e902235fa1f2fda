"""The page: Dagster's own, with pictures and movies beside it, behind one guarded address.

Belongs here: all that speaks HTTP. `front` puts it together, `__main__` runs it. Not here: what the events on it say.
"""
