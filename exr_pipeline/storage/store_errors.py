"""What a failed request to a store means for the caller, without a word of the store's own message.

Belongs here: telling a bad object, a bad setting and a bad moment apart. Not here: making requests.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from exr_pipeline.errors import BadInputError, ExrPipelineError, MisconfiguredError, RetryableError
from exr_pipeline.storage.locations import Location, Scheme

Action = Literal["read", "list", "write", "delete"]

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")

_NO_SUCH_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_WRONG_CREDENTIALS: Final = frozenset(
    {
        "AuthenticationFailed",
        "CredentialsNotSupported",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_WRONG_REGION: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)
# What stores say of one key, or of what is put there, whoever asks and whatever is allowed.
_WRONG_OBJECT: Final = frozenset(
    {
        "EntityTooLarge",
        "InvalidObjectName",
        "InvalidURI",
        "KeyTooLong",
        "KeyTooLongError",
        "XMinioInvalidObjectName",
        "XMinioParentIsObject",
    }
)
_WRONG_OBJECT_STATUS: Final = frozenset({413, 414})
_PASSING: Final = frozenset({408, 409, 412, 425, 429})

_CREDENTIALS: Final[dict[Scheme, tuple[str, str]]] = {
    "s3": ("S3_ACCESS_KEY", "S3_ACCESS_KEY and S3_SECRET_KEY, or the AWS profile that is used without them"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
    "file": ("EXR_PIPELINE_SOURCES", "the file's permissions"),
}


class MissingObjectError(BadInputError):
    """The store says that there is no such object: surely, unlike where it only refuses to let it be read."""

    def __init__(self, name: str, reason: str = "the file does not exist, or no longer exists") -> None:
        super().__init__(name, reason)


@contextmanager
def typed_errors(location: Location, action: Action, endpoint: str | None = None) -> Iterator[None]:
    """Replaces what obstore and boto3 raise inside by one of this project's errors.

    `endpoint` is the URL of the store, if a setting names one. The original is dropped, not chained: stores echo
    requests, and some put tokens into their URLs.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
        raise _typed(error, location, action, endpoint) from None


def error_code(error: Exception, location: Location) -> str | None:
    """The code in a store's XML answer, None for answers without one (those to HEAD have no body)."""
    match = _CODE.search(_text(error, location))
    return match[1] if match else None


def http_status(error: Exception, location: Location) -> int | None:
    """The HTTP status of a failed obstore request, None if there was no answer at all."""
    match = _STATUS.search(_text(error, location))
    return int(match[1]) if match else None


def _text(error: Exception, location: Location) -> str:
    # The key comes back in the message and could imitate an answer.
    return str(error).replace(location.key, "") if location.key else str(error)


def _typed(error: Exception, location: Location, action: Action, endpoint: str | None) -> ExrPipelineError:
    from botocore.exceptions import BotoCoreError

    if isinstance(error, BotoCoreError) and (wrong := _wrong_before_asking(error, location)):
        return wrong
    status, code = _answer(error, location)
    if status is None:
        return _no_answer(location, action, endpoint)
    return _by_answer(status, code, location, action)


def _answer(error: Exception, location: Location) -> tuple[int | None, str | None]:
    """The HTTP status and the store's code; no status if nobody answered."""
    from botocore.exceptions import ClientError
    from obstore import exceptions

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, error.response.get("Error", {}).get("Code")
    statuses: dict[type[Exception], int] = {
        FileNotFoundError: 404,
        exceptions.PermissionDeniedError: 403,
        exceptions.UnauthenticatedError: 401,
        exceptions.PreconditionError: 412,
    }
    known = next((status for kind, status in statuses.items() if isinstance(error, kind)), None)
    return known or http_status(error, location), error_code(error, location)


def _no_answer(location: Location, action: Action, endpoint: str | None) -> RetryableError:
    if endpoint is not None:
        fix = f"check that a store answers at {_without_credentials(endpoint)}, or correct S3_ENDPOINT"
    elif location.scheme == "s3":
        fix = (
            "check that AWS can be reached, set HTTPS_PROXY if a proxy is needed, or set S3_ENDPOINT for another store"
        )
    else:
        fix = "check that the store can be reached, or set HTTPS_PROXY if a proxy is needed"
    return RetryableError(f"{location.url}: {action} failed: no answer from the store. Fix: {fix}")


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path


def wrong_bucket_name(location: Location) -> MisconfiguredError:
    """The error for a bucket that can't have the name that a URL gives it."""
    return MisconfiguredError(
        "EXR_PIPELINE_SOURCES",
        f"{location.bucket!r} is not a valid bucket name",
        "correct the URL: a bucket name has letters, digits, dots, hyphens and underscores",
    )


def not_writable(folder: str, problem: str) -> MisconfiguredError:
    """The error for a place that media can't be put into, as it is set up now."""
    return MisconfiguredError(
        "EXR_PIPELINE_OUTPUT_ROOT",
        f"cannot store media in {folder}: {problem}",
        "set it to a writable place, such as s3://media/{source} or file:///media/{source}, or allow writing to "
        "the folder",
    )


def _wrong_before_asking(error: Exception, location: Location) -> MisconfiguredError | None:
    """What boto3 finds wrong by itself; None where it asked somebody and got no answer."""
    from botocore import exceptions

    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return _wrong_credentials(location, "no credentials found")
        case exceptions.ProfileNotFound():
            return MisconfiguredError(
                "AWS_PROFILE", "the AWS configuration has no such profile", "correct it, or unset it"
            )
        case exceptions.ConfigParseError() | exceptions.ConfigNotFound():
            return MisconfiguredError("AWS_CONFIG_FILE", "cannot read the AWS configuration", "correct the file")
        case exceptions.NoRegionError() | exceptions.InvalidRegionError():
            return MisconfiguredError("S3_REGION", "not a valid region", "set a region such as us-east-1")
        case exceptions.ParamValidationError():
            return wrong_bucket_name(location)
    return None


def _by_answer(status: int, code: str | None, location: Location, action: Action) -> ExrPipelineError:
    if setting := _wrong_setting(status, code, location):
        return setting
    answer = f"HTTP {status} {code or ''}".rstrip()
    if status in _PASSING or status >= 500:
        return RetryableError(f"{location.url}: {action} failed: {answer}")
    if action in {"write", "delete"} and (code in _WRONG_OBJECT or status in _WRONG_OBJECT_STATUS):
        return BadInputError(location.url, f"not written: the store does not accept such an object ({answer})")
    if action in {"write", "delete"}:
        return not_writable(location.folder.url, f"the store refuses to {action} ({answer})")
    if action != "read":
        name, what = _CREDENTIALS[location.scheme]
        return MisconfiguredError(
            name,
            f"the store refuses to {action} {location.url} ({answer})",
            f"allow it in the store, or correct {what}",
        )
    if status == 404:
        return MissingObjectError(location.url)
    if status == 403:
        return BadInputError(location.url, "not readable: permission denied")
    return BadInputError(location.url, f"not readable: the store refused the request ({answer})")


def _wrong_setting(status: int | None, code: str | None, location: Location) -> MisconfiguredError | None:
    if code in _NO_SUCH_BUCKET:
        setting = "S3_ENDPOINT" if location.scheme == "s3" else "EXR_PIPELINE_SOURCES"
        return MisconfiguredError(
            setting, f"the store has no bucket {location.bucket!r}", "create it, or correct the bucket or the endpoint"
        )
    if status == 401 or code in _WRONG_CREDENTIALS:
        return _wrong_credentials(location, f"the store refused the credentials ({code or 'HTTP 401'})")
    if code == "RequestTimeTooSkewed":
        return MisconfiguredError("S3_ENDPOINT", "the clocks of this machine and the store differ", "set the clock")
    if status == 301 or code in _WRONG_REGION:
        return MisconfiguredError(
            "S3_REGION", f"the bucket {location.bucket!r} is in another region", "set the bucket's region"
        )
    return None


def _wrong_credentials(location: Location, problem: str) -> MisconfiguredError:
    setting, what = _CREDENTIALS[location.scheme]
    return MisconfiguredError(setting, f"{problem} for {location.scheme}://{location.bucket}", f"correct {what}")
