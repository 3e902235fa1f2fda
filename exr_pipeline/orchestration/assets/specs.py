"""The assets of a file: what there is, how it hangs together, what its tables look like.

Belongs here: the specs that the UI shows, from the registry of products. Not here: the products (`products`), the step
that makes them (`orchestration.steps.files`), their events (`orchestration.steps.file_events`).
"""

from typing import Final

import dagster as dg

from exr_pipeline.orchestration.partitions import files_partitions
from exr_pipeline.products.product import FileProduct
from exr_pipeline.products.registry import FILE_PRODUCTS
from exr_pipeline.tables.specs import TABLES, TableName

SOURCE_FILE: Final = dg.AssetKey("source_file")
TABLE_IO: Final = "table_io"
MEDIA_IO: Final = "media_io"


def _columns(table: TableName, *names: str) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(column.name, column.type, column.meaning)
            for column in TABLES[table].columns
            if not names or column.name in names
        ]
    )


SOURCE_SPEC: Final = dg.AssetSpec(
    SOURCE_FILE,
    description=(
        "A picture, movie or sound in object storage or on disk. Renderers and people write it; the sensor finds it."
    ),
    group_name="sources",
    kinds={"file"},
    partitions_def=files_partitions,
)


def _spec(product: FileProduct) -> dg.AssetSpec:
    metadata = {"table": product.table, "dagster/column_schema": _columns(product.table, *product.columns)}
    return dg.AssetSpec(
        dg.AssetKey(product.asset),
        deps=[dg.AssetKey(asset) for asset in product.comes_from],
        description=product.description,
        group_name=product.group,
        kinds=set(product.kinds),
        metadata=metadata | {f"columns of {table}": _columns(table) for table in product.more_tables},
        partitions_def=files_partitions,
        skippable=True,
    ).with_io_manager_key(MEDIA_IO if product.objects else TABLE_IO)


FILE_SPECS: Final = tuple(_spec(product) for product in FILE_PRODUCTS)
FILE_ASSETS: Final = tuple(spec.key for spec in FILE_SPECS)
