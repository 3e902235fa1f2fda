"""Which color space a color interop ID means, as the Color Interop Forum recommends ("An ID for Color Interop", 2026).

Belongs here: that search, in a config and in OCIO's own. Not here: other names that programs write (`source_space`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Pinned: "studio-config-latest" means another config in each release of OCIO.
BUILT_IN_CONFIG: Final = "ocio://studio-config-v5.0.0_aces-v2.1_ocio-v2.6"
# The ID's syntax: lower case, and at most two namespaces (Annex B).
_SYNTAX: Final = re.compile(r"(?:[0-9a-z.\-_~/*#%^+()\[\]|]*:){0,2}[0-9a-z.\-_~/*#%^+()\[\]|]+", re.ASCII)


class IdentifiedSpace(NamedTuple):
    """A space of the config, or one that the config lacks, by its ID in OCIO's built-in studio config."""

    name: str
    is_built_in: bool


@cache
def built_in_config() -> Any:
    """OCIO's studio config, in which every space has its ID as an alias."""
    import PyOpenColorIO as Ocio

    return Ocio.Config.CreateFromFile(BUILT_IN_CONFIG)


def find_space(config: Any, interop_id: str) -> IdentifiedSpace | None:
    """The space of an OCIO config with this ID as its name or an alias, else the one that computes the same.

    A config that has neither is lent the space of OCIO's built-in studio config, if the two have a reference space in
    common. None for what is no ID, or an ID that neither of them knows.
    """
    import PyOpenColorIO as Ocio

    if not _SYNTAX.fullmatch(interop_id):
        return None
    own = config.findColorSpaceForID(interop_id)
    if own is not None:
        return IdentifiedSpace(str(own.getName()), is_built_in=False)
    known = next((space for name in _fallbacks(interop_id) if (space := _published(name)) is not None), None)
    if known is None:
        return None
    same = config.getColorSpace(known.getName())
    if same is not None:
        return IdentifiedSpace(str(same.getName()), is_built_in=False)
    try:
        name = str(Ocio.Config.IdentifyBuiltinColorSpace(config, built_in_config(), known.getName()))
    except Ocio.Exception:
        name = ""  # That is how OCIO says that there is none.
    if name:
        return IdentifiedSpace(name, is_built_in=False)
    return IdentifiedSpace(str(known.getInteropID()), is_built_in=True) if _is_convertible(config, known) else None


def _fallbacks(interop_id: str) -> Iterator[str]:
    """The ID, then the ID without its leftmost namespace."""
    yield interop_id
    namespace, _, rest = interop_id.partition(":")
    if namespace and rest:
        yield rest


def _published(interop_id: str) -> Any:
    """The built-in config's space with exactly this ID: not one that merely has an alias of this spelling."""
    space = built_in_config().getColorSpace(interop_id)
    return space if space is not None and space.getInteropID() == interop_id else None


def _is_convertible(config: Any, space: Any) -> bool:
    import PyOpenColorIO as Ocio

    try:
        to_working(config, str(space.getName()), "scene_linear")
    except Ocio.Exception:
        return space.isData() is True
    return True


def to_working(config: Any, built_in_space: str, working_space: str) -> Any:
    """A CPU processor from a space of the built-in config to one of `config`, of floats.

    Raises `PyOpenColorIO.Exception` if the two configs have no reference space in common.
    """
    import PyOpenColorIO as Ocio

    processor = Ocio.Config.GetProcessorFromConfigs(built_in_config(), built_in_space, config, working_space)
    return processor.getDefaultCPUProcessor()
