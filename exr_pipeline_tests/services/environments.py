"""The variables by which processes of this project find the services of a test, and the settings that they make.

Belongs here: variables. Not here: services.
"""

import os
from collections.abc import Mapping

from exr_pipeline.settings import Settings
from exr_pipeline_tests.docs.generated import setting_name

_OF_SERVICES = ("AWS_", "DAGSTER", "EXR_PIPELINE_", "S3_", "VAST_")


def environment_without_services() -> dict[str, str]:
    """This process's variables, without those that name a service or configure this project."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_SERVICES)}


def of_emulator(url: str, schema: str) -> dict[str, str]:
    """A schema of the emulated VAST DataBase at a URL."""
    keys = {"VAST_DB_ACCESS_KEY": "test", "VAST_DB_SECRET_KEY": "test"}
    return {"VAST_DB_ENDPOINT": url, "VAST_DB_BUCKET": "vastdb", "VAST_DB_SCHEMA": schema, **keys}


def settings_in(environment: Mapping[str, str]) -> Settings:
    """The settings of a process with these variables and no others."""
    names = {field: setting_name(field) for field in Settings.model_fields}
    given = {field: environment[name] for field, name in names.items() if name in environment}
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]
