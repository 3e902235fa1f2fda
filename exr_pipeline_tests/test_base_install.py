"""The base install: it reads headers and writes rows without the extras, and says which extra the rest needs.

The same holds in two environments: one of links to the base's packages among those of the tests, and one installed from
requirements/base.txt, which takes long and is what users have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.environment import Environment, build_wheel, make_base
from exr_pipeline_tests.cli.conftest import REPOSITORY, Result, bare_environment, write_shot
from exr_pipeline_tests.docs.test_documents import blocks
from exr_pipeline_tests.long_tests import takes_long

LARGEST_BYTES = 300_000_000
LOCKED = re.findall(
    r"^(\S+==[^\\\n]+)", (REPOSITORY / "requirements" / "base.txt").read_text(encoding="utf-8"), re.MULTILINE
)
# All modules of these packages can be imported; of others, those that need no extra.
WITHOUT_EXTRAS = (
    *("cli", "dpx", "exr", "formats", "ingest", "inspection", "pipeline"),
    *("products", "sequences", "storage", "tables"),
)
_IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(f"exr_pipeline.{name}")
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""


@dataclass(frozen=True)
class BaseInstall:
    """An environment with the base's packages, and a folder with a shot."""

    environment: Environment
    folder: Path

    def python(self, *arguments: str, **environment: str) -> Result:
        inherited = {name: value for name, value in bare_environment().items() if not name.startswith("PYTHON")}
        ended = subprocess.run(
            [self.environment.python, *arguments],
            cwd=self.folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def command(self, *arguments: str, **environment: str) -> Result:
        return self.python("-m", "exr_pipeline.cli", *arguments, **environment)


def link_base(folder: Path) -> Environment:
    """An environment of links to what the base's packages have installed, and this clone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for requirement in map(Requirement, LOCKED):
        if requirement.marker is None or requirement.marker.evaluate():
            found = distribution(requirement.name)
            for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                (packages / name).symlink_to(str(found.locate_file(name)))
    (packages / "clone.pth").write_text(str(REPOSITORY))
    return Environment(folder)


@pytest.fixture(scope="module", params=["linked", pytest.param("installed", marks=takes_long)])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseInstall:
    folder = tmp_path_factory.mktemp("base")
    if request.param == "linked":
        environment = link_base(folder / "environment")
    else:
        environment = make_base(folder / "environment", build_wheel(folder))
    write_shot(folder / "work" / "renders")
    return BaseInstall(environment, folder / "work")


def test_nothing_of_the_extras_is_there_and_the_package_is(base: BaseInstall) -> None:
    look = (
        "import exr_pipeline, importlib.util as u; print([m for m in ('numpy', 'dagster', 'pandas') if u.find_spec(m)])"
    )
    assert base.python("-c", look).out == "[]\n"


@takes_long
def test_the_packages_of_the_base_are_smaller_than_300_mb(tmp_path: Path) -> None:
    """Their own files: what Python compiles from them is added as modules are imported (docs/installing.md)."""
    environment = make_base(tmp_path / "environment", build_wheel(tmp_path))
    # So that an empty environment would not do.
    assert LARGEST_BYTES / 10 < environment.size_bytes() < LARGEST_BYTES


def test_what_reads_headers_and_writes_rows_can_be_imported(base: BaseInstall) -> None:
    imported = base.python("-c", _IMPORT_ALL, *WITHOUT_EXTRAS)
    assert imported.status == 0, imported.err
    assert "exr_pipeline.tables.stores.duckdb" in imported.out.split()


def test_a_file_is_inspected(base: BaseInstall) -> None:
    shown = base.command("inspect", "renders/beauty.1001.exr")
    assert shown.status == 0, shown.err
    assert "64x48" in shown.out
    told = base.command("inspect", "--json", "renders/beauty.1001.exr")
    assert json.loads(told.out)["file"]["format"] == "exr"


def test_the_documented_program_writes_rows_that_are_read_back(base: BaseInstall, tmp_path: Path) -> None:
    (code,) = blocks("docs/installing.md", "python")
    program = tmp_path / "headers.py"
    program.write_text(code, encoding="utf-8")
    state = {"EXR_PIPELINE_STATE_DIR": str(tmp_path / "state")}

    ran = base.python(str(program), (base.folder / "renders").as_uri() + "/", **state)

    assert ran.status == 0, ran.err
    assert "notes.1004.exr" in ran.out, "the file that is no render is named"
    query = "SELECT p.file_path, p.width FROM latest_files f JOIN parts p USING (file_id) ORDER BY 1"
    answer = base.command("sql", "--json", query, **state)
    found = json.loads(answer.out)
    assert [Path(row["file_path"]).name for row in found][:3] == [f"beauty.{frame}.exr" for frame in (1001, 1002, 1003)]
    assert {row["width"] for row in found} == {64}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["doctor"],
        ["settings"],
        ["schema", "files"],
        ["tables"],
        ["status"],
        ["sql", "SELECT count(*) FROM files"],
        ["init", "new"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_needs_no_extra_runs(base: BaseInstall, arguments: list[str]) -> None:
    ran = base.command(*arguments)
    assert ran.status == 0, ran.out + ran.err
    assert ran.out


def test_doctor_names_the_extras_that_are_not_there(base: BaseInstall) -> None:
    said = base.command("doctor").out
    assert "pip install 'exr-pipeline[pictures]'" in said
    assert "pip install 'exr-pipeline[dagster]'" in said


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("pictures", ["thumbnail", "renders/beauty.1001.exr", "a.jpg"]),
        ("pictures", ["proxy", "renders/beauty.1001.exr", "a.mp4"]),
        ("pictures", ["movie", "renders/beauty.1001.exr", "a.mp4"]),
        ("pictures", ["contact-sheet", "renders/beauty.1001.exr", "a.jpg"]),
        ("pictures", ["filmstrip", "renders/beauty.1001.exr", "a.jpg"]),
        ("pictures", ["probe", "renders/beauty.1001.exr"]),
        ("pictures", ["sample", "show"]),
        ("dagster", ["ingest", "renders"]),
        ("dagster", ["retry"]),
        ("dagster", ["reconcile"]),
        ("dagster", ["archive", "--older-than", "90d"]),
        ("dagster", ["backup", "copy"]),
        ("ui", ["ui"]),
        ("demo", ["demo"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_command_that_needs_an_extra_names_it(base: BaseInstall, extra: str, arguments: list[str]) -> None:
    ran = base.command(*arguments, PATH=os.defpath)
    assert ran.status == 1
    assert ran.error.endswith(f"Fix: pip install 'exr-pipeline[{extra}]'")


def test_a_store_that_needs_an_extra_names_it(base: BaseInstall) -> None:
    ran = base.command("status", VAST_DB_BUCKET="renders", VAST_DB_SCHEMA="exr")
    assert ran.error.endswith("Fix: pip install 'exr-pipeline[vast]'")
