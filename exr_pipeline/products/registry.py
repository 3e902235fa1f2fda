"""What is made: every product of files and of sequences, in the order in which they are shown.

Belongs here: the two lists and looking things up in them. Not here: any one product (a module each).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exr_pipeline.products.checksum import CHECKSUM
from exr_pipeline.products.contact_sheet import CONTACT_SHEET
from exr_pipeline.products.fingerprint import FINGERPRINT
from exr_pipeline.products.header import HEADER
from exr_pipeline.products.outputs import OUTPUTS
from exr_pipeline.products.product import NEEDS
from exr_pipeline.products.proxy import PROXY
from exr_pipeline.products.sequence_filmstrip import SEQUENCE_FILMSTRIP
from exr_pipeline.products.sequence_movie import SEQUENCE_MOVIE
from exr_pipeline.products.thumbnail import THUMBNAIL

if TYPE_CHECKING:
    from collections.abc import Collection

    from exr_pipeline.products.product import FileProduct, Need, SequenceProduct

FILE_PRODUCTS: Final[tuple[FileProduct, ...]] = (HEADER, FINGERPRINT, CHECKSUM, THUMBNAIL, PROXY, OUTPUTS)
SEQUENCE_PRODUCTS: Final[tuple[SequenceProduct, ...]] = (SEQUENCE_MOVIE, CONTACT_SHEET, SEQUENCE_FILMSTRIP)

# What a user may name; the others are made with these.
PRODUCT_NAMES: Final = tuple(product.name for product in FILE_PRODUCTS if not product.made_with)


def products_named(names: Collection[str]) -> tuple[FileProduct, ...]:
    """The products of these names and those made with them; every one if none is named."""
    if not names:
        return FILE_PRODUCTS
    return tuple(
        product
        for product in FILE_PRODUCTS
        if product.name in names or (product.made_with and set(product.made_with) <= set(names))
    )


def products_shown_by(assets: Collection[str]) -> tuple[FileProduct, ...]:
    """The products that a run makes for these assets: their own, and those that theirs are made with."""
    chosen = {product.name for product in FILE_PRODUCTS if product.asset in assets}
    chosen |= {other for product in FILE_PRODUCTS if product.name in chosen for other in product.made_with}
    return tuple(product for product in FILE_PRODUCTS if product.name in chosen)


def most_needed(products: Collection[FileProduct]) -> Need:
    """How much of a file must be read for all of these."""
    return max((product.needs for product in products), key=NEEDS.index, default="header")
