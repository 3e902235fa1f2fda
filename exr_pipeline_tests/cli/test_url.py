"""`url`: links for people without keys, from an ingest on the real S3 server, and played in a real browser."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, urlsplit

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.browser import browser_page
from exr_pipeline_tests.cli.conftest import Cli, Ingested
from exr_pipeline_tests.renders import render
from exr_pipeline_tests.storage.test_presigned import ask

# Plays a video to its end; its width, and the time that it has reached.
PLAYED = """url => new Promise((done, failed) => {
    const video = document.createElement('video');
    video.muted = true;
    video.src = url;
    video.onerror = () => failed(video.error);
    video.onended = () => done([video.videoWidth, video.currentTime]);
    video.play().catch(failed);
})"""


@pytest.fixture
def another_site(tmp_path: Path) -> Iterator[str]:
    """The address of a page that has nothing to do with the S3 server."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<!DOCTYPE html><title>A client's page</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def shot(home: Path, storage: ObjectStorage, bucket: Location, s3_settings: Settings) -> Location:
    """A folder of two frames in a bucket."""
    folder = bucket.child("show/shot #1/")
    for number in (1001, 1002):
        frame = folder.child(f"beauty.{number}.exr")
        storage.write(frame, render(size=(320, 180)), content_type="text/html", tags={})
    return folder


def test_links_to_a_file_and_to_all_that_was_made_of_it_work_without_keys_and_play(
    cli: Cli, shot: Location, storage: ObjectStorage, another_site: str
) -> None:
    assert cli("ingest", shot.url).out.startswith("2 of 2 files: 2 ready")
    # In a process of its own: the lasting workers of other tests may have been at another S3 server.
    command = [sys.executable, "-m", "exr_pipeline.cli", "sequences", shot.url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    frame = shot.child("beauty.1001.exr")

    links = {
        "source": cli("url", frame.url, "--expires", "60"),
        "thumbnail": cli("url", frame.partition_key, "--thumbnail"),
        "proxy": cli("url", frame.url, "--proxy"),
        "movie": cli("url", f"{shot.url}beauty.%04d.exr", "--movie"),
    }

    urls = {name: link.out.strip() for name, link in links.items()}
    assert all(link.err == "" and len(link.out.splitlines()) == 1 for link in links.values()), links
    got = {name: ask(url) for name, url in urls.items()}
    assert {name: (answer.status, answer.headers["Content-Type"]) for name, (answer, _) in got.items()} == {
        "source": (200, "image/x-exr"),
        "thumbnail": (200, "image/jpeg"),
        "proxy": (200, "video/mp4"),
        "movie": (200, "video/mp4"),
    }
    assert got["source"][1] == storage.read(frame)[1]
    assert got["source"][0].headers["Content-Disposition"].startswith('attachment; filename="beauty.1001.exr"')
    assert got["proxy"][0].headers["Content-Disposition"].startswith('inline; filename="beauty.1001_proxy.mp4"')
    assert "X-Amz-Expires=60&" in urls["source"]
    assert "X-Amz-Expires=3600&" in urls["proxy"]
    with browser_page() as view:
        view.goto(another_site)
        assert view.evaluate(PLAYED, urls["proxy"]) == [320, pytest.approx(1.0, abs=0.05)]
        assert view.evaluate(PLAYED, urls["movie"]) == [320, pytest.approx(2 / 24, abs=0.01)]
        with view.expect_download() as started:
            view.evaluate("url => { location = url }", urls["source"])
        assert started.value.suggested_filename == "beauty.1001.exr"
        assert started.value.path().read_bytes() == storage.read(frame)[1]


def test_what_has_no_link_is_an_error_that_says_why(in_ingested: Cli, ingested: Ingested) -> None:
    frame = ingested.folder / "beauty.1001.exr"
    assert in_ingested("url", str(frame)).error == (
        f"{frame}: a local file, which has no URL to hand out: share the path"
    )
    proxy = ingested.folder / ".proxies" / "beauty.1001_proxy.mp4"
    assert in_ingested("url", str(frame), "--proxy").error == (
        f"{proxy}: a local file, which has no URL to hand out: share the path"
    )
    assert "its thumbnail was not made (rejected: " in (
        in_ingested("url", str(ingested.folder / "notes.1004.exr"), "--thumbnail").error
    )
    unknown = in_ingested("url", "s3://renders/never.exr")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.error == "s3://renders/never.exr: no such file in the tables: ingest it first"
    assert in_ingested("url", str(frame), "--proxy", "--movie").error == (
        "--proxy: it excludes --movie. Fix: give one of them"
    )


def test_a_link_is_valid_for_a_week_at_most(cli: Cli, shot: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("ingest", shot.url, "--only", "header").status == 0
    frame = shot.child("beauty.1001.exr").url
    assert cli("url", frame, "--expires", "604801").error == (
        "--expires: a URL cannot be valid for 604801 seconds. Fix: use 1 to 604800 (7 days)"
    )
    assert cli("url", frame, "--proxy").error == (
        f"{frame}: its proxy was not made (to make it: exr-pipeline ingest {frame})"
    )
    link = cli("url", frame, "--expires", "604800").out
    assert urlsplit(link).path.startswith(f"/{quote(shot.bucket)}/show/shot%20%231/")
    monkeypatch.setenv("S3_SECRET_KEY", "wrong")
    assert cli("url", frame).error.startswith("S3_ACCESS_KEY: the store refused the credentials")
