"""Jobs: ingest a range of partitions, or any selection of files in one run.

Belongs here: job definitions and what they can select. Not here: the step's body (`orchestration.steps.files`).
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, get_args

import dagster as dg
from pydantic import Field, field_validator

from exr_pipeline.errors import BadInputError, MisconfiguredError
from exr_pipeline.orchestration.assets.specs import FILE_ASSETS, MEDIA_IO, TABLE_IO
from exr_pipeline.orchestration.instance.console import tidy_console
from exr_pipeline.orchestration.instance.names import AssetPartitionStatus, UnresolvedAssetJobDefinition
from exr_pipeline.orchestration.instance.step_events import announced_partitions
from exr_pipeline.orchestration.partitions import FILES, files_partitions, locations_of
from exr_pipeline.orchestration.steps.failures import stated_failure
from exr_pipeline.orchestration.steps.files import ingest_step
from exr_pipeline.pipeline import Pipeline
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables.selection import files_where
from exr_pipeline.tables.specs import State

INGEST_JOB: Final = "ingest"
SELECTION_JOB: Final = "ingest_selection"
RETRY_JOB: Final = "retry_failed_files"

STATES: Final = (*get_args(State), "unfinished", "failed")
FAILED_STATES: Final = ["rejected", "retryable", "unfinished", "failed"]
Criterion = Literal["url_prefix", "where", "all"]
ASSET_NAMES: Final = [key.path[-1] for key in FILE_ASSETS]


class Selection(dg.Config):
    """Which files to ingest, and what to make of them. Conditions narrow one another; at least one is needed."""

    partitions: list[str] = Field(default=[], description="Exactly these partition keys.")
    url_prefix: str = Field(
        default="", description="Only files whose URL begins with this, such as s3://renders/shot_010/."
    )
    states: list[str] = Field(
        default=[],
        description=(
            "Only files whose current version is in one of these states. unfinished: not in the tables yet. "
            "failed: Dagster shows one of their assets as failed, whatever the tables say, as after a crash."
        ),
    )
    where: str = Field(
        default="",
        description="Only files that match this SQL condition over the columns of files and of their first part.",
    )
    all: bool = Field(default=False, description="Every known file. Required if no other condition is set.")
    assets: list[str] = Field(default=ASSET_NAMES, description="Which assets to make. The others stay as they are.")
    traces: dict[str, str] = Field(
        default={}, description="The traceparent of the event that named a file, by partition key."
    )

    # Dagster's config has no lists of literals.
    @field_validator("states")
    @classmethod
    def _known_states(cls, value: list[str]) -> list[str]:
        return _only(value, STATES)

    @field_validator("assets")
    @classmethod
    def _known_assets(cls, value: list[str]) -> list[str]:
        return _only(value, ASSET_NAMES)


def _only(values: list[str], allowed: Sequence[str]) -> list[str]:
    if unknown := [value for value in values if value not in allowed]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(allowed)}")
    return values


def select_partitions(
    selection: Selection,
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    *,
    must_fit: Collection[Criterion] = ("url_prefix", "where", "all"),
) -> list[str]:
    """The partition keys that a selection names, in the order of the partition set.

    Raises `MisconfiguredError` for a selection without a condition, and `BadInputError` for a key that is not in the
    set, and if no file fits one of the criteria that `must_fit`: the URL prefix, the SQL condition, all together.
    """
    conditions = (selection.partitions, selection.url_prefix, selection.states, selection.where)
    if not (selection.all or any(conditions)):
        raise MisconfiguredError(
            "url_prefix", "no files are selected", "give partitions, url_prefix, states or where, or set `all: true`"
        )
    all_keys = instance.get_dynamic_partitions(FILES)
    known = set(all_keys)
    # They may be written as an earlier version spelled them.
    listed = [location.partition_key for location in locations_of(selection.partitions)]
    if unknown := [key for key, today in zip(selection.partitions, listed, strict=True) if today not in known]:
        raise BadInputError(
            unknown[0], "no such partition" + (f" (and {len(unknown) - 1} more)" if unknown[1:] else "")
        )
    chosen = set(listed) or known
    if selection.url_prefix:
        below = {key for key in all_keys if Location.from_partition_key(key).url.startswith(selection.url_prefix)}
        if not below and "url_prefix" in must_fit:
            raise BadInputError(selection.url_prefix, "no known file is below it (archived files do not count)")
        chosen &= below
    if selection.where:
        matching = _partitions_where(selection.where, pipeline)
        if not matching and "where" in must_fit:
            raise BadInputError(selection.where, "no file in the tables matches it")
        chosen &= matching
    if selection.states:
        chosen &= _in_states(selection.states, pipeline, known) | (
            _shown_as_failed(instance, all_keys) if "failed" in selection.states else set()
        )
    if not chosen and "all" in must_fit:
        described = ", ".join(f"{name}={value!r}" for name, value in _given(selection).items()) or "all"
        raise BadInputError(described, "no known file is selected")
    return [key for key in all_keys if key in chosen]


def _given(selection: Selection) -> dict[str, object]:
    return {name: getattr(selection, name) for name in ("url_prefix", "states", "where") if getattr(selection, name)}


def _in_states(states: list[str], pipeline: Pipeline, known: set[str]) -> set[str]:
    listed = ", ".join(f"'{state}'" for state in states)
    found = _partitions_where(f"state IN ({listed})", pipeline)
    return found | (known - _partitions_where("true", pipeline)) if "unfinished" in states else found


def _shown_as_failed(instance: dg.DagsterInstance, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for asset in FILE_ASSETS:
        statuses = instance.get_status_by_partition(asset, keys, files_partitions) or {}
        found |= {key for key, status in statuses.items() if status == AssetPartitionStatus.FAILED}
    return found


def _partitions_where(condition: str, pipeline: Pipeline) -> set[str]:
    return {Location.from_url(url).partition_key for url in files_where(pipeline.tables, condition)}


@dg.op(
    description="Ingest a selection of files in one run, chunk by chunk, with the exact status per file and asset.",
    required_resource_keys={"pipeline", MEDIA_IO, TABLE_IO},
)
def ingest_selected_files(context: dg.OpExecutionContext, config: Selection) -> None:
    """The selection's files, in chunks."""
    pipeline: Pipeline = context.resources.pipeline
    tidy_console(context, pipeline.settings)
    # An earlier attempt of this run has chosen them: what they were chosen for may have changed by its work.
    chosen = announced_partitions(context.instance, context.run.run_id)
    selection = Selection(partitions=sorted(chosen), assets=config.assets) if chosen else config
    with stated_failure():
        must_fit: list[Criterion] = ["url_prefix", "where"]
        # That nothing has failed is good news.
        if context.job_name != RETRY_JOB:
            must_fit.append("all")
        keys = select_partitions(selection, pipeline, context.instance, must_fit=must_fit)
    assets = [key for key in FILE_ASSETS if key.path[-1] in config.assets]
    context.log.info(f"{len(keys)} files selected")
    ingest_step(
        context, keys, assets, pipeline, context.resources.media_io, context.resources.table_io, traces=config.traces
    )


@dg.job(
    name=SELECTION_JOB,
    description="Ingest a selection of files in one run: by partition key, URL prefix, state or SQL condition.",
    executor_def=dg.in_process_executor,
)
def ingest_selection_job() -> None:
    """Ingest any selection of files."""
    ingest_selected_files()


@dg.job(
    name=RETRY_JOB,
    description="Retry every file that is rejected, retryable, unfinished or shown as failed, in one run.",
    executor_def=dg.in_process_executor,
    config=dg.RunConfig(ops={"ingest_selected_files": Selection(states=FAILED_STATES)}),
)
def retry_failed_files_job() -> None:
    """Try again what failed."""
    ingest_selected_files()


def build_ingest_job() -> UnresolvedAssetJobDefinition:
    """The job over a range of partitions that the sensor and the command line start."""
    return dg.define_asset_job(
        INGEST_JOB,
        selection=dg.AssetSelection.assets(*FILE_ASSETS),
        description="Ingest a range of files: headers, pictures, tables.",
        executor_def=dg.in_process_executor,
    )
