"""Commands on sequences of frames, without tables or Dagster: `movie`, `contact-sheet` and `filmstrip`.

Belongs here: arguments and output. Not here: finding sequences (`sequences`) or making media (`sequence_movies`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, cast, get_args

import typer
from rich.markup import escape

from exr_pipeline.cli.console import load_settings, progress_line, stdout, warn
from exr_pipeline.cli.picture_options import (
    JPEG_NAMES,
    Display,
    Exact,
    Layer,
    LookOption,
    Output,
    SourceSpace,
    ViewOption,
    check_name,
    picture_settings,
)
from exr_pipeline.cli.places import place, sequence_place
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.storage.spool import spool_folder
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exr_pipeline.pictures.still import Size
    from exr_pipeline.sequence_movies.burn_in import BurnInField
    from exr_pipeline.sequence_movies.segments import MissingPolicy
    from exr_pipeline.sequence_movies.sheets import Sheet
    from exr_pipeline.sequences import Sequence
    from exr_pipeline.settings import Settings
    from exr_pipeline.storage.objects import ObjectStorage

_FRAMES_NAMED: Final = 20
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_RATE: Final = re.compile(r"\d{1,7}(?:/\d{1,7}|\.\d{1,6})?")

SequenceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SEQUENCE",
        help="Pattern such as shot.####.exr or shot.%04d.exr, folder, or name prefix: a path or a URL.",
    ),
]


def movie(
    sequence: SequenceArgument,
    target: Output,
    *,
    preset: Annotated[
        str,
        typer.Option(help="Preset to encode with (docs/sequence-movies.md). Without it, EXR_PIPELINE_MOVIE_PRESET."),
    ] = "",
    fps: Annotated[
        str, typer.Option(help="Frames per second, such as 24 or 24000/1001. Overrides what the frames state.")
    ] = "",
    missing: Annotated[
        str, typer.Option(help="How to treat missing and damaged frames: error, hold or black.")
    ] = "hold",
    burn_in: Annotated[str, typer.Option(help="Texts to draw, comma-separated: name, frame, timecode, or all.")] = "",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT to fit the movie into. Overrides the preset.")] = "",
    view: ViewOption = "",
    display: Display = "",
    look: LookOption = "",
    source_space: SourceSpace = "",
    layer: Layer = "",
    exact: Exact = None,
) -> None:
    """Make a movie of a sequence of frames, at its true rate and with its time code.

    If interrupted, run the same command again to resume.
    """
    from exr_pipeline.sequence_movies.presets import find_preset, load_presets
    from exr_pipeline.sequence_movies.sequence_movie import MovieProgress, make_movie
    from exr_pipeline.storage.outputs import media_tags

    settings = load_settings()
    presets = load_presets(settings.movie_presets)
    chosen = find_preset(preset, presets, setting="--preset") if preset else find_preset(settings.movie_preset, presets)
    if not target.lower().endswith(chosen.extension):
        raise MisconfiguredError(
            "OUT", f"{quoted(target)} does not end in {chosen.extension}, but preset {chosen.name} does", "rename it"
        )
    policy, texts, rate, box = _parse_missing(missing), _parse_burn_in(burn_in), _parse_rate(fps), _parse_size(size)
    pictures = picture_settings(settings, display, view, look, source_space, layer, exact)
    storage, found = _resolved(sequence, settings)
    goal = place(target)
    path = storage.local_path(goal)
    with spool_folder() as folder, progress_line() as line:

        def show_progress(progress: MovieProgress) -> None:
            left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
            line.update("encoding frames", progress.done, progress.total, f"{progress.rate:.1f} frames/s{left}")

        result = make_movie(
            found,
            storage,
            path or folder / f"movie{chosen.extension}",
            settings=settings,
            preset=chosen,
            pictures=pictures,
            rate=rate,
            missing=policy,
            burn_in=texts,
            box=box,
            on_progress=show_progress,
        )
        if path is None:
            file = folder / f"movie{chosen.extension}"
            storage.write(goal, file, content_type=chosen.content_type, tags=media_tags("sequence_movie"))
    for warning in result.warnings:
        warn(warning)
    _warn_of_frames(result.not_shown)
    gone = f", {len(result.not_shown)} of them not shown" if result.not_shown else ""
    code = f", time code {result.time_code}" if result.time_code else ""
    stdout.print(
        f"{escape(target)}: {result.frames} frames{gone}, {result.size.width}x{result.size.height}, "
        f"{result.rate} frames/s, {float(result.duration):g} s{code}, {escape(str(result.provenance))} "
        f"to {escape(result.view)}",
    )


def contact_sheet(
    sequence: SequenceArgument,
    target: Output,
    *,
    frames: Annotated[int, typer.Option(min=1, max=400, help="Maximum number of frames on the sheet.")] = 36,
    size: Annotated[str, typer.Option(help="Maximum WIDTHxHEIGHT of the sheet.")] = "2048x2048",
    view: ViewOption = "",
    display: Display = "",
    look: LookOption = "",
    source_space: SourceSpace = "",
    layer: Layer = "",
    exact: Exact = None,
) -> None:
    """Make a contact sheet of a sequence: a JPEG of evenly spaced frames with their numbers."""
    from exr_pipeline.sequence_movies.sheets import contact_sheet as make_contact_sheet

    check_name(target, JPEG_NAMES, "a contact sheet is a JPEG")
    settings = load_settings()
    box = _parse_size(size)
    assert box is not None
    pictures = picture_settings(settings, display, view, look, source_space, layer, exact)
    storage, found = _resolved(sequence, settings)
    with progress_line() as line:
        sheet = make_contact_sheet(
            found,
            storage,
            settings=settings,
            pictures=pictures,
            frames=frames,
            size=box,
            on_progress=lambda done, total: line.update("reading frames", done, total),
        )
    _write(target, sheet, "contact_sheet", storage)


def filmstrip(
    sequence: SequenceArgument,
    target: Output,
    *,
    frames: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of frames in the strip.")] = 24,
    view: ViewOption = "",
    display: Display = "",
    look: LookOption = "",
    source_space: SourceSpace = "",
    layer: Layer = "",
    exact: Exact = None,
) -> None:
    """Make a filmstrip of a sequence: a wide JPEG of evenly spaced frames side by side, for hover scrubbing."""
    from exr_pipeline.sequence_movies.sheets import sequence_filmstrip

    check_name(target, JPEG_NAMES, "a filmstrip is a JPEG")
    settings = load_settings()
    pictures = picture_settings(settings, display, view, look, source_space, layer, exact)
    storage, found = _resolved(sequence, settings)
    with progress_line() as line:
        strip = sequence_filmstrip(
            found,
            storage,
            settings=settings,
            pictures=pictures,
            frames=frames,
            on_progress=lambda done, total: line.update("reading frames", done, total),
        )
    _write(target, strip, "filmstrip", storage)


def _resolved(text: str, settings: Settings) -> tuple[ObjectStorage, Sequence]:
    from exr_pipeline.sequences import resolve_sequence
    from exr_pipeline.storage.objects import ObjectStorage

    storage = ObjectStorage(settings)
    return storage, resolve_sequence(sequence_place(text), storage, udim=settings.udim_hint)


def _write(target: str, sheet: Sheet, media_type: str, storage: ObjectStorage) -> None:
    from exr_pipeline.storage.outputs import media_tags

    storage.write(place(target), sheet.jpeg, content_type="image/jpeg", tags=media_tags(media_type))
    for warning in sheet.warnings:
        warn(warning)
    _warn_of_frames(sheet.not_shown)
    stdout.print(
        f"{escape(target)}: {sheet.width}x{sheet.height}, {sheet.columns}x{sheet.rows} frames of "
        f"{sheet.frame_size.width}x{sheet.frame_size.height}, {escape(str(sheet.provenance))} "
        f"to {escape(sheet.view)}",
    )


def _warn_of_frames(not_shown: Mapping[str, str]) -> None:
    for number, reason in islice(not_shown.items(), _FRAMES_NAMED):
        warn(f"frame {number} is not shown: {reason}")
    if len(not_shown) > _FRAMES_NAMED:
        warn(f"{len(not_shown) - _FRAMES_NAMED} more frames are not shown")


def _parse_missing(missing: str) -> MissingPolicy:
    from exr_pipeline.sequence_movies.segments import MissingPolicy

    if missing not in get_args(MissingPolicy):
        raise MisconfiguredError("--missing", f"{missing!r} is not a policy", "choose error, hold or black")
    return cast("MissingPolicy", missing)


def _parse_burn_in(burn_in: str) -> tuple[BurnInField, ...]:
    from exr_pipeline.sequence_movies.burn_in import BURN_IN_FIELDS

    wanted = [text.strip() for text in burn_in.split(",") if text.strip()]
    if wanted == ["all"]:
        return BURN_IN_FIELDS
    if unknown := [text for text in wanted if text not in BURN_IN_FIELDS]:
        raise MisconfiguredError(
            "--burn-in", f"{unknown[0]!r} is not a burn-in text", f"choose from {', '.join(BURN_IN_FIELDS)}, or all"
        )
    return tuple(field for field in BURN_IN_FIELDS if field in wanted)


def _parse_rate(fps: str) -> Fraction | None:
    from exr_pipeline.frame_rates import FASTEST, SLOWEST, nominal_frame_rate

    if not fps:
        return None
    rate = Fraction(0)
    if _RATE.fullmatch(fps) and not re.search(r"/0+$", fps):
        rate = Fraction(fps) if "/" in fps else nominal_frame_rate(float(fps))
    if not SLOWEST <= rate <= FASTEST:
        raise MisconfiguredError(
            "--fps",
            f"{fps!r} is not a frame rate between {SLOWEST} and {FASTEST}",
            "write frames per second, such as 24 or 24000/1001",
        )
    return rate


def _parse_size(size: str) -> Size | None:
    from exr_pipeline.pictures.still import Size

    if not size:
        return None
    match = _SIZE.fullmatch(size)
    if match is None or not all(16 <= int(side) <= 16384 for side in match.groups()):
        raise MisconfiguredError("--size", f"{size!r} is not a valid size", "write WIDTHxHEIGHT, each from 16 to 16384")
    return Size(int(match[1]), int(match[2]))
