"""The `doctor` command: checks every setting and service that it can reach, and says how to fix each problem.

Belongs here: the checks, each by the code that the pipeline itself uses. Not here: new ways of reaching anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, stdout, table
from exr_pipeline.errors import BadInputError, ExrPipelineError, MisconfiguredError, RetryableError
from exr_pipeline.events.sinks import open_sinks, sink_names
from exr_pipeline.events.source import has_sources, sources_of
from exr_pipeline.extras import is_installed
from exr_pipeline.storage.locations import OUTPUT_FOLDER, Location, SourceRule
from exr_pipeline.storage.outputs import OutputPlace

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

Check = tuple[str, Callable[[], str]]


def doctor() -> None:
    """Check settings, storage, tables, color and Dagster, and report how to fix each problem."""
    settings = load_settings(warn_of_unknown=False)
    failed = 0
    rows: list[tuple[str, str, str]] = []
    for name, check in _checks(settings):
        try:
            rows.append((escape(name), "[green]ok[/]", escape(check())))
        except ExrPipelineError as error:
            failed += 1
            rows.append((escape(name), "[red]failed[/]", escape(str(error))))
        except Exception as error:  # noqa: BLE001 - this command exists to report what is wrong
            failed += 1
            first, _, _ = str(error).strip().partition("\n")
            rows.append((escape(name), "[red]failed[/]", escape(f"{type(error).__name__}: {first}")))
    stdout.print(table(("check", "", "finding"), rows))
    if failed:
        raise typer.Exit(1)


def _checks(settings: Settings) -> Iterator[Check]:
    yield "settings", _settings
    for url in settings.sources:
        yield f"source {url}", lambda url=url: _source(url, settings)  # type: ignore[misc]
    if not settings.sources:
        yield "sources", _no_sources
    if settings.output_root:
        yield "output root", lambda: _output_root(settings)
    yield "tables", lambda: _tables(settings)
    if has_sources(settings):
        yield "events in", lambda: _events_in(settings)
    if sink_names(settings):
        yield "events out", lambda: _events_out(settings)
    if is_installed("pictures"):
        yield "color", lambda: _color(settings)
        yield "sequences", lambda: _sequences(settings)
        yield "picture workers", lambda: _workers(settings)
    else:
        yield "pictures", lambda: "not installed: pip install 'exr-pipeline[pictures]'"
    if is_installed("dagster"):
        yield "Dagster", _dagster
    else:
        yield "Dagster", lambda: "not installed: pip install 'exr-pipeline[dagster]'"


def _settings() -> str:
    from exr_pipeline.settings import origins, unknown_variables

    unknown = unknown_variables()
    if unknown:
        problem = "not a setting" if len(unknown) == 1 else "not settings"
        fixes = (f"rename {name} to {nearest}" if nearest else f"unset {name}" for name, nearest in unknown.items())
        raise MisconfiguredError(", ".join(unknown), problem, "; ".join(fixes))
    chosen = sum(origin != "default" for origin in origins().values())
    return f"{chosen} set, the others at their defaults: exr-pipeline settings"


def _sequences(settings: Settings) -> str:
    from exr_pipeline.sequence_movies.presets import find_preset, load_presets
    from exr_pipeline.sequences import find_sequences

    find_sequences([], udim=settings.udim_hint)
    presets = load_presets(settings.movie_presets)
    preset = find_preset(settings.movie_preset, presets)
    return f"movie preset {preset.name}, one of {len(presets)}"


def _source(url: str, settings: Settings) -> str:
    from exr_pipeline.storage.objects import ObjectStorage

    storage = ObjectStorage(settings)
    source = Location.from_url(url, setting="EXR_PIPELINE_SOURCES")
    page = storage.list_page(source, after=None, limit=1)
    readable = "readable" if page.objects else "readable, but empty"
    if settings.output_root:
        return readable
    # Media go next to the files. The folder above them may not be writable.
    folder = page.objects[0].location.folder if page.objects else source.as_folder()
    if folder.key.split("/")[-2:-1] != [OUTPUT_FOLDER]:
        folder = folder.child(f"{OUTPUT_FOLDER}/")
    storage.check_writable(folder)
    return f"{readable}; media can be written next to the files"


def _no_sources() -> str:
    return "EXR_PIPELINE_SOURCES is empty, so the sensor watches nothing; `exr-pipeline ingest SOURCE` works"


def _output_root(settings: Settings) -> str:
    from exr_pipeline.storage.objects import ObjectStorage

    SourceRule.of(settings.source_kinds, OutputPlace.from_settings(settings))
    root = Location.from_url(str(settings.output_root).replace("{source}", ""), setting="EXR_PIPELINE_OUTPUT_ROOT")
    ObjectStorage(settings).check_writable(root.as_folder())
    return f"{root.url} is writable"


def _tables(settings: Settings) -> str:
    from exr_pipeline.tables import open_table_store

    store = open_table_store(settings)
    try:
        store.create_tables()
    except OSError as error:
        setting = "EXR_PIPELINE_DATABASE" if settings.database else "EXR_PIPELINE_STATE_DIR"
        problem = f"cannot create {settings.database_path.parent}: {error.strerror}"
        raise MisconfiguredError(setting, problem, "name a writable folder") from error
    where = (
        f"VAST DataBase {settings.vast_db_bucket}/{settings.vast_db_schema}"
        if settings.vast_db_bucket
        else (f"DuckDB {settings.database_path}")
    )
    return f"{where}: {sum(store.counts_by_state().values())} files"


def _events_in(settings: Settings) -> str:
    found = []
    for source in sources_of(settings):
        with source:
            found.append(source.check())
    return "; ".join(found)


def _events_out(settings: Settings) -> str:
    from exr_pipeline.events.outbox import waiting
    from exr_pipeline.tables import open_table_store

    with open_sinks(settings) as sinks:
        found = [sink.check() for sink in sinks.values()]
    count, oldest = waiting(open_table_store(settings))
    since = f", the oldest since {oldest:%Y-%m-%d %H:%M:%S} UTC" if oldest else ""
    return "; ".join([*found, f"{count} events wait{since}"])


def _color(settings: Settings) -> str:
    from exr_pipeline.color.config import LINEAR_REC709, load_config
    from exr_pipeline.pictures import PictureSettings

    config = load_config(PictureSettings.from_settings(settings))
    default = settings.default_color_space
    finding = f"{config.name}, hash {config.hash[:12]}; EXR files that do not state a color space are read as {default}"
    if default == LINEAR_REC709 and config.default_space(default) not in {None, config.working_space}:
        finding += (
            f" (linear Rec.709): if your untagged renders are {config.working_space}, as in an ACES studio, set "
            "EXR_PIPELINE_DEFAULT_COLOR_SPACE=scene_linear"
        )
    return finding


def _workers(settings: Settings) -> str:
    with tempfile.TemporaryDirectory() as folder:
        from exr_pipeline.pictures import PicturePool, PictureSettings

        empty = Path(folder) / "empty.exr"
        empty.write_bytes(b"")
        with PicturePool(PictureSettings.from_settings(settings)) as pool:
            try:
                pool.submit(str(empty), "empty.exr", thumbnail=True, proxy=False).result()
            except BadInputError:
                return f"{settings.workers} processes, at most {settings.worker_memory_mb} MiB each"
    raise RetryableError("a picture worker accepted an empty file")


def _dagster() -> str:
    from exr_pipeline.orchestration.instance.home import instance_summary

    return instance_summary()
