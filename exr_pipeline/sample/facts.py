"""What the sample show holds, as facts that tests and the demonstration compare with what the pipeline found.

Belongs here: the summary's shape and how facts follow from what was written. Not here: the writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal

from exr_pipeline.sample.writers import ExrPart

State = Literal["ready", "rejected"]
TroubleKind = Literal["missing_frame", "truncated", "not_an_exr", "black_frame", "nan_and_inf", "difficult_key"]

_SAMPLE_TYPES: Final = {"float16": "HALF", "float32": "FLOAT", "uint32": "UINT", "object": "FLOAT"}


@dataclass(frozen=True, slots=True)
class ExpectedPart:
    """One part of a file. `channels` maps full names to HALF, FLOAT or UINT, sorted as in the file."""

    channels: dict[str, str]
    compression: str
    width: int
    height: int
    display_width: int
    display_height: int
    x: int = 0
    y: int = 0
    name: str = ""
    tiled: bool = False
    deep: bool = False

    @classmethod
    def of(cls, part: ExrPart) -> ExpectedPart:
        """The facts of a part that is being written."""
        types = {name: _SAMPLE_TYPES[pixels.dtype.name] for name, pixels in sorted(part.channels.items())}
        if part.deep:
            for name, pixels in part.channels.items():
                types[name] = next(_SAMPLE_TYPES[cell.dtype.name] for cell in pixels.flat if cell is not None)
        return cls(
            types,
            part.compression,
            *part.size,
            *(part.display or part.size),
            *part.origin,
            part.name,
            tiled=part.tile is not None,
            deep=part.deep,
        )


@dataclass(frozen=True, slots=True)
class ShowFile:
    """One file that was made, and what a correct pipeline finds in it.

    `kind` says why it is in the show. `color_space` is that of its pixels, by the name in OCIO's ACES studio config
    (`Cineon` has none there; empty for data that is no color); `color_stated_by` is the attribute that says so, empty
    if none does. Facts of a rejected file are those of its header, none if it has no header.
    """

    key: str
    kind: str
    size_bytes: int = 0
    format: Literal["exr", "dpx", ""] = "exr"
    state: State = "ready"
    parts: tuple[ExpectedPart, ...] = ()
    color_space: str = ""
    color_stated_by: str = ""
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class ShowSequence:
    """Frames `first` to `last` at `prefix` + four digits + `suffix`, less the missing ones."""

    prefix: str
    suffix: str
    first: int
    last: int
    rate: Fraction
    missing: tuple[int, ...] = ()

    def key(self, frame: int) -> str:
        """The key of a frame, whether it was made or not."""
        return f"{self.prefix}{frame:04d}{self.suffix}"

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that exist."""
        return tuple(frame for frame in range(self.first, self.last + 1) if frame not in self.missing)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A deliberate fault: the key it is at (for a missing frame, the one not there), what to say of it."""

    key: str
    kind: TroubleKind
    state: State | Literal["absent"]
    says: str


@dataclass(frozen=True)
class ShowSummary:
    """Everything that was made, in the order of writing."""

    files: tuple[ShowFile, ...]
    sequences: tuple[ShowSequence, ...]
    troubles: tuple[Trouble, ...]
    _by_key: dict[str, ShowFile] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {file.key: file for file in self.files})

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def rejected(self) -> tuple[str, ...]:
        """Keys that a correct pipeline rejects."""
        return tuple(file.key for file in self.files if file.state == "rejected")

    def file(self, key: str) -> ShowFile:
        """The facts of a file. Raises KeyError if there is none."""
        return self._by_key[key]

    def trouble(self, kind: TroubleKind) -> Trouble:
        """The fault of a kind."""
        return next(trouble for trouble in self.troubles if trouble.kind == kind)


def described(parts: Sequence[ExrPart]) -> tuple[ExpectedPart, ...]:
    """The facts of parts that are being written."""
    return tuple(ExpectedPart.of(part) for part in parts)
