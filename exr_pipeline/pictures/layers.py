"""Which part, layer and view of a file its pictures show, from the header alone.

Belongs here: that choice. Not here: reading the channels (`pictures.decode.open_source`) or making data visible
(`data_pictures`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from exr_pipeline.errors import BadInputError
from exr_pipeline.untrusted_text import quoted

if TYPE_CHECKING:
    from exr_pipeline.exr import Channel, Header, Part

Kind = Literal["rgb", "luminance-chroma", "luminance", "depth", "id", "data"]

# What a layer, or the part of its name behind the last dot, is called if it is the picture. docs/color.md has a table
# of what renderers write; each name in it is tested.
_MAIN_NAMES: Final = frozenset(
    {"", "rgb", "rgba", "main", "beauty", "combined", "color", "colour", "c", "ci", "final", "composite"}
)
# One of them as a word of a longer name; `C` and the like are too short to mean it there.
_BEAUTY_WORDS: Final = frozenset({"rgba", "beauty", "combined", "composite", "final"})
_BEAUTY: Final = re.compile(r"beauty", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# RGB triples that hold directions, places, distances, counts or hashes: shown only if there is no picture. Of names
# without spaces and underscores.
_NOT_A_PICTURE: Final = re.compile(
    r"crypto|normal|nworld|(?<!com)position|pworld|(?<!e)motion|velocity|vector|wirecolor|multimatte|puzzlematte"
    r"|zdepth|dpdtime|dpcameradtime|mtlid|renderid|(object|material)(index|id)|index(ob|ma)|samplecount|raycount|cputime"
    r"|^(w?[pn]ref|hitp|hitn|hituv|hitpz|z|pz|zfiltered|depth|mist|id|st|forward|backward|coverage|opacity|volumeopacity|of|af)$"
    r"|(?<![a-z])uv|uv(?![a-z])|^([npt]n?|vn)$|(mse|var)$",
    re.IGNORECASE,
)
_ID: Final = re.compile(
    r"crypto|(^|[._])(object|instance|material|asset|prim|mtl|vraymtl|raw)?[ _]?id\d*$|index(ob|ma)$"
    r"|(object|material)[ _]index$",
    re.IGNORECASE,
)
_DEPTH_NAMES: Final = frozenset({"z", "depth", "zdepth"})
_COMPONENTS: Final = {"red": "r", "green": "g", "blue": "b", "alpha": "a"}

# What samples before others cover in part; of depth and other numbers there is no mean.
COVERED: Final = frozenset({"rgb", "luminance-chroma", "luminance"})

_LEFT: Final = frozenset({"left", "l"})
_RIGHT: Final = frozenset({"right", "r"})
# What a part of a channel's name is that names a view where the file declares none.
_VIEWS: Final = frozenset({"left", "right"})


class UnknownLayerError(BadInputError):
    """The file has no layer of the name that was asked for."""


@dataclass(frozen=True, slots=True)
class ShownLayer:
    """The channels that are shown: three of an RGB triple (or Y, RY, BY), or one.

    `channels` are full names in the order of display, `alpha` that of the channel which covers them; it, `layer` and
    `view` are empty if the file has none.
    """

    part_index: int
    kind: Kind
    channels: tuple[str, ...]
    layer: str = ""
    view: str = ""
    alpha: str = ""

    def __str__(self) -> str:
        what = self.layer or ("RGB" if self.kind == "rgb" else self.channels[0])
        if self.kind not in {"rgb", "luminance"}:
            what += f" ({self.kind})"
        return f"{what}, view {self.view}" if self.view else what


@dataclass(slots=True)
class _Group:
    """The channels of one layer in one view of one part, by lower-case component."""

    part_index: int
    part: Part
    layer: str
    view: str
    channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """The layer's name; in a multi-part file the part's name serves where the channels have no layer."""
        if self.layer or self.part.implied_type is not None:
            return self.layer
        name = self.part.name or ""
        if not self.view:
            return name
        view = re.escape(self.view)
        return re.sub(rf"[._-]?{view}$|^{view}([._-]|$)", "", name, flags=re.IGNORECASE)

    @property
    def own_name(self) -> str:
        """The layer's name without what it is in: `Combined` of `ViewLayer.Combined`."""
        return self.named.rpartition(".")[2]

    def shown(self, kind: Kind, *components: str) -> ShownLayer:
        names = tuple(self.channels[component].name for component in components)
        alpha = self.channels["a"].name if kind in COVERED and self.has("a") else ""
        return ShownLayer(self.part_index, kind, names, self.named, self.view, alpha)

    def words(self) -> list[str]:
        """The names by which it can be asked for, its channels last."""
        names = (self.part.name or "", self.layer, self.view, *(channel.name for channel in self.channels.values()))
        return [name for name in names if name]

    def is_called(self, name: str) -> bool:
        """Whether this is the name of its layer, part or view."""
        return name.lower() in {word.lower() for word in (self.part.name or "", self.layer, self.named, self.view)}

    def has(self, *components: str) -> bool:
        return all(component in self.channels for component in components)


def choose_layer(header: Header, *, name: str, wanted: str = "") -> ShownLayer:
    """The layer to show: a color picture before luminance before depth before anything else.

    Among color pictures: the main RGB (or luminance-chroma) of the file, else a layer called exactly as one that is
    the picture (`rgba`, `C`), else one with such a word in its name, else the first triple; flat parts before deep
    ones, left before right, then file order.
    `wanted` is the name of a layer, part, view or channel (in any case): only that is considered.
    Raises `BadInputError` for a file, called `name`, without channels, `UnknownLayerError` without what is wanted.
    """
    groups = _groups(header)
    candidates = [_judge(group) for group in groups]
    if wanted:
        named = [judged for group, judged in zip(groups, candidates, strict=True) if group.is_called(wanted)]
        candidates = named or [(0, shown) for group in groups if (shown := _channel(group, wanted)) is not None]
        if not candidates:
            what = ", ".join(dict.fromkeys(word for group in groups for word in group.words()))
            raise UnknownLayerError(name, f"no layer, part, view or channel {quoted(wanted)}; the file has {what}")
    if not candidates:
        raise BadInputError(name, "no channel can be shown")

    def key(judged: tuple[int, ShownLayer]) -> tuple[int, int, int]:
        rank, shown = judged
        return rank, int(header.parts[shown.part_index].is_deep), _view_rank(shown.view)

    return min(candidates, key=key)[1]


def _groups(header: Header) -> list[_Group]:
    groups: dict[tuple[int, str, str], _Group] = {}
    for index, part in enumerate(header.parts):
        views = tuple(part.typed("multiView", "stringvector", ()))
        for channel in part.channels:
            layer, view, component = _layer_view_component(channel, views)
            view = view or part.view or ""
            group = groups.setdefault((index, layer, view), _Group(index, part, layer, view))
            component = component.lower()
            group.channels.setdefault(_COMPONENTS.get(component, component), channel)
    return list(groups.values())


def _layer_view_component(channel: Channel, views: tuple[str, ...]) -> tuple[str, str, str]:
    """The parts of a channel's name: `diffuse.left.R`, `left.diffuse.R` or `diffuse.R.left`.

    In a multi-view part, the first view has no name in its channels; others have it just before the component.
    Programs that declare no views write them there, first, or behind the component.
    """
    words = channel.layer.split(".") if channel.layer else []
    component = channel.component
    for place in (len(words) - 1, 0) if words else ():
        if words[place] in views or (not views and words[place].lower() in _VIEWS):
            return ".".join(words[:place] + words[place + 1 :]), words[place], component
    if words and (component in views or (not views and component.lower() in _VIEWS)):
        return ".".join(words[:-1]), component, words[-1]
    return channel.layer, views[0] if views and (not words or len(views) == 1) else "", component


def _view_rank(view: str) -> int:
    lower = view.lower()
    if lower in _RIGHT:
        return 2
    return 0 if not lower or lower in _LEFT else 1


def _judge(group: _Group) -> tuple[int, ShownLayer]:
    color = _color(group)
    if color is not None and (rank := _rank(group)) is not None:
        return rank, color
    if _ID.search(group.named) or (color is not None and _is_integer(group)):
        return 8, group.shown("id", next(iter(_id_components(group))))
    if color is not None:
        return 5, color
    if group.has("y") and not group.has("x"):
        return 6, group.shown("luminance", "y")
    if group.has("z") and not group.has("x"):
        return 7, group.shown("depth", "z")
    component, channel = min(group.channels.items(), key=lambda named: (named[0] == "a", named[0] != "r"))
    if component in _DEPTH_NAMES or group.own_name.lower() in _DEPTH_NAMES:
        return 7, group.shown("depth", component)
    if channel.type == "UINT" or _ID.search(channel.name):
        return 8, group.shown("id", component)
    return 9, group.shown("data", component)


def _rank(group: _Group) -> int | None:
    """How sure a triple is to be the picture, 0 most; None if it is none, or integers that nothing says are one."""
    own = group.own_name.lower()
    if own in _MAIN_NAMES and not group.layer:
        return 0
    if own in _MAIN_NAMES:
        return 1
    words = [word.lower() for word in _WORD.findall(group.own_name)]
    is_last_word = bool(words) and words[-1] in _BEAUTY_WORDS
    names = re.sub(r"[ _]", "", group.named).split(".")
    is_other = _ID.search(group.named) or any(_NOT_A_PICTURE.search(name) for name in names)
    if _is_integer(group) or (is_other and not is_last_word):
        return None
    if is_last_word or not _BEAUTY_WORDS.isdisjoint(words):
        return 2
    return 3 if _BEAUTY.search(group.own_name) else 4


def _is_integer(group: _Group) -> bool:
    return any(group.channels[component].type == "UINT" for component in "rgb" if group.has(component))


def _channel(group: _Group, name: str) -> ShownLayer | None:
    """One channel alone, by its full name."""
    for component, channel in group.channels.items():
        if channel.name.lower() == name.lower():
            is_depth = component in _DEPTH_NAMES
            kind: Kind = "depth" if is_depth else "id" if channel.type == "UINT" else "data"
            return ShownLayer(group.part_index, kind, (channel.name,), channel.name, group.view)
    return None


def _id_components(group: _Group) -> list[str]:
    return [component for component in ("r", *group.channels) if component in group.channels]


def _color(group: _Group) -> ShownLayer | None:
    if group.has("r", "g", "b"):
        return group.shown("rgb", "r", "g", "b")
    if group.has("y", "ry", "by"):
        return group.shown("luminance-chroma", "y", "ry", "by")
    return None
