"""A headless Chromium for tests of pages: the system's own, driven by Playwright.

Without one, tests that need it are skipped with a loud reason, or fail where EXR_PIPELINE_TEST_REQUIRE_ALL is set.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """The path of the system's Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    message = "NOT TESTED: no Chromium on this machine (apt-get install chromium); the page was not looked at"
    if os.environ.get("EXR_PIPELINE_TEST_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def browser_page() -> Iterator[Page]:
    """A new page in a new browser."""
    path = chromium()
    with sync_playwright() as playwright:
        # A busy machine takes longer than the usual 30 s.
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS, timeout=120_000)
        try:
            yield browser.new_page(viewport={"width": 1500, "height": 950})
        finally:
            browser.close()
