"""What becomes of a request that nobody answers: the message names the store and what can be done."""

import pytest
from botocore.exceptions import EndpointConnectionError

from exr_pipeline.errors import RetryableError
from exr_pipeline.storage.locations import Location, Scheme
from exr_pipeline.storage.store_errors import typed_errors


@pytest.mark.parametrize(
    ("scheme", "endpoint", "fix"),
    [
        ("s3", "https://store.example.com:9000/x@y", "answers at https://store.example.com:9000/x@y, or correct S3_"),
        ("s3", "https://me:p@ss@store.example.com", "answers at https://store.example.com, or correct S3_ENDPOINT"),
        ("s3", "http://[no", "answers at http://[no, or correct S3_ENDPOINT"),
        ("s3", None, "check that AWS can be reached, set HTTPS_PROXY"),
        ("gs", None, "set HTTPS_PROXY if a proxy is needed"),
        ("az", None, "set HTTPS_PROXY if a proxy is needed"),
    ],
)
def test_no_answer_names_the_store_and_a_fix(scheme: Scheme, endpoint: str | None, fix: str) -> None:
    location = Location(scheme, "bucket", "show/a.exr")
    with pytest.raises(RetryableError) as caught, typed_errors(location, "list", endpoint):
        raise EndpointConnectionError(endpoint_url="hush-hush")
    assert str(caught.value).startswith(f"{scheme}://bucket/show/a.exr: list failed: no answer from the store. Fix: ")
    assert fix in str(caught.value)
    assert "p@ss" not in str(caught.value)
    assert "hush" not in str(caught.value)
