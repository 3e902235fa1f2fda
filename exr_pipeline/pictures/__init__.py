"""Decode, colour, thumbnails, proxies and the worker pool that makes them."""

from exr_pipeline.pictures.picture_settings import PictureSettings
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail
from exr_pipeline.workers.pool import PicturePool

__all__ = ["PicturePool", "PictureSettings", "Proxy", "RenderedPictures", "Thumbnail"]
