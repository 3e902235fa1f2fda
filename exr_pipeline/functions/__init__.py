"""The same work as a serverless function: an event names an object, the answer says what was made of it.

Belongs here: reading events, credentials, answers, and a thin adapter for each platform. Not here: the work itself
(`ingest`), or Dagster, which a function does without. See docs/functions.md.
"""
