"""Local files behave as objects do."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exr_pipeline.errors import BadInputError, MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage import local_files
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
        assert caught.value.reason.startswith("not there")
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
    with pytest.raises(
        MisconfiguredError, match=r"media cannot be stored in file://.*/\.proxies: .*\{source\}"
    ) as caught:
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
    monkeypatch.setattr(Path, "mkdir", refuse)
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
    assert [info.location.key for info in local_files.list_files(folder, behind)] == [
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
    assert [message for message in caplog.messages if message.startswith(f"{tmp_path}/loop is not listed")]
