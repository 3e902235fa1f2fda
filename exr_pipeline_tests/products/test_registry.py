"""The registry of products: what it lists, and that nothing else lists it again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exr_pipeline.orchestration.assets.specs import FILE_ASSETS
from exr_pipeline.products.registry import (
    FILE_PRODUCTS,
    PRODUCT_NAMES,
    SEQUENCE_PRODUCTS,
    most_needed,
    products_named,
    products_shown_by,
)
from exr_pipeline.tables.specs import TABLES
from exr_pipeline_tests.layers import PACKAGE
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.pictures.files import flat, write_rgb


def test_names_assets_and_columns_are_there_and_stand_once() -> None:
    names = [product.name for product in FILE_PRODUCTS]
    assets = [product.asset for product in FILE_PRODUCTS] + [product.asset for product in SEQUENCE_PRODUCTS]
    assert len(set(names)) == len(names)
    assert len(set(assets)) == len(assets)
    for product in FILE_PRODUCTS:
        columns = {column.name for column in TABLES[product.table].columns}
        assert {*product.columns, *([product.evidence] if product.evidence else [])} <= columns
        assert set(product.made_with) <= set(names)
        for thing in product.objects:
            assert {f"{thing.name}_s3_key", f"{thing.name}_size_bytes"} <= columns
    assert [key.path[-1] for key in FILE_ASSETS] == [product.asset for product in FILE_PRODUCTS]


def test_products_made_with_others_come_when_all_of_those_are_made() -> None:
    assert PRODUCT_NAMES == ("header", "checksum", "thumbnail", "proxy")
    assert [product.name for product in products_named(["header"])] == ["header", "fingerprint"]
    assert [product.name for product in products_named(["thumbnail", "proxy"])] == ["thumbnail", "proxy", "outputs"]
    assert [product.name for product in products_named(["proxy"])] == ["proxy"]
    assert products_named([]) == FILE_PRODUCTS


def test_an_asset_that_is_made_with_others_asks_for_those() -> None:
    assert [product.name for product in products_shown_by({"proxy_outputs"})] == ["thumbnail", "proxy", "outputs"]
    assert [product.name for product in products_shown_by({"channel_fingerprint"})] == ["header", "fingerprint"]


@pytest.mark.parametrize(
    ("names", "need"),
    [(["header"], "header"), (["header", "checksum"], "file"), (["checksum", "thumbnail"], "picture")],
)
def test_as_much_of_a_file_is_read_as_its_most_demanding_product_needs(names: list[str], need: str) -> None:
    assert most_needed(products_named(names)) == need


_MODULE = '''
"""The product `brightness`: the mean of the picture's first channel in its working space."""

from exr_pipeline.products.product import FileProduct


def _of_picture(picture):
    return float(picture.working.mean())


def _row(result):
    return {} if result.pictures is None else {"brightness": result.pictures.others["brightness"]}


def _facts(result):
    return None if result.pictures is None else {"brightness": result.pictures.others["brightness"]}


BRIGHTNESS = FileProduct(
    name="brightness",
    asset="brightness",
    needs="picture",
    description="How bright the picture is.",
    group="pictures",
    kinds=frozenset({"table"}),
    comes_from=("source_file",),
    table="files",
    evidence="brightness",
    of_picture=_of_picture,
    row=_row,
    facts=_facts,
)
'''
_RUN = """
from pathlib import Path

import dagster as dg

import exr_pipeline
from exr_pipeline.orchestration.instance.run_now import ingest_source
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location

folder = Path(sys.argv[1])
assert Path(exr_pipeline.__file__).is_relative_to(folder)


def main():
    settings = Settings(_env_file=None, database=folder / "tables.duckdb", workers=1)
    ingest_source(Location.from_url((folder / "show").as_uri()), settings)
    (row,) = Pipeline(settings).tables.read("files").to_pylist()
    assert row["state"] == "ready", row["reason"]
    assert abs(row["brightness"] - 0.25) < 0.001, row["brightness"]
    with dg.DagsterInstance.get() as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey("brightness")).asset_materialization
    assert abs(made.metadata["brightness"].value - 0.25) < 0.001


if __name__ == "__main__":
    main()
"""


@takes_long
def test_a_new_asset_per_file_is_one_module_one_line_of_the_registry_and_its_column(tmp_path: Path) -> None:
    """The recipe of CONTRIBUTING, followed on a copy of the package."""
    package = tmp_path / "exr_pipeline"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "products" / "brightness.py").write_text(_MODULE)
    registry = package / "products" / "registry.py"
    text = registry.read_text()
    listed = "PROXY, OUTPUTS)"
    assert listed in text
    text = text.replace(listed, "PROXY, OUTPUTS, BRIGHTNESS)")
    registry.write_text(
        text.replace(
            "from exr_pipeline.products.checksum",
            "from exr_pipeline.products.brightness import BRIGHTNESS\nfrom exr_pipeline.products.checksum",
            1,
        )
    )
    specs = package / "tables" / "specs.py"
    column = '            Column("sha256",'
    assert column in specs.read_text()
    specs.write_text(
        specs.read_text().replace(
            column, f'            Column("brightness", "float64", "How bright", "coalesce"),\n{column}'
        )
    )
    show, home = tmp_path / "show", tmp_path / "home"
    show.mkdir()
    write_rgb(show / "grey.exr", flat(64, 32, (0.25, 0.25, 0.25)))

    script = tmp_path / "run.py"
    script.write_text(f"import sys\n{_RUN}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "DAGSTER_HOME": str(home)}
    for arguments in (["-m", "exr_pipeline.cli", "init", home], [script, tmp_path]):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
