"""Who may read what is made on this machine."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.storage.private_files import make_private_folder, new_files_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("folder", "made", "file"), [(0o755, 0o755, 0o644), (0o2770, 0o2770, 0o660), (0o700, 0o700, 0o600)]
)
def test_media_are_as_open_as_the_folder_of_their_source_whatever_the_process_makes_otherwise(
    tmp_path: Path, folder: int, made: int, file: int
) -> None:
    shot = tmp_path / "shot"
    shot.mkdir()
    shot.chmod(folder)
    thumbnail = shot / ".proxies" / "a_thumb.jpg"
    location = Location("file", "", str(thumbnail).lstrip("/"))
    with new_files_private():
        ObjectStorage(Settings(_env_file=None)).write(location, b"jpeg", content_type="image/jpeg", tags={})
        (tmp_path / "state").touch()
    assert (mode(thumbnail.parent), mode(thumbnail)) == (made, file)
    assert mode(tmp_path / "state") == 0o600
    (tmp_path / "other").touch()
    assert mode(tmp_path / "other") == 0o644


def test_a_private_folder_is_for_its_user_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path / "state" / "dagster")
    assert (mode(tmp_path / "state"), mode(tmp_path / "state" / "dagster")) == (0o700, 0o700)
    make_private_folder(tmp_path)
    assert mode(tmp_path) == 0o755
