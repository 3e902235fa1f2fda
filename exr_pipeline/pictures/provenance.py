"""How a picture came about: one record, made once when the file is decoded and carried whole into rows and pages.

Belongs here: the record and its columns. Not here: whether a record is what the settings would make now
(`expectation`). Imports nothing heavy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which layer was shown, from which color space by which rule, through which OCIO config, with which libraries.

    What does not apply is empty: a movie has no OCIO config, a sound no color space. `library_versions` are those of
    the libraries that decide the pixels, by their names. `alpha_handling` is empty where nothing is known of alpha.
    """

    layer: str
    source_color_space: str
    color_rule: str
    ocio_config: str = ""
    ocio_config_hash: str = ""
    library_versions: Mapping[str, str] = field(default_factory=dict)
    alpha_handling: str = ""

    def columns(self) -> dict[str, Any]:
        """The record as the tables name it. What is empty is null, except what every picture has."""
        return {
            "layer": self.layer,
            "source_colorspace": self.source_color_space,
            "color_rule": self.color_rule,
            "ocio_config": self.ocio_config or None,
            "ocio_config_hash": self.ocio_config_hash or None,
            "library_versions": json.dumps(dict(self.library_versions), sort_keys=True),
            "alpha_handling": self.alpha_handling or None,
        }

    @classmethod
    def from_columns(cls, row: Mapping[str, Any]) -> Self:
        """The record that a row of the tables holds, as far as its columns were read. What is null is empty."""
        return cls(
            layer=row.get("layer") or "",
            source_color_space=row.get("source_colorspace") or "",
            color_rule=row.get("color_rule") or "",
            ocio_config=row.get("ocio_config") or "",
            ocio_config_hash=row.get("ocio_config_hash") or "",
            library_versions=json.loads(row.get("library_versions") or "{}"),
            alpha_handling=row.get("alpha_handling") or "",
        )

    def __str__(self) -> str:
        color = f" from {self.source_color_space} ({self.color_rule})" if self.source_color_space else ""
        return f"{self.layer}{color}"


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the pixels of a picture file, by their names."""
    from importlib.metadata import version

    import av
    import PyOpenColorIO as Ocio

    versions = {
        name: version(name)
        for name in ("OpenImageIO", "OpenEXR", "av", "deflate", "opencv-python-headless", "simplejpeg")
    }
    versions["OpenColorIO"] = str(Ocio.GetVersion())
    versions["libavcodec"] = ".".join(map(str, av.library_versions["libavcodec"]))
    return versions
