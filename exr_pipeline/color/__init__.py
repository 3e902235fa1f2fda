"""Color management: the OCIO config, which space a file is in, and the rules of its pictures.

Belongs here: spaces, views and transforms. Not here: pixels of files (`pictures`).
"""
