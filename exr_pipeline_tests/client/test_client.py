"""The client: any file there and back, at any server, again after its own death, and no byte that is not verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exr_pipeline.client import AsyncClient, Client, PausedError, Progress, RefusedError
from exr_pipeline.client.calls import Calls
from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.multipart import SMALLEST_PART
from exr_pipeline_tests.client.conftest import Running
from exr_pipeline_tests.service.conftest import ADMIN
from exr_pipeline_tests.services.processes import free_port, wait_until

SIZE = 2 * SMALLEST_PART + 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file.exr"
    path.write_bytes(os.urandom(SIZE))
    return path


def options(**more: Any) -> dict[str, Any]:
    return {"project": "show", "name": "hero", "part_size": SMALLEST_PART, "parallel": 1, **more}


@pytest.mark.parametrize(
    ("location", "direct"), [("bucket", False), ("bucket", True), ("folder", False)], ids=["node", "direct", "folder"]
)
def test_a_file_comes_back_as_it_was_sent(
    client: Client, file: Path, tmp_path: Path, location: str, direct: bool
) -> None:
    seen: list[Progress] = []
    media = client.put(file, **options(location=location, direct=direct, parallel=3, report=seen.append))
    assert (media.status, media.size, media.filename) == ("ready", SIZE, "a file.exr")
    assert media.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [each.done for each in seen if each.doing == "sending"][-1] == SIZE
    assert seen[-1] == Progress("verifying", SIZE, SIZE)
    out = tmp_path / "out.exr"
    client.get(media, out, direct=direct)
    assert out.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.glob(".out*")) == []
    assert list((tmp_path / "journals").iterdir()) == []
    assert client.asset("show", "hero").status == "ready"


def test_an_empty_file_comes_back_too(client: Client, tmp_path: Path) -> None:
    file, out = tmp_path / "empty.txt", tmp_path / "out.txt"
    file.touch()
    for direct in (False, True):
        client.get(client.put(file, project="show", name=f"empty {direct}", direct=direct), out, direct=direct)
        assert out.read_bytes() == b""
        out.unlink()


def after(parts: int, action: Callable[[], Any]) -> Callable[[Progress], None]:
    """Progress that does something once so many parts are there."""
    left = [parts]

    def report(_: Progress) -> None:
        left[0] -= 1
        if left[0] == 0:
            action()

    return report


@pytest.mark.parametrize("direct", [False, True])
def test_a_transfer_that_was_paused_goes_on_at_another_server_with_what_is_missing(
    running: Running, make_client: Any, file: Path, tmp_path: Path, direct: bool
) -> None:
    pause = threading.Event()
    first = make_client(running.urls[0])
    with pytest.raises(PausedError):
        first.put(file, **options(direct=direct, pause=pause, report=after(2, pause.set)))
    (notes,) = (tmp_path / "journals").iterdir()
    assert ADMIN not in notes.read_text()
    sent: list[Progress] = []
    second = make_client(running.urls[1])
    media = second.put(file, **options(direct=direct, report=sent.append))
    assert media.status == "ready"
    assert len([each for each in sent if each.doing == "sending"]) == 1
    assert len(second.media(second.asset("show", "hero"))) == 1


def test_a_program_that_was_killed_goes_on_where_it_was(
    running: Running, client: Client, file: Path, tmp_path: Path
) -> None:
    program = f"""
import os, signal, pathlib
from exr_pipeline.client import Client
client = Client({running.urls!r}, {ADMIN!r}, journals=pathlib.Path({str(tmp_path / "journals")!r}))
client.put(pathlib.Path({str(file)!r}), project="show", name="hero", part_size={SMALLEST_PART}, parallel=1,
    report=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    sent: list[Progress] = []
    media = client.put(file, **options(report=sent.append))
    assert media.status == "ready"
    assert len([each for each in sent if each.doing == "sending"]) == 2
    assert len(client.media(client.asset("show", "hero"))) == 1


def test_a_file_that_has_changed_since_is_sent_anew(running: Running, client: Client, file: Path) -> None:
    pause = threading.Event()
    with pytest.raises(PausedError):
        client.put(file, **options(pause=pause, report=after(1, pause.set)))
    file.write_bytes(b"other")
    media = client.put(file, **options())
    assert media.sha256 == hashlib.sha256(b"other").hexdigest()


def test_a_file_that_changes_while_it_is_sent_is_not_stored_as_a_mixture(client: Client, file: Path) -> None:
    with pytest.raises(BadInputError, match="changed while it was sent"):
        client.put(file, **options(report=after(1, lambda: file.write_bytes(os.urandom(SIZE)))))
    assert all(media.status != "ready" for media in client.media(client.asset("show", "hero")))


def test_a_server_that_is_away_is_passed_by(running: Running, make_client: Any, file: Path, tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    client = make_client(gone, running.urls[1])
    out = tmp_path / "out"
    client.get(client.put(file, **options()), out)
    assert out.read_bytes() == file.read_bytes()


def test_where_no_server_answers_it_is_said_after_some_patience(tmp_path: Path) -> None:
    with (
        Client([f"http://127.0.0.1:{free_port()}"], ADMIN, patience=0.5) as client,
        pytest.raises(RetryableError, match="no server of the catalog answers"),
    ):
        client.asset("show", "hero")


def test_what_the_catalog_refuses_is_not_tried_again(running: Running, make_client: Any, file: Path) -> None:
    with Client(running.urls, "exr_wrong", patience=60) as stranger, pytest.raises(RefusedError) as refused:
        stranger.put(file, **options())
    assert refused.value.status == 401
    client = make_client(*running.urls)
    with pytest.raises(RefusedError, match="there is no 'nowhere'"):
        client.put(file, **options(location="nowhere"))
    with pytest.raises(BadInputError, match="there is no such asset"):
        client.asset("show", "nothing")


def test_a_server_is_named_by_a_url() -> None:
    for servers in ([], ["localhost:8600"], ["file:///etc/passwd"]):
        with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_SERVERS"):
            Calls(servers, "x")


def test_bytes_that_were_damaged_at_the_store_are_never_put_in_place(
    running: Running, client: Client, file: Path, tmp_path: Path
) -> None:
    media = client.put(file, **options())
    location = Location.from_url(media.urls[0])
    running.storage.write(location, bytes(SIZE), content_type="image/x-exr", tags={})
    out = tmp_path / "out"
    with pytest.raises(RetryableError, match="SHA-256 is not that of the catalog"):
        client.get(media, out)
    assert not out.exists()


@pytest.mark.parametrize("direct", [False, True])
def test_a_download_goes_on_where_it_was_unless_the_file_has_changed(
    running: Running, client: Client, tmp_path: Path, direct: bool
) -> None:
    file, out = tmp_path / "large.exr", tmp_path / "out"
    file.write_bytes(os.urandom(33 << 20))
    media = client.put(file, project="show", name="large")
    pause = threading.Event()
    for _ in range(2):
        pause.clear()
        with pytest.raises(PausedError):
            client.get(media, out, parallel=1, direct=direct, pause=pause, report=after(1, pause.set))
    seen: list[Progress] = []
    client.get(media, out, parallel=1, direct=direct, report=seen.append)
    assert len([each for each in seen if each.doing == "fetching"]) == 1
    assert out.read_bytes() == file.read_bytes()
    with pytest.raises(PausedError):
        client.get(media, out, parallel=1, direct=direct, pause=pause, report=after(1, pause.set))
    pause.clear()
    with pytest.raises(PausedError):
        client.get(media, out, parallel=1, direct=direct, pause=pause, report=after(1, pause.set))
    location = Location.from_url(media.urls[0])
    running.storage.write(location, bytes(33 << 20), content_type="image/x-exr", tags={})
    with pytest.raises(BadInputError, match="changed while it was fetched"):
        client.get(media, out, parallel=1, direct=direct)


def test_the_same_file_again_is_sent_once_more_and_kept_once(client: Client, file: Path) -> None:
    first = client.put(file, **options())
    second = client.put(file, **options(name="hero two"))
    assert first.id != second.id
    assert first.urls == second.urls


def test_a_copy_at_another_location_says_how_far_it_is(running: Running, client: Client, file: Path) -> None:
    media = client.put(file, **options())
    copy = client.replicate(media, "folder")
    done = wait_until(
        lambda: (found := client.transfer(copy.id)).state not in {"open", "verifying"} and found, "it is copied"
    )
    assert (done.state, done.bytes_checked) == ("done", SIZE)
    (again,) = client.media(client.asset("show", "hero"))
    assert len(again.urls) == 2
    assert [path.read_bytes() for path in running.folder.rglob("a file.exr")] == [file.read_bytes()]


def test_assets_are_found_tagged_and_watched(client: Client, file: Path) -> None:
    client.put(file, **options(kind="image"))
    asset = client.set_tags(client.asset("show", "hero"), ["final"])
    assert [each.id for each in client.assets("her", tags=["final"], kind="image")] == [asset.id]
    with pytest.raises(RefusedError) as stale:
        client.set_tags(client.asset("show", "hero").__class__.of({**_dict(asset), "version": 1}), ["x"])
    assert stale.value.status == 412
    topics = []
    for event in client.watch(seconds=0.05):
        topics.append(event.topic)
        if event.topic == "asset.tagged":
            break
    assert topics[-3:] == ["media.expected", "media.stored", "asset.tagged"]


def _dict(asset: Any) -> dict[str, Any]:
    return {name: getattr(asset, name) for name in asset.__slots__}


def test_a_task_does_the_same_and_pauses_when_it_is_cancelled(running: Running, file: Path, tmp_path: Path) -> None:
    async def work() -> None:
        async with AsyncClient(running.urls, ADMIN, journals=tmp_path / "journals") as client:
            sending = asyncio.Event()
            loop = asyncio.get_running_loop()
            held = threading.Event()

            def report(_: Progress) -> None:
                loop.call_soon_threadsafe(sending.set)
                held.wait()

            task = asyncio.create_task(client.put(file, **options(report=report)))
            await sending.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.set()
            media = await client.put(file, **options())
            await client.get(media, tmp_path / "out")
            assert len(await client.media(await client.asset("show", "hero"))) == 1

    asyncio.run(work())
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
