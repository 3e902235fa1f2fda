"""An embedded S3 server for the length of a benchmark, with objects in it.

Belongs here: starting it and filling it. Not here: what is measured on it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location

BUCKET: Final = "renders"
_TOGETHER: Final = 500


@contextmanager
def running_server(folder: Path) -> Iterator[None]:
    """A server with an empty bucket; the environment, also that of processes started inside, names it."""
    before = dict(os.environ)
    with EmbeddedS3(folder / "store") as server:
        server.create_bucket(BUCKET)
        os.environ.update(server.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def settings_for(folder: Path, **values: Any) -> Settings:
    """Settings of this environment with a state folder of their own."""
    return Settings(_env_file=None, state_dir=folder, **values)


def fill(objects: Mapping[str, bytes]) -> list[Location]:
    """Put objects by key; returns their locations."""
    from exr_pipeline.storage.objects import ObjectStorage

    storage = ObjectStorage(Settings(_env_file=None, fetches=32))
    items = [(Location("s3", BUCKET, key), data) for key, data in objects.items()]

    async def put_all() -> None:
        for start in range(0, len(items), _TOGETHER):
            await asyncio.gather(
                *(
                    storage.write_async(location, data, content_type="image/x-exr", tags={})
                    for location, data in items[start : start + _TOGETHER]
                )
            )

    asyncio.run(put_all())
    return [location for location, _ in items]


def s3_client() -> Any:
    """A plain boto3 client of the server."""
    import boto3

    return boto3.Session().client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        aws_access_key_id=os.environ["S3_ACCESS_KEY"],
        aws_secret_access_key=os.environ["S3_SECRET_KEY"],
        region_name="us-east-1",
    )
