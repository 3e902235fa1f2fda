"""Objects over HTTP, against a real S3 server."""

import asyncio
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import pytest
from pydantic import SecretStr

from exr_pipeline.errors import BadInputError, ExrPipelineError, MisconfiguredError, RetryableError
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import _REQUEST_SECONDS, ObjectStorage
from exr_pipeline_tests.conftest import STRANGER

ODD = [
    "a",
    "a b",
    "a-b",
    "a.b",
    "a,b",
    "a#b",
    "a%b",
    "a%2Fb",
    "a+b",
    "é",
    "e\u0301",
    "日本",
    "~",
    "a&b=c;d'e(f)@:!$",
    "A",
]


@pytest.fixture
def boto(s3_server: EmbeddedS3) -> Any:
    return boto3.Session().client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )


def put(storage: ObjectStorage, location: Location, data: bytes = b"x") -> None:
    storage.write(location, data, content_type="image/x-exr", tags={})


def as_user(settings: Settings, access_key: str, secret_key: str) -> ObjectStorage:
    keys = {"s3_access_key": SecretStr(access_key), "s3_secret_key": SecretStr(secret_key)}
    return ObjectStorage(settings.model_copy(update=keys))


def test_a_written_object_has_its_content_type_and_tags(storage: ObjectStorage, bucket: Location, boto: Any) -> None:
    location = bucket.child("shot/.proxies/beauty.0001_thumb.jpg")
    tags = {"media_type": "thumbnail", "generator": "exr pipeline", "version": "1.0+x"}
    # More than obstore puts in one request unless told to.
    storage.write(location, b"j" * 6_000_000, content_type="image/jpeg", tags=tags)
    stored = boto.get_object_tagging(Bucket=bucket.bucket, Key=location.key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in stored} == tags
    head = boto.head_object(Bucket=bucket.bucket, Key=location.key)
    assert head["ContentType"] == "image/jpeg"
    assert head["ContentLength"] == 6_000_000
    assert "-" not in head["ETag"], "one put, not a multipart upload"


def test_every_way_to_ask_for_an_object_says_the_same_about_it(
    storage: ObjectStorage, bucket: Location, tmp_path: Path
) -> None:
    for name in ODD:
        location = bucket.child(f"shots/{name}/{name}.exr")
        before = datetime.now(UTC) - timedelta(seconds=2)
        put(storage, location, b"0123456789")
        info = storage.head(location)
        assert info.location == location
        assert info.size == 10
        assert info.etag
        assert '"' not in info.etag
        assert info.last_modified.tzinfo is UTC
        assert before < info.last_modified <= datetime.now(UTC)
        assert storage.read(location) == (info, b"0123456789")
        assert storage.read_range(location, 2, 3) == (info, b"234")
        assert storage.download(location, tmp_path / "copy") == info
        assert (tmp_path / "copy").read_bytes() == b"0123456789"
        assert storage.list_page(bucket.child(f"shots/{name}"), after=None, limit=5).objects == [info]
        assert list(storage.iter_objects(bucket.child(f"shots/{name}"))) == [info]


def test_the_async_methods_answer_like_the_others(storage: ObjectStorage, bucket: Location, tmp_path: Path) -> None:
    location = bucket.child("x.exr")

    async def all_of_them() -> None:
        await storage.write_async(location, b"0123456789", content_type="image/x-exr", tags={})
        info = storage.head(location)
        assert await storage.head_async(location) == info
        assert await storage.read_async(location) == (info, b"0123456789")
        assert await storage.read_range_async(location, 8, 100) == (info, b"89")
        assert await storage.download_async(location, tmp_path / "copy") == info
        await storage.delete_async(location)
        with pytest.raises(BadInputError):
            await storage.head_async(location)

    asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("content", "start", "length", "expected"),
    [
        (b"0123", 0, 4, b"0123"),
        (b"0123", 0, 100, b"0123"),
        (b"0123", 3, 100, b"3"),
        (b"0123", 4, 100, b""),
        (b"0123", 1000, 100, b""),
        (b"", 0, 100, b""),
        (b"", 5, 100, b""),
    ],
)
def test_a_range_ends_where_the_object_does(
    storage: ObjectStorage,
    bucket: Location,
    tmp_path: Path,
    content: bytes,
    start: int,
    length: int,
    expected: bytes,
) -> None:
    for location in (bucket.child("x.exr"), Location.from_url((tmp_path / "x.exr").as_uri())):
        put(storage, location, content)
        info, data = storage.read_range(location, start, length)
        assert data == expected
        assert info == storage.head(location)
        assert info.size == len(content)


def test_the_etag_tells_versions_of_one_size_apart(storage: ObjectStorage, bucket: Location) -> None:
    location = bucket.child("x.exr")
    put(storage, location, b"one")
    one = storage.head(location)
    put(storage, location, b"two")
    assert storage.head(location).etag != one.etag


def test_the_etag_of_an_upload_in_parts_is_the_same_listed_and_asked_for(
    storage: ObjectStorage, bucket: Location, boto: Any
) -> None:
    upload = boto.create_multipart_upload(Bucket=bucket.bucket, Key="x.exr")["UploadId"]
    where = {"Bucket": bucket.bucket, "Key": "x.exr", "UploadId": upload}
    parts = [
        {"PartNumber": n, "ETag": boto.upload_part(**where, PartNumber=n, Body=body)["ETag"]}
        for n, body in ((1, b"a" * (5 << 20)), (2, b"b"))
    ]
    boto.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    info = storage.head(bucket.child("x.exr"))
    assert info.etag.endswith("-2")
    assert list(storage.iter_objects(bucket)) == [info]
    assert storage.read_range(bucket.child("x.exr"), (5 << 20) - 1, 2) == (info, b"ab")


def test_a_deleted_object_is_gone_and_may_be_deleted_again(storage: ObjectStorage, bucket: Location) -> None:
    location = bucket.child("x.exr")
    put(storage, location)
    storage.delete(location)
    storage.delete(location)
    assert list(storage.iter_objects(bucket)) == []


def test_a_long_listing_is_complete_in_pages_of_any_size(storage: ObjectStorage, bucket: Location) -> None:
    random.seed(2)
    folders = [f"show/{one}/{other}" for one in ODD for other in ODD]
    keys = {f"{folder}/beauty.{frame:04}.exr" for folder in folders for frame in range(11)}
    keys |= {f"show/{name}.exr" for name in ODD} | {f"show/a/{name}.exr" for name in ODD}
    assert len(keys) > 2500 - 1
    neighbours = {"show2/x.exr", "sho/x.exr", "show.exr"}
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: put(storage, bucket.child(key)), [*keys, *neighbours]))

    prefix = bucket.child("show")
    everything = [info.location.key for info in storage.iter_objects(prefix)]
    assert len(everything) == len(keys)
    assert set(everything) == keys
    for limit in (1000, 997, 1700, 10_000):
        listed: list[str] = []
        after: str | None = None
        done = False
        while not done:
            page = storage.list_page(prefix, after=after, limit=limit)
            assert len(page.objects) <= limit
            assert page.last_key == page.objects[-1].location.key
            listed += [info.location.key for info in page.objects]
            after, done = page.last_key, page.done
        assert listed == everything
    for position in random.sample(range(len(everything)), 60):
        page = storage.list_page(prefix, after=everything[position], limit=2)
        assert [info.location.key for info in page.objects] == everything[position + 1 : position + 3]


def test_a_listing_goes_on_behind_a_key_that_was_deleted(storage: ObjectStorage, bucket: Location) -> None:
    for name in "abc":
        put(storage, bucket.child(name))
    page = storage.list_page(bucket, after=None, limit=2)
    assert page.last_key == "b"
    assert not page.done
    storage.delete(bucket.child("b"))
    rest = storage.list_page(bucket, after=page.last_key, limit=2)
    assert [info.location.key for info in rest.objects] == ["c"]
    assert rest.done
    end = storage.list_page(bucket, after="c", limit=2)
    assert (end.objects, end.last_key, end.done) == ([], None, True)


def test_keys_that_cannot_be_asked_for_are_listed_and_rejected_without_harm_to_their_neighbours(
    storage: ObjectStorage, bucket: Location, boto: Any
) -> None:
    for key in ("show/a.exr", "show/new\nline.exr", "show/z.exr"):
        boto.put_object(Bucket=bucket.bucket, Key=key, Body=b"x")
    listed = [info.location for info in storage.iter_objects(bucket)]
    assert sorted(location.key for location in listed) == ["show/a.exr", "show/new\nline.exr", "show/z.exr"]
    for key in ("show/new\nline.exr", "show//a.exr", "show/../a.exr", "/a.exr", "a.exr/"):
        with pytest.raises(BadInputError, match="the key has"):
            storage.read(bucket.child(key))


@pytest.mark.parametrize("method", ["head", "read", "read_range", "download"])
class TestTypedErrorsOfReading:
    def attempt(self, storage: ObjectStorage, method: str, location: Location, tmp_path: Path) -> ExrPipelineError:
        arguments = {"read_range": (0, 10), "download": (tmp_path / "copy",)}.get(method, ())
        with pytest.raises(ExrPipelineError) as caught:
            getattr(storage, method)(location, *arguments)
        assert not (tmp_path / "copy").exists()
        assert caught.value.__cause__ is None
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        return caught.value

    def test_a_missing_object_has_vanished(
        self, storage: ObjectStorage, bucket: Location, tmp_path: Path, method: str
    ) -> None:
        error = self.attempt(storage, method, bucket.child("a b/x.exr"), tmp_path)
        assert isinstance(error, BadInputError)
        assert error.name == f"s3://{bucket.bucket}/a%20b/x.exr"
        assert error.reason.startswith("the file does not exist")

    def test_an_object_that_may_not_be_read_is_at_fault_itself(
        self, storage: ObjectStorage, s3_settings: Settings, bucket: Location, tmp_path: Path, method: str
    ) -> None:
        put(storage, bucket.child("x.exr"))
        error = self.attempt(as_user(s3_settings, **STRANGER), method, bucket.child("x.exr"), tmp_path)
        assert isinstance(error, BadInputError)
        assert error.reason == "not readable: permission denied"

    def test_a_missing_bucket_is_a_wrong_setting(self, storage: ObjectStorage, tmp_path: Path, method: str) -> None:
        error = self.attempt(storage, method, Location("s3", "no-such-bucket", "x.exr"), tmp_path)
        assert isinstance(error, MisconfiguredError)
        assert error.setting == "S3_ENDPOINT"
        assert "no-such-bucket" in error.problem

    @pytest.mark.parametrize(
        ("access_key", "secret_key"), [("exr-pipeline", "wrong-secret"), ("nobody", "nobodys-secret")]
    )
    def test_wrong_keys_are_a_wrong_setting(
        self,
        storage: ObjectStorage,
        s3_settings: Settings,
        bucket: Location,
        tmp_path: Path,
        method: str,
        access_key: str,
        secret_key: str,
    ) -> None:
        put(storage, bucket.child("x.exr"))
        error = self.attempt(as_user(s3_settings, access_key, secret_key), method, bucket.child("x.exr"), tmp_path)
        assert isinstance(error, MisconfiguredError)
        assert error.setting == "S3_ACCESS_KEY"
        assert secret_key not in str(error)

    def test_a_dead_server_may_come_back(
        self, s3_settings: Settings, bucket: Location, tmp_path: Path, method: str
    ) -> None:
        error = self.attempt(nowhere(s3_settings), method, bucket.child("x.exr"), tmp_path)
        assert isinstance(error, RetryableError)

    def test_a_key_that_imitates_an_answer_of_the_store_deceives_nobody(
        self, storage: ObjectStorage, bucket: Location, tmp_path: Path, method: str
    ) -> None:
        error = self.attempt(storage, method, bucket.child("status code: 503 <Code>NoSuchBucket<"), tmp_path)
        assert isinstance(error, BadInputError)
        assert error.reason.startswith("the file does not exist")


def nowhere(settings: Settings) -> ObjectStorage:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return ObjectStorage(settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{port}"}))


def test_listing_and_writing_elsewhere_name_what_is_wrong(
    storage: ObjectStorage, s3_settings: Settings, bucket: Location
) -> None:
    missing = Location("s3", "no-such-bucket", "")
    with pytest.raises(MisconfiguredError, match="no-such-bucket"):
        storage.list_page(missing, after=None, limit=1)
    with pytest.raises(MisconfiguredError, match="no-such-bucket"):
        put(storage, missing.child("x.exr"))
    for keys in (STRANGER, {"access_key": "exr-pipeline", "secret_key": "wrong"}):
        other = as_user(s3_settings, **keys)
        with pytest.raises(MisconfiguredError, match="S3_ACCESS_KEY"):
            other.list_page(bucket, after=None, limit=1)
        with pytest.raises(MisconfiguredError) as caught:
            put(other, bucket.child("x.exr"))
        assert caught.value.setting == ("EXR_PIPELINE_OUTPUT_ROOT" if keys == STRANGER else "S3_ACCESS_KEY")
    dead = nowhere(s3_settings)
    with pytest.raises(RetryableError):
        dead.list_page(bucket, after=None, limit=1)
    with pytest.raises(RetryableError):
        put(dead, bucket.child("x.exr"))


def test_a_key_that_is_too_long_is_at_fault_itself(storage: ObjectStorage, bucket: Location) -> None:
    location = bucket.child("/".join(["d" * 200] * 5) + f"/{'x' * 20}.exr")
    with pytest.raises(BadInputError, match="KeyTooLongError"):
        put(storage, location)
    storage.delete(location)


def test_a_server_that_breaks_off_in_the_middle_leaves_nothing_behind(
    s3_settings: Settings, bucket: Location, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def break_off() -> None:
            answer = (
                b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "1"\r\n'
                b"Last-Modified: Sat, 02 May 2026 10:00:00 GMT\r\n\r\n" + b"x" * 1000
            )
            listener.settimeout(20)
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        serving = threads.submit(break_off)
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        broken = ObjectStorage(s3_settings.model_copy(update={"s3_endpoint": endpoint}))
        with pytest.raises(RetryableError):
            broken.download(bucket.child("x.exr"), tmp_path / "copy")
        with pytest.raises(RetryableError):
            broken.read(bucket.child("x.exr"))
        listener.shutdown(socket.SHUT_RDWR)
        serving.result()
    assert list(tmp_path.iterdir()) == []


class Portal(BaseHTTPRequestHandler):
    """A network's login page, which says yes to every request."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        page = b"<html>please log in</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.send_header("ETag", '"portal"')
        self.send_header("Last-Modified", "Sat, 02 May 2026 10:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_PUT = do_HEAD = answer  # noqa: N815 - the names that the server calls

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("as_file", [False, True])
def test_an_answer_that_is_not_the_stores_is_no_written_object(
    s3_settings: Settings, bucket: Location, tmp_path: Path, as_file: bool
) -> None:
    (tmp_path / "data").write_bytes(b"media")
    data = tmp_path / "data" if as_file else b"media"
    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as portal, ThreadPoolExecutor(1) as threads:
        threads.submit(portal.serve_forever)
        endpoint = f"http://127.0.0.1:{portal.server_port}"
        behind = ObjectStorage(s3_settings.model_copy(update={"s3_endpoint": endpoint}))
        try:
            with pytest.raises(RetryableError, match="the store confirmed the write but does not have the object"):
                behind.write(bucket.child("x.mp4"), data, content_type="video/mp4", tags={})
        finally:
            portal.shutdown()


def test_a_slow_download_goes_on_for_as_long_as_bytes_arrive_and_a_stalled_one_ends(
    s3_settings: Settings, bucket: Location, tmp_path: Path
) -> None:
    # Time runs 600 times as fast: the two seconds and more of the slow one stand for twenty minutes.
    stalls = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def trickle() -> None:
            for stalled in (False, True):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(
                        b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\nETag: "1"\r\n'
                        b"Last-Modified: Sat, 02 May 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n"
                    )
                    for _ in range(12 if stalled else 24):
                        time.sleep(0.1)
                        connection.sendall(b"x")
                    if stalled:
                        stalls.wait(60)

        listener.settimeout(20)
        serving = threads.submit(trickle)
        changes = {"s3_endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}", "request_retries": 0}
        slow = ObjectStorage(
            s3_settings.model_copy(update=changes), stall_seconds=1, request_seconds=_REQUEST_SECONDS / 600
        )
        try:
            assert slow.download(bucket.child("x.mov"), tmp_path / "copy").size == 24
            with pytest.raises(RetryableError):
                slow.download(bucket.child("x.mov"), tmp_path / "copy")
        finally:
            stalls.set()
        serving.result()


def test_keys_of_the_settings_are_used_alone_whatever_the_environment_says(
    s3_settings: Settings, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    storage = ObjectStorage(s3_settings)
    put(storage, bucket.child("x.exr"))
    assert [info.location.key for info in storage.iter_objects(bucket)] == ["x.exr"]


def test_without_keys_the_aws_chain_is_used(
    s3_settings: Settings, s3_server: EmbeddedS3, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    storage = ObjectStorage(s3_settings.model_copy(update={"s3_access_key": None, "s3_secret_key": None}))
    put(storage, bucket.child("x.exr"))
    assert [info.location.key for info in storage.iter_objects(bucket)] == ["x.exr"]


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"s3_secret_key": None}, "S3_SECRET_KEY"),
        ({"s3_access_key": None}, "S3_ACCESS_KEY"),
        ({"s3_endpoint": "localhost:8333"}, "S3_ENDPOINT"),
    ],
)
def test_half_a_configuration_names_the_other_half(
    s3_settings: Settings, bucket: Location, change: dict[str, Any], setting: str
) -> None:
    storage = ObjectStorage(s3_settings.model_copy(update=change))
    for call in (
        lambda: storage.head(bucket.child("x.exr")),
        lambda: storage.list_page(bucket, after=None, limit=1),
    ):
        with pytest.raises(MisconfiguredError) as caught:
            call()
        assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [("AWS_PROFILE", "tpyo", "AWS_PROFILE"), ("AWS_CONFIG_FILE", "{folder}/config", "AWS_CONFIG_FILE")],
)
def test_a_wrong_setting_of_aws_is_named_and_no_outage(
    bucket: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, setting: str
) -> None:
    (tmp_path / "config").write_text("[default\nregion")
    monkeypatch.setenv(variable, value.format(folder=tmp_path))
    storage = ObjectStorage(Settings(_env_file=None))
    for call in (
        lambda: storage.head(bucket.child("x.exr")),
        lambda: put(storage, bucket.child("x.exr")),
        lambda: storage.list_page(bucket, after=None, limit=1),
    ):
        with pytest.raises(MisconfiguredError) as caught:
            call()
        assert caught.value.setting == setting


def test_a_region_that_is_none_is_a_wrong_setting(s3_settings: Settings, bucket: Location) -> None:
    storage = ObjectStorage(s3_settings.model_copy(update={"s3_region": "eu west!"}))
    with pytest.raises(MisconfiguredError, match="S3_REGION"):
        storage.list_page(bucket, after=None, limit=1)


@pytest.mark.parametrize("name", ["show renders", "show%20renders", "shów"])
def test_a_bucket_that_cannot_have_its_name_is_a_wrong_setting(storage: ObjectStorage, name: str) -> None:
    bucket = Location("s3", name, "")
    for call in (
        lambda: storage.head(bucket.child("x.exr")),
        lambda: put(storage, bucket.child("x.exr")),
        lambda: storage.list_page(bucket, after=None, limit=1),
    ):
        with pytest.raises(MisconfiguredError, match="EXR_PIPELINE_SOURCES") as caught:
            call()
        assert name in caught.value.problem
