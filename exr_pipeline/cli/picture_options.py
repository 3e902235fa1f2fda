"""Options for how a picture is shown, shared by several commands, and their effect on the settings.

Belongs here: the options and their meaning. Not here: any command.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final

import typer

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from exr_pipeline.pictures import PictureSettings
    from exr_pipeline.pictures.still import StillFormat
    from exr_pipeline.settings import Settings

Output = Annotated[str, typer.Argument(metavar="OUT", help="File to write: a path or a URL.")]
ViewOption = Annotated[
    str, typer.Option(help="View of the display, or `un-tone-mapped`. Without it, the default view of the display.")
]
Display = Annotated[str, typer.Option(help="Display of the OCIO config to render for.")]
LookOption = Annotated[str, typer.Option(help="Look of the OCIO config, or several, comma-separated.")]
SourceSpace = Annotated[str, typer.Option(help="Color space of the input. Overrides what the file states.")]
Layer = Annotated[str, typer.Option(help="Layer, part, view or channel to show.")]
Exact = Annotated[
    bool | None, typer.Option("--exact/--baked", help="Compute every pixel exactly instead of with a baked LUT.")
]

JPEG_NAMES: Final = (".jpg", ".jpeg")
_STILL_FORMATS: Final[dict[str, StillFormat]] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


def check_name(target: str, extensions: tuple[str, ...], expected: str) -> None:
    """Raise `MisconfiguredError` if the extension of a file to write does not match the format that is written."""
    extension = PurePosixPath(target).suffix.lower()
    if extension and extension not in extensions:
        raise MisconfiguredError(
            "OUT", f"{quoted(target)} does not end in {' or '.join(extensions)}, but {expected}", "rename it"
        )


def still_format(target: str) -> StillFormat:
    """The format that the extension of a still names, or JPEG if there is none.

    Raises `MisconfiguredError` for other extensions.
    """
    check_name(target, tuple(_STILL_FORMATS), "a thumbnail is a JPEG, PNG or WebP")
    return _STILL_FORMATS.get(PurePosixPath(target).suffix.lower(), "jpeg")


def picture_settings(
    settings: Settings, display: str, view: str, look: str, source_space: str, layer: str, exact: bool | None
) -> PictureSettings:
    """The settings with these options, which override the picture rules.

    Raises `MisconfiguredError`, naming the option, for names that the OCIO config lacks.
    """
    from exr_pipeline.color.config import load_config
    from exr_pipeline.color.picture_rules import PictureRule, ViewChoice
    from exr_pipeline.pictures import PictureSettings

    shown = ViewChoice(display=display, view=view, look=look)
    wish = PictureRule(still=shown, video=shown, source_space=source_space, layer=layer, exact=exact)
    pictures = PictureSettings.from_settings(settings).wishing(wish)
    # One error here instead of one per frame in the workers.
    load_config(pictures)
    return pictures
