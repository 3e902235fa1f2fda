"""The documentation site's part that MkDocs lacks: documents outside docs/, the API reference, and links to code.

Belongs here: the hooks that mkdocs.yml names. Not here: the documents, which read the same on a forge and on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from exr_pipeline import __version__

REPOSITORY = Path(__file__).parents[2]
# Documents whose pages have other names: those outside docs/, and the one whose place the README takes.
RENAMED = {
    "README.md": "index.md",
    "docs/index.md": "documents.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "deploy/ecs/README.md": "deploy-ecs.md",
    "deploy/dataengine/README.md": "deploy-dataengine.md",
    "deploy/lambda/README.md": "deploy-lambda.md",
    "deploy/cloudrun/README.md": "deploy-cloudrun.md",
    "deploy/kubernetes/README.md": "deploy-kubernetes.md",
    "fuzz/README.md": "fuzzing.md",
}
_SOURCES = {page: source for source, page in RENAMED.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def public_modules() -> dict[str, str]:
    """The public modules and their files in the repository: the rows of docs/api.md."""
    text = (REPOSITORY / "docs/api.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| \[`([\w.]+)`\]\(\.\./([\w./]+)\)", text, re.MULTILINE))


def page_of(path: str) -> str | None:
    """The page on which a file of the repository is shown, or the picture in docs/."""
    modules = {file: module for module, file in public_modules().items()}
    if path in modules:
        return f"api/{modules[path]}.md"
    if path == "docs/decisions":
        return RENAMED["docs/index.md"]
    return RENAMED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)


def on_config(config: MkDocsConfig) -> None:
    """Put the version at the foot of each page, and the pages of folders into the navigation."""
    config.copyright = f"exr-pipeline {__version__}"
    config.nav = _expanded(config.nav or [])


def _expanded(nav: list[Any]) -> list[Any]:
    entries: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            entries.append({title: _expanded(inner) if isinstance(inner, list) else inner})
        elif entry == "api/":
            entries += [{module.removeprefix("exr_pipeline."): f"api/{module}.md"} for module in public_modules()]
        elif entry.endswith("/"):
            entries += [f"{entry}{path.name}" for path in sorted((REPOSITORY / "docs" / entry).glob("*.md"))]
        else:
            entries.append(entry)
    return entries


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the documents outside docs/ and a page for each public module."""
    files.remove(files.src_uris["index.md"])
    for source, page in RENAMED.items():
        files.append(File.generated(config, page, content=(REPOSITORY / source).read_text(encoding="utf-8")))
    for module in public_modules():
        files.append(File.generated(config, f"api/{module}.md", content=f"# `{module}`\n\n::: {module}\n"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the page of what they lead to in the repository; else to its source, or write its name alone."""
    uri = page.file.src_uri
    folder = posixpath.dirname(_SOURCES.get(uri, f"docs/{uri}"))

    def link(found: re.Match[str]) -> str:
        picture, text, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if shown := page_of(path):
            return f"{picture}[{text}]({posixpath.relpath(shown, posixpath.dirname(uri) or '.')}{anchor or ''})"
        sources = config.extra["sources"]
        return f"[{text}]({sources}{path}{anchor or ''})" if sources else text

    return _LINK.sub(link, markdown)
