"""Local files behave as objects do."""

import errno
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.deadlines import in_time
from exr_pipeline.storage.local_files import LocalFiles
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage


@pytest.fixture
def folder(tmp_path: Path) -> Location:
    return Location("file", "", str(tmp_path).removeprefix("/"))


@pytest.fixture
def local() -> ObjectStorage:
    return ObjectStorage(Settings(_env_file=None))


def put(local: ObjectStorage, location: Location, data: bytes = b"x") -> None:
    local.write(location, data, content_type="image/jpeg", tags={"media_type": "thumbnail"})


@pytest.mark.parametrize("name", ["a b,c#d%20+é~.exr", "new\nline.exr", os.fsdecode(b"\xff\xfe.exr"), "a\\b.exr"])
def test_any_file_name_is_written_listed_and_read(
    local: ObjectStorage, folder: Location, tmp_path: Path, name: str
) -> None:
    location = folder.child(f"new folder/{name}")
    put(local, location, b"0123456789")
    path = tmp_path / "new folder" / name
    assert path.read_bytes() == b"0123456789"
    assert local.local_path(location) == path
    info = local.head(location)
    microseconds = (info.last_modified - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    assert (info.size, microseconds) == (10, path.stat().st_mtime_ns // 1000)
    assert local.read(location) == (info, b"0123456789")
    assert local.download(location, tmp_path / "copy") == info
    assert list(local.iter_objects(folder.child("new folder"))) == [info]
    local.delete(location)
    local.delete(location)
    assert list(local.iter_objects(folder.child("new folder"))) == []


def test_an_object_in_a_bucket_has_no_local_path(local: ObjectStorage) -> None:
    assert local.local_path(Location("s3", "show", "x.exr")) is None


def test_the_etag_changes_when_a_file_is_rewritten_in_place_with_as_many_bytes(
    local: ObjectStorage, folder: Location, tmp_path: Path
) -> None:
    path = tmp_path / "x.exr"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 1_000_000_000))
    one = local.head(folder.child("x.exr"))
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 1_000_000_001))
    two = local.head(folder.child("x.exr"))
    assert one.etag != two.etag


def test_the_etag_changes_when_a_file_is_replaced_by_one_of_the_same_size_and_time(
    local: ObjectStorage, folder: Location, tmp_path: Path
) -> None:
    for name, data in (("x.exr", b"one"), ("new", b"two")):
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, ns=(0, 0))
    one = local.head(folder.child("x.exr"))
    (tmp_path / "new").replace(tmp_path / "x.exr")
    assert local.head(folder.child("x.exr")).etag != one.etag


def test_a_file_that_is_not_there_has_vanished(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("x.exr", "file/x.exr"):
        with pytest.raises(BadInputError) as caught:
            local.read(folder.child(name))
        assert caught.value.reason.startswith("the file does not exist")
        assert caught.value.name == f"file://{tmp_path}/{name}"


def test_what_is_not_a_file_is_rejected_at_once(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    (tmp_path / "folder.exr").mkdir()
    os.mkfifo(tmp_path / "pipe.exr")
    for name in ("folder.exr", "pipe.exr"):
        with pytest.raises(BadInputError, match="not a regular file"):
            local.head(folder.child(name))
    assert list(local.iter_objects(folder)) == []


def test_a_copy_of_a_file_that_changes_meanwhile_is_refused_and_removed(
    local: ObjectStorage, folder: Location, tmp_path: Path
) -> None:
    source = tmp_path / "x.exr"
    source.write_bytes(b"x" * 100)
    # Copying a file onto itself is the one change that is sure to happen while it is read.
    with pytest.raises(RetryableError, match="changed while it was read"):
        local.download(folder.child("x.exr"), source)
    assert not source.exists()


def test_a_write_replaces_the_file_in_one_step(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    put(local, folder.child("x.jpg"), b"one")
    with (tmp_path / "x.jpg").open("rb") as reader:
        put(local, folder.child("x.jpg"), b"other")
        assert reader.read() == b"one"
    assert (tmp_path / "x.jpg").read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]


def test_a_write_that_fails_leaves_nothing(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(RetryableError):
        put(local, folder.child("x.jpg"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]


def test_a_place_that_cannot_be_written_to_is_a_wrong_setting(
    local: ObjectStorage, folder: Location, tmp_path: Path
) -> None:
    # Whoever runs this may be allowed to write everywhere; nobody can write into a file as if it were a folder.
    (tmp_path / ".proxies").touch()
    with pytest.raises(MisconfiguredError, match=r"cannot store media in file://.*/\.proxies/: .*\{source\}") as caught:
        put(local, folder.child(".proxies/x.jpg"))
    assert caught.value.setting == "EXR_PIPELINE_OUTPUT_ROOT"
    with pytest.raises(MisconfiguredError):
        local.check_writable(folder.child(".proxies/"))
    local.delete(folder.child(".proxies/x.jpg"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_or_closed_folder_is_a_wrong_setting(
    local: ObjectStorage, folder: Location, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    # A read-only disk takes a superuser to mount, to whom no folder is closed.
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(MisconfiguredError, match=os.strerror(number).lower()) as caught:
        put(local, folder.child(".proxies/x.jpg"))
    assert caught.value.setting == "EXR_PIPELINE_OUTPUT_ROOT"


def test_looking_whether_a_folder_can_be_written_to_leaves_nothing(
    local: ObjectStorage, folder: Location, tmp_path: Path
) -> None:
    local.check_writable(folder.child(".proxies/"))
    local.check_writable(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_is_at_fault_itself(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    for name in (f"{'x' * 252}.jpg", f"{'x' * 256}/x.jpg"):
        with pytest.raises(BadInputError, match="too long"):
            put(local, folder.child(name))
        local.delete(folder.child(name))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_wrong_setting(local: ObjectStorage, folder: Location) -> None:
    with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_SOURCES"):
        local.list_page(folder.child("nowhere"), after=None, limit=1)


@given(st.data())
def test_a_listing_is_in_byte_order_and_resumes_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("files")
    component = st.text(alphabet="a b-.~é0", min_size=1, max_size=3).filter(lambda part: part not in {".", ".."})
    for parts in data.draw(st.lists(st.lists(component, min_size=1, max_size=3), max_size=12)):
        path = root.joinpath(*parts)
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    local = ObjectStorage(Settings(_env_file=None))
    folder = Location("file", "", str(root).removeprefix("/"))
    keys = sorted((str(path).removeprefix("/") for path in root.rglob("*") if path.is_file()), key=os.fsencode)
    limit = data.draw(st.integers(1, 5))
    listed: list[str] = []
    after: str | None = None
    done = False
    while not done:
        page = local.list_page(folder, after=after, limit=limit)
        listed += [info.location.key for info in page.objects]
        after, done = page.last_key, page.done
    assert listed == keys
    behind = data.draw(st.sampled_from(keys)) if keys else folder.key
    assert [info.location.key for info in LocalFiles().list_files(folder, behind)] == [
        key for key in keys if os.fsencode(key) > os.fsencode(behind)
    ]


def test_links_are_followed_but_not_in_circles(local: ObjectStorage, folder: Location, tmp_path: Path) -> None:
    (tmp_path / "shot").mkdir()
    (tmp_path / "shot" / "x.exr").touch()
    (tmp_path / "latest").symlink_to("shot")
    (tmp_path / "shot" / "up").symlink_to("..")
    (tmp_path / "broken.exr").symlink_to("nowhere")
    names = {info.location.key.removeprefix(f"{folder.key}/") for info in local.iter_objects(folder)}
    assert names == {"shot/x.exr", "latest/x.exr"}


def test_a_link_to_itself_hides_neither_the_files_nor_the_folders_beside_it(
    local: ObjectStorage, folder: Location, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shot").mkdir()
    (tmp_path / "shot" / "x.exr").touch()
    (tmp_path / "a.exr").touch()
    (tmp_path / "loop").symlink_to("loop")
    names = [info.location.key.removeprefix(f"{folder.key}/") for info in local.iter_objects(folder)]
    assert names == ["a.exr", "shot/x.exr"]
    assert [message for message in caplog.messages if message.startswith(f"{tmp_path}/loop is skipped")]


def test_a_read_that_never_returns_ends_as_one_to_be_tried_again(
    local: ObjectStorage, folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.exr").write_bytes(b"x")
    released, open_file = threading.Event(), os.open

    def hanging(path: object, *how: Any, **more: Any) -> int:
        if str(path).endswith("x.exr"):
            released.wait(60)
        return open_file(path, *how, **more)  # type: ignore[arg-type]

    # A mount that hangs can't be had here.
    monkeypatch.setattr(os, "open", hanging)
    monkeypatch.setattr(in_time, "__kwdefaults__", {"seconds": 0.2})
    for read in (local.head, local.read, local.local.read_through):
        with pytest.raises(RetryableError, match=r"no answer for 0\.2 s"):
            read(folder.child("x.exr"))
    released.set()


@pytest.mark.parametrize("name", ["device.exr", "socket.exr", "folder.exr", "pipe.exr"])
def test_only_regular_files_are_opened_also_through_links(
    local: ObjectStorage, folder: Location, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        there = {"device.exr": Path("/dev/zero")}.get(name, tmp_path / name.removesuffix(".exr"))
        (tmp_path / name).symlink_to(there)
        for read in (local.head, local.read):
            with pytest.raises(BadInputError, match="not a regular file"):
                read(folder.child(name))
        assert [info.location.name for info in local.iter_objects(folder)] == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source with links: to another of its files and folders, and to files and folders elsewhere."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for path in (source / "shot", elsewhere / "shot"):
        path.mkdir(parents=True)
        (path / "a.exr").write_bytes(b"x")
    (source / "in.exr").symlink_to("shot/a.exr")
    (source / "out.exr").symlink_to(elsewhere / "shot/a.exr")
    (source / "in").symlink_to("shot")
    (source / "out").symlink_to(elsewhere / "shot")
    return source


def at(path: Path) -> Location:
    return Location("file", "", str(path).removeprefix("/"))


def test_links_out_of_a_source_are_followed_unless_the_setting_keeps_them_inside(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # That the source itself is reached through a link is its owner's choice.
    (tmp_path / "link").symlink_to(source)
    named = at(tmp_path / "link")
    follow = ObjectStorage(Settings(_env_file=None, sources=(named.url,)))
    inside = ObjectStorage(Settings(_env_file=None, sources=(named.url,), local_links="inside"))

    def listed(storage: ObjectStorage) -> set[str]:
        return {info.location.key.removeprefix(f"{named.key}/") for info in storage.iter_objects(named)}

    own = {"shot/a.exr", "in.exr", "in/a.exr"}
    assert listed(follow) == own | {"out.exr", "out/a.exr"}
    assert caplog.text == ""
    assert listed(inside) == own
    assert caplog.text.count("EXR_PIPELINE_LOCAL_LINKS") == 2
    for name in own:
        assert inside.read(named.child(name))[1] == b"x"
    for name in ("out.exr", "out/a.exr"):
        assert follow.read(named.child(name))[1] == b"x"
        with pytest.raises(BadInputError, match="leads outside the source's folder"):
            inside.read(named.child(name))


def test_nothing_is_written_or_removed_through_a_link_below_a_source(source: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (source / "shot/.proxies").symlink_to(elsewhere)
    (elsewhere / "a_thumb.jpg").write_bytes(b"theirs")
    before = sorted(elsewhere.rglob("*"))
    storage = ObjectStorage(Settings(_env_file=None, sources=(source.as_uri(),)))
    for name in ("shot/.proxies/a_thumb.jpg", "out/.proxies/a_thumb.jpg"):
        with pytest.raises(BadInputError, match=r"is a link, .*EXR_PIPELINE_OUTPUT_ROOT"):
            put(storage, at(source / name), b"ours")
        storage.delete(at(source / name))
    assert sorted(elsewhere.rglob("*")) == before
    assert (elsewhere / "a_thumb.jpg").read_bytes() == b"theirs"


def test_a_link_at_the_place_of_a_file_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "x.jpg").symlink_to(tmp_path / "theirs")
    put(ObjectStorage(Settings(_env_file=None)), at(tmp_path / "x.jpg"), b"ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "x.jpg").read_bytes() == b"ours"
    assert not (tmp_path / "x.jpg").is_symlink()


def test_an_output_root_may_be_reached_through_links_but_not_left_through_them(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "media").symlink_to(tmp_path / "disk")
    root = (tmp_path / "media").as_uri()
    storage = ObjectStorage(Settings(_env_file=None, output_root=f"{root}/{{source}}"))
    put(storage, at(tmp_path / "media/show/x.jpg"))
    assert (tmp_path / "disk/show/x.jpg").read_bytes() == b"x"
    (tmp_path / "disk/other").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="is a link"):
        put(storage, at(tmp_path / "media/other/x.jpg"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_path_that_leads_upwards_is_the_one_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    storage = ObjectStorage(Settings(_env_file=None, sources=((tmp_path / "source").as_uri(),)))
    put(storage, at(tmp_path / "source/../beside/x.jpg"))
    assert (tmp_path / "beside/x.jpg").read_bytes() == b"x"
