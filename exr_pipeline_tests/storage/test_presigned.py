"""Presigned URLs, used as anyone would use them: over HTTP, without keys, against a real S3 server."""

from email.message import Message
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.storage.presigned import MAX_SECONDS, content_disposition, content_type, presigned_url
from exr_pipeline.storage.store_errors import MissingObjectError
from exr_pipeline_tests.services.processes import wait_until

BYTES = bytes(range(256)) * 4


@pytest.fixture
def movie(storage: ObjectStorage, bucket: Location) -> Location:
    """An object whose store knows no type of it."""
    return put(storage, bucket.child("shot/.proxies/a b+ü#.1001_proxy.mp4"))


def put(storage: ObjectStorage, location: Location) -> Location:
    storage.write(location, BYTES, content_type="application/octet-stream", tags={})
    return location


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[HTTPResponse, bytes]:
    """The answer to a request of a client that knows nothing but the URL, and its body."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def saved_as(answer: HTTPResponse) -> tuple[str | None, str | None]:
    """What the Content-Disposition says to a client that knows RFC 6266: the kind, and the name by RFC 8187."""
    header = Message()
    # Python's parser reads the other name, too, and then takes the first.
    kind, _, name = answer.headers["Content-Disposition"].split("; filename")
    header["Content-Disposition"] = f"{kind}; filename{name}"
    return header.get_content_disposition(), header.get_filename()


def test_anyone_gets_the_bytes_the_type_and_the_name(storage: ObjectStorage, movie: Location) -> None:
    answer, body = ask(presigned_url(storage, movie))

    assert (answer.status, body) == (200, BYTES)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Disposition"].startswith("inline; ")
    answer, _ = ask(presigned_url(storage, movie, download=True))
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert 'filename="a b___.1001_proxy.mp4"' in answer.headers["Content-Disposition"]
    assert "filename*=UTF-8''a%20b%2B%C3%BC%23.1001_proxy.mp4" in answer.headers["Content-Disposition"]


def test_a_player_gets_a_part_and_nobody_an_object_without_the_signature(
    storage: ObjectStorage, movie: Location
) -> None:
    url = presigned_url(storage, movie)
    answer, body = ask(url, Range="bytes=256-259")
    assert (answer.status, body) == (206, bytes(range(4)))
    assert ask(url.partition("?")[0])[0].status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_it_neither_writes_nor_deletes(storage: ObjectStorage, movie: Location, method: str) -> None:
    answer, _ = ask(presigned_url(storage, movie), method, b"other bytes" if method != "DELETE" else None)
    assert answer.status in {403, 405}
    assert storage.read(movie)[1] == BYTES


@pytest.mark.parametrize(
    ("signed", "instead"),
    [
        ("response-content-type=video%2Fmp4", "response-content-type=text%2Fhtml"),
        ("response-content-disposition=inline", "response-content-disposition=attachment"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("_proxy.mp4?", "_proxy.mov?"),
    ],
)
def test_nothing_in_it_can_be_changed(storage: ObjectStorage, movie: Location, signed: str, instead: str) -> None:
    put(storage, movie.folder.child(movie.name.replace("mp4", "mov")))
    url = presigned_url(storage, movie, seconds=60)
    assert signed in url
    assert ask(url)[0].status == 200
    assert ask(url.replace(signed, instead))[0].status == 403


def test_it_ends_when_its_time_is_over(storage: ObjectStorage, movie: Location) -> None:
    url = presigned_url(storage, movie, seconds=1)
    wait_until(lambda: ask(url)[0].status == 403, "the URL is refused", seconds=60)
    assert ask(presigned_url(storage, movie, seconds=MAX_SECONDS))[0].status == 200


@pytest.mark.parametrize("seconds", [-1, 0, MAX_SECONDS + 1])
def test_it_lasts_no_longer_than_s3_allows(storage: ObjectStorage, movie: Location, seconds: int) -> None:
    with pytest.raises(
        MisconfiguredError, match=f"expires: a URL cannot be valid for {seconds} seconds. Fix: use 1 to"
    ):
        presigned_url(storage, movie, seconds=seconds)


@pytest.mark.parametrize(
    "name",
    [
        'x"; filename="evil.exe.exr',
        "x; filename*=UTF-8''evil.exe; y.exr",
        "%0d%0aSet-Cookie: a=b.exr",
        "\u202egpj.exe.exr",
        "back\\slash.exr",
        "日本.exr",
    ],
)
def test_no_name_of_a_file_gets_out_of_the_header(storage: ObjectStorage, bucket: Location, name: str) -> None:
    answer, body = ask(presigned_url(storage, put(storage, bucket.child(name)), download=True))

    assert (answer.status, body) == (200, BYTES)
    assert answer.headers["Content-Type"] == "image/x-exr"
    assert "Set-Cookie" not in answer.headers
    plain = answer.headers["Content-Disposition"].split("filename=")[1].split("; filename*=")[0]
    assert plain.strip('"').isascii()
    assert '"' not in plain[1:-1]
    assert saved_as(answer) == ("attachment", name.replace("\u202e", r"\u202e"))


def test_control_characters_are_spelled_out_in_the_name_that_is_saved() -> None:
    header = content_disposition("a\r\nX: y\x1b\x7f.exr", download=True)
    assert header.isascii()
    assert header.isprintable()
    assert header == r"""attachment; filename="a_x0d X_ y_x1b_x7f.exr"; filename*=UTF-8''""" + (
        "a%5Cx0d%20X%3A%20y%5Cx1b%5Cx7f.exr"
    )


def test_the_type_is_that_of_a_picture_a_movie_or_a_sound_or_else_plain_bytes() -> None:
    types = {name: content_type(name) for name in ("A.EXR", "a.mov", "a.wav", "a.html", "a.js", "a", "a.mxf")}
    assert types == {
        "A.EXR": "image/x-exr",
        "a.mov": "video/quicktime",
        "a.wav": "audio/x-wav",
        **dict.fromkeys(("a.html", "a.js", "a", "a.mxf"), "application/octet-stream"),
    }


def test_what_is_not_in_s3_or_not_there_has_none(storage: ObjectStorage, bucket: Location, tmp_path: Path) -> None:
    local = Location("file", "", str(tmp_path / "a.exr").lstrip("/"))
    with pytest.raises(BadInputError, match=f"{tmp_path}/a.exr: a local file, which has no URL"):
        presigned_url(storage, local)
    with pytest.raises(BadInputError, match=r"gs://renders/a\.exr: only objects in S3"):
        presigned_url(storage, Location("gs", "renders", "a.exr"))
    with pytest.raises(MissingObjectError):
        presigned_url(storage, bucket.child("gone.exr"))
    with pytest.raises(BadInputError, match=r"empty, \. or \.\. component"):
        presigned_url(storage, bucket.child("shot/../a.exr"))


@pytest.mark.parametrize(
    ("bucket", "address"),
    [
        ("renders", "https://renders.s3.eu-central-1.amazonaws.com/shot/a.exr?"),
        ("renders.studio", "https://s3.eu-central-1.amazonaws.com/renders.studio/shot/a.exr?"),
    ],
)
def test_a_url_of_aws_names_the_region_that_it_is_signed_for(bucket: str, address: str) -> None:
    settings = Settings(
        _env_file=None,
        s3_endpoint=None,
        s3_region="eu-central-1",
        s3_access_key="an-access-key",
        s3_secret_key="a-secret",
    )
    storage = ObjectStorage(settings)
    url = storage.sign_get(
        Location("s3", bucket, "shot/a.exr"), seconds=60, content_type="image/x-exr", content_disposition="inline"
    )
    assert url.startswith(address)
    assert "a-secret" not in url
