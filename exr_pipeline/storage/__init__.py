"""Object storage: names, access, and the embedded server of the demonstration and the tests.

Belongs here: where bytes are and how they get there. Not here: what they mean.
"""
