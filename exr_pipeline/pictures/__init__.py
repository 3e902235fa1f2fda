"""Decode, colour, thumbnails, proxies and the worker pool that makes them."""
