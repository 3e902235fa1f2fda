"""Links to media: what they lead to over HTTP, from a bucket and from a folder, and what they never lead to."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from exr_pipeline.orchestration.instance.page.media import Media
from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.orchestration.instance.page.serving import Served, serving

MOVIE = bytes(range(256)) * 10_000
THUMBNAIL = b"\xff\xd8\xff a picture"


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def settings(s3_server: EmbeddedS3) -> Settings:
    return Settings(
        _env_file=None,
        s3_endpoint=s3_server.endpoint,
        s3_access_key=s3_server.access_key,
        s3_secret_key=s3_server.secret_key,
    )


@pytest.fixture(scope="module")
def storage(settings: Settings) -> ObjectStorage:
    return ObjectStorage(settings)


@pytest.fixture(scope="module")
def served(instance: dg.DagsterInstance, storage: ObjectStorage, settings: Settings) -> Iterator[Served]:
    with serving(Media(instance, storage, settings)) as served:
        yield served


@pytest.fixture(scope="module", params=["bucket", "folder"])
def source(
    request: pytest.FixtureRequest,
    s3_server: EmbeddedS3,
    storage: ObjectStorage,
    instance: dg.DagsterInstance,
    tmp_path_factory: pytest.TempPathFactory,
) -> Location:
    """A file of which a thumbnail and a movie were made, in each kind of place."""
    if request.param == "bucket":
        s3_server.create_bucket("media-links")
        place = Location("s3", "media-links", "shot/été #1 50%.0001.exr")
    else:
        place = Location("file", "", f"{tmp_path_factory.mktemp('media')}/été #1 50%.0001.exr".lstrip("/"))
    for asset, ending, data in (("thumbnail", "thumb.jpg", THUMBNAIL), ("proxy_mp4", "proxy.mp4", MOVIE)):
        output = place.folder.child(f".proxies/{place.name.removesuffix('.exr')}_{ending}")
        storage.write(output, data, content_type="application/x-wrong", tags={})
        report(instance, asset, place, output.url)
    return place


def report(instance: dg.DagsterInstance, asset: str, source: Location, uri: str, label: str = "uri") -> None:
    """What a run, or anybody who may use the page, can have Dagster remember."""
    metadata = {label: dg.MetadataValue.text(uri)}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(asset, partition=source.partition_key, metadata=metadata)
    )


def test_a_link_leads_to_what_was_made_of_a_file(served: Served, source: Location) -> None:
    answer = served.ask(f"/thumbnail/{source.partition_key}")
    assert (answer.status, answer.body) == (200, THUMBNAIL)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    movie = served.ask(f"/proxy_mp4/{source.partition_key}")
    assert (movie.body == MOVIE, movie.headers["Content-Type"]) == (True, "video/mp4")
    head = served.ask(f"/proxy_mp4/{source.partition_key}", method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(MOVIE)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=1000000-", 1_000_000, len(MOVIE)),
        ("bytes=500000-2000000", 500_000, 2_000_001),
        ("bytes=-10", len(MOVIE) - 10, len(MOVIE)),
        ("bytes=2559999-9999999", len(MOVIE) - 1, len(MOVIE)),
        ("bytes=-9999999", 0, len(MOVIE)),
    ],
)
def test_a_player_gets_the_part_of_a_movie_that_it_seeks(
    served: Served, source: Location, asked: str, start: int, stop: int
) -> None:
    answer = served.ask(f"/proxy_mp4/{source.partition_key}", headers={"Range": asked})
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(MOVIE)}"
    assert answer.body == MOVIE[start:stop]


def test_a_part_that_does_not_exist_is_refused_and_one_of_another_version_is_not_given(
    served: Served, source: Location
) -> None:
    link = f"/proxy_mp4/{source.partition_key}"
    for asked in (f"bytes={len(MOVIE)}-", "bytes=9-3", "bytes=-0"):
        answer = served.ask(link, headers={"Range": asked})
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(MOVIE)}")
    for ignored in ("bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b"):
        assert served.ask(link, headers={"Range": ignored}).status == 200
    etag = served.ask(link, method="HEAD").headers["ETag"]
    assert served.ask(link, headers={"Range": "bytes=0-1", "If-Range": etag}).status == 206
    assert served.ask(link, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status == 200
    assert served.ask(link, headers={"If-None-Match": etag}).status == 304


def test_media_that_are_gone_are_not_found_and_nothing_can_be_written(
    served: Served, source: Location, instance: dg.DagsterInstance
) -> None:
    gone = source.folder.child("gone.exr")
    report(instance, "thumbnail", gone, source.folder.child(".proxies/gone_thumb.jpg").url)
    answer = served.ask(f"/thumbnail/{gone.partition_key}")
    assert answer.status == 404
    assert "gone_thumb.jpg" in answer.text
    assert served.ask(f"/thumbnail/{source.partition_key}", method="POST").status == 405
    assert served.ask(f"/thumbnail/{source.partition_key}", method="DELETE").status == 405


@pytest.mark.parametrize(
    "path",
    ["/", "/thumbnail", "/thumbnail/", "/thumbnail/unknown", "/exr_header/{key}", "/thumbnail/{key}/other"],
)
def test_what_is_no_medium_is_not_found(served: Served, source: Location, path: str) -> None:
    assert served.ask(path.format(key=source.partition_key)).status == 404


def test_no_event_can_make_a_link_lead_elsewhere(
    served: Served, source: Location, instance: dg.DagsterInstance, storage: ObjectStorage, tmp_path: Path
) -> None:
    """Anybody who may use the page can report events; what a link reads must not depend on their word alone."""
    secrets = [
        source,
        source.folder.child("secret_thumb.jpg"),
        source.folder.child(".proxies/secret.jpg"),
        source.folder.child("other/.proxies/secret_thumb.jpg"),
        Location("file", "", f"{tmp_path}/.proxies/secret_thumb.jpg".lstrip("/")),
    ]
    for secret in secrets:
        storage.write(secret, b"secret", content_type="image/jpeg", tags={})
    passage = source.folder.child(".proxies/../../.proxies/secret_thumb.jpg").url
    forged = source.folder.child("forged.exr")
    for uri in (
        *(secret.url for secret in secrets),
        passage,
        "file:///etc/passwd",
        "https://192.0.2.7/a_thumb.jpg",
        "?",
    ):
        report(instance, "thumbnail", forged, uri)
        answer = served.ask(f"/thumbnail/{forged.partition_key}")
        assert (answer.status, b"secret" in answer.body) == (404, False), uri


def test_media_below_an_output_root_are_served_and_nothing_beside_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    settings = Settings(_env_file=None, output_root=f"file://{tmp_path}/media/{{source}}")
    storage = ObjectStorage(settings)
    source = Location("s3", "renders", "show/a.exr")
    with serving(Media(instance, storage, settings)) as served:
        for folder, status in (("media/renders/show", 200), ("media2/renders/show", 404)):
            output = Location("file", "", f"{tmp_path}/{folder}/a_thumb.jpg".lstrip("/"))
            storage.write(output, THUMBNAIL, content_type="image/jpeg", tags={})
            report(instance, "thumbnail", source, output.url)
            assert served.ask(f"/thumbnail/{source.partition_key}").status == status


def test_a_store_that_does_not_answer_is_said_to_be_away(instance: dg.DagsterInstance) -> None:
    settings = Settings(_env_file=None, s3_endpoint=None, s3_access_key="only one", s3_secret_key=None)
    source = Location("s3", "renders", "away.exr")
    report(instance, "thumbnail", source, "s3://renders/.proxies/away_thumb.jpg")
    with serving(Media(instance, ObjectStorage(settings), settings)) as served:
        answer = served.ask(f"/thumbnail/{source.partition_key}")
    assert answer.status == 502
    assert "S3_SECRET_KEY" in answer.text
