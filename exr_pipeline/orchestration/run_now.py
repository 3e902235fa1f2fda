"""Ingest from the command line: find what needs work, run it through Dagster in this process, say how it went.

Belongs here: starting runs without a daemon. Not here: printing (`cli`), the sensor's schedule (`sensor`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from exr_pipeline.ingest.watch import Candidate, needs_work
from exr_pipeline.orchestration.instance import open_instance
from exr_pipeline.storage.locations import Location, SourceRule
from exr_pipeline.tables.schema import RETRYABLE

if TYPE_CHECKING:
    import dagster as dg

    from exr_pipeline.ingest.chunk import Progress
    from exr_pipeline.movies.sequence_movie import MovieProgress
    from exr_pipeline.orchestration.resources import Pipeline
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.object_info import ObjectInfo


@dataclass
class IngestReport:
    """What an ingest found and did. `states` counts the worked-on files by what the tables say they ended as.

    A file without a row counts as retryable: its run ended before its row was written.
    """

    listed: int = 0
    worked_on: int = 0
    states: dict[str, int] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class IngestListener:
    """Who wants to know how an ingest goes: objects listed so far, how many files to do, each chunk's progress."""

    on_listed: Callable[[int], None] = lambda _: None
    on_found: Callable[[int], None] = lambda _: None
    on_progress: Callable[[Progress], None] = lambda _: None


def ingest_source(source: Location, settings: Settings, listener: IngestListener | None = None) -> IngestReport:
    """Bring every new, changed or retryable file under a source into the tables, in runs of this process."""
    from exr_pipeline.orchestration.resources import Pipeline

    listener = listener or IngestListener()
    pipeline = Pipeline(settings, on_progress=listener.on_progress)
    listed: list[ObjectInfo] = []
    for info in _objects(source, pipeline):
        listed.append(info)
        listener.on_listed(len(listed))
    known = pipeline.tables.current_versions([info.location for info in listed])
    candidates = needs_work(listed, known, now=datetime.now(UTC), retry_after=timedelta(0))
    listener.on_found(len(candidates))
    report = IngestReport(listed=len(listed), worked_on=len(candidates))
    if candidates:
        report.run_ids = _ingest(candidates, pipeline)
        report.states = _states(pipeline, [candidate.info.location for candidate in candidates])
    return report


def _objects(source: Location, pipeline: Pipeline) -> Iterator[ObjectInfo]:
    """The files to ingest under a folder, or the one file that is named."""
    settings = pipeline.settings
    rule = SourceRule.of(settings.source_kinds, output_root=settings.output_root, sources=settings.sources)
    if rule.accepts(source, below=source.folder.key):
        yield pipeline.storage.head(source)
        return
    for info in pipeline.storage.iter_objects(source):
        if rule.accepts(info.location, below=source.key):
            yield info


def retry_failed(settings: Settings, url_prefix: str = "", listener: IngestListener | None = None) -> IngestReport:
    """Try again every known file that is rejected, retryable, not finished or shown as failed, in one run."""
    from exr_pipeline.orchestration.jobs import FAILED_STATES, RETRY_JOB, Selection, select_partitions
    from exr_pipeline.orchestration.partitions import locations_of
    from exr_pipeline.orchestration.resources import Pipeline

    listener = listener or IngestListener()
    pipeline = Pipeline(settings, on_progress=listener.on_progress)
    with open_instance() as instance:
        selection = Selection(states=FAILED_STATES, url_prefix=url_prefix)
        keys = select_partitions(selection, pipeline, instance)
        listener.on_found(len(keys))
        report = IngestReport(listed=len(keys), worked_on=len(keys))
        if keys:
            config = {"ops": {"ingest_selected_files": {"config": {"partitions": keys}}}}
            report.run_ids = [_execute(RETRY_JOB, instance, pipeline, config)]
            report.states = _states(pipeline, locations_of(keys))
    return report


def make_sequences(
    source: Location,
    settings: Settings,
    on_found: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[Location, MovieProgress], None] | None = None,
) -> dict[str, int]:
    """Make the media of every sequence under a source that the tables know and whose media are not up to date.

    Runs in this process, without waiting for quiet. Returns how many sequences ended in which state.
    """
    from exr_pipeline.ingest.sequence_watch import outdated, sequences_in
    from exr_pipeline.orchestration.partitions import SEQUENCES
    from exr_pipeline.orchestration.resources import Pipeline
    from exr_pipeline.orchestration.sequence_sensor import requests

    pipeline = Pipeline(settings, on_movie_progress=on_progress)
    folders = [folder for folder in pipeline.tables.folders_changed_since("") if folder.url.startswith(source.url)]
    due = [
        sequence
        for folder in sorted(folders)
        for sequence in outdated(pipeline.tables, sequences_in(pipeline.tables, folder, udim=settings.udim_hint))
    ]
    on_found(len(due))
    keys = [sequence.key for sequence in due]
    with open_instance() as instance:
        known = set(instance.get_dynamic_partitions(SEQUENCES))
        new = [key for key in keys if key not in known]
        if new:
            instance.add_dynamic_partitions(SEQUENCES, new)
        for request in requests(new, [key for key in keys if key in known]):
            _execute(str(request.job_name), instance, pipeline, {}, request.tags, request.partition_key)
    rows = pipeline.tables.read(
        "sequence_outputs", columns=["state"], locations=[sequence.location for sequence in due]
    )
    return dict(Counter(rows.column("state").to_pylist()))


def _ingest(candidates: Iterable[Candidate], pipeline: Pipeline) -> list[str]:
    from exr_pipeline.orchestration.partitions import FILES
    from exr_pipeline.orchestration.sensor import existing_partitions, run_requests

    ordered = sorted(candidates, key=lambda candidate: candidate.info.location)
    with open_instance() as instance:
        known = existing_partitions(instance, [candidate.info.location.partition_key for candidate in ordered])
        added, requests = run_requests(ordered, known, pipeline.settings)
        instance.add_dynamic_partitions(FILES, added)
        return [
            _execute(str(request.job_name), instance, pipeline, dict(request.run_config), request.tags)
            for request in requests
        ]


def _execute(
    job_name: str,
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    run_config: dict[str, Any],
    tags: Mapping[str, str] | None = None,
    partition_key: str | None = None,
) -> str:
    from exr_pipeline.orchestration.build import build_defs

    defs = build_defs(settings=pipeline.settings, resource_overrides={"pipeline": pipeline})
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = defs.resolve_job_def(job_name).execute_in_process(
        run_config={**run_config, **quiet},
        instance=instance,
        tags=tags,
        partition_key=partition_key,
        raise_on_error=False,
    )
    return result.run_id


def _states(pipeline: Pipeline, locations: Sequence[Location]) -> dict[str, int]:
    known = pipeline.tables.current_versions(locations)
    return dict(Counter((known[location].state if location in known else None) or RETRYABLE for location in locations))
