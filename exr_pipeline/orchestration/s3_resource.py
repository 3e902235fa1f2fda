"""Dagster's own `S3Resource` as the source of endpoint and credentials, for projects that have one already.

Belongs here: what its fields mean as settings. Not here: clients (`storage.objects`). The package dagster-aws is not
imported: whoever has such a resource has imported it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource

    from exr_pipeline.settings import Settings

# What a client of ours never does, by the value that asks for nothing else.
_UNSUPPORTED: Final[dict[str, object]] = {"use_unsigned_session": False, "use_ssl": True, "verify": None}


def with_s3_resource(settings: Settings, resource: S3Resource) -> Settings:
    """The settings with endpoint, keys and profile of a resource instead of their own; environment variables are read.

    What the resource leaves open is not taken from the settings but from the AWS chain, as the resource does by itself.
    The settings keep region and number of retries if the resource states none.

    Raises `MisconfiguredError` for fields that have no equivalent here.
    """
    stated = resource.process_config_and_initialize()
    for field, usual in _UNSUPPORTED.items():
        if getattr(stated, field) != usual:
            raise MisconfiguredError(f"S3Resource.{field}", "not supported for the pipeline's sources", "leave it out")
    values: dict[str, Any] = {
        "s3_endpoint": stated.endpoint_url,
        "s3_profile": stated.profile_name,
        "s3_access_key": _secret(stated.aws_access_key_id),
        "s3_secret_key": _secret(stated.aws_secret_access_key),
        "s3_session_token": _secret(stated.aws_session_token),
    }
    if stated.region_name is not None:
        values["s3_region"] = stated.region_name
    if stated.max_attempts != type(stated).model_fields["max_attempts"].default:
        values["request_retries"] = stated.max_attempts - 1
    return settings.model_copy(update=values)


def _secret(value: str | None) -> SecretStr | None:
    return None if value is None else SecretStr(value)
