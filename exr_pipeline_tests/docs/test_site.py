"""The documentation site: it builds strictly, loads nothing from elsewhere, and is searched without a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

from exr_pipeline_tests.browser import browser_page
from exr_pipeline_tests.docs.generated import REPOSITORY
from exr_pipeline_tests.docs.site_hooks import public_modules

Build = Callable[..., "subprocess.CompletedProcess[str]"]


def build(config: Path, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        config,
        "--site-dir",
        target,
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", **environment}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    built = build(REPOSITORY / "mkdocs.yml", target)
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture
def page_more(tmp_path: Path) -> Callable[[str], Path]:
    """The configuration of a site like ours with one page more, without the reference, which takes its time."""

    def configured(text: str) -> Path:
        shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
        (tmp_path / "docs/page.md").write_text(text, encoding="utf-8")
        config = tmp_path / "mkdocs.yml"
        config.write_text(
            f"INHERIT: {REPOSITORY}/mkdocs.yml\ndocs_dir: {tmp_path}/docs\n"
            f"hooks: [{REPOSITORY}/exr_pipeline_tests/docs/site_hooks.py]\n"
            "plugins: []\nnav: [page.md]\nvalidation: {nav: {omitted_files: ignore}}\n",
            encoding="utf-8",
        )
        return config

    return configured


class _Loaded(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert [address for address in loaded.addresses if re.match(r"(\w+:)?//", address)] == [], page
        if page.name != "404.html":  # Its addresses are those of a server's root.
            assert [
                a for a in loaded.addresses if a[0] not in "#/" and not (page.parent / a.split("?")[0]).exists()
            ] == []


def test_the_site_is_searched_from_a_folder_without_a_request_to_anywhere(site: Path) -> None:
    requested: list[str] = []
    with browser_page() as page:
        page.on("request", lambda request: requested.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.fill("input.md-search__input", "cryptomatte")
        found = page.locator(".md-search-result__item a").first
        found.wait_for(timeout=120_000)
        assert found.get_attribute("href")
        page.goto((site / "architecture.html").as_uri())
        page.wait_for_load_state("networkidle")
    assert requested
    assert [url for url in requested if not url.startswith(("file:", "data:", "about:", "blob:"))] == []


def test_documents_outside_the_folder_are_pages_and_links_to_them_lead_there(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="contributing.html"' in start
    assert 'href="operations.html#dagster_home"' in start
    assert "A tour in eleven lines" in start
    assert 'href="../index.html"' in (site / "decisions/0001-components.html").read_text(encoding="utf-8")
    assert "Unreleased" in (site / "changelog.html").read_text(encoding="utf-8")


def test_a_link_to_code_is_its_name_or_leads_to_the_forge_that_is_configured(
    page_more: Callable[[str], Path], tmp_path: Path
) -> None:
    config = page_more("# Page\n\nSee [the home](../dagster.yaml) and [errors](../exr_pipeline/errors.py).\n")
    for sources, shown in (
        ("", "See the home and"),
        ("https://forge.example/main/", 'See <a href="https://forge.example/main/dagster.yaml">the home</a> and'),
    ):
        built = build(config, tmp_path / "site", DOCS_SOURCES=sources)
        assert built.returncode == 0, built.stdout + built.stderr
        page = next((tmp_path / "site").rglob("page*/index.html"), None) or tmp_path / "site/page.html"
        text = page.read_text(encoding="utf-8")
        assert shown in text
        assert re.search(r'<a href="[./]*api/exr_pipeline\.errors(\.html|/)">errors</a>', text)


def test_a_broken_link_fails_the_build(page_more: Callable[[str], Path], tmp_path: Path) -> None:
    built = build(page_more("# Page\n\n[One](gone.md), [two](page.md#away), [three](#lost).\n"), tmp_path / "site")
    assert built.returncode != 0
    assert [word in built.stderr for word in ("gone.md", "#away", "#lost")] == [True, True, True]


def test_public_modules_have_a_page_with_what_they_define(site: Path) -> None:
    assert len(public_modules()) > 10
    for module, source in public_modules().items():
        imported = import_module(module)
        assert imported.__file__ == str(REPOSITORY / source)
        page = (site / f"api/{module}.html").read_text(encoding="utf-8")
        names = getattr(imported, "__all__", None) or [
            name
            for name, value in vars(imported).items()
            if not name.startswith("_") and isinstance(value, type) and value.__module__ == module
        ]
        shown = set(re.findall(rf'id="{re.escape(module)}\.(\w+)"', page))
        # A function with the name of its module is shown with that.
        assert [name for name in names if name not in shown and f"{module}.{name}" not in public_modules()] == []


def test_what_examples_and_documents_import_is_public() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").rglob("*.py")]
    texts += [path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").rglob("*.md")]
    imported = {name for text in texts for name in re.findall(r"^from (exr_pipeline[\w.]*) import", text, re.MULTILINE)}
    assert len(imported) > 4
    assert imported - set(public_modules()) == set()
