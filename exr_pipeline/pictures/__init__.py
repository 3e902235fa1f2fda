"""Decode, colour, thumbnails, proxies and the worker pool that makes them."""

from exr_pipeline.pictures.picture_settings import PictureSettings
from exr_pipeline.pictures.pool import PicturePool
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail

__all__ = ["PicturePool", "PictureSettings", "Proxy", "RenderedPictures", "Thumbnail"]
