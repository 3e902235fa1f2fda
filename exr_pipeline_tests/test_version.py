"""One version number: `exr_pipeline.__version__`. Everything else derives from it or is compared with it here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from exr_pipeline import __version__

REPOSITORY = Path(__file__).parents[1]
TAGS = re.compile(r"exr-pipeline:(\d[^\s\"`]*)|^\s+tag: (\S+)", re.MULTILINE)
IMAGES = sorted(
    path
    for path in (REPOSITORY / "deploy").rglob("*")
    if path.is_file() and TAGS.search(path.read_text(encoding="utf-8"))
)


def released(changelog: str) -> list[str]:
    """The versions that a changelog has headings for, from top to bottom."""
    return re.findall(r"^## \[?(\d[^\s\]]*)", changelog, re.MULTILINE)


def test_a_package_that_is_built_has_the_version_of_the_code(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    package = tmp_path / "exr_pipeline"
    package.mkdir()
    text = (REPOSITORY / "exr_pipeline/__init__.py").read_text(encoding="utf-8")
    for version in (__version__, "9.8.7"):
        (package / "__init__.py").write_text(text.replace(__version__, version), encoding="utf-8")
        command = [sys.executable, "-m", "hatchling", "version"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
        assert ended.stdout.strip() == version


def test_the_version_stands_in_the_code_and_not_in_the_description_of_the_package() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["dynamic"] == ["version"]
    assert __version__ not in re.findall(r'"([^"]*)"', text)


def test_images_are_named_in_every_engines_files() -> None:
    assert {path.parent.name for path in IMAGES} == {"deploy", "celery", "ecs", "kubernetes"}


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_images_are_tagged_with_the_version(path: Path) -> None:
    tags = TAGS.findall(path.read_text(encoding="utf-8"))
    assert {either or other for either, other in tags} == {__version__}


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    """Until the first release, it has no heading but *Unreleased*."""
    assert released((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"))[:1] in ([], [__version__])


def test_headings_of_releases_are_found_in_a_changelog() -> None:
    text = "# Changelog\n\n## Unreleased\n\n### Added\n\n## [0.2.0] - 2026-12-01\n\n- 9.9.9\n\n## 0.1.0 - 2026-11-01\n"
    assert released(text) == ["0.2.0", "0.1.0"]
