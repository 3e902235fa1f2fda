"""Decoding, thumbnails and proxies: from a file to pictures."""

from exr_pipeline.pictures.picture_pool import PicturePool
from exr_pipeline.pictures.picture_settings import PictureSettings
from exr_pipeline.pictures.results import Proxy, RenderedPictures, Thumbnail

__all__ = ["PicturePool", "PictureSettings", "Proxy", "RenderedPictures", "Thumbnail"]
