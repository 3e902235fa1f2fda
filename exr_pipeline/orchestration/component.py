"""`ExrPipelineComponent`: the whole pipeline as one entry of another Dagster project (`dg scaffold defs`).

Belongs here: the component and its attributes. Not here: the definitions (`build`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field, ValidationError

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.build import build_defs
from exr_pipeline.settings import Settings

_SECRETS = frozenset(name for name in Settings.model_fields if name.endswith(("_access_key", "_secret_key", "_token")))


class ExrPipelineComponent(dg.Component, dg.Model, dg.Resolvable):
    """Assets, partitions, sensors, jobs and schedules that turn renders in object storage into metadata and pictures.

    Settings come from the environment (docs/settings.md). `settings` overrules single ones.
    """

    settings: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Settings by name in lower case, without EXR_PIPELINE_: `sources: s3://renders/show/`. "
        "Keys and secrets are read from the environment only.",
        examples=[{"sources": "s3://renders/show/", "chunk_size": 200}],
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions. Raises `MisconfiguredError` that names a setting that is unknown, wrong or a secret."""
        return build_defs(settings=_settings(self.settings))


def _settings(overrides: Mapping[str, Any]) -> Settings:
    for name in overrides:
        if name in _SECRETS:
            raise MisconfiguredError(
                Settings.variable(name), "a component's attributes must not hold a secret", "set it in the environment"
            )
        if name not in Settings.model_fields:
            raise MisconfiguredError(name, "no such setting", "use a name from docs/settings.md, in lower case")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise MisconfiguredError(str(first["loc"][0]), str(first["msg"]), "see docs/settings.md") from None
