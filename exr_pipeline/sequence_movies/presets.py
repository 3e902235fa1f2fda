"""Presets: what a movie is encoded with, read from YAML and checked before anything is encoded.

Belongs here: the fields of a preset and their validity. Not here: encoding (`encoder`).
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.pictures.still import Size

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PRESET: Final = "review"
PRESETS_SETTING: Final = "EXR_PIPELINE_MOVIE_PRESETS"
_CONTENT_TYPES: Final = {
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
}
_FORMATS: Final = {"mkv": "matroska"}
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")


def _texts(value: object) -> object:
    return {str(name): str(option) for name, option in value.items()} if isinstance(value, dict) else value


def _size(value: object) -> object:
    if value == "source":
        return None
    match = _SIZE.fullmatch(str(value))
    if match is None or min(map(int, match.groups())) < 2:
        raise ValueError("write WIDTHxHEIGHT, or source")
    return Size(int(match[1]), int(match[2]))


_Options = Annotated[dict[str, str], BeforeValidator(_texts)]


class MoviePreset(BaseModel):
    """One preset; see `presets.yaml` for its fields. `size` is None for the size of the frames."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    codec: str
    container: Literal["mp4", "mov", "webm", "mkv"]
    pixel_format: str
    size: Annotated[Size | None, BeforeValidator(_size)]
    quality: _Options
    options: _Options = Field(default_factory=dict)
    tag: Annotated[str, Field(min_length=4, max_length=4)] | None = None
    description: str = ""

    @property
    def extension(self) -> str:
        """The ending of file names, with its dot."""
        return f".{self.container}"

    @property
    def content_type(self) -> str:
        """The media type that a server should state."""
        return _CONTENT_TYPES[self.container]

    @property
    def format(self) -> str:
        """FFmpeg's name of the container."""
        return _FORMATS.get(self.container, self.container)

    @property
    def has_alpha(self) -> bool:
        """Whether the alpha of the frames is kept; else they are shown over black."""
        return self.pixel_format.startswith("yuva")

    @property
    def encoder_options(self) -> dict[str, str]:
        """All options of the encoder."""
        return {**self.options, **self.quality}

    def __str__(self) -> str:
        options = " ".join(f"{name}={value}" for name, value in sorted(self.encoder_options.items()))
        alpha = " with alpha" if self.has_alpha else ""
        return f"{self.name}: {self.codec} {options}, {self.pixel_format}{alpha} BT.709 limited range, {self.container}"


def load_presets(more: Path | None = None) -> dict[str, MoviePreset]:
    """The presets by name: those that come with the program and those of a file of the user's, which win.

    Raises `MisconfiguredError`, naming the preset and field, for a file that cannot be read or used.
    """
    shipped = resources.files("exr_pipeline.sequence_movies").joinpath("presets.yaml").read_text("utf-8")
    presets = _parsed(shipped, "the presets of the program")
    if more is not None:
        try:
            text = more.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "the file is not UTF-8"
            raise MisconfiguredError(PRESETS_SETTING, f"{more}: {reason}", "set it to a YAML file of presets") from None
        presets |= _parsed(text, str(more))
    return presets


def find_preset(
    name: str, presets: Mapping[str, MoviePreset], *, setting: str = "EXR_PIPELINE_MOVIE_PRESET"
) -> MoviePreset:
    """The preset of this name. Raises `MisconfiguredError` that lists what there is, and names where to change it."""
    if name not in presets:
        raise MisconfiguredError(setting, f"unknown preset {name!r}", f"choose one of {', '.join(presets)}")
    return presets[name]


def _parsed(text: str, where: str) -> dict[str, MoviePreset]:
    import yaml

    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise MisconfiguredError(PRESETS_SETTING, f"{where} is not valid YAML: {reason}", "correct it") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(fields, dict) for fields in content.values()):
        raise MisconfiguredError(
            PRESETS_SETTING,
            f"{where} is not a mapping of names to presets",
            "write it like sequence_movies/presets.yaml",
        )
    return {str(name): _preset(str(name), fields, where) for name, fields in content.items()}


def _preset(name: str, fields: dict[str, Any], where: str) -> MoviePreset:
    try:
        preset = MoviePreset(**{"name": name, **{str(field): value for field, value in fields.items()}})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise MisconfiguredError(
            PRESETS_SETTING, f"{where}: preset {name!r}, field {field!r}: {first['msg']}", "correct the field"
        ) from None
    _check_codec(preset, where)
    return preset


def _check_codec(preset: MoviePreset, where: str) -> None:
    import av

    try:
        codec = av.Codec(preset.codec, "w")
    except ValueError:  # PyAV's error for unknown codecs is one.
        raise MisconfiguredError(
            PRESETS_SETTING,
            f"{where}: preset {preset.name!r}: FFmpeg has no encoder {preset.codec!r}",
            "use one of FFmpeg's encoders",
        ) from None
    formats = [format_.name for format_ in codec.video_formats or ()]
    if preset.pixel_format not in formats:
        raise MisconfiguredError(
            PRESETS_SETTING,
            f"{where}: preset {preset.name!r}: {preset.codec} does not support the pixel format "
            f"{preset.pixel_format!r}",
            f"choose one of {', '.join(formats) or 'those of a video encoder'}",
        )
