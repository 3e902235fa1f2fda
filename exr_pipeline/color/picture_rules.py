"""How pictures look by where their file is: rules for a studio, a show, a shot, read from one YAML file.

Belongs here: the file's form and which rule applies. Not here: whether an OCIO config knows the names (`config`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTING: Final = "EXR_PIPELINE_PICTURE_RULES"
UN_TONE_MAPPED: Final = "un-tone-mapped"


@dataclass(frozen=True, slots=True)
class ViewChoice:
    """What pictures of one medium are seen through; empty means not chosen here.

    `view` is a name or `un-tone-mapped`, `look` one look of the OCIO config or several. A `lut` takes the place of the
    view: its input is in `lut_space`, its output are the display's code values.
    """

    display: str = ""
    view: str = ""
    look: str = ""
    lut: str = ""
    lut_space: str = ""

    def over(self, other: ViewChoice) -> ViewChoice:
        """This where it chooses, else the other. A view chosen here also takes the place of the other's LUT."""
        if self.view:
            other = replace(other, lut="", lut_space="")
        return ViewChoice(*(getattr(self, field.name) or getattr(other, field.name) for field in fields(ViewChoice)))


@dataclass(frozen=True, slots=True)
class PictureRule:
    """What is chosen for the files whose URL begins with `prefix`; empty and None mean not chosen here.

    `source_space` holds whatever a file states, `default_space` where it states nothing.
    """

    prefix: str = ""
    still: ViewChoice = ViewChoice()
    video: ViewChoice = ViewChoice()
    source_space: str = ""
    default_space: str = ""
    layer: str = ""
    exact: bool | None = None

    def over(self, other: PictureRule) -> PictureRule:
        """This where it chooses, else the other."""
        return PictureRule(
            prefix=self.prefix or other.prefix,
            still=self.still.over(other.still),
            video=self.video.over(other.video),
            source_space=self.source_space or other.source_space,
            default_space=self.default_space or other.default_space,
            layer=self.layer or other.layer,
            exact=other.exact if self.exact is None else self.exact,
        )


def first_match(rules: Sequence[PictureRule], name: str) -> PictureRule:
    """The first rule for a file of this URL; one that chooses nothing if there is none."""
    return next((rule for rule in rules if name.startswith(rule.prefix)), PictureRule())


def read_rules(path: Path) -> tuple[PictureRule, ...]:
    """The rules of a YAML file, in order. Raises `MisconfiguredError` that names the file and the rule."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise MisconfiguredError(
            SETTING, f"{path} cannot be read: {reason}", "set it to a YAML file of rules"
        ) from error
    found = document.get("rules") if isinstance(document, dict) and set(document) == {"rules"} else None
    if not isinstance(found, list):
        raise MisconfiguredError(SETTING, f"{path} has no list of rules", "start the file with `rules:`")
    return tuple(_Reader(path, index, entry).rule() for index, entry in enumerate(found, start=1))


def described(path: str, index: int, prefix: str) -> str:
    """How messages name a rule: its file, its place (from 1) and its prefix."""
    return f"{path}, rule {index} ({prefix or 'every file'})"


_TEXTS: Final = tuple(field.name for field in fields(ViewChoice))
_RULE_KEYS: Final = frozenset({*(field.name for field in fields(PictureRule)), *_TEXTS})


@dataclass(frozen=True)
class _Reader:
    path: Path
    index: int
    entry: Any

    def rule(self) -> PictureRule:
        entry = self._mapping(self.entry, _RULE_KEYS, "the rule")
        both = self._look({key: entry[key] for key in _TEXTS if key in entry})
        looks = {
            medium: self._look(self._mapping(entry.get(medium, {}), frozenset(_TEXTS), medium)).over(both)
            for medium in ("still", "video")
        }
        exact = entry.get("exact")
        if exact is not None and not isinstance(exact, bool):
            raise self._wrong(f"exact is {exact!r}, not a truth value", "write true or false")
        texts = {key: self._text(entry, key) for key in ("prefix", "source_space", "default_space", "layer")}
        if texts["prefix"].startswith("/"):
            texts["prefix"] = f"file://{texts['prefix']}"
        return PictureRule(**texts, still=looks["still"], video=looks["video"], exact=exact)

    def _look(self, entry: Mapping[str, Any]) -> ViewChoice:
        look = ViewChoice(**{key: self._text(entry, key) for key in _TEXTS})
        if look.lut and look.view:
            raise self._wrong("sets both a view and a LUT", "remove one: a LUT replaces the view")
        if look.lut_space and not look.lut:
            raise self._wrong("sets the space of a LUT but no LUT", "add `lut`")
        # A LUT is found beside the rules, wherever the process runs.
        return replace(look, lut=str(self.path.parent.resolve() / look.lut)) if look.lut else look

    def _text(self, entry: Mapping[str, Any], key: str) -> str:
        value = entry.get(key, "")
        if not isinstance(value, str):
            raise self._wrong(f"{key} is {value!r}, not a text", "write a text, in quotes if needed")
        return value

    def _mapping(self, value: Any, known: frozenset[str], what: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(f"{what} is not a mapping", "write names and values")
        unknown = [str(key) for key in value if key not in known]
        if unknown:
            raise self._wrong(f"{what} has unknown keys: {', '.join(unknown)}", f"use only {', '.join(sorted(known))}")
        return value

    def _wrong(self, problem: str, fix: str) -> MisconfiguredError:
        prefix = self.entry.get("prefix", "") if isinstance(self.entry, dict) else ""
        return MisconfiguredError(SETTING, f"{described(str(self.path), self.index, str(prefix))}: {problem}", fix)
